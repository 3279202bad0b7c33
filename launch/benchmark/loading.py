"""Does the input keep up with the training step? Images a second of the pipeline, for each config's kind of images.

A small store of random images of the config's shape is written into a temporary folder and read as training reads it,
with and without augmentation, by threads and by worker processes. It lies in the page cache: a slow disk is not seen.
What a step needs is given, is the bound that a plan found, or is measured here for configs of the smoke kind.

Beside the rate on this machine stands the time of one core for an image, other work on the machine aside. So it can be
told for a machine with more cores how many of them the input would keep busy, as long as cores are what binds.
"""

import dataclasses
import importlib
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memjax.digest import settings_digest
from memjax.errors import UserError

if TYPE_CHECKING:
    from memjax.data.pipeline import Pipeline
    from memjax.data.store import Store

CONFIGS = (
    "ddpm.py:brats20",
    "ddpm.py:cxr5216",
    "stylegan2.py:brats20",
    "stylegan2.py:cxr5216",
    "latent3d.py:pccta,autoencoder",
    "latent3d.py:mrnet,autoencoder",
    "latent3d.py:pccta,ddpm",
    "latent3d.py:mrnet,ddpm",
    "descriptor.py:pccta",
    "descriptor.py:mrnet",
    "descriptor.py:cxr",
    "ddpm.py:smoke",
    "stylegan2.py:smoke",
)
_LEAST_BATCHES = 4  # that are timed, however long they take
_TIMED_STEPS = 30  # of a smoke config


@dataclasses.dataclass(frozen=True, kw_only=True)
class Need:
    """What a training step takes, and who says so."""

    step_s: float
    by: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One way of loading a config's images. `cpu_s` is of one image, over all threads and processes."""

    config: str
    shape: tuple[int, ...]
    dtype: str
    batch: int
    is_augmented: bool
    how: str
    images_per_s: float
    cpu_s: float
    rss_mib: float
    need: Need | None = None

    @property
    def times(self) -> float | None:
        """How many times as fast as the step needs the input is; None: nobody says what it needs."""
        return None if self.need is None else self.images_per_s * self.need.step_s / self.batch

    @property
    def had(self) -> float:
        """How many cores it had while it was timed; few where other work shares the machine."""
        return self.cpu_s * self.images_per_s

    @property
    def cores(self) -> float | None:
        """How many cores the input would keep busy while steps take no longer than they must."""
        return None if self.need is None else self.cpu_s * self.batch / self.need.step_s


def config_of(name: str) -> dict[str, Any]:
    """Return the config that `NAME.py[:words]` names, as plain values."""
    file, _, words = name.partition(":")
    module = importlib.import_module(f"configs.{file.removesuffix('.py')}")
    return (module.get_config(words) if words else module.get_config()).to_dict()


def what_is_loaded(name: str) -> str:
    """Return a digest of all that decides what loading a config's images takes."""
    from launch.planning.shapes import image_shape

    config = config_of(name)
    parts = [config["batch_size"], config["augment"], config.get("views"), _is_latent(name, config)]
    return settings_digest([image_shape(f"configs/{name}", config), *parts])


def measure(name: str, *, workers: Sequence[int], threads: Sequence[int], seconds: float) -> list[Row]:
    """Return the rows of one config.

    Args:
      name: of the config.
      workers: numbers of processes to try.
      threads: numbers of threads to try, where there are no workers; 0: as many as training would take.
      seconds: how long each is timed.
    """
    from launch.planning.shapes import image_shape

    config = config_of(name)
    shape = image_shape(f"configs/{name}", config)
    is_latent = _is_latent(name, config)
    dtype = "float32" if is_latent else "uint8"
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        store = _store(Path(folder) / "store", shape, dtype, 2 * config["batch_size"], is_latent=is_latent)
        for is_augmented in (False,) if is_latent else (False, True):
            for way, pipeline in _pipelines(config, store, is_augmented, workers, threads):
                images_per_s, cpu_s, rss_mib = _timed(pipeline, seconds)
                rows.append(
                    Row(
                        config=name,
                        shape=shape,
                        dtype=dtype,
                        batch=config["batch_size"],
                        is_augmented=is_augmented,
                        how=way,
                        images_per_s=images_per_s,
                        cpu_s=cpu_s,
                        rss_mib=rss_mib,
                    )
                )
    return rows


