"""Several processes: each searches its own part of the gallery, and what they found is put together by all.

Nothing here knows of images beyond their protocol. In a single process every function is the identity.
"""

import dataclasses
import io
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from memjax.audit.describe import Images


@dataclasses.dataclass(frozen=True)
class Part:
    """Images start:stop of a set, as a set."""

    images: Images
    start: int
    stop: int

    @property
    def ranges(self) -> np.ndarray:
        """The raw values for -1 and +1 of each image: [n, 2]."""
        return self.images.ranges[self.start : self.stop]

    def __len__(self) -> int:
        return self.stop - self.start

    def block(self, start: int, stop: int) -> np.ndarray:
        """Read images start:stop of the part."""
        return self.images.block(self.start + start, min(self.start + stop, self.stop))

    def gather(self, ids: np.ndarray) -> np.ndarray:
        """Read the images of these ids of the part."""
        return self.images.gather(self.start + np.asarray(ids))

    def name(self, id_: int) -> str:
        """Say which image this is."""
        return self.images.name(self.start + id_)

    def check_unchanged(self) -> None:
        """Raise a `UserError` if the images are no longer those that were opened."""
        self.images.check_unchanged()


def own_part(images: Images) -> Part:
    """Return this process's part of a set: all processes together have all of it, in order."""
    cut = np.linspace(0, len(images), jax.process_count() + 1).astype(int).tolist()
    return Part(images, cut[jax.process_index()], cut[jax.process_index() + 1])


def exchange(arrays: dict[str, Any]) -> list[dict[str, np.ndarray]]:
    """Return the arrays of every process, in order; names must agree, shapes need not."""
    if jax.process_count() == 1:
        return [{name: np.asarray(array) for name, array in arrays.items()}]
    file = io.BytesIO()
    np.savez(file, **arrays)
    mine = np.frombuffer(file.getvalue(), np.uint8)  # as bytes: JAX would make float32 of float64
    sizes = multihost_utils.process_allgather(np.array([len(mine)], np.int32)).ravel()
    padded = np.pad(mine, (0, int(sizes.max()) - len(mine)))
    everybody = np.asarray(multihost_utils.process_allgather(padded)).reshape(len(sizes), -1)
    found = []
    for theirs, size in zip(everybody, sizes.tolist(), strict=True):
        with np.load(io.BytesIO(theirs[:size].tobytes()), allow_pickle=False) as loaded:
            found.append({name: loaded[name] for name in loaded.files})
    return found


def joined(arrays: dict[str, Any]) -> dict[str, np.ndarray]:
    """Return the arrays of all processes, one after the other along the first axis."""
    everybody = exchange(arrays)
    return {name: np.concatenate([theirs[name] for theirs in everybody]) for name in arrays}
