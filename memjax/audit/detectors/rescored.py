"""Score pairs that another search listed once more, by another rule, and list the best partners by that.

A rule may depend on the query's whole neighbourhood, or cost too much for all pairs. What no search listed stays out:
for a gallery image the best partner is the best of the pairs that were scored.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from memjax.audit.describe import Descriptor, Images
from memjax.audit.detectors.setting import Found, Setting
from memjax.audit.findings import Neighbours
from memjax.audit.pairs.allpairs import AllPairs

_L2_NEIGHBOURS = 50  # the most that a detector asks for, so that one search serves all


class Listed(NamedTuple):
    """Different pairs, each field [p]: ids, the orientation that turns the gallery image, and the search's score.

    `place` is the gallery image's place in the query's list, -1 if only the gallery image lists the pair.
    """

    query: np.ndarray
    gallery: np.ndarray
    orientation: np.ndarray
    score: np.ndarray
    place: np.ndarray


def distances(query: Images, gallery: Images, setting: Setting) -> AllPairs:
    """Return each image's 50 nearest by the mean squared difference of pixels in [-1, 1], as the images lie.

    The nearest few are exact; of the others only the distances matter, to which float32 is enough.
    """
    descriptor = Descriptor(score="msd", channels=setting.channels)
    return setting.pairs(
        query,
        gallery,
        descriptor,
        group=setting.group(query)[:1],
        k=max(setting.k, _L2_NEIGHBOURS),
        settled=setting.k,
        how="distances",
    )


def listed(pairs: AllPairs, *, per_query: int, per_gallery: int) -> Listed:
    """Return the pairs among the first on either side's lists, each once, by query and gallery id."""
    parts = []
    for near, width in ((pairs.query_to_gallery, per_query), (pairs.gallery_to_query, per_gallery)):
        owner, place = np.nonzero(near.id[:, :width] >= 0)
        parts.append((owner, near.id[owner, place], near.orientation[owner, place], near.score[owner, place], place))
    (query, theirs, *by_query), (gallery, queries, *by_gallery) = parts
    by_gallery[-1] = np.full(len(gallery), -1)
    together = [
        np.concatenate(two) for two in zip((query, theirs, *by_query), (queries, gallery, *by_gallery), strict=True)
    ]
    # Of equal ones the first is kept: the query's.
    _, first = np.unique(together[0] * len(pairs.gallery_to_query.id) + together[1], return_index=True)
    return Listed(*(part[first] for part in together))


def best_partners(pairs: Listed, score: np.ndarray, *, n_queries: int, n_gallery: int, k: int) -> Found:
    """Return each image's k best partners among different pairs with these scores [p]; -inf: no score."""
    known = score > -np.inf
    query, gallery, orientation, score = (
        part[known] for part in (pairs.query, pairs.gallery, pairs.orientation, score)
    )
    return Found(
        query_to_gallery=_lists(query, gallery, score, orientation, n_queries, k),
        gallery_to_query=_lists(gallery, query, score, orientation, n_gallery, k),
    )


def best_of(lists: Sequence[Neighbours]) -> Neighbours:
    """Return the best partners of several searches for the same images, each partner once, by its best score.

    Args:
      lists: of as many neighbours each; of equal scores the earlier list's counts.
    """
    n, k = lists[0].id.shape
    id_, score, orientation = (
        np.concatenate([getattr(near, name) for near in lists], axis=1) for name in ("id", "score", "orientation")
    )
    owner, place = np.nonzero(id_ >= 0)
    columns = [owner, *(column[owner, place] for column in (id_, score, orientation))]
    order = np.lexsort((-columns[2], columns[1], owner))  # stable
    owner, id_, score, orientation = (column[order] for column in columns)
    is_first = np.ones(len(owner), bool)
    is_first[1:] = (owner[1:] != owner[:-1]) | (id_[1:] != id_[:-1])
    return _lists(owner[is_first], id_[is_first], score[is_first], orientation[is_first], n, k)


def _lists(
    owner: np.ndarray, other: np.ndarray, score: np.ndarray, orientation: np.ndarray, n: int, k: int
) -> Neighbours:
    order = np.lexsort((other, -score, owner))
    owner = owner[order]
    rank = np.arange(len(owner)) - np.searchsorted(owner, owner)
    kept = rank < k
    place, chosen = (owner[kept], rank[kept]), order[kept]
    near = Neighbours(
        score=np.full((n, k), -np.inf), id=np.full((n, k), -1, np.int64), orientation=np.zeros((n, k), np.int16)
    )
    near.score[place], near.id[place], near.orientation[place] = score[chosen], other[chosen], orientation[chosen]
    return near
