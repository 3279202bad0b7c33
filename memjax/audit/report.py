"""Write the report of an audit: the page, its numbers, its pairs and its figures, all or nothing."""

import shutil
from pathlib import Path

from memjax.audit import figures, matches, page, records
from memjax.audit.findings import Findings
from memjax.errors import UserError


def write(out: Path, findings: Findings, *, command: str = "") -> None:
    """Write report.html, report.json, pairs.csv and figures/ into `out`, in place of an older report.

    Everything is made in `out`/.partial first (inside `out`, which may be a disk of its own), then moved file by
    file, the page last: where there is a report.html, the rest is whole and belongs to it. Other files in `out` are
    left alone.

    Raises:
      UserError: `out` cannot be written.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; give a folder for the report with --out.")
    made = out / ".partial"
    try:
        shutil.rmtree(made, ignore_errors=True)
        (made / "figures").mkdir(parents=True)
        _make(made, findings, command=command)
        _replace(out, made)
    except OSError as error:
        raise UserError(
            f"the report cannot be written to {out} ({error.strerror or error}); "
            "make room there or choose another --out."
        ) from None
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _make(folder: Path, findings: Findings, *, command: str) -> None:
    shown = matches.best_matches(findings)
    patients = matches.most_copied(findings)
    charts = figures.draw(folder / "figures", findings, shown, patients)
    records.write_pairs(folder / "pairs.csv", findings)
    records.write_record(folder / "report.json", findings, command=command)
    html = page.render(findings, charts, shown, patients, command=command)
    (folder / "report.html").write_text(html, encoding="utf-8")


def _replace(out: Path, made: Path) -> None:
    """Move the new files over the old ones; an older page goes first, so that it never stands beside new numbers."""
    (out / "figures").mkdir(exist_ok=True)
    (out / "report.html").unlink(missing_ok=True)
    for name in figures.FILES:
        (out / "figures" / name).unlink(missing_ok=True)
    for path in sorted((made / "figures").iterdir()):
        path.replace(out / "figures" / path.name)
    for name in ("pairs.csv", "report.json", "report.html"):
        (made / name).replace(out / name)
