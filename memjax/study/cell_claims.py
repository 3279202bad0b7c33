"""Claims that each cell tests on its own: nearness to training images, memorization of volumes, blindness of pixels."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from memjax.audit.findings import Interval
from memjax.audit.report.numerals import count, many
from memjax.audit.wilson import wilson
from memjax.study.axes import ALL, kind
from memjax.study.axis_claims import trained
from memjax.study.compare import UNTESTABLE, Comparison, Judged, ends, judged, told
from memjax.study.lines import lines, repetitions
from memjax.study.row import Row
from memjax.study.shares import MEMORIZED, called, over_seeds, share

_FLAT = 2.0  # a volume whose longest edge is this many times its shortest is like a knee MRI, else like a cube
_PART = 4  # of a growth curve, the first quarter of the images drawn is set against all
_UNTURNED = "correlation-unturned"  # the pixel correlation of paper A
_EMBEDDINGS = ("embedding-msd:", "embedding-correlation:")  # paper B's, and its follow-up's; not turned by us
_TOLD = 2  # cells told in a sentence; all are in the table


def nearer_to_training(rows: Sequence[Row]) -> Judged:
    """A3: how many synthetic images have their nearest real image in the training set, and not among unseen images.

    A maximum over N training images is larger than one over H unseen ones even if the generator favours neither; then
    the nearest of all N + H is a training image with probability N / (N + H), and the share is compared with that.
    Its interval is that of as many images as there are patients, in effect, among the nearest: of real radiographs of
    32 x 32 in the place of synthetic ones, one of all 500 images missed the truth in 10 to 17 % of the cases, this one
    in 1 %.
    """
    found = []
    for title, same in repetitions(trained(rows)):
        nearer = [pair for row in same if (pair := _nearer(row)) is not None]
        if nearer:
            found.append((title, over_seeds([one for one, _ in nearer]), nearer[0][1]))
    if not found:
        missing = "no finished cell has held-out images and its scores at hand"
        return Judged(outcome=UNTESTABLE, sentence="", reason=missing)
    above = sum(one.low > expected for _, one, expected in found)
    below = sum(one.high < expected for _, one, expected in found)
    ranked = sorted(found, key=lambda cell: cell[2] - cell[1].value)
    parts = [f"{told(one)} in {title}, where {expected * 100:.0f} % are expected" for title, one, expected in ranked]
    which = "Synthetic images whose nearest real image is a training image and not an unseen one"
    return _counted(above, below, len(found), f"{which}: {_first(parts)}.", "more than the sizes of the sets explain")


def cubes_are_memorized(rows: Sequence[Row]) -> Judged:
    """B1: a latent diffusion model of cubes, as 64 x 64 x 64, without augmentation."""
    return _volumes(rows, is_flat=False, missing="no diffusion model of volumes of about equal edges is finished")


def slabs_are_memorized(rows: Sequence[Row]) -> Judged:
    """B2: a latent diffusion model of volumes of few slices, as 256 x 256 x 32, without augmentation."""
    return _volumes(rows, is_flat=True, missing="no diffusion model of volumes of few slices is finished")


def pixels_miss_turned_copies(rows: Sequence[Row]) -> Judged:
    """B4: what an embedding calls against what the pixel correlation, without turning, calls in the same images.

    Only generators that were trained with augmentation make turned copies: where a study has such, it is they.
    """
    asked = [row for row in rows if row.status == "done" and row.facts is not None and _UNTURNED in row.detectors]
    augmented = [row for row in asked if row.axes.get("augmentation", "none") != "none"]
    comparisons = []
    for title, same in repetitions(augmented or asked):
        for name in dict.fromkeys(name for row in same for name in row.detectors if name.startswith(_EMBEDDINGS)):
            both = [row for row in same if name in row.detectors]
            found = [row.detectors[one] for row in both for one in (name, _UNTURNED)]
            comparisons.append(
                Comparison(
                    title=title,
                    larger=name,
                    smaller=_UNTURNED,
                    more=over_seeds([called(row.detectors[name], row) for row in both]),
                    less=over_seeds([called(row.detectors[_UNTURNED], row) for row in both]),
                    is_blind=all(one.is_clean for one in found),
                )
            )
    missing = f"no finished cell was asked both for {_UNTURNED} and for an embedding"
    return judged(comparisons, "synthetic images that a detector calls copies", missing=missing)


def more_samples_show_more(rows: Sequence[Row]) -> Judged:
    """B5: training images memorized among the most images drawn against among the fewest.

    Without an axis of samples: in each cell, what the copies among all images show against what those among a quarter
    of them show, by the audit's growth curve.
    """
    found = ends(lines(trained(rows), "samples", MEMORIZED), is_rising=True)
    if not found:
        curves = [(title, _growths(same)) for title, same in repetitions(trained(rows))]
        found = [_grown(title, growths) for title, growths in curves if growths]
    missing = "no two finished cells differ in the number of images alone, and none has a growth curve"
    return judged(found, MEMORIZED.title, missing=missing)


def _nearer(row: Row) -> tuple[Interval, float] | None:
    """Return the share of images nearer to training than to unseen images, and what the sizes of the sets explain."""
    if row.scores is None or row.facts is None or not row.facts.n_heldout:
        return None
    train, heldout = row.scores.synthetic_to_train, row.scores.synthetic_to_heldout
    if train.shape != heldout.shape or not (known := np.isfinite(train) & np.isfinite(heldout)).any():
        return None
    nearer = float((train > heldout)[known].mean() + 0.5 * (train == heldout)[known].mean())
    n_train, n_heldout = row.facts.n_train, row.facts.n_heldout
    n = min(float(known.sum()), row.scores.n_nearest if row.scores.n_nearest > 0 else math.inf)
    return wilson(nearer * n, n), n_train / (n_train + n_heldout)


def _volumes(rows: Sequence[Row], *, is_flat: bool, missing: str) -> Judged:
    plain = [row for row in trained(rows) if kind(row) == "diffusion" and _is_volume(row, is_flat=is_flat)]
    plain = [row for row in plain if row.axes.get("augmentation", "none") == "none" and MEMORIZED.of(row) is not None]
    if not plain:
        return Judged(outcome=UNTESTABLE, sentence="", reason=missing)
    found = []
    for title, same in repetitions(plain):
        memorized = over_seeds([one for row in same if (one := MEMORIZED.of(row)) is not None])
        is_clean = any(row.memorization is not None and row.memorization.is_clean for row in same)
        found.append((title, memorized, not is_clean and memorized.low > 0))
    ranked = sorted(found, key=lambda cell: -cell[1].value)
    parts = [told(one) if title == ALL else f"{told(one)} in {title}" for title, one, _ in ranked]
    above = sum(is_above for *_, is_above in found)
    sentence = f"Training volumes that are memorized: {_first(parts)}."
    return _counted(above, 0, len(found), sentence, "more than unseen patients' volumes explain")


def _counted(above: int, below: int, n: int, sentence: str, more: str) -> Judged:
    cells = many(n, "cell")
    if above > n / 2 and not below:
        return Judged(outcome="reproduced", sentence=sentence, reason=f"{more} in {count(above)} of {cells}")
    other = f", fewer in {count(below)}" if below else ""
    return Judged(
        outcome="not reproduced", sentence=sentence, reason=f"{more} in only {count(above)} of {cells}{other}"
    )


def _first(parts: Sequence[str]) -> str:
    more = len(parts) - _TOLD
    return "; ".join(parts[:_TOLD]) + (f"; and {many(more, 'further cell')}" if more > 0 else "")


def _is_volume(row: Row, *, is_flat: bool) -> bool:
    if row.facts is None or len(row.facts.shape) != 4:
        return False
    edges = row.facts.shape[:-1]
    return (max(edges) / min(edges) >= _FLAT) == is_flat


def _growths(rows: Sequence[Row]) -> list[Mapping[str, Any]]:
    found = [curve for row in rows for curve in row.growth if curve["of"] == "images"]
    return [curve for curve in found if curve["n_drawn"] >= _PART]


def _shown(growth: Mapping[str, Any], drawn: float) -> Interval:
    """Return the share of the training images that copies among so many images drawn show, by a growth curve."""
    curve = growth["curve"]
    value, low, high = (float(np.interp(drawn, curve["drawn"], curve[key])) for key in ("expected", "low", "high"))
    return share(Interval(value=value, low=low, high=high), growth["n_train"])


def _grown(title: str, growths: Sequence[Mapping[str, Any]]) -> Comparison:
    n = min(growth["n_drawn"] for growth in growths)
    return Comparison(
        title=title,
        larger=f"{count(n)} images",
        smaller=f"{count(n // _PART)} images",
        more=over_seeds([_shown(growth, float(n)) for growth in growths]),
        less=over_seeds([_shown(growth, n / _PART) for growth in growths]),
        is_blind=not any(growth["found"] for growth in growths),
    )
