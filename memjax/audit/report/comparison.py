"""Write one report on several generators of the same images, side by side (paper A, figure 3, first row)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from memjax import __version__
from memjax.audit.report import compared, comparison_page, comparison_words, figures, records
from memjax.audit.report.compared import Audited
from memjax.audit.report.replace import whole_report

VERSION = 1


def write(out: Path, generators: Mapping[str, Audited], *, command: str = "") -> Path:
    """Write report.html, comparison.json and figures/ into `out`, in place of an older report; return the page.

    Args:
      out: the folder; the generators' own reports may be in folders below it.
      generators: {name: its audit}, shown in this order; all of the same training and held-out images.
      command: what was called, for the page.

    Raises:
      UserError: the audits are not of the same images or the same question, or `out` cannot be written.
    """
    compared.check(generators)
    findings = {name: audited.findings for name, audited in generators.items()}
    with whole_report(out) as folder:
        chart = figures.draw_comparison(folder / "figures", findings)
        records.write_json(folder / "comparison.json", record(generators, command=command))
        html = comparison_page.render(generators, chart, command=command)
        (folder / "report.html").write_text(html, encoding="utf-8")
    return out / "report.html"


def record(generators: Mapping[str, Audited], *, command: str) -> dict[str, Any]:
    """Return all that `comparison.json` states, as documented in docs/comparison.md."""
    return {
        "version": VERSION,
        "program": f"memjax {__version__}",
        "command": command,
        "verdict": comparison_words.verdict(generators),
        "verdict_sentence": comparison_words.sentence(generators),
        "order": list(generators),
        "generators": {
            name: {
                **records.record(audited.findings, command=command),
                "link": audited.link,
                "images_seen": audited.images_seen,
                "median_score": audited.median,
                "n_above_p99": audited.n_above_p99,
                "copied_share": vars(audited.copied),
            }
            for name, audited in generators.items()
        },
        "copies_more_than": {
            name: [other for other, theirs in generators.items() if audited.copies_more_than(theirs)]
            for name, audited in generators.items()
        },
    }
