"""The adaptive distance of Carlini et al. 2023: near, measured by how near the fifty nearest are.

    l(s, x) / (alpha mean of l(s, y) over the n nearest y),        a copy if below 1; alpha = 1/2, n = 50.

Images of much background are near to all of the training set; their neighbourhood is then the measure.
"""

import dataclasses

import numpy as np

from memjax.audit.describe import Images
from memjax.audit.detectors.rescored import best_partners, distances, listed
from memjax.audit.detectors.setting import Found, Setting
from memjax.audit.null import Law

_ALPHA = 0.5
_NEAREST = 50
_LEAST = 1e-6  # a distance: none


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adaptive:
    """Divide the distance by that of the query's neighbourhood in the training set, negative."""

    name: str = "adaptive-l2"
    title: str = "Distance over that of the neighbourhood"
    source: str = "Carlini et al. 2023"
    invariant_to: tuple[str, ...] = ()
    score_name: str = "negative adaptive distance"
    law: Law = "distance"
    published: float | None = -1.0
    is_control: bool = False
    digest: str = ""

    def search(self, query: Images, gallery: Images, setting: Setting) -> Found:
        """Find the best partners; of a gallery of N images the N - 1 nearest count, if those are fewer than 50."""
        pairs = distances(query, gallery, setting)
        near = pairs.query_to_gallery
        distance = np.sqrt(np.maximum(-near.score[:, : max(1, min(_NEAREST, len(gallery) - 1))], 0))
        mean = _ALPHA * distance.mean(1)  # infinite where a list is not full: no score
        chosen = listed(pairs, per_query=near.id.shape[1], per_gallery=near.id.shape[1])
        adaptive = np.sqrt(np.maximum(-chosen.score, 0)) / np.maximum(mean[chosen.query], _LEAST)
        score = np.where(np.isfinite(mean[chosen.query]), -adaptive, -np.inf)
        return best_partners(chosen, score, n_queries=len(query), n_gallery=len(gallery), k=setting.k)
