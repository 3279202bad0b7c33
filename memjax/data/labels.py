"""Which class a synthetic image shows: a function of its seed id, in the training set's proportions."""

from collections.abc import Sequence

import numpy as np


def labels_of(seed_ids: Sequence[int] | np.ndarray, share: Sequence[float]) -> np.ndarray | None:
    """Return the class number of each seed id, int32 [n]; None where there are no classes.

    Args:
      seed_ids: 0 or more.
      share: how often each class occurs; they add up to 1.
    """
    if not len(share):
        return None
    drawn = [np.random.default_rng([int(id_), len(share)]).choice(len(share), p=share) for id_ in seed_ids]
    return np.array(drawn, np.int32)
