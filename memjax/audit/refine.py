"""Settle in float64 what the float32 kernel cannot: order and orientation of near-ties, the last place of a list.

The kernel hands over more candidates than are wanted. With a rounding error of at most `slack`, the k best are among
them for certain if the last candidate is more than twice the slack below the k-th; otherwise the whole list is computed
again against everything. Inside a list only entries closer to a neighbour than twice the slack, or almost equal to the
query, are scored again.
Scores closer than 1e-9 count as tied, and go to the lower id.
"""

import dataclasses

import numpy as np

from memjax.audit.describe import Descriptor, Images, matrix_scores, pair_scores
from memjax.audit.findings import Neighbours
from memjax.audit.topk import Hits
from memjax.orientation import Orientation

AMBIGUOUS = 1 << 10  # added to an orientation's index where another orientation scores the same within the slack
_TIE_DECIMALS = 9
_ALMOST_EQUAL = 1e-3  # this close to the largest score digits matter: an exact copy shall score exactly 1
_PAIR_BYTES = 4 << 20  # pairs scored at once: larger chunks leave the cache and cost three times as much
_LIST_BYTES = 64 << 20  # whole lists scored at once


def rounding_slack(size: int) -> float:
    """Return a bound on the kernel's rounding error for unit vectors of `size` numbers.

    Rounding errors of a dot product in float32 grow like a random walk: 2^-24 sqrt(size) for partial sums below 1.
    Twice that is at least seven times the largest error seen, on radiographs and on noise of 16 to 10^6 numbers
    (BUILD_NOTES).
    """
    return 2.0**-23 * max(16.0, float(np.sqrt(size)))


@dataclasses.dataclass(frozen=True)
class Candidates:
    """The kernel's lists on the host, best first: score float32, id int64 (-1: none), orientation code int32."""

    score: np.ndarray
    id: np.ndarray
    code: np.ndarray

    @classmethod
    def nothing(cls, n: int, kept: int) -> "Candidates":
        """Return empty lists."""
        return cls(
            np.full((n, kept), -np.inf, np.float32), np.full((n, kept), -1, np.int64), np.zeros((n, kept), np.int32)
        )

    def merge(self, start: int, hits: Hits) -> None:
        """Merge a block of lists into those from `start` on, in place; its ids are not below those already there."""
        rows = slice(start, min(start + len(hits.score), len(self.score)))
        n, kept = self.score[rows].shape
        both = [
            np.concatenate([mine[rows], np.asarray(theirs)[:n]], axis=1)
            for mine, theirs in zip((self.score, self.id, self.code), hits, strict=True)
        ]
        place = np.argsort(-both[0], axis=1, kind="stable")[:, :kept]
        for mine, joined in zip((self.score, self.id, self.code), both, strict=True):
            mine[rows] = np.take_along_axis(joined, place, axis=1)


def refine(
    candidates: Candidates,
    *,
    query: Images,
    gallery: Images,
    k: int,
    group: tuple[Orientation, ...],
    descriptor: Descriptor,
    by_query: bool,
    exclude_self: bool,
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
      exclude_self: pairs of equal id do not count.
    """
    size = int(np.prod(gallery.block(0, 1).shape[1:]))
    slack = rounding_slack(size)
    score, ids = candidates.score.astype(np.float64), candidates.id.copy()
    code = candidates.code % AMBIGUOUS
    others = len(gallery if by_query else query)
    last, kth = score[:, -1], score[:, min(k, score.shape[1]) - 1]
    uncertain = (ids[:, -1] >= 0) & (score.shape[1] < others) & (last >= kth - 2 * slack)

    contenders = (ids >= 0) & (score >= kth[:, None] - 2 * slack) & ~uncertain[:, None]
    almost_equal = score > descriptor.limits[1] - _ALMOST_EQUAL
    near = contenders & (_near(score, 2 * slack) | (candidates.code >= AMBIGUOUS) | almost_equal)
    row, place = np.nonzero(near)
    if len(row):
        ambiguous = candidates.code[row, place] >= AMBIGUOUS
        pairs = (row, ids[row, place]) if by_query else (ids[row, place], row)
        exact, orientation = _score_pairs(pairs, code[row, place], ambiguous, query, gallery, group, descriptor)
        score[row, place], code[row, place] = exact, orientation
    touched = np.flatnonzero(near.any(1))
    score[touched], ids[touched], code[touched] = _ordered(score[touched], ids[touched], code[touched])

    lists = np.flatnonzero(uncertain)
    step = max(1, _LIST_BYTES // (16 * max(others, size)))
    for part in (lists[i : i + step] for i in range(0, len(lists), step)):
        best, orientation = _whole_lists(
            part, query, gallery, group, descriptor, by_query=by_query, exclude_self=exclude_self
        )
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


def _score_pairs(
    pairs: tuple[np.ndarray, np.ndarray],
    code: np.ndarray,
    ambiguous: np.ndarray,
    query: Images,
    gallery: Images,
    group: tuple[Orientation, ...],
    descriptor: Descriptor,
) -> tuple[np.ndarray, np.ndarray]:
    """Score pairs in float64: in their orientation, or where that is ambiguous in all (the first of the best wins)."""
    query_ids, gallery_ids = pairs
    size = int(np.prod(gallery.block(0, 1).shape[1:]))
    step = max(1, _PAIR_BYTES // (16 * size))
    best, orientation = np.full(len(code), -np.inf), code.copy()
    for g, turn in enumerate(group):
        wanted = np.flatnonzero(ambiguous | (code == g))
        for part in (wanted[i : i + step] for i in range(0, len(wanted), step)):
            q, t = query_ids[part], gallery_ids[part]
            turned = turn.apply(gallery.gather(t), leading=1)
            scores = pair_scores(query.gather(q), query.ranges[q], turned, gallery.ranges[t], descriptor)
            better = np.round(scores, _TIE_DECIMALS) > np.round(best[part], _TIE_DECIMALS)
            best[part] = np.where(better, scores, best[part])
            orientation[part] = np.where(better, g, orientation[part])
    return best, orientation


def _whole_lists(
    ids: np.ndarray,
    query: Images,
    gallery: Images,
    group: tuple[Orientation, ...],
    descriptor: Descriptor,
    *,
    by_query: bool,
    exclude_self: bool,
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
    if exclude_self:
        best[np.arange(len(ids)), ids] = -np.inf
    return best, orientation
