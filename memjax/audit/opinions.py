"""What other detectors than the audit's own say of the same images, each calibrated alike, and all of them together."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from memjax.audit.agreement import agreement
from memjax.audit.decide import Criterion
from memjax.audit.describe import Score
from memjax.audit.detectors.correlated import FOREGROUND
from memjax.audit.detectors.detector import Detector
from memjax.audit.detectors.setting import Found, Reference, Setting
from memjax.audit.findings import Agreement, Detected, Findings, ImageSet, Neighbours
from memjax.audit.judge import detected, with_contrast
from memjax.audit.keep import kept_lists
from memjax.digest import array_digest


def split_by_use(
    detectors: Sequence[Detector], score: Score, mask: np.ndarray | None
) -> tuple[list[Detector], list[str]]:
    """Return the detectors to ask, and a sentence on each that cannot be.

    Args:
      detectors: those that were asked for.
      score: the audit's own, which need not be asked again.
      mask: the foreground; None: there is none.
    """
    told = []
    if mask is None and any(detector.name == FOREGROUND.name for detector in detectors):
        told.append(
            "The training images have no common background, so there is no foreground to compare by a detector of its "
            "own."
        )
    unused = {score, *([FOREGROUND.name] if told else [])}
    return [detector for detector in detectors if detector.name not in unused], told


def ask(
    detectors: Sequence[Detector],
    train: ImageSet,
    synthetic: ImageSet,
    heldout: ImageSet | None,
    *,
    criterion: Criterion,
    setting: Setting,
    excluded: Mapping[int, str],
) -> list[Detected]:
    """Ask detectors about the synthetic images; their searches are kept on disk.

    Args:
      detectors: which.
      train: the images searched.
      synthetic: the images asked about.
      heldout: images of unseen patients; None: nothing can be calibrated.
      criterion: how copies are called.
      setting: how the audit searches.
      excluded: ids of held-out images that may not stand for unseen patients, with the reason.

    Raises:
      UserError: a detector lacks what it needs, or nothing has a score.
    """
    if heldout is not None:
        used = np.setdiff1d(np.arange(len(heldout.store)), [*excluded, *heldout.constant])
        setting = dataclasses.replace(setting, reference=Reference(images=heldout.store, ids=used))
    found = []
    for detector in detectors:
        searches = {
            query.role: _searched(detector, query, train, dataclasses.replace(setting, what=what))
            for query, what in ((synthetic, "synthetic against train"), (heldout, "held-out against train"))
            if query is not None
        }
        found.append(
            detected(
                detector,
                criterion,
                train=train,
                heldout=heldout,
                found=searches["synthetic"],
                reference=searches.get("heldout"),
                excluded=excluded,
            )
        )
    return found


def _searched(detector: Detector, query: ImageSet, gallery: ImageSet, setting: Setting) -> Found:
    """Return a detector's search, kept or new, without images that have no contrast."""
    asked = [
        [detector.name, detector.digest],
        [images.store.manifest.digest for images in (query, gallery)],
        [setting.symmetry, setting.channels, setting.k],
        setting.mask is not None and array_digest(setting.mask),
        setting.reference is not None and array_digest(setting.reference.ids),
    ]

    def run() -> tuple[Neighbours, Neighbours]:
        found = detector.search(query.store, gallery.store, setting)
        return found.query_to_gallery, found.gallery_to_query

    assert setting.kept is not None
    by_query, by_gallery = kept_lists(setting.kept, asked, run, team=setting.team)
    return with_contrast(Found(query_to_gallery=by_query, gallery_to_query=by_gallery), query, gallery)


def together(findings: Findings, rate: float) -> Agreement | None:
    """Compare the detectors' calls and call by all of them; None with one detector, or without a null.

    Args:
      findings: of the audit.
      rate: the false-discovery rate of the combined verdict.
    """
    if not findings.detectors or findings.null is None:
        return None
    return agreement(
        [findings.score, *(detector.name for detector in findings.detectors)],
        [findings.decision, *(detector.decision for detector in findings.detectors)],
        [findings.synthetic_to_train, *(detector.synthetic_to_train for detector in findings.detectors)],
        train=findings.train,
        rate=rate,
    )
