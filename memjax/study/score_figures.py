"""Which cells stand above each other in the histograms of scores: the rows of paper A's figure 3, and paper B's 3a."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from memjax.study.axes import SEED, described, kind, varying
from memjax.study.figured import Figured
from memjax.study.lines import Line, lines
from memjax.study.row import Row
from memjax.study.score_charts import Histogram, histograms
from memjax.study.shares import COPIED

_MOST_ROWS = 6
_NONE = np.array([])
_TRAINING = "score with the closest training image"


def score_figures(rows: Sequence[Row]) -> list[Figured]:
    """Return the figures that the scores at hand allow: by generator, by size, against unseen images, of volumes."""
    scored = [row for row in rows if row.scores is not None]
    trained = [row for row in scored if kind(row) != "control"]
    by_generator, by_size = _most_alike(scored, "generator"), _most_alike(trained, "n_train")
    found = [_by_generator(by_generator, scored)] if len(by_generator) > 1 else []
    if len(by_size) > 1:
        found.append(_by_size(by_size, trained))
    unseen = [row for row in by_generator if kind(row) != "control"] or trained[:1]
    if unseen:
        found.append(_against_unseen(unseen[:_MOST_ROWS], scored))
    volumes = [row for row in trained if row.facts and len(row.facts.shape) == 4]
    if volumes:
        found.append(_of_training(_most_alike(volumes, "augmentation") or volumes[:1], scored))
    return found


def _by_generator(rows: Sequence[Row], scored: Sequence[Row]) -> Figured:
    found = _against_training(rows[: _MOST_ROWS - 1], "generator")
    real = next((one.outline for one in found if len(one.outline)), _NONE)
    if len(real):
        found.append(Histogram(title="Real images of unseen patients", values=real, outline=_NONE, is_real=True))
    text = (
        f"{_common(rows[0], 'generator', scored)}For each image, the highest score with any training image. Outline, "
        "and last row: real images of unseen patients. What is to the right of the outline they do not explain; above "
        "the dashed threshold are copies (paper A, figure 3, first row)."
    )
    title = "How alike the generators' images are to training images"
    return Figured(name="scores_generators", title=title, text=text, draw=partial(histograms, found, _TRAINING))


def _by_size(rows: Sequence[Row], scored: Sequence[Row]) -> Figured:
    text = (
        f"{_common(rows[0], 'n_train', scored)}The more training images there are, the more alike the closest is by "
        "chance, so each row has the outline of unseen patients' images against its own training images (paper A, "
        "figure 3, second row)."
    )
    chart = partial(histograms, _against_training(rows, "n_train"), _TRAINING)
    return Figured(name="scores_sizes", title="The same, by the size of the training set", text=text, draw=chart)


def _against_unseen(rows: Sequence[Row], scored: Sequence[Row]) -> Figured:
    found = [
        Histogram(
            title=described(row, ["generator"]),
            values=row.scores.synthetic_to_train,
            outline=row.scores.synthetic_to_heldout,
        )
        for row in rows
        if row.scores
    ]
    text = (
        f"{_common(rows[0], 'generator', scored)}For each synthetic image, the highest score with a training image "
        "(bars) and with a real image that the generator never saw (outline). The larger of two sets holds the closer "
        "image by chance alone (paper A, figure 3, third row)."
    )
    title = "Closest training image against closest unseen image"
    chart = partial(histograms, found, "score with the closest image")
    return Figured(name="scores_unseen", title=title, text=text, draw=chart)


def _of_training(rows: Sequence[Row], scored: Sequence[Row]) -> Figured:
    found = [
        Histogram(
            title=described(row, ["generator", "augmentation"]),
            values=row.scores.train_to_synthetic,
            outline=_NONE if row.scores.train_to_heldout is None else row.scores.train_to_heldout,
            threshold=row.memorization.threshold,
            noun="training volume",
        )
        for row in rows
        if row.scores and row.memorization
    ]
    text = (
        f"{_common(rows[0], 'augmentation', scored)}For each training volume, the highest score with any synthetic "
        "volume (bars) and, where it is known, with any volume of unseen patients (outline): paper B, figure 3a, here "
        "by the audit's own score."
    )
    title = "Training volumes and their closest synthetic volume"
    chart = partial(histograms, found, "score with the closest synthetic volume")
    return Figured(name="scores_training", title=title, text=text, draw=chart)


def _most_alike(rows: Sequence[Row], axis: str) -> list[Row]:
    """Return cells that differ on one axis alone, one a value: of the longest such lines, the one with most copies."""
    found = lines(rows, axis, COPIED)
    if not found:
        return []

    def worth(line: Line) -> tuple[int, float]:
        trained = [point.share.value for point in line.points if kind(point.rows[0]) != "control"]
        return len(trained), max(trained, default=0.0)

    return [point.rows[0] for point in max(found, key=worth).points][:_MOST_ROWS]


def _against_training(rows: Sequence[Row], axis: str) -> list[Histogram]:
    return [
        Histogram(
            title=described(row, [axis]),
            values=row.scores.synthetic_to_train,
            outline=row.scores.heldout_to_train,
            threshold=row.memorization.threshold,
        )
        for row in rows
        if row.scores and row.memorization
    ]


def _common(row: Row, axis: str, rows: Sequence[Row]) -> str:
    """Say what the rows of a figure have in common, as far as the study varies it."""
    others = [name for name in varying(rows) if name not in (axis, SEED)]
    return f"Cells: {described(row, others)}. " if others else ""