def needs(names: Sequence[str], step_ms: Sequence[str], plans: Sequence[Path]) -> dict[str, Need]:
    """Return what is known of the steps of configs.

    Args:
      names: of the configs.
      step_ms: `24.8`, for all of them, or `ddpm.py:brats20=24.8`.
      plans: what `launch.plan --out` wrote; of several topologies the fastest counts.

    Raises:
      UserError: a time is none, or a file is no plan.
    """
    found: dict[str, Need] = {}
    for path in plans:
        try:
            plan = json.loads(path.read_text(encoding="utf-8"))
            bounds = {
                topology: about["programs"]["train"]["bound"]["seconds"]
                for topology, about in plan["topologies"].items()
                if "bound" in about["programs"].get("train", {})
            }
            config = plan["config"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"--planned={path} is no plan ({error}); give what launch.plan --out=FILE.json wrote."
            ) from None
        for name in names:
            if bounds and json.loads(json.dumps(config_of(name))) == config:
                topology = min(bounds, key=lambda one: bounds[one])
                found[name] = Need(step_s=bounds[topology], by=f"at least, on {topology}")
    for text in step_ms:
        name, _, number = text.rpartition("=")
        try:
            step_s = float(number) / 1000
        except ValueError:
            step_s = 0.0
        if not 0 < step_s < float("inf") or (name and name not in names):
            raise UserError(
                f"--step_ms={text} must be milliseconds, or CONFIG=milliseconds of one of {', '.join(names)}."
            )
        found |= {one: Need(step_s=step_s, by="as given") for one in ([name] if name else names)}
    return found


def measured_need(name: str) -> Need:
    """Return what a step of a smoke config takes on this machine, by running it; compiling it takes seconds."""
    import jax

    from launch.benchmark.task_step import task_step
    from launch.planning.shapes import image_shape

    config = config_of(name)
    advance, _ = task_step(config, image_shape(f"configs/{name}", config))
    jax.block_until_ready(advance())
    start = time.perf_counter()
    jax.block_until_ready([advance() for _ in range(_TIMED_STEPS)])
    return Need(step_s=(time.perf_counter() - start) / _TIMED_STEPS, by="measured here")


def told(rows: Sequence[Row]) -> str:
    """Return the table of all rows, and a sentence for each config, its fastest way of loading taken."""
    lines = [
        f"{'config':30} {'images':22} {'batch':>5} {'varied':>6} {'by':>12} {'images/s':>9} {'ms/batch':>9} "
        f"{'CPU ms/image':>12} {'had':>5} {'MiB':>6} {'step ms':>8} {'times':>6} {'cores':>6}"
    ]
    for row in rows:
        images = f"{'x'.join(map(str, row.shape))} {row.dtype}"
        step = "" if row.need is None else f"{1000 * row.need.step_s:.1f}"
        times, cores = ("" if one is None else f"{one:.2f}" for one in (row.times, row.cores))
        lines.append(
            f"{row.config:30} {images:22} {row.batch:5} {'yes' if row.is_augmented else 'no':>6} {row.how:>12} "
            f"{row.images_per_s:9,.0f} {1000 * row.batch / row.images_per_s:9.1f} {1000 * row.cpu_s:12.3f} "
            f"{row.had:5.2f} {row.rss_mib:6,.0f} {step:>8} {times:>6} {cores:>6}"
        )
    for key in dict.fromkeys((row.config, row.is_augmented) for row in rows):
        lines.append(_verdict(max((row for row in rows if (row.config, row.is_augmented) == key), key=_rate)))
    return "\n".join(lines)


def as_json(row: Row) -> dict[str, Any]:
    """Return a row as plain values, with what follows from it."""
    return {**dataclasses.asdict(row), "times": row.times, "had": row.had, "cores": row.cores}


