"""A chart as a page shows it."""

import dataclasses

from memjax.audit.report.figures import Chart
from memjax.audit.report.tiles import uri


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChartView:
    """One chart in both themes, with what it shows in one sentence."""

    title: str
    text: str
    light: str
    dark: str


def chart_view(chart: Chart, title: str, text: str) -> ChartView:
    """Make a chart ready for the page."""
    light, dark = (uri(svg, "image/svg+xml") for svg in (chart.light, chart.dark))
    return ChartView(title=title, text=text, light=light, dark=dark)
