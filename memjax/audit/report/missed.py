"""Copies that the audit's own detector does not call and others do, alone or together, for people to look at."""

import numpy as np

from memjax.audit.findings import Findings
from memjax.audit.report.detected import called_by, everyone
from memjax.audit.report.matches import Match, SliceIndex
from memjax.audit.report.panels import image_of
from memjax.orientation import orientations


def missed_matches(findings: Findings, limit: int = 4) -> list[Match]:
    """Return what only others call copies, of distinct training images: first by all together, then by most of them.

    Each is shown as the surest of the other detectors sees it. Not every detector says how the training image is
    turned, so it is turned as the pixels fit best.
    """
    own, *others = everyone(findings)
    if not others:
        return []
    calls = np.stack([other.decision.is_copy & (other.synthetic_to_train.id[:, 0] >= 0) for other in others], axis=1)
    p_value = np.stack([np.nan_to_num(other.decision.p_value, nan=1.0) for other in others], axis=1)
    unsure = p_value + np.where(calls, 0.0, 2.0)
    together = np.zeros(len(calls), bool) if findings.agreement is None else findings.agreement.is_copy
    missed = np.flatnonzero((calls.any(axis=1) | together) & ~own.decision.is_copy)
    keys = (missed, unsure[missed].min(axis=1), -calls[missed].sum(axis=1), ~together[missed])
    ranked = missed[np.lexsort(keys)]
    neighbours = SliceIndex(findings.train)
    found: dict[int, Match] = {}
    for s in ranked.tolist():
        best = others[int(unsure[s].argmin())]
        train = int(best.synthetic_to_train.id[s, 0])
        if train < 0 or train in found or len(found) == limit:
            continue
        orientation, correlation = _best_turned(findings, s, train)
        found[train] = Match(
            synthetic=s,
            train=train,
            score=float(best.synthetic_to_train.score[s, 0]),
            orientation=orientation,
            p_value=float(best.decision.p_value[s]),
            is_copy=True,
            before=neighbours.find(train, -1),
            after=neighbours.find(train, +1),
            called_by=called_by(findings, s),
            found_by=best,
            correlation=correlation,
        )
    return list(found.values())


def _best_turned(findings: Findings, synthetic: int, train: int) -> tuple[str, float]:
    """Return the orientation in which a training image's pixels fit a synthetic image best, and their correlation.

    All orientations that keep the image's shape are tried, whichever the audit's own search tried.
    """
    y, x = (
        image.astype(np.float32) - image.mean(dtype=np.float64).astype(np.float32)
        for image in (image_of(findings.synthetic.store, synthetic), image_of(findings.train.store, train))
    )
    norm = float(np.linalg.norm(x) * np.linalg.norm(y))
    if not norm:
        return "identity", float("nan")
    group = orientations(x.shape[:-1], "all")
    products = [float(np.vdot(turn.apply(x), y)) for turn in group]
    best = int(np.argmax(products))
    return group[best].name, products[best] / norm
