"""The papers' reported numbers beside ours: for each of theirs, the numbers of ours that are of the same kind."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from memjax.audit.findings import Interval
from memjax.audit.report.numerals import count, score
from memjax.study.axes import ALL, kind
from memjax.study.axis_claims import trained
from memjax.study.compare import told
from memjax.study.emm import effective_memorization
from memjax.study.lines import repetitions
from memjax.study.onset import onsets
from memjax.study.papers import REPORTED, Reported
from memjax.study.row import Row
from memjax.study.scaling_claims import emm_in_words, onset_in_words
from memjax.study.shares import COPIED, MEMORIZED, Measure, over_seeds

_MOST = 4  # cells named; more are summed up by the lowest and the highest


@dataclasses.dataclass(frozen=True, kw_only=True)
class Beside:
    """One line of the table."""

    what: str
    theirs: str
    place: str
    ours: Sequence[str]  # one a cell, with what it is of; empty if there is none


def beside(claims: Sequence[str], rows: Sequence[Row]) -> list[Beside]:
    """Return what the papers report on these claims, each with our numbers."""
    return [
        Beside(what=one.what, theirs=one.value, place=one.place, ours=_ours(one, rows))
        for one in REPORTED
        if set(one.claims) & set(claims)
    ]


def _ours(reported: Reported, rows: Sequence[Row]) -> list[str]:
    if reported.ours == "emm":
        return [emm_in_words(one) for one in effective_memorization(trained(rows))]
    chosen = [row for row in trained(rows) if _is_meant(row, reported)]
    if reported.ours == "onset":
        return [onset_in_words(one) for one in onsets(chosen) if one.slope is not None]
    found = []
    for title, same in repetitions(chosen):
        number = _number(reported, same)
        if number is not None:
            found.append((number, title))
    found.sort(key=lambda one: one[0][0])
    told_of = [text if title == ALL else f"{text}: {title}" for (_, text), title in found]
    if len(told_of) <= _MOST:
        return told_of
    return [f"lowest {told_of[0]}", f"highest {told_of[-1]}", f"of {count(len(told_of))} cells"]


def _is_meant(row: Row, reported: Reported) -> bool:
    is_augmented = row.axes.get("augmentation", "none") != "none"
    of_kind = not reported.generator or kind(row) == reported.generator
    return of_kind and (reported.augmented is None or is_augmented == reported.augmented)


def _number(reported: Reported, rows: Sequence[Row]) -> tuple[float, str] | None:
    """Return the quantity in cells that differ in their seed alone, as a number and in words."""
    if reported.ours == "best score":
        scores = [row.scores.synthetic_to_train for row in rows if row.scores is not None]
        best = [float(one[np.isfinite(one)].max()) for one in scores if np.isfinite(one).any()]
        return (max(best), score(max(best))) if best else None
    measures: dict[str, Measure] = {"memorized": MEMORIZED, "copied": COPIED}
    measure = measures.get(reported.ours)
    shares: list[Interval] = [one for row in rows if measure and (one := measure.of(row)) is not None]
    if not shares:
        return None
    together = over_seeds(shares)
    return together.value, told(together)
