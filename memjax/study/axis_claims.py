"""Claims that cells which differ on one axis alone can test: generators, sizes, lengths, augmentation."""

from collections.abc import Sequence

from memjax.study.axes import kind
from memjax.study.compare import Comparison, Judged, against, ends, judged
from memjax.study.lines import Line, Point, lines
from memjax.study.row import Row
from memjax.study.shares import COPIED, MEMORIZED, Measure

_COPIES = COPIED.title


def trained(rows: Sequence[Row]) -> list[Row]:
    """Return the finished cells whose generator was trained."""
    return [row for row in rows if row.status == "done" and kind(row) != "control"]


def diffusion_copies_more(rows: Sequence[Row]) -> Judged:
    """A1: a diffusion model against each GAN that was trained on the same images."""
    found = against(
        lines(trained(rows), "generator", COPIED),
        lambda point: kind(point.rows[0]) == "diffusion",
        lambda point: kind(point.rows[0]) == "GAN",
    )
    return judged(found, _COPIES, missing="no diffusion model and GAN of this study were trained on the same images")


def small_sets_are_copied_more(rows: Sequence[Row]) -> Judged:
    """A2: the smallest training set against the largest."""
    return _along("n_train", rows, COPIED, is_rising=False, missing="the number of training images alone")


def slices_are_copied_more(rows: Sequence[Row]) -> Judged:
    """A4: slices of volumes against pictures, of as many training images; told too: slices that lie further apart."""
    by_source = lines(trained(rows), "source", COPIED)
    found = against(by_source, _is_sliced, lambda point: not _is_sliced(point))
    missing = "no generator was trained on as many slices of volumes as on pictures that are not slices"
    verdict = judged(found, _COPIES, missing=missing)
    thinned = ends(lines(trained(rows), "thinning", COPIED), is_rising=False)
    if not thinned:
        return verdict
    more = judged(thinned, f"{_COPIES}, by how far apart the slices of a patient are", missing="")
    return Judged(
        outcome=verdict.outcome,
        sentence=f"{verdict.sentence} {more.sentence}".strip(),
        reason=f"{verdict.reason}; with every slice against the fewest slices, {more.reason}",
    )


def large_models_copy_more(rows: Sequence[Row]) -> Judged:
    """A6: the largest model against the smallest, by parameters."""
    return _along("model_size", rows, COPIED, is_rising=True, missing="the size of the model alone")


def augmentation_lowers(rows: Sequence[Row]) -> Judged:
    """B3: diffusion models with augmentation against the same without, by the share of training images memorized."""
    diffusion = [row for row in trained(rows) if kind(row) == "diffusion"]
    found = without_and_with(lines(diffusion, "augmentation", MEMORIZED), "augmentation", "none")
    missing = "no diffusion model was trained both with augmentation and without"
    return judged(found, MEMORIZED.title, missing=missing)


def longer_training_copies_more(rows: Sequence[Row]) -> Judged:
    """C1: the longest training against the shortest."""
    return _along("images_seen", rows, COPIED, is_rising=True, missing="the length of training alone")


def duplicates_are_copied_more(rows: Sequence[Row]) -> Judged:
    """C2: the most often duplicated training images against the least."""
    return _along("duplicates", rows, COPIED, is_rising=True, missing="how often images are duplicated alone")


def _along(axis: str, rows: Sequence[Row], measure: Measure, *, is_rising: bool, missing: str) -> Judged:
    found = ends(lines(trained(rows), axis, measure), is_rising=is_rising)
    return judged(found, measure.title, missing=f"no two finished cells differ in {missing}")


def without_and_with(found: Sequence[Line], axis: str, off: object) -> list[Comparison]:
    """Compare, on lines along an axis, the value that means "without" with each other one: it should have more."""

    def is_off(point: Point) -> bool:
        return point.rows[0].axes.get(axis) == off

    return against(found, is_off, lambda point: not is_off(point))


def _is_sliced(point: Point) -> bool:
    facts = point.rows[0].facts
    return facts is not None and facts.is_sliced
