"""How the report of a study takes the place of an older one, also where several processes write into one folder."""

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from memjax.errors import UserError
from memjax.whole import is_disk_full

PAGE = "report.html"
FIGURES = "figures"
_PREFIX = ".report-"
_ABANDONED_S = 3600.0  # a folder this old is of a process that was killed: a report takes seconds


@contextlib.contextmanager
def whole_report(folder: Path) -> Iterator[Path]:
    """Yield an empty folder, with an empty folder figures/, and move what is made there into `folder`, the page last.

    Each file is replaced whole. Figures that the new report does not have go; other files of `folder` stay.

    Raises:
      UserError: `folder` cannot be written, or its disk is full.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        made = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=folder))
        try:
            (made / FIGURES).mkdir()
            yield made
            _move(made, folder)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    except OSError as error:
        if is_disk_full(error):
            raise UserError(f"the disk of {folder} is full; make room and run the same command again.") from error
        why = error.strerror or error
        raise UserError(f"the report cannot be written to {folder} ({why}); choose another --workdir.") from error


def _move(made: Path, folder: Path) -> None:
    names = sorted(str(path.relative_to(made)) for path in made.rglob("*") if path.is_file())
    (folder / FIGURES).mkdir(exist_ok=True)
    for name in sorted(names, key=lambda name: name == PAGE):
        (made / name).replace(folder / name)
    for path in (folder / FIGURES).glob("*.*"):
        if f"{FIGURES}/{path.name}" not in names and path.suffix in (".png", ".svg"):
            path.unlink(missing_ok=True)


def _sweep(folder: Path) -> None:
    for path in folder.glob(f"{_PREFIX}*"):
        with contextlib.suppress(FileNotFoundError):  # another process sweeps, too
            if time.time() - path.stat().st_mtime > _ABANDONED_S:
                shutil.rmtree(path, ignore_errors=True)
