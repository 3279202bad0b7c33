"""What the audit's benchmark works on: queries and a gallery by name, drawn or real, always the same."""

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING

from memjax.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from memjax.orientation import Symmetry


@dataclasses.dataclass(frozen=True)
class Workload:
    """A search: `images` makes uint8 [S, *space, 1] and [N, *space, 1]; `peers` are those worth waiting for."""

    name: str
    kind: str  # chest, radiographs, small_radiographs or volumes
    queries: int
    gallery: int
    side: int
    symmetry: "Symmetry"
    peers: tuple[str, ...]

    @property
    def title(self) -> str:
        """What the table says."""
        drawn = {
            "chest": "chest phantoms",
            "radiographs": "radiographs",
            "small_radiographs": "radiographs, shifted and brightened to make as many",
            "volumes": "vessel phantoms",
        }[self.kind]
        space = "x".join([str(self.side)] * (3 if self.kind == "volumes" else 2))
        turned = {"none": "one orientation", "all": "all orientations"}[self.symmetry]
        return f"{self.queries} x {self.gallery} {drawn} {space}, {turned}"

    def images(self) -> "tuple[np.ndarray, np.ndarray]":
        """Draw or read queries and gallery."""
        return {
            "chest": _chest,
            "radiographs": _radiographs,
            "small_radiographs": _small_radiographs,
            "volumes": _volumes,
        }[self.kind](self)


_FAST = ("faiss", "torch", "torch both ways")
_ALL = (*_FAST, "sklearn", "numpy")
WORKLOADS = (
    Workload("plain64", "chest", 1000, 5000, 64, "none", _ALL),
    Workload("plain32", "chest", 1000, 50_000, 32, "none", _ALL),
    Workload("radiographs", "radiographs", 1000, 4732, 224, "none", _FAST),
    Workload("radiographs8", "radiographs", 1000, 4732, 224, "all", _FAST),
    Workload("small8", "small_radiographs", 1000, 50_000, 64, "all", ("faiss",)),
    Workload("volumes48", "volumes", 500, 1000, 48, "all", ("faiss",)),
)


def by_name(name: str) -> Workload:
    """Return the workload of this name."""
    return next(work for work in WORKLOADS if work.name == name)


def _chest(work: Workload) -> "tuple[np.ndarray, np.ndarray]":
    """Unseen patients and noisy copies, half and half; beyond 5000 the gallery's patients come again, shifted."""
    import numpy as np

    from memjax.data.phantoms import draw

    drawn = min(work.gallery, 5000)
    half = work.queries // 2
    images = draw("chest", range(drawn + half), size=(work.side, work.side)).images
    gallery = _shifted(images[:drawn], work.gallery, seed=1)
    return np.concatenate([images[drawn:], _copies(gallery, work.queries - half, turned=False)]), gallery


def _radiographs(work: Workload) -> "tuple[np.ndarray, np.ndarray]":
    """Kermany at 224x224: 500 unseen radiographs and 500 copies (noised, brightened, in all orientations)."""
    import io
    import tarfile

    import numpy as np
    from PIL import Image

    with tarfile.open(_real() / "kermany224_trainval.tar") as tar:
        files = [tar.extractfile(member) for member in tar if member.name.endswith("jpeg")]
        images = np.stack([np.asarray(Image.open(io.BytesIO(file.read())).convert("L")) for file in files if file])
    return _split(images[..., None], work)


def _small_radiographs(work: Workload) -> "tuple[np.ndarray, np.ndarray]":
    import numpy as np

    with np.load(_real() / "cxr64_kermany_trainval.npz", allow_pickle=False) as arrays:
        return _split(arrays["images"][..., None], work)


def _volumes(work: Workload) -> "tuple[np.ndarray, np.ndarray]":
    import numpy as np

    from memjax.data.phantoms import draw

    half = work.queries // 2
    images = draw("vessel", range(work.gallery + half), size=(work.side,) * 3).images
    gallery = images[: work.gallery]
    return np.concatenate([images[work.gallery :], _copies(gallery, work.queries - half, turned=True)]), gallery


def _split(images: "np.ndarray", work: Workload) -> "tuple[np.ndarray, np.ndarray]":
    import numpy as np

    order = np.random.default_rng(0).permutation(len(images))
    half = work.queries // 2
    unseen, rest = images[order[:half]], images[np.sort(order[half:])]
    gallery = _shifted(rest, work.gallery, seed=1)
    return np.concatenate([unseen, _copies(gallery, work.queries - half, turned=True)]), gallery


def _shifted(images: "np.ndarray", n: int, *, seed: int) -> "np.ndarray":
    """Return n images: these, and then again some of them, shifted by up to three pixels, brightened and noised."""
    import numpy as np

    rng = np.random.default_rng(seed)
    more = [images]
    for start in range(len(images), n, len(images)):
        some = images[rng.permutation(len(images))[: n - start]].astype(np.float32)
        some = np.roll(some, tuple(rng.integers(-3, 4, 2)), (1, 2)) * rng.uniform(0.85, 1.15, (len(some), 1, 1, 1))
        more.append(np.clip(some + rng.normal(0, 4, some.shape), 0, 255).astype(np.uint8))
    return np.concatenate(more)[:n]


def _copies(images: "np.ndarray", n: int, *, turned: bool) -> "np.ndarray":
    import numpy as np

    from memjax.orientation import orientations

    rng = np.random.default_rng(2)
    group = orientations(images.shape[1:-1], "all" if turned else "none")
    chosen = images[rng.choice(len(images), n, replace=False)]
    copies = np.stack([group[i % len(group)].apply(image) for i, image in enumerate(chosen)]).astype(np.float32)
    return np.clip(copies * 1.05 + rng.normal(0, 10, copies.shape), 0, 255).astype(np.uint8)


def _real() -> Path:
    if "MEMJAX_REAL_DATA" not in os.environ:
        raise UserError("set MEMJAX_REAL_DATA to the folder of the real images, or leave these workloads out (--only).")
    return Path(os.environ["MEMJAX_REAL_DATA"], "dev")
