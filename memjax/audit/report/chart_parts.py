"""What the charts of an audit are made of: axes of one width, histograms in rows, and a marked threshold."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from memjax.audit.report.numerals import many, measure
from memjax.audit.report.theme import Theme, new_figure

WIDTH = 5.2  # inches: its text is still legible when a telephone shrinks it
MARGINS = (0.7, 0.15, 0.55, 0.3)
HEADROOM = 1.35  # above the highest bar, for labels
DASHES = (0, (4, 3))
_BINS = 60


def one_chart(height: float, margins: tuple[float, float, float, float] = MARGINS) -> tuple[Figure, Axes]:
    """Return a figure of this height in inches with one pair of axes."""
    figure, grid = new_figure((WIDTH, height), margins=margins)
    return figure, grid[0, 0]


def rows(n: int, edges: np.ndarray, label: str) -> tuple[Figure, list[Axes]]:
    """Return a figure of n histograms above each other on one scale."""
    height = MARGINS[2] + MARGINS[3] + 1.05 * n + 0.4 * (n - 1)
    figure, grid = new_figure((WIDTH, height), rows=n, margins=MARGINS, gaps=(0.0, 0.4))
    all_axes = grid[:, 0].tolist()
    all_axes[n // 2].set_ylabel("% of the images")
    all_axes[-1].set_xlabel(label)
    all_axes[-1].set_xlim(edges[0], edges[-1])
    return figure, all_axes


def bars(
    axes: Axes,
    title: str,
    values: np.ndarray,
    edges: np.ndarray,
    is_above: np.ndarray,
    colour: str,
    theme: Theme,
    *,
    noun: str = "image",
    is_told_right: bool = False,
) -> float:
    """Draw one row, in the colour of copies where `is_above` [bins]; return the height of its highest bar.

    How many values there are stands on the left, or on the right.
    """
    heights = shares(values, edges)
    colours = np.where(is_above, theme.copy, colour).tolist()
    axes.bar(edges[:-1], heights, np.diff(edges), align="edge", color=colours)
    axes.set_title(title, color=colour, parse_math=False)
    place, side = (0.99, "right") if is_told_right else (0.01, "left")
    axes.text(place, 0.95, many(len(values), noun), transform=axes.transAxes, ha=side, va="top", color=theme.muted)
    axes.locator_params(axis="y", nbins=2)
    return float(heights.max())


def middles(edges: np.ndarray) -> np.ndarray:
    """Return the middle of each bin."""
    return (edges[:-1] + edges[1:]) / 2


def shares(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return the share of the values in each bin, in per cent."""
    return np.histogram(values, edges)[0] / max(1, len(values)) * 100


def common_edges(sets: list[np.ndarray], thresholds: list[float]) -> np.ndarray:
    """Return common bin edges that hold all values and thresholds, never of width 0."""
    values = np.concatenate([*sets, [threshold for threshold in thresholds if math.isfinite(threshold)]])
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    is_wide = high - low > 1e-9 * max(abs(low), abs(high))
    margin = (high - low) * 0.02 if is_wide else max(1e-3, 1e-3 * abs(high))
    return np.linspace(low - margin, high + margin, _BINS + 1)


def threshold_line(axes: Axes, threshold: float, edges: np.ndarray, theme: Theme, *, label: bool) -> None:
    """Mark the threshold, if it is in sight, and name it beside the line where there is more room."""
    if not edges[0] < threshold < edges[-1]:
        return
    axes.axvline(threshold, color=theme.copy, linewidth=1.2, linestyle=DASHES)
    if label:
        side = -1 if threshold > (edges[0] + edges[-1]) / 2 else 1
        axes.annotate(
            f"threshold {measure(threshold)}",
            (threshold, 0.95),
            (4 * side, 0),
            ("data", "axes fraction"),
            "offset points",
            ha="left" if side > 0 else "right",
            va="top",
            color=theme.copy,
        )
