"""Write what a study found: table.csv and .json, report.html, pictures.html, figures/, after every finished cell."""

from collections.abc import Sequence
from pathlib import Path

from memjax.audit.report.replace import PAGE, whole_report
from memjax.study import claims as papers_claims
from memjax.study.figured import draw
from memjax.study.figures import planned
from memjax.study.page import render
from memjax.study.pictures import PICTURES, render_pictures
from memjax.study.row import Row
from memjax.study.table import write_table


def write(
    folder: Path, *, title: str, question: str, claims: Sequence[str], rows: Sequence[Row], hardware: str, command: str
) -> Path:
    """Write the report into a folder, in place of an older one, and return its page.

    Args:
      folder: of the study; the cells' own reports are at `Row.report` below it.
      title: of the study, for people.
      question: what it asks, one sentence with a question mark.
      claims: keys of `claims.CLAIMS`.
      rows: one for each cell of the grid, finished or not, in its order.
      hardware: what it ran on: "2 CPU cores".
      command: what was called.

    Raises:
      UserError: there is no claim of a key, or the folder cannot be written.
    """
    verdicts = papers_claims.verdicts(claims, rows)
    drawn = [path.name for path in (folder / "figures").glob("*.*") if path.suffix in (".png", ".svg")]
    with whole_report(folder, older=[f"figures/{name}" for name in drawn], flag="--workdir") as made:
        write_table(made, rows)
        pictures = render_pictures(folder, title=title, rows=rows, command=command)
        (made / PICTURES).write_text(pictures, encoding="utf-8")
        charts = draw(made / "figures", planned(rows))
        html = render(
            title=title,
            question=question,
            verdicts=verdicts,
            rows=rows,
            charts=charts,
            hardware=hardware,
            command=command,
        )
        (made / PAGE).write_text(html, encoding="utf-8")
    return folder / PAGE
