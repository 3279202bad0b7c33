"""Which figures an audit has, and their files: figures/NAME.png and figures/NAME.svg."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from memjax.audit.findings import Findings
from memjax.audit.report import charts, detector_charts, panels
from memjax.audit.report.detected import embeddings
from memjax.audit.report.growth_chart import growth_chart
from memjax.audit.report.matches import CopiedPatient, Match
from memjax.audit.report.theme import DARK, LIGHT, Theme, encoded, style

CHARTS: dict[str, Callable[[Findings, Theme], Figure]] = {
    "max_correlation": charts.max_correlation,
    "train_best": charts.train_best,
    "all_pairs": charts.all_pairs,
}
EMBEDDINGS = {  # one figure of each kind an embedding
    "candidates": detector_charts.candidates,
    "pixels_against_embedding": detector_charts.pixels_against_embedding,
}
_MOST_EMBEDDINGS = 4  # drawn; all are in the tables
PANELS = ("samples", "matches", "planes", "patients")  # matches or planes; patients if any is copied
COMPARISON = "comparison"  # of several audits


def embedding_figure(kind: str, number: int) -> str:
    """Return the name of an embedding's figure, counted from 0: `candidates`, then `candidates_2`."""
    return kind if number == 0 else f"{kind}_{number + 1}"


_OF_EMBEDDINGS = [embedding_figure(kind, number) for kind in EMBEDDINGS for number in range(_MOST_EMBEDDINGS)]
_NAMES = (*CHARTS, *PANELS, "agreement", "growth", *_OF_EMBEDDINGS, COMPARISON)
FILES = tuple(f"{name}.{kind}" for name in _NAMES for kind in ("png", "svg"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chart:
    """A chart as SVG for a light and for a dark page."""

    light: bytes
    dark: bytes


def draw(folder: Path, findings: Findings, matches: list[Match], patients: list[CopiedPatient]) -> dict[str, Chart]:
    """Write all figures into an existing folder (always light) and return the charts for the page in both themes."""
    drawn = {**CHARTS, **_further(findings)}
    found = {name: _in_both_themes(folder, name, partial(chart, findings)) for name, chart in drawn.items()}
    with style(LIGHT):
        _write(folder, "samples", panels.samples_panel(findings))
        if matches and findings.train.store.manifest.is_volume:
            _write(folder, "planes", panels.planes_panel(findings, matches))
        elif matches:
            _write(folder, "matches", panels.matches_panel(findings, matches, LIGHT))
        if patients:
            _write(folder, "patients", panels.patients_panel(findings, patients))
    return found


def _further(findings: Findings) -> dict[str, Callable[[Findings, Theme], Figure]]:
    """Return the charts that not every audit has, by name."""
    found: dict[str, Callable[[Findings, Theme], Figure]] = {}
    if findings.agreement is not None and findings.agreement.calls.any():
        found["agreement"] = detector_charts.agreement
    for number, detector in enumerate(embeddings(findings)[:_MOST_EMBEDDINGS]):
        found |= {embedding_figure(kind, number): partial(chart, detector) for kind, chart in EMBEDDINGS.items()}
    if findings.growth:
        found["growth"] = growth_chart
    return found


def draw_comparison(folder: Path, generators: Mapping[str, Findings]) -> Chart:
    """Write the chart of several audits into an existing folder and return it for the page."""
    return _in_both_themes(folder, COMPARISON, partial(charts.comparison, generators))


def _in_both_themes(folder: Path, name: str, chart: Callable[[Theme], Figure]) -> Chart:
    with style(LIGHT):
        light = _write(folder, name, chart(LIGHT))
    with style(DARK):
        return Chart(light=light, dark=encoded(chart(DARK), "svg"))


def _write(folder: Path, name: str, figure: Figure) -> bytes:
    """Save one figure as PNG and SVG; return the SVG."""
    (folder / f"{name}.png").write_bytes(encoded(figure, "png"))
    svg = encoded(figure, "svg")
    (folder / f"{name}.svg").write_bytes(svg)
    return svg
