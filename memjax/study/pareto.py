"""Quality against memorization: which cells nothing beats in both, and the chart of it."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from memjax.audit.findings import Interval
from memjax.audit.report.chart_parts import MARGINS, WIDTH
from memjax.audit.report.theme import Theme, new_figure
from memjax.study.axes import kind
from memjax.study.lines import repetitions
from memjax.study.palette import generators, look
from memjax.study.row import Row
from memjax.study.shares import SHOWN, over_seeds

_HEIGHT = 3.0  # inches of each panel
_GAP = 0.85
_LINE = 0.2  # inches of a line of the key
_WIDE = 100.0  # FIDs whose ratio is larger are drawn on a logarithmic scale
_MOST_PANELS = 3
_MOST_LABELLED = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """A cell on the chart, its seeds together."""

    title: str
    generator: str
    fid: float  # mean over seeds
    copied: Interval
    is_control: bool


def places(rows: Sequence[Row]) -> dict[tuple[str, str], list[Place]]:
    """Return the cells that have both but noise, by the images and the features that make their FIDs comparable."""
    found: dict[tuple[str, str], list[Place]] = {}
    for title, same in repetitions([row for row in rows if row.axes.get("generator") != "noise"]):
        known = [row for row in same if row.quality and math.isfinite(row.quality.fid) and SHOWN.of(row)]
        if known and known[0].quality and known[0].facts:
            key = (known[0].facts.data, known[0].quality.features)
            place = Place(
                title=title,
                generator=str(known[0].axes.get("generator", "")),
                fid=sum(row.quality.fid for row in known if row.quality) / len(known),
                copied=over_seeds([one for row in known if (one := SHOWN.of(row)) is not None]),
                is_control=kind(known[0]) == "control",
            )
            found.setdefault(key, []).append(place)
    return {key: same for key, same in found.items() if len(same) > 1}


def best(found: Sequence[Place]) -> list[Place]:
    """Return the trained cells that no other is at least as good as in both, and better in one; best FID first."""
    trained = [one for one in found if not one.is_control]
    kept = [one for one in trained if not any(_beats(other, one) for other in trained)]
    return sorted(kept, key=lambda one: one.fid)


def pareto_chart(rows: Sequence[Row], theme: Theme) -> Figure:
    """Draw FID against the share of copies, best at the lower left; nothing beats the cells on the stepped line."""
    panels = dict(list(places(rows).items())[:_MOST_PANELS])
    numbered = [one for found in panels.values() for one in best(found)][:_MOST_LABELLED]
    left, right, bottom, top = MARGINS
    bottom += _LINE * len(numbered)
    height = bottom + top + _HEIGHT * len(panels) + _GAP * (len(panels) - 1)
    figure, grid = new_figure((WIDTH, height), rows=len(panels), margins=(left, right, bottom, top), gaps=(0.0, _GAP))
    names, numbers = generators(rows), {id(one): number for number, one in enumerate(numbered, 1)}
    for axes, ((data, features), found) in zip(grid[:, 0], panels.items(), strict=True):
        axes.set_title(data, parse_math=False)
        axes.set_xlabel(f"FID in {features}; lower is better", parse_math=False)
        _panel(axes, found, names, numbers, theme)
    for number, one in enumerate(numbered, 1):
        y = (0.06 + _LINE * (len(numbered) - number)) / height
        figure.text(left / WIDTH, y, f"{number}  {one.title}", color=theme.ink, fontsize=9, parse_math=False)
    return figure


def _panel(axes: Axes, found: Sequence[Place], names: Sequence[str], numbers: Mapping[int, int], theme: Theme) -> None:
    front = best(found)
    steps = [(one.fid, 100 * one.copied.value) for one in front]
    axes.step([x for x, _ in steps], [y for _, y in steps], where="post", color=theme.muted, linewidth=1, zorder=0)
    for one in found:
        drawn = look(one.generator, names, theme)
        value, low, high = (100 * end for end in (one.copied.value, one.copied.low, one.copied.high))
        axes.errorbar(
            [one.fid],
            [value],
            [[value - low], [high - value]],
            color=drawn.colour,
            marker=drawn.marker,
            markersize=6,
            markerfacecolor=drawn.colour if one in front else theme.paper,
            elinewidth=0.8,
            linestyle="none",
        )
        label = one.generator if one.is_control else str(numbers.get(id(one), ""))
        if label:
            y = -8 if one.is_control and value < 50 else 6  # numbers above, controls out of their way
            va = "top" if y < 0 else "bottom"
            place = (one.fid, value)
            axes.annotate(label, place, (0, y), textcoords="offset points", ha="center", va=va, color=drawn.colour)
    axes.set_ylabel("copies, % of the images")
    low, high = min(one.fid for one in found), max(one.fid for one in found)
    if low > 0 and high / low > _WIDE:
        axes.set_xscale("log")
    else:
        margin = max(0.12 * (high - low), 0.1 * abs(high)) or 0.1
        axes.set_xlim(low - margin, high + margin)
    axes.set_ylim(-14, 114)


def _beats(one: Place, other: Place) -> bool:
    mine, theirs = (one.fid, one.copied.value), (other.fid, other.copied.value)
    return mine != theirs and mine[0] <= theirs[0] and mine[1] <= theirs[1]
