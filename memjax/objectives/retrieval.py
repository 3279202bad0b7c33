"""Whether a descriptor finds what belongs together among images that it never saw.

A query finds its target if nothing else of the gallery is as near. Ties count against it, so a descriptor that tells
every image the same finds nothing.
"""

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

Score = Literal["cosine", "distance"]

_EPS = 1e-12  # a descriptor of zeros has no direction


class Retrieval(NamedTuple):
    """What held-out images say of a descriptor; nan where nothing can be said.

    view_recall: share of the views whose own image is the nearest of all images.
    view_mrr: mean of 1 / rank of the own image.
    auc: probability that a view is nearer to its own image than another view to a stranger's image.
    patient_recall: share of the images whose nearest other image is of the same patient, of those that have one.
    patient_mrr: mean of 1 / rank of the nearest one of the same patient, of the same.
    """

    view_recall: float
    view_mrr: float
    auc: float
    patient_recall: float
    patient_mrr: float


def retrieval(
    image: Float[np.ndarray, "n d"],
    view: Float[np.ndarray, "n d"],
    patient: Int[np.ndarray, "n"],
    *,
    score: Score = "cosine",
) -> Retrieval:
    """Return how well views find their images, and images those of the same patient.

    Args:
      image: descriptors of different images.
      view: those of a view of each.
      patient: whose they are; -1 where nobody knows.
      score: what is near: a large cosine, or a small squared distance.
    """
    own = np.eye(len(image), dtype=bool)
    related = (patient[:, None] == patient[None]) & (patient >= 0)[:, None] & ~own
    found = similarity(view, image, score)
    ranks = ranks_of(found, own, np.ones_like(own))
    with_other = related.any(1)
    others = ranks_of(similarity(image, image, score)[with_other], related[with_other], ~own[with_other])
    return Retrieval(
        view_recall=_mean(ranks == 1),
        view_mrr=_mean(1 / ranks),
        auc=auc(found[own], found[~own & ~related]),
        patient_recall=_mean(others == 1),
        patient_mrr=_mean(1 / others),
    )


def similarity(
    query: Float[np.ndarray, "n d"], gallery: Float[np.ndarray, "m d"], score: Score
) -> Float[np.ndarray, "n m"]:
    """Return how near every two are, float64, higher for nearer."""
    query, gallery = query.astype(np.float64), gallery.astype(np.float64)
    if score == "distance":
        return -np.square(query[:, None] - gallery[None]).sum(-1)
    query, gallery = (x / np.sqrt(np.square(x).sum(1, keepdims=True) + _EPS) for x in (query, gallery))
    return query @ gallery.T


def ranks_of(
    found: Float[np.ndarray, "n m"], is_target: Bool[np.ndarray, "n m"], is_searched: Bool[np.ndarray, "n m"]
) -> Int[np.ndarray, "n"]:
    """Return the rank of each query's nearest target among what is searched, from 1.

    Everything else that is at least as near comes before it.
    """
    best = np.where(is_target, found, -np.inf).max(1, keepdims=True, initial=-np.inf)
    return 1 + np.sum((found >= best) & is_searched & ~is_target, 1)


def auc(positive: Float[np.ndarray, "p"], negative: Float[np.ndarray, "q"]) -> float:
    """Return the probability that a positive is above a negative, ties as halves: the area under the ROC curve."""
    if not len(positive) or not len(negative):
        return float("nan")
    ordered = np.sort(negative)
    below, not_above = (np.searchsorted(ordered, positive, side) for side in ("left", "right"))
    return float((below + not_above).mean() / (2 * len(negative)))


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
