"""The page of a study's pictures: what each generator makes beside what it was trained on, and its closest matches.

A page of its own, as it shows patients: the study's report does not, and can go where patients' images must not.
"""

import base64
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from memjax.audit.report.figures import PANELS
from memjax.audit.report.numerals import count
from memjax.audit.report.template import fill
from memjax.study.axes import described, varying
from memjax.study.row import Row

PICTURES = "pictures.html"
_TEXTS = {
    "samples": "Training images and synthetic images, taken evenly from each set.",
    "matches": "The closest pairs, each with its score and its pixels' values against each other.",
    "planes": "The closest pairs, each with its score, in three planes.",
    "patients": "The patients copied most often, each with the closest copies.",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Panel:
    """One figure of a cell's own report."""

    text: str
    uri: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class CellPictures:
    """The panels of one cell, below what was found in it."""

    title: str
    found: str
    href: str
    panels: Sequence[Panel]


def render_pictures(folder: Path, *, title: str, rows: Sequence[Row], command: str) -> str:
    """Return the page: one HTML document that loads nothing, with the panels of all finished cells' reports.

    Args:
      folder: of the study; the cells' own reports are at `Row.report` below it. A panel that is not there is left out.
      title: of the study, for people.
      rows: one for each cell of the grid.
      command: what was called.
    """
    axes = varying(rows)
    cells = [_cell(folder, row, described(row, axes)) for row in rows if row.status == "done" and row.report]
    return fill("pictures.html", folder=Path(__file__).parent, title=title, cells=cells, alerts=(), command=command)


def _cell(folder: Path, row: Row, title: str) -> CellPictures:
    found, facts = row.memorization, row.facts
    return CellPictures(
        title=title,
        found=f"{count(found.n_copies.value)} of {count(facts.n_synthetic)} are copies." if found and facts else "",
        href=quote(row.report),
        panels=[
            Panel(text=_TEXTS[name], uri=f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}")
            for name in PANELS
            if (path := (folder / row.report).parent / "figures" / f"{name}.png").is_file()
        ],
    )
