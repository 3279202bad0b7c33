"""A figure of a study: what it shows in words, and its files figures/NAME.png and figures/NAME.svg."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from memjax.audit.report.chart_view import ChartView, chart_view
from memjax.audit.report.figures import Chart
from memjax.audit.report.theme import LIGHT, Theme, encoded, style
from memjax.study.palette import in_dark


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figured:
    """One figure: its file's name, what it shows, and how it is drawn."""

    name: str
    title: str
    text: str
    draw: Callable[[Theme], Figure]


def draw(folder: Path, found: Sequence[Figured]) -> list[ChartView]:
    """Write all figures into an existing folder (always light) and return them for the page in both themes."""
    return [chart_view(_in_both_themes(folder, one), one.title, one.text) for one in found]


def _in_both_themes(folder: Path, one: Figured) -> Chart:
    with style(LIGHT):
        figure = one.draw(LIGHT)
        (folder / f"{one.name}.png").write_bytes(encoded(figure, "png"))
        light = encoded(figure, "svg")
        (folder / f"{one.name}.svg").write_bytes(light)
    return Chart(light=light, dark=in_dark(light))
