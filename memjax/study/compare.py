"""Set two points of a line against each other, and sum up many such comparisons into one verdict.

Two shares differ where their 95 % intervals do not overlap. That is stricter than a test of their difference at 5 %
(about 0.6 %, for intervals of one width), so that a handful of comparisons needs no further correction.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal

from memjax.audit.findings import Interval
from memjax.audit.report.numerals import count, many, percent, range_of_percent
from memjax.study.axes import ALL, described
from memjax.study.lines import Line, Point
from memjax.study.shares import differ

Outcome = Literal["reproduced", "not reproduced", "not testable at this scale"]
UNTESTABLE: Outcome = "not testable at this scale"
_SHOWN = 2  # comparisons told in a sentence; all are in the charts


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """One share that a claim says is larger, against one that it says is smaller."""

    title: str  # what both cells have in common
    larger: str  # what the claim says has more
    smaller: str
    more: Interval
    less: Interval
    is_blind: bool  # neither side copies anything, or both copy everything: the claim cannot show

    @property
    def sign(self) -> int:
        """1 as claimed, -1 the other way, both beyond the 95 % intervals; 0 where these overlap."""
        return differ(self.more, self.less)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judged:
    """An outcome, our numbers in one sentence, and why that is the outcome."""

    outcome: Outcome
    sentence: str  # several lines where several things were compared
    reason: str


def ends(found: Sequence[Line], *, is_rising: bool) -> list[Comparison]:
    """Compare the two ends of each line; the claim says that the share rises along it, or that it falls."""
    pairs = [(line, line.points[-1], line.points[0]) for line in found]
    return [compared(line, *((last, first) if is_rising else (first, last))) for line, last, first in pairs]


def against(
    found: Sequence[Line], is_more: Callable[[Point], bool], is_less: Callable[[Point], bool]
) -> list[Comparison]:
    """Compare, on each line, each point that the claim says has more with each that it says has less."""
    return [
        compared(line, more, less)
        for line in found
        for more in line.points
        for less in line.points
        if more is not less and is_more(more) and is_less(less)
    ]


def compared(line: Line, more: Point, less: Point) -> Comparison:
    """Return the comparison of two points of a line."""
    rows = [*more.rows, *less.rows]
    none = all(row.memorization is not None and row.memorization.is_clean for row in rows)
    every = more.share.value == less.share.value == 1
    return Comparison(
        title=line.title,
        larger=described(more.rows[0], [line.axis]),
        smaller=described(less.rows[0], [line.axis]),
        more=more.share,
        less=less.share,
        is_blind=none or every,
    )


def judged(comparisons: Sequence[Comparison], what: str, *, missing: str) -> Judged:
    """Sum up: reproduced if more than half of the comparisons that can show it do, and none shows the opposite.

    Args:
      comparisons: all that the study allows.
      what: what the shares are of: "synthetic images that are copies"; "" if the sentence need not say it.
      missing: why there are none, if there are none.
    """
    if not comparisons:
        return Judged(outcome=UNTESTABLE, sentence="", reason=missing)
    telling = [one for one in comparisons if not one.is_blind]
    if not telling:
        some = "no cell" if all(one.more.value < 1 for one in comparisons) else "every cell, or none,"
        reason = f"{some} holds copies in {_of(len(comparisons), comparisons)}, so nothing can differ"
        return Judged(outcome=UNTESTABLE, sentence=_sentence(comparisons, what), reason=reason)
    agreeing, opposed = (sum(one.sign == sign for one in telling) for sign in (1, -1))
    sentence = _sentence(telling, what)
    if agreeing > len(telling) / 2 and not opposed:
        reason = f"the 95 % intervals are apart in {_of(agreeing, telling)}, as the paper says"
        return Judged(outcome="reproduced", sentence=sentence, reason=reason)
    return Judged(outcome="not reproduced", sentence=sentence, reason=_why_not(telling, agreeing, opposed))


def told(share: Interval) -> str:
    """Print a share with its interval: `61 % (55 to 67 %)`."""
    return f"{percent(share.value)} ({range_of_percent(share)})"


def _why_not(telling: Sequence[Comparison], agreeing: int, opposed: int) -> str:
    if opposed and agreeing:
        return (
            f"it holds beyond the 95 % intervals in {_of(agreeing, telling)} and is the other way round in "
            f"{count(opposed)}"
        )
    if opposed:
        return f"it is the other way round, beyond the 95 % intervals, in {_of(opposed, telling)}"
    return f"the 95 % intervals overlap in {_of(len(telling) - agreeing, telling)}"


def _of(part: int, whole: Sequence[Comparison]) -> str:
    return f"{count(part)} of {many(len(whole), 'comparison')}" if len(whole) > 1 else "the one comparison there is"


def _sentence(comparisons: Sequence[Comparison], what: str) -> str:
    """Tell the widest differences, either way, first."""
    ranked = sorted(comparisons, key=lambda one: -abs(one.more.value - one.less.value))
    parts = [
        f"{'' if one.title == ALL else one.title + ': '}"
        f"{one.larger} {told(one.more)} against {one.smaller} {told(one.less)}"
        for one in ranked[:_SHOWN]
    ]
    rest = len(ranked) - _SHOWN
    more = f"; and {many(rest, 'further comparison')}" if rest > 0 else ""
    said = f"{'; '.join(parts)}{more}."
    return f"{what[0].upper()}{what[1:]}: {said}" if what else said
