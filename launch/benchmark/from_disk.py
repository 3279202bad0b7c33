"""How memory and time of a search from disk grow with the gallery: stores are drawn, each searched in its own process.

Chest phantoms, shifted, brightened and noised until they are as many as wanted; the queries are phantoms of patients
that are not among them. A store is written once and kept in the folder, as large as it is: 6.5 GB for 100,000 images
of 256x256.
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np

    from memjax.audit.pairs.plan import Kind
    from memjax.data.store import Store

_DRAWN, _QUERIES, _AT_ONCE = 1000, 1000, 250  # phantoms, queries, images made at a time


def gallery_store(folder: Path, side: int, n: int) -> "Store":
    """Return the store of n images of side x side, drawing it if it is not there."""
    from memjax.data.store import Store

    path = folder / f"gallery-{side}-{n}"
    return Store.open(path) if path.exists() else _draw(path, side, n)


def search(folder: Path, side: int, n: int, plan: "Kind | Literal['auto']", k: int) -> dict[str, float | str]:
    """Search a store for the nearest of the queries; returns its size, seconds, and which plan was taken."""
    import numpy as np

    from memjax.audit.describe import ArrayImages
    from memjax.audit.pairs.allpairs import allpairs
    from memjax.data.phantoms import draw
    from memjax.mesh import audit_mesh
    from memjax.orientation import orientations

    gallery = gallery_store(folder, side, n)
    images = draw("chest", range(_DRAWN, _DRAWN + _QUERIES), size=(side, side)).images
    queries = ArrayImages(images, np.tile(np.float32([0, 255]), (len(images), 1)))
    told: list[str] = []
    start = time.perf_counter()
    group = orientations((side, side), "none")
    allpairs(queries, gallery, k=k, group=group, mesh=audit_mesh(1), plan=plan, bins=0, tell=told.append)
    return {"images": n, "seconds": time.perf_counter() - start, "plan": told[-1].split(":")[0]}


def _draw(path: Path, side: int, n: int) -> "Store":
    import numpy as np
    from tqdm import tqdm

    from memjax.data.manifest import Manifest
    from memjax.data.phantoms import draw
    from memjax.data.store import NewItem, StoreWriter

    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = draw("chest", range(_DRAWN), size=(side, side))
    with StoreWriter(path, shape=drawn.images.shape[1:], dtype="uint8", settings=[side, n]) as writer:
        for start in tqdm(range(0, n, _AT_ONCE), desc=f"drawing {path.name}", disable=None):
            if str(start) in writer.done:
                continue
            some = _varied(drawn.images, np.random.default_rng(start), min(_AT_ONCE, n - start))
            writer.add(str(start), [NewItem(image=image, source=f"{start + i:06d}") for i, image in enumerate(some)])
        return writer.finish(
            Manifest(axes=drawn.axes, channels=drawn.channels, source_format="phantoms", preparation={"size": side})
        )


def _varied(images: "np.ndarray", rng: "np.random.Generator", n: int) -> "np.ndarray":
    """Return n of the images, each shifted, brightened and noised in its own way."""
    import numpy as np

    some = images[rng.integers(0, len(images), n)].astype(np.int16)
    side = images.shape[1]
    shift = rng.integers(-side // 16, side // 16 + 1, (n, 2))
    some = np.stack([np.roll(image, tuple(by), (0, 1)) for image, by in zip(some, shift, strict=True)])
    some = some * rng.integers(108, 149, (n, 1, 1, 1), np.int16) // 128
    return np.clip(some + rng.integers(-6, 7, some.shape, np.int8), 0, 255).astype(np.uint8)
