"""The charts of an audit: how alike the sets are, training image by training image, over all pairs, by generator."""

import math
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from memjax.audit.findings import Findings, Neighbours
from memjax.audit.numerals import count, many, score
from memjax.audit.theme import Theme, new_figure
from memjax.audit.words import score_noun

_WIDTH = 5.2  # inches: its text is still legible when a telephone shrinks it
_MARGINS = (0.7, 0.15, 0.55, 0.3)
_BINS = 60
_MAX_BARS = 200
_HEADROOM = 1.35  # above the highest bar, for labels
_DASHES = (0, (4, 3))


def max_correlation(findings: Findings, theme: Theme) -> Figure:
    """Draw the distributions of each image's best score (paper A, figure 3): one row a comparison, one scale."""
    sides = [("Synthetic images and their closest training image", findings.synthetic_to_train, theme.synthetic)]
    if findings.heldout_to_train is not None:
        sides.append(("Held-out images and their closest training image", findings.heldout_to_train, theme.heldout))
    if findings.synthetic_to_heldout is not None:
        sides.append(("Synthetic images and their closest held-out image", findings.synthetic_to_heldout, theme.muted))
    rows = [(title, _best(nearest), colour) for title, nearest, colour in sides]
    threshold = findings.decision.threshold
    edges = _edges([values for _, values, _ in rows], [threshold])
    figure, all_axes = _rows(len(rows), edges, score_noun(findings))
    for axes, (title, values, colour) in zip(all_axes, rows, strict=True):
        top = _bars(axes, title, values, edges, threshold, colour, theme)
        axes.set_ylim(0, _HEADROOM * max(1.0, top))
        _threshold_line(axes, threshold, edges, theme, label=axes is all_axes[0])
    return figure


def comparison(generators: Mapping[str, Findings], theme: Theme) -> Figure:
    """Draw the best scores of several generators' images and of the held-out ones (paper A, figure 3, first row).

    All on one scale, the held-out images as an outline in every row: bars to the right of it are what unseen patients'
    images do not explain.
    """
    first = next(iter(generators.values()))
    heldout = np.array([]) if first.null is None else first.null.score
    rows = [(name, _best(found.synthetic_to_train), found.decision.threshold) for name, found in generators.items()]
    edges = _edges([heldout, *(values for _, values, _ in rows)], [threshold for *_, threshold in rows])
    figure, all_axes = _rows(
        len(rows) + bool(len(heldout)), edges, f"{score_noun(first)} with the closest training image"
    )
    tops = []
    for axes, (name, values, threshold) in zip(all_axes, rows, strict=False):
        tops.append(_bars(axes, name, values, edges, threshold, theme.synthetic, theme))
        _threshold_line(axes, threshold, edges, theme, label=True)
    if len(heldout):
        title = "Held-out: real images that no generator saw"
        tops.append(_bars(all_axes[-1], title, heldout, edges, math.inf, theme.heldout, theme))
        for axes in all_axes[:-1]:
            axes.stairs(_shares(heldout, edges), edges, color=theme.heldout, linewidth=1.2)
    for axes in all_axes:
        axes.set_ylim(0, _HEADROOM * max(1.0, *tops))
    return figure


def train_best(findings: Findings, theme: Theme) -> Figure:
    """Draw each training image's best synthetic against its best held-out score (paper B, figure 3a, as points)."""
    synthetic = findings.train_to_synthetic.score[:, 0]
    threshold = findings.decision.threshold
    if findings.train_to_heldout is None:
        return _train_histogram(findings, synthetic[np.isfinite(synthetic)], theme)
    heldout = findings.train_to_heldout.score[:, 0]
    known = np.isfinite(synthetic) & np.isfinite(heldout)
    synthetic, heldout = synthetic[known], heldout[known]
    edges = _edges([synthetic, heldout], [threshold])
    figure, axes = _one_chart(4.4)
    axes.axline((edges[0], edges[0]), slope=1, color=theme.muted, linewidth=1)
    axes.text(0.17, 0.11, "equally alike", transform=axes.transAxes, color=theme.muted)
    above = synthetic > threshold
    for chosen, colour in ((~above, theme.synthetic), (above, theme.copy)):
        axes.scatter(heldout[chosen], synthetic[chosen], s=9, color=colour, alpha=0.55, linewidths=0, rasterized=True)
    if edges[0] < threshold < edges[-1]:
        axes.axhline(threshold, color=theme.copy, linewidth=1.2, linestyle=_DASHES)
        place = ("axes fraction", "data")
        text = f"threshold {score(threshold)}"
        axes.annotate(text, (0.01, threshold), (0, -3), place, "offset points", va="top", color=theme.copy)
    axes.set_title(f"{count(int(above.sum()))} of {many(len(above), 'training image')} above the threshold")
    axes.set_xlabel(f"{score_noun(findings)} with its closest held-out image")
    axes.set_ylabel(f"{score_noun(findings)} with its closest synthetic image")
    axes.set(xlim=(edges[0], edges[-1]), ylim=(edges[0], edges[-1]))
    return figure


