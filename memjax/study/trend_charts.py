"""Charts along an axis: shares with their intervals against sizes, parameters, lengths or words."""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from memjax.audit.report.chart_parts import DASHES, MARGINS, WIDTH
from memjax.audit.report.numerals import count
from memjax.audit.report.theme import Theme, new_figure
from memjax.study.axes import LOGARITHMIC, NAMES, parameters
from memjax.study.lines import Line, lines
from memjax.study.onset import Onset, Onsets
from memjax.study.palette import generators, look, numbered
from memjax.study.row import Row
from memjax.study.shares import Measure

MOST_LINES = 8
_HEIGHT = 2.0  # inches of each panel
_GAP = 0.55
_LINE = 0.2  # inches of a line of the legend
_ROOM = 1.08
_MOST_TICKS = 7


def trend(
    rows: Sequence[Row], axis: str, measures: Sequence[Measure], theme: Theme, *, level: float | None = None
) -> Figure:
    """Draw one panel a measure against the axis, one line for cells that agree otherwise; mark a level as a line."""
    all_lines = [lines(rows, axis, measure)[:MOST_LINES] for measure in measures]
    names = generators(rows)
    titles = list(dict.fromkeys(line.title for found in all_lines for line in found))
    legend = 0 if len(titles) == 1 else len(titles)
    left, right, bottom, top = MARGINS
    margins = (left, right + 0.1, bottom + room_below(legend), top)
    height = margins[2] + top + _HEIGHT * len(measures) + _GAP * (len(measures) - 1)
    figure, grid = new_figure((WIDTH, height), rows=len(measures), margins=margins, gaps=(0.0, _GAP))
    for axes, measure, found in zip(grid[:, 0], measures, all_lines, strict=True):
        _panel(axes, found, names, theme)
        axes.set_title(f"{measure.title[0].upper()}{measure.title[1:]}")
        axes.set_ylabel("%")
        if level is not None:
            axes.axhline(100 * level, color=theme.muted, linewidth=1, linestyle=DASHES)
    bottom_axes = grid[-1, 0]
    _ticks(bottom_axes, all_lines[0], axis)
    bottom_axes.set_xlabel(NAMES.get(axis, axis))
    if legend:
        legend_below(figure, grid[0, 0], titles, height)
    return figure


def onset_chart(found: Sequence[Onsets], rows: Sequence[Row], theme: Theme) -> Figure:
    """Draw when memorization begins against the number of training images, and what proportion would be."""
    legend = len(found) if len(found) > 1 else 0
    left, right, bottom, top = MARGINS
    bottom += room_below(legend)
    height = 2.6 + bottom + top
    figure, grid = new_figure((WIDTH, height), margins=(left + 0.25, right + 0.1, bottom, top))
    axes, names = grid[0, 0], generators(rows)
    for number, one in enumerate(found):
        generator = next((name for name in names if name in one.title.split(", ")), names[0])
        drawn = look(generator, names, theme, variant=number)
        known = one.known
        x, y = [onset.n for onset in known], [onset.value for onset in known]
        below, above = ([abs(getattr(onset, end) - onset.value) for onset in known] for end in ("low", "high"))
        axes.errorbar(
            x, y, (below, above), color=drawn.colour, marker=drawn.marker, linestyle=drawn.dashes, label=one.title
        )
    _proportional(axes, [onset for one in found for onset in one.known], theme)
    axes.set(xscale="log", yscale="log", xlabel=NAMES["n_train"], ylabel="images seen in training")
    axes.set_title("When 5 % of the images are copies")
    plain_ticks(axes, sorted({onset.n for one in found for onset in one.known}))
    if legend:
        legend_below(figure, axes, [one.title for one in found], height)
    return figure


