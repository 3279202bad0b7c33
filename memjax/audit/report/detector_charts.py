"""The charts of several detectors: who calls which images, and an embedding's scores (paper B, figure 3)."""

import numpy as np
from matplotlib.figure import Figure

from memjax.audit.findings import Detected, Findings, Labelled, Neighbours
from memjax.audit.report.chart_parts import (
    DASHES,
    HEADROOM,
    WIDTH,
    bars,
    common_edges,
    middles,
    one_chart,
    rows,
    threshold_line,
)
from memjax.audit.report.detected import best_heldout, everyone, is_distance, measured, unit
from memjax.audit.report.numerals import count
from memjax.audit.report.theme import Theme, new_figure

_MOST_COMBINATIONS = 16
_LONGEST_TITLE = 40  # characters beside the dots
_ROW = 0.27  # inches of a detector's row of dots
_LABELS = 2.85  # inches for the titles
_DOTS = (0, (1, 2))
_PLAIN = (-2, 4)  # powers of ten that are written out on the axes of distances


def agreement(findings: Findings, theme: Theme) -> Figure:
    """Draw how many images each combination of detectors calls: a bar, and below it dots for who calls them.

    After Lex et al. 2014 (UpSet). Combinations by size; the smallest are left out if there are too many.
    """
    assert findings.agreement is not None
    calls = findings.agreement.calls
    known = {detector.name: detector.title for detector in everyone(findings)}
    patterns, number = np.unique(calls[calls.any(axis=1)], axis=0, return_counts=True)
    order = np.argsort(-number, kind="stable")[:_MOST_COMBINATIONS]
    cut = ": the most common cases" if len(order) < len(number) else ""
    patterns, number = patterns[order], number[order]
    n = calls.shape[1]
    dots = _ROW * n
    figure, grid = new_figure(
        (WIDTH, dots + 1.9), rows=2, margins=(_LABELS, 0.1, 0.1, 0.3), gaps=(0.0, 0.1), heights=(1.4, dots)
    )
    top, below = grid[:, 0]
    places = np.arange(len(number))
    top.bar(places, number, 0.6, color=theme.copy)
    for place, images in zip(places, number, strict=True):
        top.annotate(count(int(images)), (place, images), (0, 2), textcoords="offset points", ha="center", va="bottom")
    top.set_ylim(0, 1.2 * max(1, *number) if len(number) else 1)
    top.set_ylabel("images")
    top.locator_params(axis="y", nbins=4, integer=True)
    top.tick_params(bottom=False, labelbottom=False)
    title = f"Images by the detectors that call them copies{cut}"
    figure.text(0.02, 1 - 0.08 / figure.get_figheight(), title, va="top", fontweight="bold")

    for place, pattern in enumerate(patterns):
        callers = np.flatnonzero(pattern)
        below.plot([place] * n, np.arange(n), "o", color=theme.line, markersize=6.5)
        below.plot([place] * len(callers), callers, "-o", color=theme.copy, markersize=6.5, linewidth=2)
    below.set_xlim(-0.7, max(len(number), 4) - 0.3)
    below.set_ylim(n - 0.4, -0.6)
    labels = [
        f"{_shortened(known.get(name, name))}  {count(int(calls[:, d].sum()))}"
        for d, name in enumerate(findings.agreement.names)
    ]
    below.set_yticks(np.arange(n), labels, parse_math=False, fontsize=9)
    below.tick_params(length=0, labelbottom=False)
    below.spines[:].set_visible(False)
    return figure


def candidates(detector: Detected, findings: Findings, theme: Theme) -> Figure:
    """Draw the scores of candidates and of held-out images (paper B, figure 3a), and of copies and novel ones (3b).

    A candidate is a training image with its closest synthetic image. Where readers agreed on pairs there is a row of
    what they call copies and one of what they call novel; otherwise the detector's own calls are coloured.
    """
    drawn = [
        ("Training images and their closest synthetic image", theme.synthetic, detector.train_to_synthetic.score[:, 0])
    ]
    if detector.train_to_heldout is not None:
        best = best_heldout(detector.train_to_heldout, detector.null.id if detector.null else None)
        drawn.append(("Training images and their closest held-out image", theme.heldout, best))
    labelled = findings.labelled if findings.labelled is not None and len(findings.labelled.is_copy) else None
    if labelled is not None:
        scores = _labelled_scores(detector, labelled)
        drawn.append(("Pairs that both readers call copies", theme.copy, scores[labelled.is_copy]))
        drawn.append(("Pairs that both readers call novel", theme.muted, scores[~labelled.is_copy]))
    values = [measured(detector, score[np.isfinite(score)]) for _, _, score in drawn]
    threshold, tau = (float(measured(detector, limit)) for limit in (detector.decision.threshold, detector.tau))
    edges = common_edges(values, [threshold, tau])
    figure, all_axes = rows(len(drawn), edges, unit(detector))
    all_axes[-1].ticklabel_format(axis="x", scilimits=_PLAIN)
    beyond = measured(detector, middles(edges)) > detector.decision.threshold
    is_left = bool(threshold < (edges[0] + edges[-1]) / 2)
    for row, (axes, (title, colour, _)) in enumerate(zip(all_axes, drawn, strict=True)):
        is_called = beyond & (row == 0 and labelled is None)
        noun = "pair" if title.startswith("Pairs") else "image"
        top = bars(axes, title, values[row], edges, is_called, colour, theme, noun=noun, is_told_right=is_left)
        axes.set_ylim(0, HEADROOM * max(1.0, top))
        threshold_line(axes, threshold, edges, theme, label=row == 0)
        if edges[0] < tau < edges[-1]:
            axes.axvline(tau, color=theme.ink, linewidth=1, linestyle=_DOTS)
    if edges[0] < tau < edges[-1]:
        side = 1 if tau > threshold else -1  # away from the threshold
        all_axes[-1].annotate(
            "τ",
            (tau, 0.95),
            (3 * side, 0),
            ("data", "axes fraction"),
            "offset points",
            ha="left" if side > 0 else "right",
            va="top",
        )
    return figure


