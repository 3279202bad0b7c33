"""Write the report of an audit: the page, its numbers, its pairs and its figures, all or nothing."""

from pathlib import Path

from memjax.audit.findings import Findings
from memjax.audit.report import figures, matches, page, records
from memjax.audit.report.detectors_record import write_detectors
from memjax.audit.report.missed import missed_matches
from memjax.audit.report.replace import whole_report


def write(out: Path, findings: Findings, *, command: str = "") -> None:
    """Write report.html, report.json, pairs.csv and figures/ into `out`, in place of an older report.

    With several detectors, detectors.csv too.

    Raises:
      UserError: `out` cannot be written.
    """
    shown = matches.best_matches(findings) + missed_matches(findings)
    patients = matches.most_copied(findings)
    with whole_report(out) as folder:
        charts = figures.draw(folder / "figures", findings, shown, patients)
        records.write_pairs(folder / "pairs.csv", findings)
        if findings.detectors:
            write_detectors(folder / "detectors.csv", findings)
        records.write_record(folder / "report.json", findings, command=command)
        html = page.render(findings, charts, shown, patients, command=command)
        (folder / "report.html").write_text(html, encoding="utf-8")
