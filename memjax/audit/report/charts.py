"""The charts of an audit: how alike the sets are, training image by training image, over all pairs, by generator."""

import math
from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from memjax.audit.findings import Findings, Neighbours
from memjax.audit.report.chart_parts import (
    DASHES,
    HEADROOM,
    bars,
    common_edges,
    middles,
    one_chart,
    rows,
    shares,
    threshold_line,
)
from memjax.audit.report.numerals import count, many, score
from memjax.audit.report.theme import Theme
from memjax.audit.report.words import score_noun

_MAX_BARS = 200


def max_correlation(findings: Findings, theme: Theme) -> Figure:
    """Draw the distributions of each image's best score (paper A, figure 3): one row a comparison, one scale."""
    sides = [("Synthetic images and their closest training image", findings.synthetic_to_train, theme.synthetic)]
    if findings.heldout_to_train is not None:
        sides.append(("Held-out images and their closest training image", findings.heldout_to_train, theme.heldout))
    if findings.synthetic_to_heldout is not None:
        sides.append(("Synthetic images and their closest held-out image", findings.synthetic_to_heldout, theme.muted))
    drawn = [(title, _best(nearest), colour) for title, nearest, colour in sides]
    threshold = findings.decision.threshold
    edges = common_edges([values for _, values, _ in drawn], [threshold])
    figure, all_axes = rows(len(drawn), edges, score_noun(findings))
    for axes, (title, values, colour) in zip(all_axes, drawn, strict=True):
        top = bars(axes, title, values, edges, middles(edges) > threshold, colour, theme)
        axes.set_ylim(0, HEADROOM * max(1.0, top))
        threshold_line(axes, threshold, edges, theme, label=axes is all_axes[0])
    return figure


def comparison(generators: Mapping[str, Findings], theme: Theme) -> Figure:
    """Draw the best scores of several generators' images and of the held-out ones (paper A, figure 3, first row).

    All on one scale, the held-out images as an outline in every row: bars to the right of it are what unseen patients'
    images do not explain.
    """
    first = next(iter(generators.values()))
    heldout = np.array([]) if first.null is None else first.null.score
    drawn = [(name, _best(found.synthetic_to_train), found.decision.threshold) for name, found in generators.items()]
    edges = common_edges([heldout, *(values for _, values, _ in drawn)], [threshold for *_, threshold in drawn])
    figure, all_axes = rows(
        len(drawn) + bool(len(heldout)), edges, f"{score_noun(first)} with the closest training image"
    )
    tops = []
    for axes, (name, values, threshold) in zip(all_axes, drawn, strict=False):
        tops.append(bars(axes, name, values, edges, middles(edges) > threshold, theme.synthetic, theme))
        threshold_line(axes, threshold, edges, theme, label=True)
    if len(heldout):
        title = "Held-out: real images that no generator saw"
        tops.append(bars(all_axes[-1], title, heldout, edges, np.zeros(len(edges) - 1, bool), theme.heldout, theme))
        for axes in all_axes[:-1]:
            axes.stairs(shares(heldout, edges), edges, color=theme.heldout, linewidth=1.2)
    for axes in all_axes:
        axes.set_ylim(0, HEADROOM * max(1.0, *tops))
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
    edges = common_edges([synthetic, heldout], [threshold])
    figure, axes = one_chart(4.4)
    axes.axline((edges[0], edges[0]), slope=1, color=theme.muted, linewidth=1)
    axes.text(0.17, 0.11, "equally alike", transform=axes.transAxes, color=theme.muted)
    above = synthetic > threshold
    for chosen, colour in ((~above, theme.synthetic), (above, theme.copy)):
        axes.scatter(heldout[chosen], synthetic[chosen], s=9, color=colour, alpha=0.55, linewidths=0, rasterized=True)
    if edges[0] < threshold < edges[-1]:
        axes.axhline(threshold, color=theme.copy, linewidth=1.2, linestyle=DASHES)
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
    figure, axes = one_chart(2.9)
    axes.stairs(heights, edges, fill=True, color=theme.synthetic)
    if heights.any():
        axes.set_yscale("log")
        axes.set_ylim(0.7, 20 * float(heights.max()))  # room for the label of the threshold
    pairs = f"{count(int(findings.all_pairs.count.sum()))} pairs of a synthetic and a training image"
    axes.set_title(f"A random sample of {pairs}" if findings.all_pairs.is_sample else f"All {pairs}")
    axes.set_xlabel(score_noun(findings))
    axes.set_ylabel("pairs (logarithmic)")
    threshold_line(axes, findings.decision.threshold, edges, theme, label=True)
    axes.set_xlim(edges[0], edges[-1])
    return figure


def _train_histogram(findings: Findings, synthetic: np.ndarray, theme: Theme) -> Figure:
    edges = common_edges([synthetic], [findings.decision.threshold])
    figure, axes = one_chart(2.4)
    heights, _, _ = axes.hist(synthetic, edges.tolist(), color=theme.synthetic)
    axes.set_ylim(0, HEADROOM * max(1.0, float(np.max(heights))))
    axes.set_title("Training images and their closest synthetic image")
    axes.set_xlabel(score_noun(findings))
    axes.set_ylabel("training images")
    threshold_line(axes, findings.decision.threshold, edges, theme, label=True)
    axes.set_xlim(edges[0], edges[-1])
    return figure


def _best(nearest: Neighbours) -> np.ndarray:
    values = nearest.score[:, 0]
    return values[np.isfinite(values)]


def _shortened(heights: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cut the empty ends off a histogram and join bins until a chart can show them."""
    filled = np.flatnonzero(heights)
    start, stop = (int(filled[0]), int(filled[-1]) + 1) if filled.size else (0, len(heights))
    heights, edges = heights[start:stop], edges[start : stop + 1]
    joined = math.ceil(len(heights) / _MAX_BARS)
    starts = np.arange(0, len(heights), joined)
    return np.add.reduceat(heights, starts), np.append(edges[starts], edges[-1])
