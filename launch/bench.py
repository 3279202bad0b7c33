"""Time and memory of searching and training, against what users could pick otherwise; and which detectors find what.

    python -m launch.bench audit [--out=FILE.json] [--only=plain64 --only=volumes48] [--rounds=3]
    python -m launch.bench audit --growth [--out=FILE.json]
    python -m launch.bench train [--task=ddpm] [--only=unet28] [--sampling] [--out=FILE.json]
    python -m launch.bench train --task=stylegan2|autoencoder [--only=gan32] [--out=FILE.json]
    python -m launch.bench disk --folder=DIR [--side=64] [--sizes=12500,25000,50000]
    python -m launch.bench data [--only=ddpm.py:brats20] [--step_ms=24.8 | --planned=PLAN.json] [--workers=0,1,2]
    python -m launch.bench detectors --data=STORE [--heldout=STORE] [--descriptor=RUN] --out=FILE.json
    python -m launch.bench blind [--data=STORE] [--heldout=STORE] [--features=random] --out=FILE.json

`detectors` plants copies of known kinds and strengths and tells which detector finds which (docs/detectors.md). `blind`
scores and audits generators of known truth, one of which copies: Fréchet distances cannot tell (docs/fidelity.md).
`data` measures the input against the step that it feeds (docs/training.md). The other three measure time and memory, as
follows.

Wants the `bench` extra (pip install -e '.[bench]') and, for radiographs, MEMJAX_REAL_DATA. Candidates take turns in one
process under one allocator setting, medians are compared, answers are compared too; memory is measured in a process of
its own for each. Every row has `work, peer, ratio, ours_s, peer_s, ours_rss_mib, peer_rss_mib` (ratio = peer time / our
time) and the share of agreeing ids. Both sides return the ten best gallery images of every query; ours also the ten
best queries of every gallery image, certified in float64. Times include normalising the uint8 images, not compiling.

`train`: one step of a diffusion U-Net (forward, backward, Adam) in float32, against PyTorch networks of as many
parameters; with --sampling drawing with DDIM instead. StyleGAN2: 16 steps in a row, which is every phase in its
proportion, against the same networks in PyTorch. Autoencoder: one step (absolute differences, commitment, codebook,
Adam) against the same layers in PyTorch, and MONAI's VQVAE of as many channels.

With --growth instead: how our time grows with the number of gallery images and of queries, with fitted exponents; with
--out also as a plot. `disk` draws stores into a folder and searches each from there, in a process of its own.
"""

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from launch import boot
from launch.benchmark import from_disk, loading, peers, training_speed
from launch.benchmark.workloads import WORKLOADS, Workload, by_name
from memjax.errors import UserError

if TYPE_CHECKING:
    import numpy as np

