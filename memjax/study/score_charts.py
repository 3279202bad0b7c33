"""Histograms in rows of how alike the images are (paper A, figure 3, and paper B, figure 3a), on one scale."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from memjax.audit.report.chart_parts import HEADROOM, bars, common_edges, middles, rows, shares, threshold_line
from memjax.audit.report.theme import Theme


@dataclasses.dataclass(frozen=True, kw_only=True)
class Histogram:
    """One row: scores, and those that they are to be compared with, as an outline."""

    title: str
    values: np.ndarray  # float64 [n]
    outline: np.ndarray  # float64 [m]; empty for none
    threshold: float = math.nan
    is_real: bool = False  # real images of unseen patients
    noun: str = "image"


def histograms(found: Sequence[Histogram], label: str, theme: Theme) -> Figure:
    """Draw the rows; `label` says what the scores are of."""
    shown = [(one, _finite(one.values), _finite(one.outline)) for one in found]
    sets = [values for _, *both in shown for values in both]
    edges = common_edges(sets, [one.threshold for one in found])
    figure, all_axes = rows(len(found), edges, label)
    tops = []
    for axes, (one, values, outline) in zip(all_axes, shown, strict=True):
        colour = theme.heldout if one.is_real else theme.synthetic
        is_above = middles(edges) > one.threshold
        tops.append(bars(axes, one.title, values, edges, is_above, colour, theme, noun=one.noun))
        if len(outline):
            axes.stairs(shares(outline, edges), edges, color=theme.heldout, linewidth=1.2)
            tops.append(float(shares(outline, edges).max()))
        threshold_line(axes, one.threshold, edges, theme, label=True)
    for axes in all_axes:
        axes.set_ylim(0, HEADROOM * max(1.0, *tops))
    return figure


def _finite(values: np.ndarray) -> np.ndarray:
    return values[np.isfinite(values)]