def _panel(axes: Axes, found: Sequence[Line], names: Sequence[str], theme: Theme) -> None:
    used, words = Counter[str](), _words(found)
    highest = 0.0
    for number, line in enumerate(found):
        of = [str(row.axes.get("generator", "")) for point in line.points for row in point.rows]
        generator = of[0] if len(set(of)) == 1 else ""
        drawn = look(generator, names, theme, variant=used[generator]) if generator else numbered(number)
        used[generator] += 1
        is_word = bool(words)
        shift = 0.08 * (number - (len(found) - 1) / 2)
        x = np.array([words.index(point.label) + shift if is_word else point.x for point in line.points])
        value, low, high = (
            100 * np.array([getattr(point.share, end) for point in line.points]) for end in ("value", "low", "high")
        )
        axes.errorbar(
            x,
            value,
            (value - low, high - value),
            color=drawn.colour,
            marker=drawn.marker,
            markersize=5,
            linewidth=1.6,
            elinewidth=1,
            capsize=2.5,
            linestyle="none" if is_word and not generator else drawn.dashes,
            label=line.title,
        )
        highest = max(highest, float(high.max()))
    axes.set_ylim(0, 106 if highest > 40 else max(1.0, _ROOM * highest))
    axes.locator_params(axis="y", nbins=5)


def _words(found: Sequence[Line]) -> list[str]:
    """Return the values of an axis of words, in order; none for an axis of numbers."""
    points = [point for line in sorted(found, key=lambda line: -len(line.points)) for point in line.points]
    is_word = any(math.isnan(point.x) for point in points)
    return list(dict.fromkeys(point.label for point in points)) if is_word else []


def _ticks(axes: Axes, found: Sequence[Line], axis: str) -> None:
    """Mark the measured values, by their names where they are words."""
    labels = _words(found)
    if labels:
        is_long = sum(len(label) for label in labels) > 55
        axes.set_xticks(range(len(labels)), labels, rotation=20 if is_long else 0, ha="right" if is_long else "center")
        axes.set_xlim(-0.5, len(labels) - 0.5)
        return
    places = sorted({point.x for line in found for point in line.points})
    if axis in LOGARITHMIC and places[0] > 0 and places[-1] > places[0]:
        axes.set_xscale("log")
    plain_ticks(axes, places, [parameters(int(place)) for place in places] if axis == "model_size" else None)


def plain_ticks(axes: Axes, places: Sequence[float], labels: Sequence[str] | None = None) -> None:
    """Mark these places, as many as have room, and no others."""
    every = math.ceil(len(places) / _MOST_TICKS)
    kept = list(places)[::-1][::every][::-1]
    shown = list(labels)[::-1][::every][::-1] if labels else [count(place) for place in kept]
    axes.set_xticks(kept, shown)
    axes.set_xticks([], minor=True)


def _proportional(axes: Axes, known: Sequence[Onset], theme: Theme) -> None:
    """Draw, through the middle of the onsets, the line on which the training grows as the number of images does."""
    if not known:
        return
    n = np.array(sorted({onset.n for onset in known}))
    factor = math.exp(float(np.mean([math.log(onset.value / onset.n) for onset in known])))
    axes.plot(n, factor * n, color=theme.muted, linewidth=1, linestyle=DASHES)
    axes.annotate(
        "in proportion",
        (n[-1], factor * n[-1]),
        (-4, -10),
        textcoords="offset points",
        ha="right",
        va="top",
        color=theme.muted,
    )


def room_below(n_titles: int) -> float:
    """Return how many inches a legend of so many titles needs below an axis."""
    return _LINE * n_titles - 0.1 if n_titles else 0.0


def legend_below(figure: Figure, axes: Axes, titles: Sequence[str], height: float) -> None:
    """Write the titles of the drawn lines at the foot of a figure so many inches high."""
    handles, labels = axes.get_legend_handles_labels()
    by_title = dict(zip(labels, handles, strict=True))
    figure.legend(
        [by_title[title] for title in titles if title in by_title],
        [title for title in titles if title in by_title],
        loc="lower left",
        bbox_to_anchor=(MARGINS[0] / WIDTH, 0.04 / height),
        frameon=False,
        fontsize=9,
        borderaxespad=0,
        borderpad=0,
        labelspacing=0.25,
        handlelength=2.6,
    )
