"""Generators in the order of their Fréchet distance, and how many of their images the audit calls copies."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from memjax.audit.report.theme import Theme

_WIDTH, _BAR = 8.6, 0.36  # inches: the figure, one generator
_LEFT, _RIGHT, _BOTTOM, _TOP, _GAP = 2.75, 0.75, 0.72, 0.75, 0.75
_SHORTEST = 0.02  # of the panel's width, so that the smallest distance shows at all

Row = Mapping[str, Any]


def blind_chart(rows: Sequence[Row], about: Mapping[str, Any], theme: "Theme") -> "Figure":
    """Draw one bar a generator: its Fréchet distance on the left, the share that the audit calls copies on the right.

    Args:
      rows: of `blind.compare`, best Fréchet distance first.
      about: what the images were.
      theme: colours.
    """
    from memjax.audit.report.theme import new_figure

    height = _BOTTOM + _BAR * len(rows) + _TOP
    figure, grid = new_figure((_WIDTH, height), columns=2, margins=(_LEFT, _RIGHT, _BOTTOM, _TOP), gaps=(_GAP, 0.0))
    left, right = grid[0]
    distances = np.array([row["quality"]["fid"] for row in rows])
    low, high = float(distances[distances > 0].min()), float(distances.max())
    start = low * (low / high) ** _SHORTEST / 1.05
    left.set_xscale("log")
    left.set_xlim(start, high * 1.02)
    _bars(left, rows, np.maximum(distances, start) - start, [f"{d:.3g}" for d in distances], theme, start)
    left.set_title("Fréchet distance to the training images\n(logarithmic; smaller is taken for better)")
    shares = np.array([100 * row["copies"]["value"] / row["n"] for row in rows])
    right.set_xlim(0, 100)
    _bars(right, rows, shares, [f"{share:.0f} %" for share in shares], theme)
    right.set_title("Images that the audit calls copies\n(red: copies found)")
    names = [f"{row['generator']}  {place}" for place, row in enumerate(rows, 1)]
    left.set_yticks(range(len(rows)), names, color=theme.ink)
    right.set_yticks([])
    words = (
        f"Images of {' x '.join(map(str, about['shape'][:-1]))} of {about['train_patients']} training patients; "
        f"{about['images_of_each']} images of each generator; features: {about['features']}."
    )
    figure.text(0.12 / _WIDTH, 0.12 / height, words, color=theme.muted, va="bottom", fontsize=9, parse_math=False)
    return figure


def _bars(
    axes: "Axes", rows: Sequence[Row], lengths: np.ndarray, labels: Sequence[str], theme: "Theme", start: float = 0.0
) -> None:
    colours = [theme.synthetic if row["is_clean"] else theme.copy for row in rows]
    axes.barh(range(len(rows)), lengths, left=start, height=0.62, color=colours)
    for place, (length, label) in enumerate(zip(lengths, labels, strict=True)):
        axes.annotate(
            label, (start + length, place), (4, 0), textcoords="offset points", va="center", color=theme.ink, fontsize=9
        )
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