def all_pairs(findings: Findings, theme: Theme) -> Figure:
    """Draw how many of all synthetic-training pairs (or of a sample) have each score, on a logarithmic scale."""
    heights, edges = _shortened(findings.all_pairs.count, findings.all_pairs.edges)
    figure, axes = _one_chart(2.9)
    axes.stairs(heights, edges, fill=True, color=theme.synthetic)
    if heights.any():
        axes.set_yscale("log")
        axes.set_ylim(0.7, 20 * float(heights.max()))  # room for the label of the threshold
    pairs = f"{count(int(findings.all_pairs.count.sum()))} pairs of a synthetic and a training image"
    axes.set_title(f"A random sample of {pairs}" if findings.all_pairs.is_sample else f"All {pairs}")
    axes.set_xlabel(score_noun(findings))
    axes.set_ylabel("pairs (logarithmic)")
    _threshold_line(axes, findings.decision.threshold, edges, theme, label=True)
    axes.set_xlim(edges[0], edges[-1])
    return figure


def _train_histogram(findings: Findings, synthetic: np.ndarray, theme: Theme) -> Figure:
    edges = _edges([synthetic], [findings.decision.threshold])
    figure, axes = _one_chart(2.4)
    heights, _, _ = axes.hist(synthetic, edges.tolist(), color=theme.synthetic)
    axes.set_ylim(0, _HEADROOM * max(1.0, float(np.max(heights))))
    axes.set_title("Training images and their closest synthetic image")
    axes.set_xlabel(score_noun(findings))
    axes.set_ylabel("training images")
    _threshold_line(axes, findings.decision.threshold, edges, theme, label=True)
    axes.set_xlim(edges[0], edges[-1])
    return figure


def _rows(n: int, edges: np.ndarray, label: str) -> tuple[Figure, list[Axes]]:
    """Return a figure of n histograms above each other on one scale."""
    height = _MARGINS[2] + _MARGINS[3] + 1.05 * n + 0.4 * (n - 1)
    figure, grid = new_figure((_WIDTH, height), rows=n, margins=_MARGINS, gaps=(0.0, 0.4))
    all_axes = grid[:, 0].tolist()
    all_axes[n // 2].set_ylabel("% of the images")
    all_axes[-1].set_xlabel(label)
    all_axes[-1].set_xlim(edges[0], edges[-1])
    return figure, all_axes


def _bars(
    axes: Axes, title: str, values: np.ndarray, edges: np.ndarray, threshold: float, colour: str, theme: Theme
) -> float:
    """Draw one row, in the colour of copies above the threshold; return the height of its highest bar."""
    heights = _shares(values, edges)
    is_above = (edges[:-1] + edges[1:]) / 2 > threshold
    colours = np.where(is_above, theme.copy, colour).tolist()
    axes.bar(edges[:-1], heights, np.diff(edges), align="edge", color=colours)
    axes.set_title(title, color=colour, parse_math=False)
    axes.text(0.01, 0.95, many(len(values), "image"), transform=axes.transAxes, va="top", color=theme.muted)
    axes.locator_params(axis="y", nbins=2)
    return float(heights.max())


def _shares(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return np.histogram(values, edges)[0] / max(1, len(values)) * 100


def _one_chart(height: float) -> tuple[Figure, Axes]:
    figure, grid = new_figure((_WIDTH, height), margins=_MARGINS)
    return figure, grid[0, 0]


def _best(nearest: Neighbours) -> np.ndarray:
    values = nearest.score[:, 0]
    return values[np.isfinite(values)]


def _edges(sets: list[np.ndarray], thresholds: list[float]) -> np.ndarray:
    """Return common bin edges that hold all values and thresholds, never of width 0."""
    values = np.concatenate([*sets, [threshold for threshold in thresholds if math.isfinite(threshold)]])
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    margin = max((high - low) * 0.02, 1e-3)
    return np.linspace(low - margin, high + margin, _BINS + 1)


def _shortened(heights: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cut the empty ends off a histogram and join bins until a chart can show them."""
    filled = np.flatnonzero(heights)
    start, stop = (int(filled[0]), int(filled[-1]) + 1) if filled.size else (0, len(heights))
    heights, edges = heights[start:stop], edges[start : stop + 1]
    joined = math.ceil(len(heights) / _MAX_BARS)
    starts = np.arange(0, len(heights), joined)
    return np.add.reduceat(heights, starts), np.append(edges[starts], edges[-1])


def _threshold_line(axes: Axes, threshold: float, edges: np.ndarray, theme: Theme, *, label: bool) -> None:
    """Mark the threshold, if it is in sight, and name it beside the line where there is more room."""
    if not edges[0] < threshold < edges[-1]:
        return
    axes.axvline(threshold, color=theme.copy, linewidth=1.2, linestyle=_DASHES)
    if label:
        side = -1 if threshold > (edges[0] + edges[-1]) / 2 else 1
        axes.annotate(
            f"threshold {score(threshold)}",
            (threshold, 0.95),
            (4 * side, 0),
            ("data", "axes fraction"),
            "offset points",
            ha="left" if side > 0 else "right",
            va="top",
            color=theme.copy,
        )
