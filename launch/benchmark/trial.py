"""The detectors' trial: one set of queries of known truth, and how well a detector's scores tell it.

All queries, planted copies and images of unseen patients alike, are searched in the gallery at once. From the scores of
the reference patients come p-values, as in an audit; copies count as found at 1 % (5 %) false positives if theirs is at
most that. How many unseen patients really are above is counted on the control patients, one image each.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from launch.benchmark import planted, roc
from launch.benchmark.parties import Parties, one_each, sources
from launch.benchmark.planted import Cell

if TYPE_CHECKING:
    from memjax.audit.detectors import Detector
    from memjax.audit.findings import Neighbours
    from memjax.audit.null import Null

UNSEEN, RESAMPLER, BLEND, NOISE = "unseen patients", "resampler", "blend", "noise image"
CONTROLS = {
    UNSEEN: "a perfect generator: real images of patients that are not in the gallery",
    RESAMPLER: "a perfect memorizer: images of the gallery, drawn with replacement",
    BLEND: "half of one image of the gallery and half of another patient's",
    NOISE: "white noise with the mean and the standard deviation of the gallery",
}
RATES = (0.01, 0.05)  # of false positives, at which sensitivity is told
ROC_RATES = (0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # at which the ROC curve is
_FALSE_DISCOVERY_RATE = 0.05

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trial:
    """The queries, and the truth about them."""

    parties: Parties
    cells: tuple[Cell, ...]
    copied: np.ndarray  # int64 [n]: which images of the gallery each cell copies
    resampled: np.ndarray  # int64 [n]: and which the resampler
    query: np.ndarray  # uint8 [Q, *space, channels]
    parts: dict[str, slice]  # of the query: one a cell, by name, then the controls and the reference
    source: Sequence[str]  # [Q]: a name for each query
    seed: int

    @property
    def n_unseen(self) -> int:
        """How many queries, the last ones, are of unseen patients."""
        return len(self.parties.reference) + len(self.parties.control)


def plan(
    parties: Parties,
    cells: Sequence[Cell],
    *,
    copies: int,
    seed: int,
    progress: Callable[[Sequence[Cell]], Iterable[Cell]] = lambda cells: cells,
) -> Trial:
    """Plant the copies and put all queries together.

    Args:
      parties: the groups of patients.
      cells: the changes; every one copies the same images.
      copies: in each cell; or as many as the gallery has images.
      seed: of everything that is drawn.
      progress: wraps the cells, as a progress bar does.
    """
    gallery, reference, control = parties.gallery, parties.reference, parties.control
    copied = sources(gallery.patient, copies, seed=seed)
    again = planted.resampled(len(gallery), len(copied), seed=seed)
    n = len(copied)
    names = [*(cell.name for cell in cells), RESAMPLER, BLEND, NOISE]
    sizes = {**dict.fromkeys(names, n), "reference": len(reference), UNSEEN: len(control)}
    ends = np.cumsum([0, *sizes.values()]).tolist()
    parts = {name: slice(*ends[i : i + 2]) for i, name in enumerate(sizes)}
    query = np.empty((ends[-1], *gallery.images.shape[1:]), np.uint8)
    originals = gallery.images[copied]
    for cell in progress(cells):
        query[parts[cell.name]] = planted.plant(originals, copied, cell, seed=seed)
    query[parts[RESAMPLER]] = gallery.images[again]
    query[parts[BLEND]] = planted.blends(gallery.images, gallery.patient, n, seed=seed)
    query[parts[NOISE]] = planted.noises(gallery.images, n, seed=seed)
    query[parts["reference"]], query[parts[UNSEEN]] = reference.images, control.images
    return Trial(
        parties=parties,
        cells=tuple(cells),
        copied=copied,
        resampled=again,
        query=query,
        parts=parts,
        source=[*(f"{name}/{i:04d}" for name in names for i in range(n)), *reference.source, *control.source],
        seed=seed,
    )


def judge(trial: Trial, detector: "Detector", nearest: "Neighbours") -> list[Row]:
    """Return one row a cell and one a control: how a detector did, given each query's nearest images of the gallery.

    Raises:
      UserError: the reference patients' images have no scores.
    """
    from memjax.audit.null import fit_null

    best, id_ = nearest.score[:, 0], nearest.id[:, 0]
    gallery, reference, control = trial.parties.gallery, trial.parties.reference, trial.parties.control
    known, unseen = best[trial.parts["reference"]], best[trial.parts[UNSEEN]]
    has_score = np.isfinite(known)
    _, patient = np.unique(reference.patient[has_score], return_inverse=True)
    null = fit_null(known[has_score], patient, detector.law)
    strangers = np.concatenate([known, unseen]), np.concatenate([reference.patient, control.patient])
    of_control = one_each(control.patient, seed=trial.seed)

    def row(cell: Cell, kind: str, owner: np.ndarray, **truth: Any) -> Row:
        part = trial.parts[cell.name]
        others, other_owner = (known, reference.patient) if cell.work == UNSEEN else strangers
        low, high = roc.area_interval(best[part], owner, others, other_owner)
        counted = best[part][of_control] if cell.work == UNSEEN else best[part]
        return {
            "kind": kind,
            "work": cell.work,
            "label": cell.label,
            "strength": cell.strength,
            "detector": detector.name,
            "is_declared": kind == "copy" and set(cell.needs) <= set(detector.invariant_to),
            "auc": roc.area(best[part], others),
            "auc_low": low,
            "auc_high": high,
            "roc": roc.sensitivities(best[part], others, ROC_RATES),
            **_found(null, counted),
            "top1": None,
            "n": len(counted),
            **truth,
        }

    rows = []
    for cell in trial.cells:
        part = trial.parts[cell.name]
        truth = {"top1": _right(gallery.sha256, id_[part], trial.copied), **_called(null, best[part], unseen)}
        rows.append(row(cell, "copy", gallery.patient[trial.copied], **truth))
    for name in (RESAMPLER, BLEND, NOISE, UNSEEN):
        part = trial.parts[name]
        nothing = best[:0]
        if name == RESAMPLER:
            owner = gallery.patient[trial.resampled]
            truth = {
                "top1": _right(gallery.sha256, id_[part], trial.resampled),
                **_called(null, best[part], nothing),
            }
        else:
            owner = control.patient if name == UNSEEN else np.arange(len(best[part]))
            truth = _called(null, nothing, best[part])
        rows.append(row(Cell(name, 0, "", (), ()), "control", owner, **truth))
    return rows


def _found(null: "Null", scores: np.ndarray) -> Row:
    """Count scores whose p-value is at most each of the declared rates."""
    found: Row = {}
    p = null.p_value(scores)
    for rate in RATES:
        count = int((p <= rate).sum())
        low, high = roc.share_interval(count, len(scores))
        name = f"sensitivity_{rate * 100:g}"
        found |= {name: count / len(scores), f"{name}_low": low, f"{name}_high": high}
    return found


def _called(null: "Null", copies: np.ndarray, novel: np.ndarray) -> Row:
    """Call copies in a set of both at the declared false-discovery rate, as an audit does.

    Returns:
      `called`, the share of the copies that are called (without any, of all images), and `false_discoveries`, the share
      of what is called that is novel.
    """
    from memjax.audit.decide import Criterion

    scores = np.concatenate([copies, novel])
    scored = scores[np.isfinite(scores)]
    if not len(scored):
        return {"called": 0.0, "false_discoveries": 0.0}
    threshold = Criterion(rate=_FALSE_DISCOVERY_RATE).threshold(scored, null)
    right, wrong = int((copies > threshold).sum()), int((novel > threshold).sum())
    return {
        "called": right / len(copies) if len(copies) else wrong / len(novel),
        "false_discoveries": wrong / max(1, right + wrong),
    }


def _right(digest: np.ndarray, found: np.ndarray, copied: np.ndarray) -> float:
    """Return how often the nearest image is the one copied, or the same byte for byte."""
    return float(np.mean((found >= 0) & (digest[found] == digest[copied])))
