"""The detectors' trial as a picture: a map of detectors against planted changes."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from launch.benchmark.trial import UNSEEN

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from memjax.audit.report.theme import Theme

_CELL = 0.42, 0.32  # inches: a number of three digits fits
_LEFT, _RIGHT, _BOTTOM, _TOP, _GAP = 3.3, 2.05, 1.0, 0.95, 1.6
_COLOURS = "cividis"  # the same order of light and dark for every kind of colour vision, and in print
_PANELS = (
    ("Share of the copies found at 1 % false positives, in %", "sensitivity_1", (0, 100)),
    ("Area under the ROC curve, in %: 50 is a coin's, 100 if copies and strangers do not overlap", "auc", (50, 100)),
)
_DOT = "A dot: the detector is made to see through this kind of change."

Row = Mapping[str, Any]


def heat_map(rows: Sequence[Row], titles: Mapping[str, str], caption: str, theme: "Theme") -> "Figure":
    """Draw detectors against changes: sensitivity at 1 % false positives above, area under the ROC curve below.

    Args:
      rows: of `trial.judge`, of all detectors, with the same cells in the same order.
      titles: of the detectors, by name, in the order of display.
      caption: what the images were.
      theme: colours.
    """
    from matplotlib.figure import Figure

    grid = [[row for row in rows if row["detector"] == name and row["work"] != UNSEEN] for name in titles]
    unseen = [next(row for row in rows if row["detector"] == name and row["work"] == UNSEEN) for name in titles]
    width, height = _CELL[0] * len(grid[0]), _CELL[1] * len(titles)
    whole = _LEFT + width + _RIGHT, _BOTTOM + 2 * height + _GAP + _TOP
    figure = Figure(figsize=whole)
    for number, (title, key, limits) in enumerate(_PANELS):
        bottom = _BOTTOM + (1 - number) * (height + _GAP)
        axes = figure.add_axes((_LEFT / whole[0], bottom / whole[1], width / whole[0], height / whole[1]))
        _panel(axes, grid, list(titles.values()), key, limits, theme)
        figure.text(0.12 / whole[0], (bottom + height + 0.85) / whole[1], title, weight="bold", va="top")
        if number == 0:
            _false_alarms(axes, unseen, len(grid[0]), theme)
    words = f"{_DOT} {caption}"
    figure.text(0.12 / whole[0], 0.12 / whole[1], words, color=theme.muted, va="bottom", parse_math=False)
    return figure


def _panel(
    axes: "Axes",
    grid: Sequence[Sequence[Row]],
    titles: Sequence[str],
    key: str,
    limits: tuple[float, float],
    theme: "Theme",
) -> None:
    import matplotlib as mpl

    values = np.array([[100 * row[key] for row in line] for line in grid])
    colours = mpl.colormaps[_COLOURS](np.clip((values - limits[0]) / (limits[1] - limits[0]), 0, 1))
    axes.imshow(colours, aspect="auto")
    for (y, x), value in np.ndenumerate(values):
        ink = "white" if colours[y, x, :3] @ (0.2126, 0.7152, 0.0722) < 0.5 else "black"
        axes.text(x, y, _digits(value), ha="center", va="center", fontsize=8, color=ink)
        if grid[y][x]["is_declared"]:
            axes.plot(x + 0.38, y - 0.32, "o", markersize=2.6, color=ink, markeredgewidth=0)
    groups = [row["work"] if row["kind"] == "copy" else "controls" for row in grid[0]]
    labels = [row["label"] if row["kind"] == "copy" else row["work"] for row in grid[0]]
    axes.set_xticks(range(len(labels)), labels, fontsize=8, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(titles)), titles, fontsize=9, color=theme.ink)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    starts = [x for x in range(len(groups)) if x == 0 or groups[x - 1] != groups[x]]
    for start, stop in zip(starts, [*starts[1:], len(groups)], strict=True):
        axes.axvline(start - 0.5, color=theme.paper, linewidth=4)
        axes.text((start + stop - 1) / 2, -0.7, _stacked(groups[start]), ha="center", va="bottom", fontsize=8)


def _false_alarms(axes: "Axes", unseen: Sequence[Row], right: int, theme: "Theme") -> None:
    """Write beside each detector how many unseen patients it really calls at the declared 1 %."""
    axes.text(right - 0.2, -0.7, "unseen patients above\nthe threshold (declared: 1 %)", va="bottom", fontsize=8)
    for y, row in enumerate(unseen):
        low, high = (100 * row[f"sensitivity_1_{end}"] for end in ("low", "high"))
        words = f"{100 * row['sensitivity_1']:.1f} % ({low:.1f} to {high:.1f})"
        axes.text(right - 0.2, y, words, va="center", fontsize=8, color=theme.copy if low > 1 else theme.ink)


def _digits(percent: float) -> str:
    """Print a percentage; 100 only where it is exactly that."""
    if percent == 100 or percent < 99:
        return f"{percent:.0f}"
    return f"{percent:.1f}" if percent < 99.95 else ">99.9"


def _stacked(work: str) -> str:
    """Break a heading of several changes into lines."""
    return work.replace(" + ", "\n+ ")