_OUT = flags.DEFINE_string("out", None, "Write the rows to this JSON file too.")
_ONLY = flags.DEFINE_multi_string("only", [], "Workloads to run, or detectors, repeated; default: all.")
_TASK = flags.DEFINE_enum("task", "ddpm", list(training_speed.WORKLOADS), "train: which model.")
_SAMPLING = flags.DEFINE_bool("sampling", False, "train: draw images with a diffusion model instead.")
_ROUNDS = flags.DEFINE_integer("rounds", 3, "Timed rounds; the candidates take turns.", lower_bound=1)
_PLAN = flags.DEFINE_enum("plan", "auto", ["auto", "product", "symmetric", "sketched"], "The plan of our search.")
_GROWTH = flags.DEFINE_bool("growth", False, "Measure growth with the sizes of the sets instead.")
_FOLDER = flags.DEFINE_string("folder", None, "disk: where the stores are drawn.")
_SIDE = flags.DEFINE_integer("side", 64, "disk: rows and columns of an image.", lower_bound=8)
_IMAGES = flags.DEFINE_list("sizes", ["12500", "25000", "50000"], "disk: numbers of gallery images.")
_DATA = flags.DEFINE_string(
    "data", None, "detectors, blind: the image store whose images are copied; blind draws phantoms without."
)
_HELDOUT = flags.DEFINE_string(
    "heldout", "0.5", "detectors, blind: an image store of unseen patients, or which share of --data's patients are."
)
_DESCRIPTOR = flags.DEFINE_multi_string("descriptor", [], "detectors: the run of a trained descriptor, repeated.")
_EMBEDDINGS = flags.DEFINE_multi_string(
    "embeddings", [], "detectors: NAME=FOLDER, embeddings of the images in --stores by any network, repeated."
)
_STORES = flags.DEFINE_string("stores", None, "detectors: keep the planted images there, as image stores.")
_COPIES = flags.DEFINE_integer("copies", 200, "detectors: copies for each change and strength.", lower_bound=10)
_FEATURES = flags.DEFINE_enum(
    "features", "random", ["random", "pixels", "inception"], "blind: what the scores are computed in."
)
_WEIGHTS = flags.DEFINE_string("weights", None, "blind: the public weight file, for --features=inception.")
_SEED = flags.DEFINE_integer("seed", 0, "detectors, blind: of all that is drawn.", lower_bound=0)
_STEP_MS = flags.DEFINE_multi_string(
    "step_ms", [], "data: what a step takes, in ms; for one config CONFIG=MS, repeated."
)
_PLANNED = flags.DEFINE_multi_string(
    "planned", [], "data: what launch.plan --out wrote, whose bound is the step's time."
)
_WORKERS = flags.DEFINE_list("workers", ["0", "1", "2"], "data: numbers of worker processes; 0: threads.")
_THREADS = flags.DEFINE_list("threads", ["0"], "data: numbers of threads where there are no workers; 0: by the cores.")
_SECONDS = flags.DEFINE_float("seconds", 3.0, "data: how long each way of loading is timed.", lower_bound=0.0)
_PART = flags.DEFINE_integer("part", 0, "Internal: search the store of so many images and print what it took.")
_RSS_OF = flags.DEFINE_string("rss_of", "", "Internal: run one candidate of --only once and print its peak memory.")

_SIZES = (6_250, 12_500, 25_000, 50_000)  # of the gallery, at 1000 queries
_QUERIES = (250, 500, 1000, 2000)  # at 25,000 gallery images


@dataclasses.dataclass(frozen=True)
class _Row:
    work: str
    peer: str
    ratio: float
    ours_s: float
    peer_s: float
    ours_rss_mib: float
    peer_rss_mib: float
    same_ids: float  # share of the peer's ids that are ours too, rank by rank
    plan: str


def main(what: str) -> None:
    """Run the benchmark `what` and print its table."""
    if what not in ("audit", "train", "disk", "data", "detectors", "blind"):
        raise UserError(
            f"there is no benchmark {what!r}; write python -m launch.bench audit, train, disk, data, detectors or "
            "blind."
        )
    if what == "data":
        _loading()
        return
    if what != "train":  # as the launchers do
        boot.keep_freed_memory()
    if what in ("detectors", "blind"):
        _detectors() if what == "detectors" else _blind()
        return
    works = [work.name for work in (training_speed.WORKLOADS[_TASK.value] if what == "train" else WORKLOADS)]
    if wrong := [name for name in _ONLY.value if name not in works]:
        raise UserError(f"--only={wrong[0]} is no work of {what}{_of_task(what)}; choose from {', '.join(works)}.")
    if what == "train":
        _train()
        return
    if what == "disk":
        _from_disk()
        return
    chosen = [work for work in WORKLOADS if not _ONLY.value or work.name in _ONLY.value]
    if _RSS_OF.value:
        run = _candidate(chosen[0], _RSS_OF.value)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # what drawing the images took does not count
        run()
        print(_own_peak_mib())
        return
    if _GROWTH.value:
        _growth()
        return
    _check_installed("faiss", "torch", "sklearn")
    rows = [row for work in chosen for row in _compare(work)]
    print(f"{'work':62} {'peer':16} {'ratio':>6} {'ours':>8} {'peer':>8} {'ours MiB':>9} {'peer MiB':>9} {'same':>7}")
    for row in rows:
        print(
            f"{row.work:62} {row.peer:16} {row.ratio:6.2f} {row.ours_s:8.2f} {row.peer_s:8.2f} "
            f"{row.ours_rss_mib:9.0f} {row.peer_rss_mib:9.0f} {row.same_ids:7.2%}"
        )
    if _OUT.value:
        Path(_OUT.value).write_text(json.dumps([dataclasses.asdict(row) for row in rows], indent=2) + "\n")


