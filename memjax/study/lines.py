"""Memorization along one axis of a study: cells that agree on all other axes make a line, seeds make one point."""

import dataclasses
from collections.abc import Sequence

from memjax.audit.findings import Interval
from memjax.study.axes import SEED, described, label, place, varying
from memjax.study.row import Row
from memjax.study.shares import Measure, over_seeds


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
    """One value of the axis: the share in its cells, one for each seed."""

    x: float  # nan where the value is a word
    label: str
    share: Interval
    rows: Sequence[Row]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    """Cells that differ on one axis (and in their seed) alone, in the order of that axis."""

    axis: str
    title: str  # what they have in common, as far as the study varies it
    points: Sequence[Point]


def lines(rows: Sequence[Row], axis: str, measure: Measure) -> list[Line]:
    """Return the lines along an axis, of finished cells that have the measure; lines of one point are left out."""
    others = [name for name in varying(rows) if name not in (axis, SEED)]
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        if row.status == "done" and measure.of(row) is not None:
            groups.setdefault(tuple(row.axes.get(name) for name in others), []).append(row)
    found = [
        Line(axis=axis, title=described(group[0], others), points=_points(group, axis, measure))
        for group in groups.values()
    ]
    return [line for line in found if len(line.points) > 1]


def _points(rows: Sequence[Row], axis: str, measure: Measure) -> list[Point]:
    by_value: dict[object, list[Row]] = {}
    for row in rows:
        by_value.setdefault(row.axes.get(axis), []).append(row)
    points = [
        Point(
            x=place(same[0], axis),
            label=label(same[0], axis),
            share=over_seeds([one for row in same if (one := measure.of(row)) is not None]),
            rows=same,
        )
        for same in by_value.values()
    ]
    return points if any(point.x != point.x for point in points) else sorted(points, key=lambda point: point.x)


def repetitions(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    """Return finished cells that differ in their seed alone, together, with what they have in common."""
    names = [name for name in varying(rows) if name != SEED]
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        if row.status == "done":
            groups.setdefault(tuple(row.axes.get(name) for name in names), []).append(row)
    return [(described(same[0], names), same) for same in groups.values()]
