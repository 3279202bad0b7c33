"""A user's csv table of patients: one row a file, found by its relative path or, where that is unique, its name."""

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from memjax.errors import UserError

_SOURCE_COLUMNS = ("source", "file", "filename", "image")
_PATIENT_COLUMNS = ("patient", "patient_id", "subject")
_ITEM = re.compile(r"#(?:[^#/]+/)?[0-9]+(?:/[0-9]+)?$")  # `#12`, `#train_images/12`, `#12/3`


def item_file(source: str) -> str:
    """Return the file of a source: without the `#index` of an array's item or a volume's slice."""
    return _ITEM.sub("", source)


class PatientTable:
    """Patients by source; `path` is for messages."""

    def __init__(self, path: Path, patients: dict[str, str]):
        self._path = path
        self._patients = patients
        names = Counter(PurePosixPath(source).name for source in patients)
        self._by_name = {
            name: patient for source, patient in patients.items() if names[name := PurePosixPath(source).name] == 1
        }

    @classmethod
    def read(cls, path: Path) -> "PatientTable":
        """Read a csv with a column of sources and one of patients; comma, semicolon or tab separate them.

        Raises:
          UserError: it cannot be read, lacks a column, or gives one source two patients.
        """
        patients: dict[str, str] = {}
        try:
            with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
                for source, patient in _rows(path, list(file)):
                    if patients.setdefault(source, patient) != patient:
                        raise UserError(
                            f"{path} gives {source!r} two patients, {patients[source]!r} and {patient!r}; keep one."
                        )
        except (OSError, csv.Error) as error:
            raise UserError(f"{path} cannot be read ({error}); give a csv of sources and patients.") from None
        return cls(path, patients)

    def patient(self, source: str) -> str:
        """Return a source's patient, "" if the table does not tell."""
        file = item_file(source)
        for key in (source, file):
            if key in self._patients:
                return self._patients[key]
        return self._by_name.get(PurePosixPath(file).name, "")

    def check(self, sources: Sequence[str]) -> None:
        """Raise `UserError` unless each source has a patient, and none by a name that several files share."""
        missing = [source for source in sources if not self.patient(source)]
        if missing:
            raise UserError(
                f"{self._path} names no patient for {len(missing)} of {len(sources)} sources (the first: "
                f"{missing[0]!r}); add a row with its relative path, or with its file name if no other file has it."
            )
        files = {item_file(source) for source in sources if source not in self._patients}
        by_name = [file for file in files if file not in self._patients]
        shared = [name for name, count in Counter(PurePosixPath(file).name for file in by_name).items() if count > 1]
        if shared:
            raise UserError(
                f"{self._path} names {min(shared)!r}, but several files have this name; give their relative paths."
            )


def _rows(path: Path, lines: list[str]) -> Iterator[tuple[str, str]]:
    """Yield (source, patient) of each row, sources as posix paths."""
    header = lines[0] if lines else ""
    delimiter = max(",;\t", key=header.count)
    table = csv.DictReader(lines, delimiter=delimiter)
    names = {name.strip().lower(): name for name in table.fieldnames or ()}
    source = next((names[name] for name in _SOURCE_COLUMNS if name in names), None)
    patient = next((names[name] for name in _PATIENT_COLUMNS if name in names), None)
    if source is None or patient is None:
        raise UserError(
            f"{path} has the columns {', '.join(names) or '(none)'}; it needs one of {', '.join(_SOURCE_COLUMNS)} "
            f"and one of {', '.join(_PATIENT_COLUMNS)}."
        )
    for row in table:
        yield (row[source] or "").strip().replace("\\", "/").removeprefix("./"), (row[patient] or "").strip()
