"""How a report takes the place of an older one in its folder: whole or not at all, also where several write at once."""

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from memjax.audit.report import figures
from memjax.errors import UserError

PAGE = "report.html"
_PREFIX = ".report-"
_ABANDONED_S = 3600.0  # a folder this old is of a process that was killed: a report takes seconds
_FILES = (  # of an audit's report of any kind, so that none of another's stays beside a new page
    PAGE,
    "report.json",
    "pairs.csv",
    "detectors.csv",
    "comparison.json",
    *(f"figures/{name}" for name in figures.FILES),
)


@contextlib.contextmanager
def whole_report(out: Path, *, older: Iterable[str] = _FILES, flag: str = "--out") -> Iterator[Path]:
    """Yield a folder, with an empty folder figures/, to make a report in; move it into `out` when it is whole.

    Everything is made in a folder of its own inside `out` (which may be a disk of its own), then moved file by file,
    the page last. Other files in `out` are left alone.

    Args:
      out: the folder to write.
      older: files of an older report that go, by their names below `out`. An older page among them goes first: where
        there is one, the rest is whole and belongs to it. One that is not among them stays until it is replaced.
      flag: by which `out` was given.

    Raises:
      UserError: `out` cannot be written.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; give a folder for the report with {flag}.")
    try:
        out.mkdir(parents=True, exist_ok=True)
        _sweep(out)
        made = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=out))
        try:
            (made / "figures").mkdir()
            yield made
            _replace(out, made, older)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    except OSError as error:
        raise UserError(
            f"the report cannot be written to {out} ({error.strerror or error}); "
            f"make room there or choose another {flag}."
        ) from error


def _replace(out: Path, made: Path, older: Iterable[str]) -> None:
    names = sorted(str(path.relative_to(made)) for path in made.rglob("*") if path.is_file())
    (out / "figures").mkdir(exist_ok=True)
    for name in older:
        if name == PAGE or name not in names:
            (out / name).unlink(missing_ok=True)
    for name in sorted(names, key=lambda name: name == PAGE):
        (made / name).replace(out / name)


def _sweep(out: Path) -> None:
    for path in out.glob(f"{_PREFIX}*"):
        with contextlib.suppress(FileNotFoundError):  # another process sweeps, too
            if time.time() - path.stat().st_mtime > _ABANDONED_S:
                shutil.rmtree(path, ignore_errors=True)