def pixels_against_embedding(detector: Detected, findings: Findings, theme: Theme) -> Figure:
    """Draw each synthetic image's pixel correlation against its score by an embedding.

    Pixels are compared as they lie, where that detector was asked; so flipped and turned copies lie apart.
    """
    pixels = next((other for other in findings.detectors if other.name == "correlation-unturned"), None)
    x, across = findings.synthetic_to_train.score[:, 0], "pixel similarity, best turned"
    if pixels is not None:
        x, across = (
            pixels.synthetic_to_train.score[:, 0],
            "pixel correlation with the closest training image",
        )
    y = measured(detector, detector.synthetic_to_train.score[:, 0])
    is_copy, is_found = findings.decision.is_copy, detector.decision.is_copy
    is_turned = findings.synthetic_to_train.orientation[:, 0] != 0
    figure, axes = one_chart(4.3, (1.0, 0.15, 0.55, 0.6))
    groups = (
        ("not called a copy", ~is_copy & ~is_found, "o", theme.synthetic, 0.5),
        ("copy, as it lies", is_copy & ~is_turned, "o", theme.copy, 0.85),
        ("copy, flipped or turned", is_copy & is_turned, "^", theme.copy, 0.85),
        ("called by the embedding alone", ~is_copy & is_found, "D", theme.ink, 0.85),
    )
    known = np.isfinite(x) & np.isfinite(y)
    for label, chosen, marker, colour, alpha in groups:
        shown = chosen & known
        if shown.any():
            axes.scatter(
                x[shown], y[shown], s=18, marker=marker, color=colour, alpha=alpha, linewidths=0, label=label,
                rasterized=True,
            )  # fmt: skip
    threshold = float(measured(detector, detector.decision.threshold))
    axes.margins(0.06)
    if is_distance(detector):
        axes.invert_yaxis()
    low, high = sorted(axes.get_ylim())
    if low < threshold < high:
        axes.axhline(threshold, color=theme.copy, linewidth=1.2, linestyle=DASHES)
    if pixels is not None and axes.get_xlim()[0] < pixels.decision.threshold < axes.get_xlim()[1]:
        axes.axvline(pixels.decision.threshold, color=theme.copy, linewidth=1.2, linestyle=DASHES)
    axes.set_xlabel(across)
    axes.set_ylabel(unit(detector) + ("\n(up: more alike)" if is_distance(detector) else ""))
    axes.ticklabel_format(axis="y", scilimits=_PLAIN)
    axes.legend(
        loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=2, frameon=False, fontsize=9, handletextpad=0.2,
        columnspacing=1.2, borderaxespad=0.2,
    )  # fmt: skip
    return figure


def _labelled_scores(detector: Detected, labelled: Labelled) -> np.ndarray:
    """Return a detector's score of each labelled pair, float64 [n]; nan where neither side lists the other."""
    scores = []
    for synthetic, train in zip(labelled.synthetic.tolist(), labelled.train.tolist(), strict=True):
        sides = ((detector.synthetic_to_train, synthetic, train), (detector.train_to_synthetic, train, synthetic))
        scores.append(max(_listed(*side) for side in sides))
    return np.array(scores, np.float64)


def _listed(nearest: Neighbours, query: int, partner: int) -> float:
    place = np.flatnonzero(nearest.id[query] == partner)
    return float(nearest.score[query, place[0]]) if place.size else -np.inf


def _shortened(title: str) -> str:
    return title if len(title) <= _LONGEST_TITLE else f"{title[: _LONGEST_TITLE - 1].rstrip()}…"
