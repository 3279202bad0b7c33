"""Claim A5: whether the usual scores of quality (FID, Inception score) can tell copying from generalising."""

import math
from collections.abc import Callable, Sequence
from itertools import combinations

from memjax.audit.report.numerals import count, many, percent
from memjax.study.axes import SEED, described, varying
from memjax.study.compare import UNTESTABLE, Judged, told
from memjax.study.row import Row
from memjax.study.shares import COPIED, differ


def quality_is_blind(rows: Sequence[Row]) -> Judged:
    """Ask, of each two cells of one training set that differ in copies, which of the two FID prefers.

    If FID warned of copying, the cell that copies more would have the worse FID. Noise is left out: anything beats it.
    """
    scored = [row for row in rows if row.status == "done" and _fid(row) is not None and COPIED.of(row) is not None]
    scored = [row for row in scored if row.axes.get("generator") != "noise"]
    pairs = [pair for one, other in combinations(scored, 2) if (pair := _ordered(one, other)) is not None]
    if not pairs:
        missing = "no two cells of the same training images have an FID and differ in copies beyond their intervals"
        return Judged(outcome=UNTESTABLE, sentence="", reason=missing)
    preferred = _preferred(pairs, lambda row: -row.quality.fid if row.quality else math.nan)
    sentence = " ".join(part for part in (_control(scored), _inception(pairs), _widest(pairs, rows)) if part)
    reason = (
        f"of {many(len(pairs), 'pair')} of cells that differ in copies beyond the 95 % intervals, FID prefers the one "
        f"that copies more in {count(preferred)}"
    )
    outcome = "reproduced" if preferred > len(pairs) / 2 else "not reproduced"
    return Judged(outcome=outcome, sentence=sentence, reason=reason)


def _fid(row: Row) -> float | None:
    return row.quality.fid if row.quality is not None and math.isfinite(row.quality.fid) else None


def _ordered(one: Row, other: Row) -> tuple[Row, Row] | None:
    """Return (copies more, copies less); None where they have other training images or do not differ."""
    assert one.quality and other.quality and one.facts and other.facts
    if _images(one) != _images(other) or one.quality.features != other.quality.features:
        return None
    mine, theirs = COPIED.of(one), COPIED.of(other)
    assert mine is not None and theirs is not None
    sign = differ(mine, theirs)
    return None if not sign else (one, other) if sign > 0 else (other, one)


def _images(row: Row) -> tuple[object, ...]:
    """Return all that decides which images a cell was trained on; the seed does: it orders the patients."""
    assert row.facts is not None, "a finished cell says what it is made of"
    axes = ("source", "thinning", "duplicates", "deduplicate", SEED)
    return (*(row.axes.get(name) for name in axes), row.facts.n_train)


def _preferred(pairs: Sequence[tuple[Row, Row]], score: Callable[[Row], float]) -> int:
    return sum(score(copying) >= score(other) for copying, other in pairs)


def _control(scored: Sequence[Row]) -> str:
    """Tell of the generator that hands back training images, if the study has it."""
    parts = []
    for row in scored:
        if row.axes.get("generator") != "training":
            continue
        assert row.quality
        rivals = [other for other in scored if other is not row and _images(other) == _images(row)]
        copied = COPIED.of(row)
        assert copied is not None
        if rivals:
            best = min(other.quality.fid for other in rivals if other.quality)
            word = "the best" if row.quality.fid <= best else "not the best"
            parts.append(
                f"A generator that hands back training images has {word} FID, {_number(row.quality.fid)} (the best of "
                f"the others: {_number(best)}), and {percent(copied.value)} of its images are called copies."
            )
    return " ".join(parts[:2])


def _inception(pairs: Sequence[tuple[Row, Row]]) -> str:
    known = [pair for pair in pairs if all(_has_is(row) for row in pair)]
    if not known:
        return ""
    preferred = _preferred(known, lambda row: row.quality.inception_score if row.quality else math.nan)
    return f"The Inception score prefers the one that copies more in {count(preferred)} of {many(len(known), 'pair')}."


def _has_is(row: Row) -> bool:
    return row.quality is not None and math.isfinite(row.quality.inception_score)


def _widest(pairs: Sequence[tuple[Row, Row]], rows: Sequence[Row]) -> str:
    axes = [name for name in varying(rows) if name != SEED]

    def told_of(row: Row) -> str:
        copied = COPIED.of(row)
        assert copied is not None and row.quality is not None
        return f"{described(row, axes)}: FID {_number(row.quality.fid)}, copies {told(copied)}"

    models = [pair for pair in pairs if not any(row.axes.get("generator") in ("training", "unseen") for row in pair)]
    if not models:
        return ""
    more, less = max(models, key=lambda pair: _value(pair[0]) - _value(pair[1]))
    return f"Of trained generators: {told_of(more)}; {told_of(less)}."


def _value(row: Row) -> float:
    copied = COPIED.of(row)
    return copied.value if copied else math.nan


def _number(value: float) -> str:
    return f"{value:.3g}"
