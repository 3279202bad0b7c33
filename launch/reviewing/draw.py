"""Which candidate pairs readers are asked about: a random sample of the called ones and of the others.

Paper B drew 150 of its candidates at random. Where copies are rare, such a sample holds hardly any, and shows little of
a detector that calls few; where they are common, hardly any other pair. So half of the pairs are drawn among those that
some detector calls, half among those that none does, each pair of a half as likely as the next. Each pair notes
how many candidates it stands for (`weight`), with which shares of all candidates are estimated without bias.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from launch.reviewing.audited import Candidate
from launch.reviewing.pictures import image_of
from memjax.audit.review_file import Pair
from memjax.data.store import Store
from memjax.errors import UserError
from memjax.orientation import Orientation, orientations

CALLED, NOT_CALLED = "called", "not called"


def draw(candidates: Sequence[Candidate], n: int, seed: int) -> list[tuple[Candidate, str, float]]:
    """Draw n candidates (all, if there are fewer), each with its stratum and its weight, in random order.

    What one stratum lacks is drawn from the other.

    Args:
      candidates: in any order that is the same each time.
      n: how many, 1 or more.
      seed: the same gives the same pairs.
    """
    rng = np.random.default_rng(seed)
    strata = {
        CALLED: [one for one in candidates if one.is_called],
        NOT_CALLED: [one for one in candidates if not one.is_called],
    }
    n_called, n_others = (len(members) for members in strata.values())
    n = min(n, len(candidates))
    of_called = min(n_called, max(n // 2, n - n_others))
    drawn = []
    for (stratum, members), count in zip(strata.items(), (of_called, n - of_called), strict=True):
        chosen = rng.choice(len(members), count, replace=False) if count else ()
        drawn += [(members[i], stratum, len(members) / count) for i in chosen]
    return [drawn[i] for i in rng.permutation(len(drawn))]  # else a pair's number would tell its stratum


def draw_pairs(
    candidates: Sequence[Candidate], n: int, seed: int, *, train: Store, synthetic: Store, names: Sequence[str]
) -> list[Pair]:
    """Draw pairs as above, each with the orientation that turns its training image into the synthetic one.

    Where the detector does not tell the orientation, it is the one with the highest correlation.

    Args:
      candidates: of the audit of these stores.
      n: how many pairs.
      seed: the same gives the same pairs.
      train: the training images.
      synthetic: the synthetic images.
      names: of the orientations that the audit tried.

    Raises:
      UserError: a candidate is not among the images.
    """
    ids = [{item.source: item.id for item in store.items} for store in (synthetic, train)]
    group = [one for one in orientations(train.manifest.shape[:-1], "all") if one.name in names]
    pairs = []
    for candidate, stratum, weight in draw(candidates, n, seed):
        query, gallery = _id_of(synthetic, ids[0], candidate.synthetic), _id_of(train, ids[1], candidate.train)
        orientation = candidate.orientation
        if orientation is None:
            orientation = best_orientation(image_of(synthetic, query), image_of(train, gallery), group).name
        pairs.append(
            Pair(
                synthetic=candidate.synthetic,
                train=candidate.train,
                synthetic_id=query,
                train_id=gallery,
                orientation=orientation,
                stratum=stratum,
                weight=weight,
            )
        )
    return pairs


def _id_of(store: Store, ids: Mapping[str, int], source: str) -> int:
    if source not in ids:
        raise UserError(f"{store.path} has no image {source!r}, which the audit's tables name; run the audit again.")
    return ids[source]


def best_orientation(synthetic: np.ndarray, train: np.ndarray, group: Sequence[Orientation]) -> Orientation:
    """Return the orientation under which a training image [*space, c] correlates most with a synthetic one."""
    x = synthetic.astype(np.float32)
    x -= x.mean()
    y = train.astype(np.float32)
    return max(group, key=lambda one: float(np.vdot(x, one.apply(y))))  # its mean and norm are the same in all
