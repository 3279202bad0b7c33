"""The calibrated ratio: a copy is far nearer to its training image than to any other (Yoon; Gu; Bonnaire).

    ratio(s) = |s - x_(1)| / |s - x_(2)|,        a copy if below 1/3.

In m dimensions of locally even density the ratio's m-th power is uniform, so that the scale of the images drops out.

Where a training image is there twice, its copies are as near to the one as to the other, and the ratio as published
says 1: it would miss just those images that are memorized first. So the second nearest is the nearest that is not
practically identical to the first. If all 50 nearest are one image, the last of them stands for the second.
"""

import dataclasses

import numpy as np

from memjax.audit.describe import Descriptor, Images, pair_scores
from memjax.audit.detectors.rescored import best_partners, distances, listed
from memjax.audit.detectors.setting import Found, Setting
from memjax.audit.leaks import NEAR_IDENTICAL
from memjax.audit.null import Law

_LEAST = 1e-6  # a distance: none
_BLOCK_BYTES = 64 << 20  # images compared at once


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ratio:
    """Divide the distance to a training image by that to the nearest other one, negative."""

    name: str = "ratio"
    title: str = "Nearest over second nearest distance"
    source: str = "Yoon et al. 2023; Gu et al. 2023; Bonnaire et al. 2025"
    invariant_to: tuple[str, ...] = ()
    score_name: str = "negative ratio of distances"
    law: Law = "distance"
    published: float | None = -1 / 3
    is_control: bool = False
    digest: str = ""

    def search(self, query: Images, gallery: Images, setting: Setting) -> Found:
        """Find the best partners; a query has no score where the gallery has one image only."""
        pairs = distances(query, gallery, setting)
        near = pairs.query_to_gallery
        distance = np.sqrt(np.maximum(-near.score, 0))  # infinite where nothing is listed
        second = second_place(gallery, near.id, setting.channels)
        chosen = listed(pairs, per_query=near.id.shape[1], per_gallery=near.id.shape[1])
        is_first = (chosen.place >= 0) & (chosen.place < second[chosen.query])
        other = np.where(is_first, second[chosen.query], 0)
        below = distance[chosen.query, other]
        ratio = np.sqrt(np.maximum(-chosen.score, 0)) / np.maximum(below, _LEAST)
        score = np.where(np.isfinite(below), -ratio, -np.inf)
        return best_partners(chosen, score, n_queries=len(query), n_gallery=len(gallery), k=setting.k)


def second_place(gallery: Images, near: np.ndarray, channels: tuple[int, ...] | None = None) -> np.ndarray:
    """Return the place in each list of the first image that is not practically identical to the list's first.

    Args:
      gallery: the images.
      near: ids, nearest first, [n, k]; -1: none.
      channels: channels to compare; None: all.

    Returns:
      [n], from 1 on; the last place where all are identical, and 1 where a list holds one image only.
    """
    second = np.ones(len(near), np.int64)
    is_open = np.arange(len(near))
    for place in range(1, near.shape[1] - 1):
        is_open = is_open[near[is_open, place + 1] >= 0]  # else this is the last place
        two, back = np.unique(near[is_open][:, [0, place]], axis=0, return_inverse=True)
        is_open = is_open[_are_same(gallery, two, channels)[back.ravel()]]
        second[is_open] = place + 1
        if not len(is_open):
            break
    return second


def _are_same(images: Images, two: np.ndarray, channels: tuple[int, ...] | None) -> np.ndarray:
    """Say which pairs of ids [n, 2] are practically identical images, as the images lie."""
    same = np.zeros(len(two), bool)
    step = max(1, _BLOCK_BYTES // (16 * int(np.prod(images.block(0, 1).shape[1:]))))
    for part in (slice(i, i + step) for i in range(0, len(two), step)):
        sides = [(images.gather(ids), images.ranges[ids]) for ids in two[part].T]
        score = pair_scores(*sides[0], *sides[1], Descriptor(channels=channels))
        same[part] = score >= NEAR_IDENTICAL
    return same
