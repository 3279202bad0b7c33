"""Whose image it is: patient ids from a format's own word, a regular expression, a csv table, folders or known names.

An id that nobody knows is "". A rule decides once over the whole set (`PatientRule.fit`), so that no set mixes ways.
"""

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

from memjax.data.patient_table import PatientTable, item_file
from memjax.errors import UserError

How = Literal["auto", "folder", "none"]

_ENOUGH = 0.95  # share of the sources that a name pattern must match; strays (a logo, a readme scan) stay unknown

# File names of public sets. In Kermany's chest X-rays `person1003_virus_1685` and `person1003_bacteria_2934` share an
# id: the set does not tell whether they are one child, and for an audit one patient too few is the safe side.
NAME_PATTERNS = {
    "Kermany": re.compile(r"(?:^|/)(?P<patient>person\d+(?=_(?:virus|bacteria)_\d)|(?:NORMAL2-)?IM-\d+(?=-\d))[^/]*$"),
    "BraTS": re.compile(
        r"(?<![A-Za-z0-9])(?P<patient>"
        r"BraTS\d\d_(?:Training|Validation|Testing)_\d{3}|BraTS\d{4}_\d{5}|BraTS1[789]_[A-Z0-9]+_[A-Z0-9]+_\d+|"
        r"BraTS-[A-Z]+-\d{5})(?![A-Za-z0-9])",
        re.IGNORECASE,
    ),
    "TCGA": re.compile(r"(?<![A-Za-z0-9])(?P<patient>TCGA[_-][A-Z0-9]{2}[_-][A-Z0-9]{4})(?![A-Za-z0-9])"),
    "BIDS": re.compile(r"(?:^|[/_])(?P<patient>sub-[A-Za-z0-9]+)(?=[/_.]|$)"),
}


class PatientRule:
    """One way from sources to patients; made by `make_rule`, ready after `fit`.

    `kind` is the word for the manifest: "regex", "csv", "folder", "names", "format" or "none".
    """

    def __init__(self, kind: str, *, regex: re.Pattern[str] | None = None, table: PatientTable | None = None):
        self.kind = kind
        self._regex = regex
        self._table = table
        self._is_auto = kind == "auto"

    def fit(self, sources: Sequence[str], given: Sequence[str] = ()) -> "PatientRule":
        """Decide over the whole set, and check that the rule finds every patient; returns itself.

        `given` are the readers' own ids, one a source ("" unknown), or nothing. With "auto" these are taken if there is
        any; else the first known name pattern that matches at least 95 % of the sources; else nobody is known.

        Raises:
          UserError: a rule that the user gave does not fit some of the sources.
        """
        if self._is_auto:
            self.kind, self._regex = _decide(sources, given)
            return self
        if self._table is not None:
            self._table.check(sources)
        if self.kind in ("regex", "folder"):
            self._check(sources)
        return self

    def patient(self, source: str, given: str = "") -> str:
        """Return the patient of a source, "" if nobody knows it; `given` is the reader's own word."""
        if self.kind == "format":
            return given
        if self.kind == "folder":
            return PurePosixPath(item_file(source)).parent.name
        if self._table is not None:
            return self._table.patient(source)
        match = self._regex.search(source) if self._regex is not None else None
        return _group(match) if match else ""

    def _check(self, sources: Sequence[str]) -> None:
        unknown = [source for source in sources if not self.patient(source)]
        if not unknown:
            return
        what = f"--patient_regex={self._regex.pattern}" if self._regex is not None else "the folder's name"
        raise UserError(
            f"{what} finds no patient in {len(unknown)} of {len(sources)} sources (the first: {unknown[0]!r}); "
            "change it to fit all, or name the patients in a csv."
        )


def make_rule(*, regex: str = "", csv_path: Path | None = None, how: How = "auto") -> PatientRule:
    """Make the rule that a user asked for; a regular expression or a csv goes before `how`.

    regex: searched in the source; the patient is its group named `patient`, else its first group, else the whole match.
    csv_path: a table of columns `source` (or `file`, `filename`, `image`) and `patient` (`patient_id`, `subject`).
    how: `auto` (see `PatientRule.fit`), `folder` (the name of the folder that a file lies in), `none`.

    Raises:
      UserError: both are given, the expression is not valid, or the csv cannot be read.
    """
    if regex and csv_path is not None:
        raise UserError("give either a regular expression for the patients or a csv, not both.")
    if csv_path is not None:
        return PatientRule("csv", table=PatientTable.read(csv_path))
    if regex:
        try:
            return PatientRule("regex", regex=re.compile(regex))
        except re.error as error:
            raise UserError(f"--patient_regex={regex} is no regular expression ({error}); mend it.") from None
    return PatientRule(how)


def _decide(sources: Sequence[str], given: Sequence[str]) -> tuple[str, re.Pattern[str] | None]:
    if any(given):
        return "format", None
    for pattern in NAME_PATTERNS.values():
        matched = sum(pattern.search(source) is not None for source in sources)
        if matched and matched >= _ENOUGH * len(sources):
            return "names", pattern
    return "none", None


def _group(match: re.Match[str]) -> str:
    if "patient" in match.re.groupindex:
        return match["patient"] or ""
    return (match[1] if match.re.groups else match[0]) or ""
