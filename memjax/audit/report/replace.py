"""How a report takes the place of an older one in its folder: whole, or not at all."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from memjax.audit.report import figures
from memjax.errors import UserError

_PAGE = "report.html"
_FILES = (  # of a report of any kind, so that none of another's stays beside a new page
    _PAGE,
    "report.json",
    "pairs.csv",
    "detectors.csv",
    "comparison.json",
    *(f"figures/{name}" for name in figures.FILES),
)


@contextlib.contextmanager
def whole_report(out: Path) -> Iterator[Path]:
    """Yield a folder, with an empty folder figures/, to make a report in; move it into `out` when it is whole.

    Everything is made in `out`/.partial (inside `out`, which may be a disk of its own), then moved file by file, the
    page last: where there is a report.html, the rest is whole and belongs to it. An older report's files go; other
    files in `out` are left alone.

    Raises:
      UserError: `out` cannot be written.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; give a folder for the report with --out.")
    made = out / ".partial"
    try:
        shutil.rmtree(made, ignore_errors=True)
        (made / "figures").mkdir(parents=True)
        yield made
        _replace(out, made)
    except OSError as error:
        raise UserError(
            f"the report cannot be written to {out} ({error.strerror or error}); "
            "make room there or choose another --out."
        ) from None
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _replace(out: Path, made: Path) -> None:
    """Move the new files over the old ones; an older page goes first, so that it never stands beside new numbers."""
    names = sorted(str(path.relative_to(made)) for path in made.rglob("*") if path.is_file())
    (out / "figures").mkdir(exist_ok=True)
    for name in _FILES:
        if name == _PAGE or name not in names:
            (out / name).unlink(missing_ok=True)
    for name in sorted(names, key=lambda name: name == _PAGE):
        (made / name).replace(out / name)