def _is_latent(name: str, config: Mapping[str, Any]) -> bool:
    return name.startswith("latent3d.py") and config["task"] == "ddpm"


def _rate(row: Row) -> float:
    return row.images_per_s


def _verdict(row: Row) -> str:
    what = f"{row.config}{', varied' if row.is_augmented else ''}"
    batch_ms = 1000 * row.batch / row.images_per_s
    if row.times is None or row.need is None or row.cores is None:
        return f"{what}: a step that takes {batch_ms:.1f} ms or longer never waits for its input here."
    faster = f"input is {row.times:.2f} times as fast as the step needs ({1000 * row.need.step_s:.1f} ms {row.need.by})"
    if row.times >= 1:
        return f"{what}: {faster}."
    return (
        f"{what}: {faster}: it STARVES here, with the {row.had:.2f} cores that it had; {row.cores:.2f} would be busy "
        "with it, if cores are all that binds."
    )


def _store(path: Path, shape: tuple[int, ...], dtype: str, n: int, *, is_latent: bool) -> "Store":
    """Write n random images, each of another patient."""
    import numpy as np

    from memjax.data.manifest import Manifest
    from memjax.data.store import NewItem, StoreWriter

    rng = np.random.default_rng(0)
    axes = ("row", "column") if len(shape) == 3 else ("R", "A", "S")
    manifest = Manifest(
        axes=axes,
        channels=tuple(f"c{i}" for i in range(shape[-1])),
        patient_ids="csv",
        latent={"autoencoder": "none"} if is_latent else None,
    )
    with StoreWriter(path, shape=shape, dtype=dtype, settings="") as writer:
        for i in range(n):
            image = rng.integers(0, 256, shape, np.uint8) if dtype == "uint8" else rng.normal(size=shape)
            writer.add(str(i), [NewItem(image=image.astype(dtype), source=f"{i}", patient=f"p{i}")])
        return writer.finish(manifest)


def _pipelines(
    config: Mapping[str, Any], store: "Store", is_augmented: bool, workers: Sequence[int], threads: Sequence[int]
) -> "Iterator[tuple[str, Pipeline]]":
    from memjax.build import build
    from memjax.data.augment import Augmentation
    from memjax.data.pipeline import Pipeline
    from memjax.data.views import Views

    for n_workers in workers:
        for n_threads in threads if n_workers == 0 else [0]:
            yield (
                _called(n_workers, n_threads),
                Pipeline(
                    store=store,
                    batch_size=config["batch_size"],
                    seed=config["seed"],
                    augmentation=build(Augmentation, {**config["augment"], "enabled": is_augmented}, "augment"),
                    workers=n_workers,
                    threads=n_threads,
                    views=build(Views, config["views"], "views") if config["task"] == "descriptor" else None,
                ),
            )


def _called(workers: int, threads: int) -> str:
    n, what = (workers, "worker") if workers else (threads, "thread")
    return f"{n} {what}{'' if n == 1 else 's'}" if n else "threads"


def _timed(pipeline: "Pipeline", seconds: float) -> tuple[float, float, float]:
    """Return images a second, seconds of a core an image, and the peak resident memory in MiB, workers included."""
    import multiprocessing

    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # earlier pipelines do not count
    batches = pipeline.batches()
    try:
        for _ in range(2 * max(pipeline.workers, 1)):
            next(batches)
        pids = [os.getpid(), *(child.pid for child in multiprocessing.active_children() if child.pid)]
        start, cpu, n = time.perf_counter(), sum(map(_cpu_s, pids)), 0
        while n < _LEAST_BATCHES or time.perf_counter() - start < seconds:
            next(batches)
            n += 1
        took_s, cpu_s = time.perf_counter() - start, sum(map(_cpu_s, pids)) - cpu
        return n * pipeline.batch_size / took_s, cpu_s / (n * pipeline.batch_size), sum(map(_peak_mib, pids))
    finally:
        batches.close()


def _cpu_s(pid: int) -> float:
    """Return the seconds of processor that a process has had, all its threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _peak_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
