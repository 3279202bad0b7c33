"""Time and memory of the audit against what its users would write otherwise.

    python -m launch.bench audit [--out=FILE.json]

Every row has `work, peer, ratio, ours_s, peer_s, ours_rss_mib, peer_rss_mib`; ratio = peer time / our time. Candidates
take turns in one process, medians are compared; memory is measured in a process of its own for each. Both sides return
the ten best training images of every query; ours also the ten best queries of every training image and the histogram
of all pairs.
"""

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from launch import boot
from memjax.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from memjax.audit.describe import Images

_OUT = flags.DEFINE_string("out", None, "Write the rows to this JSON file too.")
_ROUNDS = flags.DEFINE_integer("rounds", 7, "Timed rounds; the candidates take turns.", lower_bound=1)
_RSS_OF = flags.DEFINE_string("rss_of", "", "Internal: run one candidate once and print its peak memory.")
_STORE = flags.DEFINE_string("store", "", "Internal: the gallery of --rss_of=disk.")

_QUERIES, _GALLERY, _SIDE, _K = 1000, 5232, 64, 10
_ON_DISK = (12_500, 25_000, 50_000)


@dataclasses.dataclass(frozen=True)
class _Row:
    work: str
    peer: str
    ratio: float | None
    ours_s: float | None
    peer_s: float | None
    ours_rss_mib: float
    peer_rss_mib: float | None


def main(what: str) -> None:
    """Run the benchmark `what` and print its table."""
    if what != "audit":
        raise UserError(f"there is no benchmark {what!r}; write python -m launch.bench audit.")
    if _RSS_OF.value:
        _run_once(_RSS_OF.value)
        print(_own_peak_mib())
        return
    rows = [*_plain_product(), *_from_disk()]
    print(f"{'work':52} {'peer':48} {'ratio':>6} {'ours':>8} {'peer':>8} {'ours MiB':>9} {'peer MiB':>9}")
    for row in rows:
        times = (row.ratio, row.ours_s, row.peer_s)
        cells = [f"{'-' if value is None else f'{value:.2f}'}" for value in times]
        memory = ["-" if value is None else f"{value:.0f}" for value in (row.ours_rss_mib, row.peer_rss_mib)]
        print(f"{row.work:52} {row.peer:48} {cells[0]:>6} {cells[1]:>8} {cells[2]:>8} {memory[0]:>9} {memory[1]:>9}")
    if _OUT.value:
        Path(_OUT.value).write_text(json.dumps([dataclasses.asdict(row) for row in rows], indent=2) + "\n")


def _plain_product() -> list[_Row]:
    """One orientation, images in memory, against the numpy that everybody writes: one direction, and both as we do."""
    query, gallery = _images()
    times = _take_turns(
        {
            "ours": _ours(query, gallery),
            "numpy": lambda: _numpy(query, gallery),
            "numpy both": lambda: _numpy(query, gallery, both=True),
        }
    )
    flops = 2 * _QUERIES * _GALLERY * _SIDE**2
    peak = _matmul_peak()
    rates = {name: flops / seconds for name, seconds in times.items()}
    print(
        f"GFLOP/s end to end: ours {rates['ours'] / 1e9:.0f}, numpy {rates['numpy'] / 1e9:.0f}; the bare product "
        f"of this shape reaches {peak / 1e9:.0f}, of which ours is {rates['ours'] / peak:.0%}"
    )
    memory = {name: _peak_memory(name) for name in ("ours", "numpy")}
    return [
        _Row(
            work=f"{_QUERIES} x {_GALLERY} at {_SIDE}x{_SIDE}, one orientation",
            peer=f"numpy z-score + matmul + argpartition, {directions}",
            ratio=times[peer] / times["ours"],
            ours_s=times["ours"],
            peer_s=times[peer],
            ours_rss_mib=memory["ours"],
            peer_rss_mib=memory["numpy"],
        )
        for peer, directions in (("numpy", "one way"), ("numpy both", "both ways"))
    ]