def _of_task(what: str) -> str:
    return f" --task={_TASK.value}" if what == "train" else ""


def _train() -> None:
    """Compare training steps, or sampling, and print the table."""
    if _SAMPLING.value and _TASK.value != "ddpm":
        raise UserError(f"--sampling is measured for --task=ddpm only, not {_TASK.value}; leave it out.")
    chosen = [work for work in training_speed.WORKLOADS[_TASK.value] if not _ONLY.value or work.name in _ONLY.value]
    how = {"threads": boot.workers(), "sampling": _SAMPLING.value}
    if _RSS_OF.value:
        run, _ = training_speed.candidate(chosen[0], _RSS_OF.value, **how)
        run()
        print(_own_peak_mib())
        return
    wanted = {"ddpm": ["monai", "denoising_diffusion_pytorch"], "autoencoder": ["monai"]}
    _check_installed("torch", *wanted.get(_TASK.value, []))
    rows = []
    for work in chosen:
        found = training_speed.compare(work, rounds=_ROUNDS.value, **how)
        more = [f"--task={_TASK.value}", f"--only={work.name}", *(["--sampling"] if _SAMPLING.value else [])]
        memory = {
            name: float(_in_own_process("train", [f"--rss_of={name}", *more]).split()[-1])
            for name in ("ours", *work.peers)
        }
        for row, name in zip(found, work.peers, strict=True):
            rows.append({**row, "ours_rss_mib": memory["ours"], "peer_rss_mib": memory[name]})
    print(f"{'work':62} {'peer':34} {'ratio':>6} {'images/s':>9} {'ours MiB':>9} {'peer MiB':>9}")
    for row in rows:
        print(
            f"{row['work']:62} {row['peer']:34} {row['ratio']:6.2f} {row['ours_images_per_s']:9.1f} "
            f"{row['ours_rss_mib']:9.0f} {row['peer_rss_mib']:9.0f}"
        )
    if _OUT.value:
        Path(_OUT.value).write_text(json.dumps(rows, indent=2) + "\n")


def _loading() -> None:
    """Measure the input of configs, and print the table."""
    if wrong := [name for name in _ONLY.value if name not in loading.CONFIGS]:
        raise UserError(f"--only={wrong[0]} is no config of data; choose from {', '.join(loading.CONFIGS)}.")
    chosen = [name for name in loading.CONFIGS if not _ONLY.value or name in _ONLY.value]
    how = {"workers": _numbers(_WORKERS), "threads": _numbers(_THREADS), "seconds": _SECONDS.value}
    needs = loading.needs(chosen, _STEP_MS.value, [Path(path).expanduser() for path in _PLANNED.value])
    measured: dict[str, list[loading.Row]] = {}  # by what is loaded: several models train on the same images
    rows: list[loading.Row] = []
    for name in chosen:
        boot.say(f"{name} …")
        need = needs.get(name) or (loading.measured_need(name) if name.endswith("smoke") else None)
        same = loading.what_is_loaded(name)
        measured[same] = measured.get(same) or loading.measure(name, **how)
        rows += [dataclasses.replace(row, config=name, need=need) for row in measured[same]]
    print(loading.told(rows))
    if _OUT.value:
        Path(_OUT.value).write_text(json.dumps([loading.as_json(row) for row in rows], indent=2) + "\n")


def _numbers(flag: "flags.FlagHolder[list[str]]") -> list[int]:
    if not flag.value or not all(text.isdecimal() for text in flag.value):
        raise UserError(f"--{flag.name}={','.join(flag.value)} must be whole numbers, separated by commas.")
    return [int(text) for text in flag.value]


def _detectors() -> None:
    """Plant copies, let the detectors search for them, and write which found what."""
    from launch.benchmark import detectors

    if _DATA.value is None:
        raise UserError("--data is missing; give the image store whose images are to be copied.")
    detectors.main(
        detectors.Asked(
            data=boot.place(_DATA),
            heldout=_heldout(),
            out=_json_file(),
            descriptors=_DESCRIPTOR.value,
            embeddings=_EMBEDDINGS.value,
            stores=boot.place_if_given(_STORES),
            only=_ONLY.value,
            copies=_COPIES.value,
            seed=_SEED.value,
        )
    )


