"""Who is training and who is held out: always whole patients, from one permutation.

The training-size ladder of Akbar et al. (23, 46, 92, 184, 313, 369 subjects) is a chain of prefixes of one permutation
of all subjects, so that a larger training set contains every smaller one; held-out subjects are its end, the same for
every size.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from memjax.data.manifest import Item
from memjax.digest import settings_digest
from memjax.errors import UserError


def permutation(patients: Iterable[str], seed: int) -> list[str]:
    """Return the distinct patients in the seed's order; any part of them keeps the order it has in the whole."""
    return sorted(set(patients), key=lambda patient: settings_digest([seed, patient]))


def first_patients(patients: Iterable[str], count: int, seed: int) -> set[str]:
    """Return the first `count` patients of the permutation.

    Raises:
      UserError: there are fewer.
    """
    order = permutation(patients, seed)
    if count > len(order):
        raise UserError(f"--patients={count}, but there are {len(order)} patients.")
    return set(order[:count])


def last_patients(patients: Iterable[str], heldout: float, seed: int) -> set[str]:
    """Return the last patients of the permutation: `heldout` of them (1 or more), or that share of all (below 1).

    Raises:
      UserError: no patient would be left on one of the two sides.
    """
    order = permutation(patients, seed)
    count = round(heldout * len(order)) if heldout < 1 else int(heldout)
    if not 0 < count < len(order):
        raise UserError(
            f"--heldout_patients={heldout:g} of {len(order)} patients leaves {len(order) - count} to train on and "
            f"holds {count} out; both need at least one."
        )
    return set(order[-count:])


def first_and_last(patients: Iterable[str], count: int, heldout: float, seed: int) -> tuple[set[str], set[str]]:
    """Return the first `count` patients, to train on, and the last ones, held out as in `last_patients` (0: none).

    Raises:
      UserError: there are fewer patients than both ask for.
    """
    everyone = set(patients)
    first = first_patients(everyone, count, seed)
    last = last_patients(everyone, heldout, seed) if heldout else set()
    if first & last:
        raise UserError(
            f"--patients={count} and --heldout_patients={heldout:g} ask for {count + len(last)} patients, "
            f"but there are {len(everyone)}."
        )
    return first, last


def training_ids(items: Sequence[Item]) -> np.ndarray:
    """Return the ids of the images to train on: those of the split `train`, and those of none; int64, ascending."""
    return np.array([item.id for item in items if item.split in ("", "train")], np.int64)


def first_images(items: Sequence[Item], ids: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return the ids of `count` of these images, ascending: those of the first patients of the seed's permutation.

    A smaller set is contained in every larger one. An image whose patient nobody knows is a patient of its own; of the
    last patient only as many images are taken as are missing.

    Raises:
      UserError: there are fewer images.
    """
    if count > len(ids):
        raise UserError(f"config.n_train={count}, but there are {len(ids)} images to train on; give 0 for all of them.")
    owners: dict[str, list[int]] = {}
    for id_ in ids:
        owners.setdefault(items[id_].patient or f"image {id_}", []).append(int(id_))
    in_order = [id_ for owner in permutation(owners, seed) for id_ in owners[owner]]
    return np.sort(np.array(in_order[:count], np.int64))


def heldout_ids(items: Sequence[Item]) -> np.ndarray:
    """Return the ids of the images held out, ascending: of the split `heldout`, else of `val` and `test` together."""
    for splits in (("heldout",), ("val", "test")):
        if found := [item.id for item in items if item.split in splits]:
            return np.array(found, np.int64)
    return np.array([], np.int64)
