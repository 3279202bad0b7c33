"""Effective model memorization: up to how many training images nearly all that a generator makes is memorized.

Gu et al. (arXiv 2310.02664): EMM = max {N : share of memorized images >= 1 - 0.1}, over training lengths. A synthetic
image is memorized if it is nearer to its nearest training image than a third of the distance to the second nearest.
"""

import dataclasses
import math
from collections.abc import Sequence

from memjax.study.axes import varying
from memjax.study.lines import Line, Point, lines
from memjax.study.row import Row
from memjax.study.shares import RATIO

LEVEL = 0.9


@dataclasses.dataclass(frozen=True, kw_only=True)
class Emm:
    """One generator's, with the measured sizes that it lies between: 0 below the smallest, inf above the largest."""

    title: str
    value: float  # training images; nan where it is below or above all measured sizes
    low: float  # the largest measured size with the share, or 0
    high: float  # the next larger measured size, or inf
    is_sure: bool  # the 95 % intervals on both sides exclude the level


def effective_memorization(rows: Sequence[Row]) -> list[Emm]:
    """Return the EMM of each generator (and of each value of the other axes), of studies with several sizes.

    Between two measured sizes the share is taken to be linear in log N. Over training lengths the largest share counts.
    """
    best = _best_over_lengths(rows)
    return [_emm(line) for line in lines(best, "n_train", RATIO)]


def _best_over_lengths(rows: Sequence[Row]) -> list[Row]:
    """Keep, of cells that differ in their training length alone, the one with the largest share."""
    names = [name for name in varying(rows) if name != "images_seen"]
    groups: dict[tuple[object, ...], Row] = {}
    for row in rows:
        if row.status == "done" and RATIO.of(row) is not None:
            key = tuple(row.axes.get(name) for name in names)
            if key not in groups or row.f_ratio > groups[key].f_ratio:
                groups[key] = row
    return [dataclasses.replace(row, axes={**row.axes, "images_seen": 0}) for row in groups.values()]


def _emm(line: Line) -> Emm:
    points = line.points
    reaching = [number for number, point in enumerate(points) if point.share.value >= LEVEL]
    if not reaching:
        first = points[0]
        return _result(line, math.nan, 0.0, first.x, first.share.high < LEVEL)
    last = reaching[-1]
    if last == len(points) - 1:
        return _result(line, math.nan, points[last].x, math.inf, points[last].share.low > LEVEL)
    here, after = points[last], points[last + 1]
    is_sure = here.share.low > LEVEL > after.share.high
    return _result(line, _crossing(here, after), here.x, after.x, is_sure)


def _result(line: Line, value: float, low: float, high: float, is_sure: bool) -> Emm:
    return Emm(title=line.title, value=value, low=low, high=high, is_sure=is_sure)


def _crossing(here: Point, after: Point) -> float:
    part = (here.share.value - LEVEL) / (here.share.value - after.share.value)
    return math.exp(math.log(here.x) + part * (math.log(after.x) - math.log(here.x)))
