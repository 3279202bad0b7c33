"""The colours and marks of a study's charts: one colour a generator, the same in every chart of a study."""

import dataclasses
import re
from collections.abc import Sequence

from memjax.audit.report.theme import DARK, LIGHT, Theme
from memjax.study.axes import CONTROLS
from memjax.study.row import Row

# None is the colour of copies; each has a contrast of at least 4.5 on its theme's paper. Charts are drawn in the first.
_LIGHT = ("#1f5f8b", "#8a5a00", "#35722f", "#7a4a9c", "#00707a")
_DARK = ("#79b8e0", "#e0b656", "#8fca85", "#c9a5e6", "#6fcbd2")
_DASHES = ("-", (0, (5.0, 2.0)), (0, (1.0, 1.5)), (0, (5.0, 2.0, 1.0, 2.0)))
MARKERS = ("o", "s", "^", "D", "v")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Look:
    """How a line or a point is drawn."""

    colour: str
    marker: str
    dashes: str | tuple[int, tuple[float, ...]]


def in_dark(svg: bytes) -> bytes:
    """Return a light chart as a dark one: the same drawing in the other theme's colours.

    Drawing it again would take as long as the chart itself, and a study's page is made after every cell.
    """
    light, dark = ([*dataclasses.astuple(theme), *lines] for theme, lines in ((LIGHT, _LIGHT), (DARK, _DARK)))
    to = dict(zip(light, dark, strict=True))
    return re.sub("|".join(to), lambda found: to[found[0]], svg.decode()).encode()


def generators(rows: Sequence[Row]) -> list[str]:
    """Return the names of a study's generators: those that were trained, then the controls."""
    names = list(dict.fromkeys(str(row.axes.get("generator", "")) for row in rows))
    return sorted(names, key=lambda name: name in CONTROLS)


def look(name: str, names: Sequence[str], theme: Theme, *, variant: int = 0) -> Look:
    """Return the look of a generator; `variant` tells cells of one generator apart."""
    number = list(names).index(name)
    colour = theme.muted if name in CONTROLS else _LIGHT[number % len(_LIGHT)]
    return Look(colour=colour, marker=MARKERS[number % len(MARKERS)], dashes=_DASHES[variant % len(_DASHES)])


def numbered(number: int) -> Look:
    """Return the look of a line that is of no one generator."""
    return Look(
        colour=_LIGHT[number % len(_LIGHT)],
        marker=MARKERS[number % len(MARKERS)],
        dashes=_DASHES[number // len(_LIGHT) % len(_DASHES)],
    )
