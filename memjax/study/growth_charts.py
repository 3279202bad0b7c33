"""The chart of how many training images copies show against images drawn, one curve a cell (paper B, section 3.1)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from memjax.audit.report.chart_parts import DASHES, MARGINS, WIDTH
from memjax.audit.report.theme import Theme, new_figure
from memjax.study.lines import repetitions
from memjax.study.palette import MARKERS, generators, look
from memjax.study.row import Row
from memjax.study.trend_charts import legend_below, plain_ticks, room_below

MOST_CURVES = 6
_HEIGHT = 2.6  # inches


def curves(rows: Sequence[Row]) -> list[tuple[str, Row, Mapping[str, Any]]]:
    """Return the cells with a growth curve of images, the first seed of each, most found first."""
    found = []
    for title, same in repetitions(rows):
        for row in same[:1]:
            curve = next((one for one in row.growth if one["of"] == "images"), None)
            if curve is not None:
                found.append((title, row, curve))
    return sorted(found, key=lambda one: -one[2]["found"] / one[2]["n_train"])


def growth_chart(rows: Sequence[Row], theme: Theme) -> Figure:
    """Draw the curves: full as far as images were drawn, dashed where they are extrapolated."""
    found, names = curves(rows)[:MOST_CURVES], generators(rows)
    left, right, bottom, top = MARGINS
    bottom += room_below(len(found))
    height = _HEIGHT + bottom + top
    figure, grid = new_figure((WIDTH, height), margins=(left, right + 0.15, bottom, top))
    axes = grid[0, 0]
    used = Counter[str]()
    for title, row, curve in found:
        generator = str(row.axes.get("generator", ""))
        drawn = look(generator, names, theme, variant=used[generator])
        used[generator] += 1
        x, n = np.array(curve["curve"]["drawn"], float), curve["n_drawn"]
        value, low, high = (
            100 * np.array(curve["curve"][end]) / curve["n_train"] for end in ("expected", "low", "high")
        )
        is_seen = x <= n
        start = max(0, int(is_seen.sum()) - 1)
        axes.fill_between(x, low, high, color=drawn.colour, alpha=0.12, linewidth=0)
        axes.plot(x[start:], value[start:], color=drawn.colour, linewidth=1.4, linestyle=DASHES)
        axes.plot(
            x[is_seen],
            value[is_seen],
            color=drawn.colour,
            linewidth=1.8,
            marker=MARKERS[(used[generator] - 1) % len(MARKERS)],
            markevery=[start],
            markersize=5,
            label=title,
        )
    most = float(max(curve["n_drawn"] for *_, curve in found))
    axes.set_xscale("log")
    axes.set_xlim(max(1.0, most / 100), 10 * most)
    plain_ticks(axes, [most / 100, most / 10, most, 10 * most] if most >= 100 else [1.0, most, 10 * most])
    axes.set_ylim(0, 104)
    axes.set_title("Training images shown by copies")
    axes.set_ylabel("%")
    axes.set_xlabel("synthetic images drawn")
    legend_below(figure, axes, [title for title, *_ in found], height)
    return figure
