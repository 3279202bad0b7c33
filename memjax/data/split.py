"""Who is training and who is held out: always whole patients, from one permutation.

The training-size ladder of Akbar et al. (23, 46, 92, 184, 313, 369 subjects) is a chain of prefixes of one permutation
of all subjects, so that a larger training set contains every smaller one; held-out subjects are its end.
"""

import random
from collections.abc import Iterable

from memjax.errors import UserError

BRATS_LADDER = (23, 46, 92, 184, 313, 369)


def permutation(patients: Iterable[str], seed: int) -> list[str]:
    """Return the distinct patients in the order that all subsets of this seed are prefixes of."""
    order = sorted(set(patients))
    random.Random(seed).shuffle(order)
    return order


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