def _blind() -> None:
    """Score and audit generators of known truth."""
    from launch.benchmark import blind

    blind.main(
        blind.Asked(
            data=boot.place_if_given(_DATA),
            heldout=_heldout(),
            out=_json_file(),
            features=_FEATURES.value,
            weights=boot.place_if_given(_WEIGHTS),
            seed=_SEED.value,
        )
    )


def _json_file() -> Path:
    """Return what --out names."""
    if _OUT.value is None or boot.place(_OUT).suffix != ".json" or boot.place(_OUT).is_dir():
        raise UserError(f"--out={_OUT.value or ''} names no JSON file; give one to write, such as --out=trial.json.")
    return boot.place(_OUT)


def _heldout() -> Path | float:
    """Return what --heldout says: a store, or a share of the patients."""
    try:
        share = float(_HELDOUT.value)
    except ValueError:
        return boot.place(_HELDOUT)
    if not 0 < share < 1:  # NaN, too
        raise UserError(f"--heldout={_HELDOUT.value} must be a share of the patients above 0 and below 1, or a store.")
    return share


def _check_installed(*names: str) -> None:
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"{', '.join(missing)} not installed; run pip install -e '.[bench]' first.")


def _compare(work: Workload) -> list[_Row]:
    """Let our search and the peers take turns."""
    import numpy as np

    told: list[str] = []
    query, gallery = work.images()
    candidates = {"ours": _ours(work, query, gallery, told.append)}
    candidates |= {name: lambda name=name: peers.run(name, query, gallery, work.symmetry) for name in work.peers}
    seconds, answers = _take_turns(candidates)
    print(f"{work.name}: " + "; ".join(dict.fromkeys(told)), flush=True)
    memory = {name: _peak_memory(work, name) for name in candidates}
    return [
        _Row(
            work=work.title,
            peer=name,
            ratio=seconds[name] / seconds["ours"],
            ours_s=seconds["ours"],
            peer_s=seconds[name],
            ours_rss_mib=memory["ours"],
            peer_rss_mib=memory[name],
            same_ids=float(np.mean(answers[name][1] == answers["ours"].query_to_gallery.id)),
            plan=told[-1].split(":")[0],
        )
        for name in work.peers
    ]


