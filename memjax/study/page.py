"""What the page of a study shows, made ready for its template."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from memjax.audit.findings import Interval
from memjax.audit.report.chart_view import ChartView
from memjax.audit.report.numerals import count, many, part_of, percent, range_of_percent
from memjax.audit.report.template import fill
from memjax.study import words
from memjax.study.axes import described, parameters, varying
from memjax.study.axis_claims import trained
from memjax.study.beside import beside
from memjax.study.claims import Verdict
from memjax.study.quality_table import quality_table
from memjax.study.row import Row
from memjax.study.shares import COPIED, MEMORIZED, PATIENTS, RATIO, RESIDUAL

_FOLDER = Path(__file__).parent
_NBSP = "\u00a0"


@dataclasses.dataclass(frozen=True, kw_only=True)
class CellView:
    """One line of the table of cells: each number with a note below it."""

    title: str
    made_of: tuple[str, str]
    copies: tuple[str, str]
    memorized: tuple[str, str]
    patients: tuple[str, str]
    ratio: str
    href: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Failed:
    """One cell that misses numbers."""

    title: str
    status: str
    error: str


def render(
    *,
    title: str,
    question: str,
    verdicts: Sequence[Verdict],
    rows: Sequence[Row],
    charts: Sequence[ChartView],
    hardware: str,
    command: str,
) -> str:
    """Return the page: one HTML document that loads nothing, with links to the cells' own reports."""
    axes = varying(rows)
    done = [row for row in rows if row.status == "done"]
    asked = trained(rows) or done  # that a control which hands back training images copies is no finding
    copying = [row for row in asked if row.memorization is not None and not row.memorization.is_clean]
    found = words.found(asked, copying)
    return fill(
        "study.html",
        folder=_FOLDER,
        title=title,
        question=question,
        found=found,
        answer=words.answer(rows, verdicts),
        is_clean=found == "No copies found",
        headlines=words.headlines(rows, verdicts),
        alerts=words.alerts(rows),
        verdicts=verdicts,
        charts=charts,
        cells=[_cell(row, axes) for row in done],
        quality=quality_table(done),
        has_ratio=any(RATIO.of(row) for row in done),
        beside=beside([verdict.key for verdict in verdicts], rows),
        made_of=_made_of(done, hardware),
        failed=[
            Failed(title=described(row, axes), status=_state(row), error=row.error)
            for row in sorted(rows, key=lambda row: row.status != "failed")
            if row.status != "done" or row.error
        ],
        limits=words.limits(rows),
        method=words.METHOD,
        references=list(dict.fromkeys(verdict.source for verdict in verdicts)),
        command=command,
    )


def _state(row: Row) -> str:
    return "done, without scores of quality" if row.status == "done" else row.status


def _cell(row: Row, axes: Sequence[str]) -> CellView:
    facts, found = row.facts, row.memorization
    assert facts is not None, "a finished cell says what it is made of"
    patients = "" if facts.n_train_patients is None else f"of {many(facts.n_train_patients, 'patient')}"
    ratio = RATIO.of(row)
    return CellView(
        title=described(row, axes),
        made_of=(many(facts.n_train, "image"), "; ".join(part for part in (patients, _training(row)) if part)),
        copies=_copies(row),
        memorized=_counted(found and found.n_mem, facts.n_train, MEMORIZED.of(row)),
        patients=_counted(found and found.n_patients_memorized, facts.n_train_patients, PATIENTS.of(row)),
        ratio=percent(ratio.value) if ratio else "–",
        href=quote(row.report),
    )


def _copies(row: Row) -> tuple[str, str]:
    """Return how many are copies; of what a release leaves, also what other detectors find."""
    found, facts, residual = row.memorization, row.facts, RESIDUAL.of(row)
    text, note = _counted(found and found.n_copies, facts and facts.n_synthetic, COPIED.of(row))
    if row.axes.get("release") and residual:
        note += f"; by the other detectors up to {percent(residual.value)}"
    return text, note


def _training(row: Row) -> str:
    if row.facts is None or not row.facts.parameters:
        return "not trained"
    return f"{count(row.facts.images_seen)} seen, {parameters(row.facts.parameters)} parameters"


def _counted(found: Interval | None, whole: int | None, share: Interval | None) -> tuple[str, str]:
    if found is None or not whole or share is None:
        return "not known", ""
    return part_of(found.value, whole), f"{percent(share.value)} ({range_of_percent(share).replace(' ', _NBSP)})"


def _made_of(done: Sequence[Row], hardware: str) -> str:
    """Say what our numbers are of."""
    sets = {
        f"{row.facts.data}{' (phantoms, drawn by this program)' if row.facts.is_phantom else ''}, {words.shape_of(row)}"
        for row in done
        if row.facts
    }
    return f"Ours: {'; '.join(sorted(sets))}; on {hardware}." if sets else ""
