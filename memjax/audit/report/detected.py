"""All detectors of an audit in one list: the audit's own, which the verdict rests on, and then the others."""

import numpy as np

from memjax.audit.findings import Detected, Findings, Neighbours
from memjax.audit.judge import follow_up, of_used


def everyone(findings: Findings) -> list[Detected]:
    """Return what each detector found, the audit's own first."""
    own = _own(findings)
    return [own, *(other for other in findings.detectors if other.name != own.name)]


def called_by(findings: Findings, synthetic: int) -> tuple[str, ...]:
    """Return the titles of the detectors that call a synthetic image; none where only one was asked."""
    asked = everyone(findings)
    if len(asked) == 1:
        return ()
    callers = tuple(one.title for one in asked if one.decision.is_copy[synthetic])
    return callers if len(callers) < len(asked) else (f"all {len(asked)} detectors",)


def is_embedding(detector: Detected) -> bool:
    """Say whether a detector compares images by a network."""
    return detector.name.startswith("embedding")


def embeddings(findings: Findings) -> list[Detected]:
    """Return the detectors that compare images by a network."""
    return [detector for detector in findings.detectors if is_embedding(detector)]


def measured(detector: Detected, score: np.ndarray | float) -> np.ndarray:
    """Return scores in the unit that people read: a distance where the score is a negative one."""
    return np.asarray(-np.asarray(score) if is_distance(detector) else score)


def is_distance(detector: Detected) -> bool:
    """Say whether people read the score as a distance: the smaller, the more alike."""
    return detector.score_name.startswith("negative ")


def unit(detector: Detected) -> str:
    """Return what a detector measures: "correlation", "mean squared distance of embeddings"."""
    return detector.score_name.removeprefix("negative ")


def _own(findings: Findings) -> Detected:
    """Put the audit's own search beside the others'."""
    is_turned = len(findings.orientations) > 1
    is_correlation = findings.score == "correlation"
    what = "Pixel correlation" if is_correlation else "Pixel distance"
    near = None
    if findings.train_to_heldout is not None and findings.null is not None:
        near = of_used(findings.train_to_heldout, findings.null.id)
    return Detected(
        name=findings.score,
        title=f"{what}, best orientation" if is_turned else what,
        source="this audit's own; paper A, and turned copies as in paper B",
        invariant_to=(*(("flips", "quarter turns") if is_turned else ()), *(("contrast",) if is_correlation else ())),
        is_control=False,
        score_name="correlation" if is_correlation else "negative mean squared distance",
        synthetic_to_train=findings.synthetic_to_train,
        train_to_synthetic=findings.train_to_synthetic,
        heldout_to_train=findings.heldout_to_train,
        train_to_heldout=findings.train_to_heldout,
        null=findings.null,
        decision=findings.decision,
        **follow_up(findings.synthetic_to_train, findings.train_to_synthetic, near),
    )


def best_heldout(train_to_heldout: Neighbours | None, used: np.ndarray | None) -> np.ndarray:
    """Return each training image's best score among the held-out images used, float64 [N]; -inf where there is none."""
    if train_to_heldout is None or used is None:
        return np.array([])
    return of_used(train_to_heldout, used).max(axis=1)