def _take_turns(candidates: dict[str, Callable[[], object]]) -> tuple[dict[str, float], dict[str, Any]]:
    """Return each candidate's median seconds over the rounds, after one of ours that does not count, and its answer."""
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    answers: dict[str, Any] = {}
    candidates["ours"]()
    for _ in range(_ROUNDS.value):
        for name, run in candidates.items():
            start = time.perf_counter()
            answers[name] = run()
            seconds[name].append(time.perf_counter() - start)
    for name, all_rounds in seconds.items():
        print(f"{name}: " + " ".join(f"{s:.3f}" for s in all_rounds) + " s", flush=True)
    return {name: sorted(all_rounds)[len(all_rounds) // 2] for name, all_rounds in seconds.items()}, answers


def _ours(
    work: Workload, query: "np.ndarray", gallery: "np.ndarray", tell: Callable[[str], object]
) -> Callable[[], object]:
    import numpy as np

    from memjax.audit.describe import ArrayImages
    from memjax.audit.pairs.allpairs import allpairs
    from memjax.mesh import audit_mesh
    from memjax.orientation import orientations

    sides = [ArrayImages(side, np.tile(np.float32([0, 255]), (len(side), 1))) for side in (query, gallery)]
    group = orientations(query.shape[1:-1], work.symmetry)
    return lambda: allpairs(*sides, k=peers.K, group=group, mesh=audit_mesh(1), plan=_PLAN.value, bins=0, tell=tell)


def _candidate(work: Workload, name: str) -> Callable[[], object]:
    query, gallery = work.images()
    if name == "ours":
        return _ours(work, query, gallery, lambda text: None)
    return lambda: peers.run(name, query, gallery, work.symmetry)


def _growth() -> None:
    """Print and plot our time against the sizes of both sets, plain and screened."""
    base, screened = by_name("plain32"), by_name("small8")
    series = {
        "gallery images, one orientation, 32x32": [dataclasses.replace(base, gallery=n) for n in _SIZES],
        "queries, one orientation, 32x32": [dataclasses.replace(base, gallery=25_000, queries=s) for s in _QUERIES],
    }
    if "MEMJAX_REAL_DATA" in os.environ:
        series["gallery images, eight orientations, 64x64"] = [dataclasses.replace(screened, gallery=n) for n in _SIZES]
    found = {}
    for name, works in series.items():
        sizes = [work.queries if name.startswith("queries") else work.gallery for work in works]
        seconds = []
        for work in works:
            run = _ours(work, *work.images(), lambda text: None)
            times, _ = _take_turns({"ours": run})
            seconds.append(times["ours"])
        found[name] = {"sizes": sizes, "seconds": seconds, "exponent": _exponent(sizes, seconds)}
        print(f"{name}: {sizes} {[round(s, 3) for s in seconds]} s, exponent {found[name]['exponent']:.2f}", flush=True)
    if _OUT.value:
        Path(_OUT.value).write_text(json.dumps(found, indent=2) + "\n")
        _plot(Path(_OUT.value).with_suffix(".png"), found)


def _exponent(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    """Return b of seconds = a sizes^b, by least squares of the logarithms."""
    import numpy as np

    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def _plot(path: Path, found: dict[str, dict]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for name, one in found.items():
        axes.loglog(one["sizes"], one["seconds"], "o-", label=f"{name}: exponent {one['exponent']:.2f}")
    axes.set(
        xlabel="images",
        ylabel="seconds",
        title="Time of a search: 1000 queries, or 25,000 gallery images",
    )
    axes.legend()
    figure.savefig(path, dpi=144)


def _from_disk() -> None:
    """Draw stores, search each of them in a process of its own, and print what that took."""
    if _FOLDER.value is None:
        raise UserError("--folder is missing; say where the stores may be drawn.")
    folder = Path(_FOLDER.value)
    if _PART.value:
        found = from_disk.search(folder, _SIDE.value, _PART.value, _PLAN.value, peers.K)
        print(json.dumps({**found, "rss_mib": _own_peak_mib()}))
        return
    if not all(size.isdecimal() and int(size) for size in _IMAGES.value):
        raise UserError(f"--sizes={','.join(_IMAGES.value)} must be whole numbers, separated by commas.")
    rows = []
    print(f"{'images':>8} {'seconds':>8} {'MiB':>6}  plan")
    for size in map(int, _IMAGES.value):
        from_disk.gallery_store(folder, _SIDE.value, size)
        flags_of_it = [f"--folder={folder}", f"--side={_SIDE.value}", f"--part={size}"]
        row = json.loads(_in_own_process("disk", flags_of_it).splitlines()[-1])
        print(f"{row['images']:8} {row['seconds']:8.2f} {row['rss_mib']:6.0f}  {row['plan']}", flush=True)
        rows.append(row)
    if len(rows) > 1:
        sizes, seconds = ([row[name] for row in rows] for name in ("images", "seconds"))
        grown = (rows[-1]["rss_mib"] - rows[0]["rss_mib"]) * 1024 / (sizes[-1] - sizes[0])
        print(f"time grows with the power {_exponent(sizes, seconds):.2f}, memory by {grown:.1f} KiB an image")
    if _OUT.value:
        Path(_OUT.value).write_text(json.dumps(rows, indent=2) + "\n")


def _peak_memory(work: Workload, candidate: str) -> float:
    """Run one candidate in a process of its own and return its peak resident memory in MiB."""
    return float(_in_own_process("audit", [f"--rss_of={candidate}", f"--only={work.name}"]).split()[-1])


def _in_own_process(what: str, arguments: list[str]) -> str:
    """Run this benchmark with other flags and return what it prints."""
    command = [sys.executable, "-m", "launch.bench", what, f"--plan={_PLAN.value}", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def _own_peak_mib() -> float:
    """Return this process's peak resident memory; `ru_maxrss` would include that of the process that started it."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    chosen = sys.argv.pop(1) if len(sys.argv) > 1 and not sys.argv[1].startswith("-") else ""
    boot.run(lambda: main(chosen))
