"""Generators in the order of their Fréchet distance, and how many of their images the audit calls copies."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from memjax.audit.report.theme import Theme

_WIDTH, _BAR = 8.6, 0.36  # inches: the figure, one generator
_LEFT, _RIGHT, _BOTTOM, _TOP, _GAP = 2.95, 0.6, 0.72, 0.62, 0.7
_NOTHING = 1e-9  # a distance that rounding alone makes

Row = Mapping[str, Any]


def blind_chart(rows: Sequence[Row], about: Mapping[str, Any], theme: "Theme") -> "Figure":
    """Draw one line a generator: its Fréchet distance on the left, the share that the audit calls copies on the right.

    Args:
      rows: of `blind.compare`, smallest Fréchet distance first.
      about: what the images were.
      theme: colours.
    """
    from memjax.audit.report.theme import new_figure

    height = _BOTTOM + _BAR * len(rows) + _TOP
    figure, grid = new_figure((_WIDTH, height), columns=2, margins=(_LEFT, _RIGHT, _BOTTOM, _TOP), gaps=(_GAP, 0.0))
    places = range(len(rows))
    colours = [theme.synthetic if row["is_clean"] else theme.copy for row in rows]
    distances = [row["quality"]["fid"] for row in rows]
    known = [distance for distance in distances if distance > _NOTHING] or [1.0]
    at = [max(distance, min(known) / 3) for distance in distances]  # a distance of 0 has no logarithm
    shares = [100 * row["copies"]["value"] / row["n"] for row in rows]

    left, right = grid[0]
    left.scatter(at, places, color=colours, s=42, clip_on=False, zorder=3)
    left.set_xscale("log")
    left.set_xlim(min(at) / 1.6, max(at) * 1.6)
    left.set_title("Fréchet distance to training\nsmaller passes for better")
    left.set_yticks(places, [f"{place}. {row['generator']}" for place, row in enumerate(rows, 1)], color=theme.ink)
    right.barh(places, shares, height=0.6, color=colours)
    right.set_xlim(0, 100)
    right.set_title("The audit calls copies\nred: copies found")
    right.set_yticks(places, [""] * len(rows))
    for axes, ends, words in (
        (left, at, [f"{distance:#.2g}" if distance > _NOTHING else "0" for distance in distances]),
        (right, shares, [f"{share:.0f} %" for share in shares]),
    ):
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        for place, (end, text) in enumerate(zip(ends, words, strict=True)):
            axes.annotate(
                text, (end, place), (7, 0), textcoords="offset points", va="center", color=theme.ink, fontsize=9
            )
    words = (
        f"Images of {' x '.join(map(str, about['shape'][:-1]))} of {about['train_patients']} training patients; "
        f"{about['images_of_each']} images of each generator; features: {about['features']}."
    )
    figure.text(0.12 / _WIDTH, 0.12 / height, words, color=theme.muted, va="bottom", fontsize=9, parse_math=False)
    return figure
