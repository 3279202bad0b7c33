"""De-duplication of a training set, by the audit's own search: one of each group of practically identical images."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Int

from memjax.audit.describe import constant_images
from memjax.audit.findings import ImageSet
from memjax.audit.leaks import NEAR_IDENTICAL, duplicate_groups
from memjax.audit.pairs.above import pairs_above
from memjax.data.store import Store
from memjax.mesh import narrowed
from memjax.orientation import Symmetry, orientations


def distinct_ids(
    store: Store,
    ids: Int[np.ndarray, " n"] | None = None,
    *,
    mesh: Mesh,
    symmetry: Symmetry = "all",
    unfinished: Path | None = None,
    progress: Callable[[int], object] = lambda pairs: None,
    tell: Callable[[str], object] = lambda text: None,
) -> Int[np.ndarray, " m"]:
    """Return the ids, ascending, without those that are practically identical to a lower one.

    Practically identical means what the audit's report means by it: byte for byte, or a correlation of NEAR_IDENTICAL
    under some orientation; of images that are alike in a chain the lowest id alone is kept. Images without contrast
    are all kept, as nothing can be compared with them.

    Args:
      store: the images.
      ids: which of them; None: all.
      mesh: the devices to use; the answer does not depend on how many.
      symmetry: orientations under which a copy is still a copy.
      unfinished: where an interrupted search is kept and taken up again; None: nowhere.
      progress: called with the number of pairs finished since the last call.
      tell: called with a sentence on how the work is done.

    Raises:
      UserError: as `pairs_above`.
    """
    ids = np.arange(len(store)) if ids is None else np.unique(ids)
    if len(ids) < 2:
        return ids
    chosen = _Chosen(store, ids)
    near = pairs_above(
        chosen,
        chosen,
        NEAR_IDENTICAL,
        group=orientations(store.manifest.shape[:-1], symmetry),
        mesh=narrowed(mesh, len(ids)),
        within=True,
        unfinished=unfinished,
        progress=progress,
        tell=tell,
    )
    near = dataclasses.replace(near, query=ids[near.query], gallery=ids[near.gallery])
    images = ImageSet(role="train", given=str(store.path), store=store, constant=constant_images(store))
    further = [sorted(set(group) & set(ids.tolist()))[1:] for group in duplicate_groups(images, near)]
    return np.setdiff1d(ids, np.array([id_ for group in further for id_ in group], np.int64))


@dataclasses.dataclass(frozen=True)
class _Chosen:
    """Some images of a store, as a set for the search."""

    store: Store
    ids: np.ndarray  # int64 [n]

    @property
    def ranges(self) -> np.ndarray:
        """The raw values for -1 and +1 of each image: [n, 2]."""
        return self.store.ranges[self.ids]

    def __len__(self) -> int:
        return len(self.ids)

    def block(self, start: int, stop: int) -> np.ndarray:
        """Read images start:stop of these."""
        return self.store.gather(self.ids[start:stop])

    def gather(self, ids: np.ndarray) -> np.ndarray:
        """Read these images of these."""
        return self.store.gather(self.ids[ids])

    def name(self, id_: int) -> str:
        """Say which image this is."""
        return self.store.name(int(self.ids[id_]))

    def check_unchanged(self) -> None:
        """Raise a `UserError` if the images are no longer those that were opened."""
        self.store.check_unchanged()
