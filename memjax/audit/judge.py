"""From a search to a judgement: the same calibration for every detector.

Each detector's best training score of a synthetic image is compared with those of held-out images, by patient, under
its score's law (`null`); calls, counts and intervals follow (`decide`). Held-out images that leaked, and images without
contrast, are left out for all detectors alike.
"""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from memjax.audit.decide import Criterion, decide, patient_index, summarize
from memjax.audit.detectors.detector import Detector
from memjax.audit.detectors.setting import Found
from memjax.audit.findings import Decision, Detected, ImageSet, Neighbours, NullSummary
from memjax.audit.null import Law, Null, fit_null
from memjax.audit.pairs.allpairs import AllPairs

_NEVER = 0.0  # the largest that a negative distance can be: none exceeds it
_TAU = 95.0  # percentile


def judge(
    criterion: Criterion,
    law: Law,
    *,
    train: ImageSet,
    heldout: ImageSet | None,
    found: AllPairs | Found,
    reference: AllPairs | Found | None,
    excluded: Mapping[int, str],
    without_reference: Criterion | None = None,
) -> tuple[Decision, NullSummary | None]:
    """Fit the null to the held-out images that may serve as reference, and call the copies.

    Args:
      criterion: how copies are called.
      law: the score's.
      train: the training set.
      heldout: the held-out set.
      found: synthetic images against training images.
      reference: held-out images against training images.
      excluded: ids of held-out images that may not stand for unseen patients, with the reason.
      without_reference: how copies are called without held-out images, where the criterion is not a score; default:
        if they are practically identical.

    Raises:
      UserError: there are fewer than two unseen patients, or nothing has a score.
    """
    null, summary, near = None, None, None
    if heldout is None or reference is None:
        if criterion.rule != "value":
            criterion = without_reference or dataclasses.replace(criterion, rule="identical")
    else:
        null, summary = _reference(law, heldout, reference.query_to_gallery, excluded)
        near = of_used(reference.gallery_to_query, summary.id)
    decision = decide(
        criterion,
        train=train,
        synthetic_to_train=found.query_to_gallery,
        train_to_synthetic=found.gallery_to_query,
        null=null,
        train_to_heldout=near,
    )
    return decision, summary


def detected(
    detector: Detector,
    criterion: Criterion,
    *,
    train: ImageSet,
    heldout: ImageSet | None,
    found: Found,
    reference: Found | None,
    excluded: Mapping[int, str],
) -> Detected:
    """Say what a detector finds, given its searches of the synthetic and the held-out images.

    A score given as threshold belongs to the audit's own search; other detectors then declare its false-discovery rate.
    Without held-out images their published threshold decides, or they call nothing.

    Raises:
      UserError: there are fewer than two unseen patients, or nothing has a score.
    """
    published = _NEVER if detector.published is None else detector.published
    decision, null = judge(
        Criterion(rate=criterion.rate) if criterion.rule == "value" else criterion,
        detector.law,
        train=train,
        heldout=heldout,
        found=found,
        reference=reference,
        excluded=excluded,
        without_reference=Criterion(rule="value", value=published),
    )
    near = None if reference is None or null is None else of_used(reference.gallery_to_query, null.id)
    return Detected(
        name=detector.name,
        title=detector.title,
        source=detector.source,
        invariant_to=detector.invariant_to,
        is_control=detector.is_control,
        score_name=detector.score_name,
        synthetic_to_train=found.query_to_gallery,
        train_to_synthetic=found.gallery_to_query,
        heldout_to_train=reference and reference.query_to_gallery,
        train_to_heldout=reference and reference.gallery_to_query,
        null=null,
        decision=decision,
        **follow_up(found.query_to_gallery, found.gallery_to_query, near),
    )


def follow_up(
    synthetic_to_train: Neighbours, train_to_synthetic: Neighbours, train_to_heldout: np.ndarray | None
) -> dict[str, Any]:
    """Return what the follow-up of paper B counts, as `Detected` names it: its threshold, and what lies above it.

    The threshold is the 95th percentile of the training images' best held-out scores; nan if fewer than two have one.

    About 5 % of the training images have a held-out image above it, so as many "memorized" ones are to be expected of a
    perfect generator that draws as many images as are held out, and more if it draws more; `Decision` has the numbers
    at equal size.

    Args:
      synthetic_to_train: each synthetic image's best training images.
      train_to_synthetic: each training image's best synthetic images.
      train_to_heldout: each training image's scores with held-out images, [N, k]; -inf for none. None: there are none.
    """
    best = np.zeros(0) if train_to_heldout is None else train_to_heldout.max(axis=1)
    best = best[best > -np.inf]
    tau = float(np.percentile(best, _TAU)) if len(best) > 1 else float("nan")
    n_mem, n_copies = (int((near.score[:, 0] > tau).sum()) for near in (train_to_synthetic, synthetic_to_train))
    return {"tau": tau, "tau_n_mem": n_mem, "tau_n_copies": n_copies}


def of_used(train_to_heldout: Neighbours, used: np.ndarray) -> np.ndarray:
    """Return each training image's scores with the held-out images that serve as reference (ids); -inf for others."""
    return np.where(np.isin(train_to_heldout.id, used), train_to_heldout.score, -np.inf)


def with_contrast(found: Found, query: ImageSet, gallery: ImageSet) -> Found:
    """Return what was found without images that have no contrast: they have no score, whatever the detector says."""
    return Found(
        query_to_gallery=_without(found.query_to_gallery, own=query.constant, others=gallery.constant),
        gallery_to_query=_without(found.gallery_to_query, own=gallery.constant, others=query.constant),
    )


def _without(near: Neighbours, *, own: Sequence[int], others: Sequence[int]) -> Neighbours:
    gone = np.isin(near.id, list(others)) | np.isin(np.arange(len(near.id)), list(own))[:, None] | (near.id < 0)
    order = np.argsort(gone, axis=1, kind="stable")  # what stays moves up
    score, id_, orientation, is_gone = (
        np.take_along_axis(column, order, axis=1) for column in (near.score, near.id, near.orientation, gone)
    )
    return dataclasses.replace(
        near,
        score=np.where(is_gone, -np.inf, score),
        id=np.where(is_gone, -1, id_),
        orientation=np.where(is_gone, 0, orientation).astype(np.int16),
    )


def _reference(
    law: Law, heldout: ImageSet, nearest: Neighbours, excluded: Mapping[int, str]
) -> tuple[Null, NullSummary]:
    reasons = Counter(excluded.values())
    no_contrast = [i for i in np.flatnonzero(nearest.id[:, 0] < 0).tolist() if i not in excluded]
    if no_contrast:
        reasons["it has no contrast"] = len(no_contrast)
    used = np.setdiff1d(np.arange(len(heldout.store)), [*excluded, *no_contrast])
    best = nearest.score[used, 0]
    null = fit_null(best, patient_index(heldout, used), law)
    by_patient = heldout.store.manifest.has_patients
    return null, summarize(null, used, best, by_patient=by_patient, left_out=dict(reasons))