def _from_disk() -> list[_Row]:
    """Peak memory against the size of a gallery on disk."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for n in _ON_DISK:
            store = Path(folder, str(n))
            _noise_store(store, n)
            start = time.perf_counter()
            memory = _peak_memory("disk", store)
            rows.append(
                _Row(
                    work=f"{_QUERIES} x {n} at {_SIDE}x{_SIDE} from disk, start-up included",
                    peer="-",
                    ratio=None,
                    ours_s=time.perf_counter() - start,
                    peer_s=None,
                    ours_rss_mib=memory,
                    peer_rss_mib=None,
                )
            )
    return rows


def _images() -> "tuple[np.ndarray, np.ndarray]":
    """Draw a gallery of chest phantoms, and queries that are noisy copies of some of them: uint8 [n, 64, 64, 1]."""
    import numpy as np

    from memjax.data.phantoms import draw

    gallery = draw("chest", range(_GALLERY), size=(_SIDE, _SIDE)).images
    rng = np.random.default_rng(0)
    chosen = gallery[rng.choice(_GALLERY, _QUERIES, replace=False)]
    query = np.clip(chosen + rng.normal(0, 12, chosen.shape), 0, 255).astype(np.uint8)
    return query, gallery


def _ours(query: "np.ndarray", gallery: "np.ndarray") -> Callable[[], object]:
    return lambda: _search(_in_memory(query), _in_memory(gallery))


def _in_memory(images: "np.ndarray") -> "Images":
    import numpy as np

    from memjax.audit.describe import ArrayImages

    return ArrayImages(images, np.tile(np.float32([0, 255]), (len(images), 1)))


def _search(query: "Images", gallery: "Images") -> object:
    from memjax.audit.allpairs import allpairs
    from memjax.mesh import audit_mesh
    from memjax.orientation import orientations

    return allpairs(query, gallery, k=_K, group=orientations((_SIDE, _SIDE), "none"), mesh=audit_mesh(1))


def _numpy(query: "np.ndarray", gallery: "np.ndarray", *, both: bool = False) -> "list[np.ndarray]":
    import numpy as np

    def unit(images: np.ndarray) -> np.ndarray:
        x = images.reshape(len(images), -1).astype(np.float32)
        x -= x.mean(1, keepdims=True)
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        return x

    def best(scores: np.ndarray) -> np.ndarray:
        chosen = np.argpartition(-scores, _K, axis=1)[:, :_K]
        order = np.argsort(-np.take_along_axis(scores, chosen, 1), axis=1)
        return np.take_along_axis(chosen, order, 1)

    scores = unit(query) @ unit(gallery).T
    return [best(scores), best(scores.T)] if both else [best(scores)]


def _take_turns(candidates: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Return each candidate's median seconds over the rounds, after one round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(_ROUNDS.value + 1):
        for name, run in candidates.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    for name, all_rounds in seconds.items():
        print(f"{name}: " + " ".join(f"{s:.3f}" for s in all_rounds[1:]) + " s")
    return {name: sorted(all_rounds[1:])[_ROUNDS.value // 2] for name, all_rounds in seconds.items()}


def _matmul_peak() -> float:
    """Return the best rate of a bare float32 product of the same shape, JAX's or numpy's, in FLOP/s."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=(n, _SIDE**2)).astype(np.float32) for n in (_QUERIES, _GALLERY))
    product = jax.jit(lambda a, b: a @ b.T)
    a, b = jnp.asarray(x), jnp.asarray(y)
    seconds = []
    for _ in range(_ROUNDS.value + 1):
        for run in (lambda: jax.block_until_ready(product(a, b)), lambda: x @ y.T):
            start = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - start)
    return 2 * _QUERIES * _GALLERY * _SIDE**2 / min(seconds)


def _noise_store(path: Path, n: int) -> None:
    import numpy as np

    from memjax.data.manifest import Manifest
    from memjax.data.store import NewItem, StoreWriter

    rng = np.random.default_rng(n)
    with StoreWriter(path, shape=(_SIDE, _SIDE, 1), dtype="uint8", settings=n) as writer:
        for start in range(0, n, 500):
            images = rng.integers(0, 256, (500, _SIDE, _SIDE, 1), dtype=np.uint8)
            writer.add(str(start), [NewItem(image=image, source=f"{start + i}") for i, image in enumerate(images)])
        writer.finish(Manifest(axes=("row", "column"), channels=("grey",)))


def _peak_memory(candidate: str, store: Path | None = None) -> float:
    """Run one candidate in a process of its own and return its peak resident memory in MiB."""
    command = [sys.executable, "-m", "launch.bench", "audit", f"--rss_of={candidate}", f"--store={store or ''}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
    return float(done.stdout.split()[-1])


def _own_peak_mib() -> float:
    """Return this process's peak resident memory; `ru_maxrss` would include that of the process that started it."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def _run_once(candidate: str) -> None:
    import numpy as np

    from memjax.data.store import Store

    rng = np.random.default_rng(1)
    query, gallery = (rng.integers(0, 256, (n, _SIDE, _SIDE, 1), dtype=np.uint8) for n in (_QUERIES, _GALLERY))
    if candidate == "numpy":
        _numpy(query, gallery)
    elif candidate == "disk":
        _search(_in_memory(query), Store.open(_STORE.value))
    else:
        _search(_in_memory(query), _in_memory(gallery))


if __name__ == "__main__":
    chosen = sys.argv.pop(1) if len(sys.argv) > 1 and not sys.argv[1].startswith("-") else ""
    boot.run(lambda: main(chosen))
