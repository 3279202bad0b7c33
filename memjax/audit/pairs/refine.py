"""Settle in float64 what the float32 kernel cannot: order and orientation of near-ties, the last place of a list.

The kernel hands over more candidates than are wanted. With a rounding error of at most `slack`, the k best are among
them for certain if the last candidate is more than twice the slack below the k-th; otherwise the whole list is computed
again against everything. Inside a list only entries closer to a neighbour than twice the slack, or almost equal to the
query, are scored again.
Scores closer than 1e-9 count as tied, and go to the lower id.
"""

import numpy as np

from memjax.audit.describe import Descriptor, Images, matrix_scores, pair_scores
from memjax.audit.findings import Neighbours
from memjax.audit.pairs.shortlist import AMBIGUOUS, Shortlist
from memjax.orientation import Orientation

_TIE_DECIMALS = 9
ALMOST_EQUAL = 1e-3  # this close to the largest score digits matter: an exact copy shall score exactly 1
_PAIR_BYTES = 64 << 20  # pairs scored at once, each of their images in float64
_LIST_BYTES = 64 << 20  # whole lists scored at once


def refine(
    candidates: Shortlist,
    *,
    query: Images,
    gallery: Images,
    k: int,
    group: tuple[Orientation, ...],
    descriptor: Descriptor,
    by_query: bool,
    own: int | None,
    slack: float,
    settled: int | None = None,
) -> Neighbours:
    """Return the k best of each list, as a float64 brute force would.

    Args:
      candidates: the kernel's lists: gallery images for each query (`by_query`), or queries for each gallery image.
      query: the query images.
      gallery: the gallery images.
      k: how many to return.
      group: the orientations, applied to the gallery image.
      descriptor: what is compared.
      by_query: which side the lists belong to.
      own: which image of the other side the first list's image is itself, where both sides are one set and an image is
        not its own neighbour; None: the sides are different.
      slack: a bound on the rounding error of the lists' scores.
      settled: how many of the k are wanted like that, if not all; those behind may be out of order, or left out for
        another, where scores differ by less than twice the slack.
    """
    size = int(np.prod(gallery.block(0, 1).shape[1:]))
    score, ids = candidates.score.astype(np.float64), candidates.id.copy()
    code = candidates.code % AMBIGUOUS
    others = len(gallery if by_query else query)
    last, kth = score[:, -1], score[:, min(settled or k, score.shape[1]) - 1]
    uncertain = (ids[:, -1] >= 0) & (score.shape[1] < others) & (last >= kth - 2 * slack)

    contenders = (ids >= 0) & (score >= kth[:, None] - 2 * slack) & ~uncertain[:, None]
    almost_equal = score > descriptor.limits[1] - ALMOST_EQUAL
    near = contenders & (_near(score, 2 * slack) | (candidates.code >= AMBIGUOUS) | almost_equal)
    row, place = np.nonzero(near)
    if len(row):
        ambiguous = candidates.code[row, place] >= AMBIGUOUS
        pairs = (row, ids[row, place]) if by_query else (ids[row, place], row)
        exact, orientation = exact_pairs(pairs, code[row, place], ambiguous, query, gallery, group, descriptor)
        score[row, place], code[row, place] = exact, orientation
    touched = np.flatnonzero(near.any(1))
    score[touched], ids[touched], code[touched] = _ordered(score[touched], ids[touched], code[touched])

    lists = np.flatnonzero(uncertain)
    step = max(1, _LIST_BYTES // (16 * max(others, size)))
    for part in (lists[i : i + step] for i in range(0, len(lists), step)):
        best, orientation = _whole_lists(part, query, gallery, group, descriptor, by_query=by_query, own=own)
        everyone = np.where(best > -np.inf, np.arange(others), -1)
        whole = _ordered(best, everyone, orientation)
        score[part], ids[part], code[part] = (column[:, : score.shape[1]] for column in whole)
    low, high = descriptor.limits
    kept = np.clip(score[:, :k], low, high)
    kept[ids[:, :k] < 0] = -np.inf
    return Neighbours(score=kept, id=ids[:, :k], orientation=code[:, :k].astype(np.int16))


def _ordered(score: np.ndarray, ids: np.ndarray, code: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sort each list by score, ties by id."""
    order = np.lexsort((ids, -np.round(score, _TIE_DECIMALS)), axis=1)
    score, ids, code = (np.take_along_axis(column, order, axis=1) for column in (score, ids, code))
    return score, ids, code


def _near(score: np.ndarray, distance: float) -> np.ndarray:
    """Say which entries of sorted lists are within `distance` of the entry before or after them."""
    with np.errstate(invalid="ignore"):
        close = np.isfinite(score[:, 1:]) & (score[:, :-1] - score[:, 1:] <= distance)
    near = np.zeros(score.shape, bool)
    near[:, 1:] |= close
    near[:, :-1] |= close
    return near


def exact_pairs(
    pairs: tuple[np.ndarray, np.ndarray],
    code: np.ndarray,
    ambiguous: np.ndarray,
    query: Images,
    gallery: Images,
    group: tuple[Orientation, ...],
    descriptor: Descriptor,
) -> tuple[np.ndarray, np.ndarray]:
    """Score pairs in float64: in their orientation, or where that is ambiguous in all (the first of the best wins)."""
    tried = np.where(ambiguous, len(group), 1)
    pair = np.repeat(np.arange(len(code)), tried)
    turn = np.arange(len(pair)) - np.repeat(np.cumsum(tried) - tried, tried)  # 0 to |G| - 1 where ambiguous
    turn = np.where(ambiguous[pair], turn, code[pair])
    q, t = (ids[pair] for ids in pairs)
    scores = np.empty(len(pair))
    step = max(1, _PAIR_BYTES // (16 * gallery.block(0, 1).size))
    order = np.lexsort((q, t))  # the gallery as it lies on disk
    for part in (order[i : i + step] for i in range(0, len(order), step)):
        (x, x_ranges), (y, y_ranges) = _read(query, q[part]), _read(gallery, t[part])
        for g in np.unique(turn[part]):
            these = turn[part] == g
            y[these] = group[g].apply(y[these], leading=1)
        scores[part] = pair_scores(x, x_ranges, y, y_ranges, descriptor)
    rounded = np.round(scores, _TIE_DECIMALS)
    best = np.full(len(code), -np.inf)
    np.maximum.at(best, pair, rounded)
    is_best = np.flatnonzero(rounded == best[pair])
    first = is_best[np.unique(pair[is_best], return_index=True)[1]]
    return scores[first], turn[first].astype(code.dtype)


def _read(images: Images, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return images and their ranges, any of them any number of times; each is read once."""
    once, place = np.unique(ids, return_inverse=True)
    return images.gather(once)[place], images.ranges[ids]


def _whole_lists(
    ids: np.ndarray,
    query: Images,
    gallery: Images,
    group: tuple[Orientation, ...],
    descriptor: Descriptor,
    *,
    by_query: bool,
    own: int | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Score these images of one side with all of the other in float64: best score and orientation [n, others]."""
    mine, others = (query, gallery) if by_query else (gallery, query)
    images, ranges = mine.gather(ids), mine.ranges[ids]
    best = np.full((len(ids), len(others)), -np.inf)
    orientation = np.zeros(best.shape, np.int32)
    step = max(1, _LIST_BYTES // (16 * images[0].size))
    for start in range(0, len(others), step):
        part = slice(start, start + step)
        block, block_ranges = others.block(start, start + step), others.ranges[part]
        for g, turn in enumerate(group):
            if by_query:
                scores = matrix_scores(images, ranges, turn.apply(block, leading=1), block_ranges, descriptor)
            else:
                scores = matrix_scores(block, block_ranges, turn.apply(images, leading=1), ranges, descriptor).T
            better = np.round(scores, _TIE_DECIMALS) > np.round(best[:, part], _TIE_DECIMALS)
            best[:, part] = np.where(better, scores, best[:, part])
            orientation[:, part] = np.where(better, g, orientation[:, part])
    if own is not None:
        best[np.arange(len(ids)), ids + own] = -np.inf
    return best, orientation
