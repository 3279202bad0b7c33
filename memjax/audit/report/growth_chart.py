"""The growth chart: how many different training images and patients copies show, against synthetic images drawn."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from memjax.audit.findings import Findings, Growth, Interval
from memjax.audit.report.chart_parts import DASHES, MARGINS, WIDTH
from memjax.audit.report.numerals import count
from memjax.audit.report.theme import Theme, new_figure

_HEIGHT = 2.1  # inches of each panel
_GAP = 0.5
_TITLES = {"images": "Different training images shown by copies", "patients": "Different training patients shown"}


def growth_chart(findings: Findings, theme: Theme) -> Figure:
    """Draw the curve of images and, where they are known, of patients: one panel each, on one scale of images drawn."""
    curves = findings.growth
    height = MARGINS[2] + MARGINS[3] + _HEIGHT * len(curves) + _GAP * (len(curves) - 1)
    figure, grid = new_figure((WIDTH, height), rows=len(curves), margins=MARGINS, gaps=(0.0, _GAP))
    for axes, curve in zip(grid[:, 0], curves, strict=True):
        _curve(axes, curve, theme)
    grid[-1, 0].set_xlabel("synthetic images drawn")
    return figure


def _curve(axes: Axes, growth: Growth, theme: Theme) -> None:
    is_seen = growth.drawn <= growth.n_drawn
    start = int(np.flatnonzero(is_seen)[-1])
    axes.fill_between(growth.drawn, growth.low, growth.high, color=theme.synthetic, alpha=0.22, linewidth=0)
    axes.plot(growth.drawn[is_seen], growth.expected[is_seen], color=theme.synthetic, linewidth=2)
    axes.plot(growth.drawn[start:], growth.expected[start:], color=theme.synthetic, linewidth=2, linestyle=DASHES)
    axes.plot([growth.n_drawn], [growth.found], "o", color=theme.copy, markersize=6)
    axes.annotate(
        f"this audit: {count(growth.found)}",
        (growth.n_drawn, growth.found),
        (8, -3),
        textcoords="offset points",
        va="top",
        color=theme.copy,
    )
    last = int(growth.drawn[-1])
    top = 1.12 * max(float(growth.high[-1]), growth.chao1.value, growth.ace.value, growth.found, 1.0)
    for place, name, estimate in ((1.08, "Chao1", growth.chao1), (1.22, "ACE", growth.ace)):
        _mark(axes, place * last, name, estimate, top, theme)
    if growth.n_train <= top:
        top = max(top, 1.12 * growth.n_train)
        axes.axhline(growth.n_train, color=theme.muted, linewidth=1)
        axes.text(0.01 * last, growth.n_train, f"all {count(growth.n_train)}", va="bottom", color=theme.muted)
    axes.set_xlim(0, 1.3 * last)
    axes.set_ylim(0, top)
    axes.set_xticks([tick for tick in axes.get_xticks() if tick <= last])
    axes.set_title(_TITLES[growth.of])
    axes.locator_params(axis="y", nbins=5, integer=True)


def _mark(axes: Axes, place: float, name: str, estimate: Interval, top: float, theme: Theme) -> None:
    """Mark an estimate of all there is, with its interval, cut where the chart ends; its name below."""
    high = min(estimate.high, top)
    axes.plot([place, place], [estimate.low, high], color=theme.ink, linewidth=1.2)
    axes.plot([place], [estimate.value], "D", color=theme.ink, markersize=4.5)
    axes.text(place, 0.03, name, transform=axes.get_xaxis_transform(), ha="center", va="bottom", color=theme.ink)
