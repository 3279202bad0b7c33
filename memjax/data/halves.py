"""The two halves of the patients: train a descriptor on one, search the other with it (cross-fitting).

A descriptor that was trained on the images it searches knows them, and not the synthetic images they are compared with.
"""

import numpy as np
from jaxtyping import Int

from memjax.data.manifest import Item
from memjax.data.store import Store
from memjax.digest import settings_digest
from memjax.errors import UserError


def half_of(store: Store, ids: Int[np.ndarray, "n"], half: int) -> Int[np.ndarray, "m"]:
    """Return those of the ids whose patients are of this half, in their order.

    Which half a patient is of depends on the patient's id alone, so stores with the same patients agree on it, and the
    halves are equal only by and large. An image whose patient nobody knows is a patient of its own, named by its
    digest.

    Args:
      store: the images.
      ids: any of them.
      half: 0 or 1.

    Raises:
      UserError: there is no such half, or nobody in it.
    """
    if half not in (0, 1):
        raise UserError(f"half={half} is not known; give 0 or 1.")
    chosen = np.array([id_ for id_ in ids.tolist() if _half(store.items[id_]) == half], np.int64)
    if not len(chosen):
        raise UserError(f"half {half} of the patients of {store.path} is empty; halves need images of more patients.")
    return chosen


def _half(item: Item) -> int:
    return int(settings_digest(["half", item.patient or item.sha256])[:8], 16) % 2
