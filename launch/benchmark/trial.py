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
    from memjax.audit.detectors.detector import Detector
    from memjax.audit.findings import Neighbours

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
TOGETHER = "together"  # all detectors of a trial

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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Calibrated:
    """One detector's word on every query, [Q] each: score (higher is more alike), p-value, nearest image's id.

    `declared` are sets of invariances; a change is declared if one of them holds all that the change needs.
    """

    name: str
    declared: tuple[frozenset[str], ...]
    score: np.ndarray
    p_value: np.ndarray
    nearest: np.ndarray


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


def calibrate(trial: Trial, detector: "Detector", nearest: "Neighbours") -> Calibrated:
    """Return a detector's scores with their p-values by the reference patients.

    Args:
      trial: the queries.
      detector: whose scores they are.
      nearest: the best images of the gallery of every query.

    Raises:
      UserError: the reference patients' images have no scores.
    """
    from memjax.audit.null import fit_null

    score = nearest.score[:, 0]
    part = trial.parts["reference"]
    has_score = np.isfinite(score[part])
    _, patient = np.unique(trial.parties.reference.patient[has_score], return_inverse=True)
    null = fit_null(score[part][has_score], patient, detector.law)
    return Calibrated(
        name=detector.name,
        declared=(frozenset(detector.invariant_to),),
        score=score,
        p_value=null.p_value(score),
        nearest=nearest.id[:, 0],
    )


def together(found: Sequence[Calibrated]) -> Calibrated:
    """Put several detectors together, as an audit does."""
    from memjax.audit.agreement import bonferroni

    combined, surest = bonferroni(np.stack([one.p_value for one in found], axis=1))
    return Calibrated(
        name=TOGETHER,
        declared=tuple(words for one in found for words in one.declared),
        score=-np.stack([one.p_value for one in found]).min(0),  # not the combined ones, which are 1 for many
        p_value=combined,
        nearest=np.stack([one.nearest for one in found])[surest, np.arange(len(surest))],
    )


def judge(trial: Trial, found: Calibrated) -> list[Row]:
    """Return one row a cell and one a control: how a detector did."""
    gallery, reference, control = trial.parties.gallery, trial.parties.reference, trial.parties.control
    known, unseen = (found.score[trial.parts[name]] for name in ("reference", UNSEEN))
    strangers = np.concatenate([known, unseen]), np.concatenate([reference.patient, control.patient])
    of_control = one_each(control.patient, seed=trial.seed)
    unseen_p = found.p_value[trial.parts[UNSEEN]]

    def row(cell: Cell, kind: str, owner: np.ndarray, **truth: Any) -> Row:
        score, p_value = (values[trial.parts[cell.name]] for values in (found.score, found.p_value))
        others, other_owner = (known, reference.patient) if cell.work == UNSEEN else strangers
        low, high = roc.area_interval(score, owner, others, other_owner)
        counted = p_value[of_control] if cell.work == UNSEEN else p_value
        return {
            "kind": kind,
            "work": cell.work,
            "label": cell.label,
            "strength": cell.strength,
            "detector": found.name,
            "is_declared": kind == "copy" and any(set(cell.needs) <= words for words in found.declared),
            "auc": roc.area(score, others),
            "auc_low": low,
            "auc_high": high,
            "roc": roc.sensitivities(score, others, ROC_RATES),
            **_at_rates(counted),
            "top1": None,
            "n": len(counted),
            **truth,
        }

    rows = []
    for cell in trial.cells:
        part = trial.parts[cell.name]
        top1 = _right(gallery.sha256, found.nearest[part], trial.copied)
        rows.append(
            row(cell, "copy", gallery.patient[trial.copied], top1=top1, **_called(found.p_value[part], unseen_p))
        )
    for name in (RESAMPLER, BLEND, NOISE, UNSEEN):
        p_value = found.p_value[trial.parts[name]]
        nothing = p_value[:0]
        if name == RESAMPLER:
            owner = gallery.patient[trial.resampled]
            top1 = _right(gallery.sha256, found.nearest[trial.parts[name]], trial.resampled)
            truth = {"top1": top1, **_called(p_value, nothing)}
        else:
            owner = control.patient if name == UNSEEN else np.arange(len(p_value))
            truth = _called(nothing, p_value)
        rows.append(row(Cell(name, 0, "", (), ()), "control", owner, **truth))
    return rows


def _at_rates(p_value: np.ndarray) -> Row:
    """Count p-values of at most each of the declared rates."""
    found: Row = {}
    for rate in RATES:
        count = int((p_value <= rate).sum())
        low, high = roc.share_interval(count, len(p_value))
        name = f"sensitivity_{rate * 100:g}"
        found |= {name: count / len(p_value), f"{name}_low": low, f"{name}_high": high}
    return found


def _called(copies: np.ndarray, novel: np.ndarray) -> Row:
    """Call copies in a set of both, by p-values, at the declared false-discovery rate, as an audit does.

    Returns:
      `called`, the share of the copies that are called (without any, of all images), and `false_discoveries`, the share
      of what is called that is novel.
    """
    from memjax.audit.decide import step_up

    is_called = step_up(np.concatenate([copies, novel]), _FALSE_DISCOVERY_RATE)
    right, wrong = int(is_called[: len(copies)].sum()), int(is_called[len(copies) :].sum())
    return {
        "called": right / len(copies) if len(copies) else wrong / len(novel),
        "false_discoveries": wrong / max(1, right + wrong),
    }


def _right(digest: np.ndarray, found: np.ndarray, copied: np.ndarray) -> float:
    """Return how often the nearest image is the one copied, or the same byte for byte."""
    return float(np.mean((found >= 0) & (digest[found] == digest[copied])))
