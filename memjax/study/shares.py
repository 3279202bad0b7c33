"""What is measured in a cell as a share of 1, with its 95 % interval: copies, memorized images, memorized patients."""

import dataclasses
from collections.abc import Callable, Sequence

from memjax.audit.findings import Interval
from memjax.audit.wilson import wilson
from memjax.study.row import Memorization, Row

_NONE_FOUND = 3.0  # with 0 of n found, up to so many can be there (95 %); a bootstrap of nothing has no width


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measure:
    """One share: its name in the table, what it is for people, and how a cell has it (None: it does not)."""

    name: str
    title: str
    of: Callable[[Row], Interval | None]


def share(count: Interval, whole: int) -> Interval:
    """Return a count as a share; of none or of all found, the interval has the width of the rule of three."""
    low = count.low if count.value < whole else min(count.low, whole - _NONE_FOUND)
    high = count.high if count.value > 0 else max(count.high, _NONE_FOUND)
    return Interval(value=count.value / whole, low=max(0.0, low / whole), high=min(1.0, high / whole))


def called(found: Memorization, row: Row) -> Interval:
    """Return the share of a cell's synthetic images that one detector calls copies."""
    assert row.facts is not None, "a cell that is not done has no shares"
    return share(found.n_copies, row.facts.n_synthetic)


def _copied(row: Row) -> Interval | None:
    return called(row.memorization, row) if row.memorization and row.facts else None


def _memorized(row: Row) -> Interval | None:
    return share(row.memorization.n_mem, row.facts.n_train) if row.memorization and row.facts else None


def _patients(row: Row) -> Interval | None:
    if not (row.memorization and row.facts and row.facts.n_train_patients):
        return None
    return share(row.memorization.n_patients_memorized, row.facts.n_train_patients)


def _ratio(row: Row) -> Interval | None:
    if row.facts is None or not 0 <= row.f_ratio <= 1:
        return None
    n = row.facts.n_synthetic
    return wilson(row.f_ratio * n, n)


def _residual(row: Row) -> Interval | None:
    """Return the largest share that any detector but the audit's own calls."""
    shares = [called(found, row) for found in row.detectors.values()] if row.facts else []
    return max(shares, key=lambda one: one.value, default=None)


def _shown(row: Row) -> Interval | None:
    return (_residual(row) if row.axes.get("release") else None) or _copied(row)


COPIED = Measure(name="copied_share", title="synthetic images that are copies", of=_copied)
# Of what a release leaves the audit's own detector finds no copies: it chose what was taken out.
RESIDUAL = Measure(
    name="residual_share", title="synthetic images that an independent detector calls copies", of=_residual
)
SHOWN = Measure(name="shown_share", title=COPIED.title, of=_shown)  # RESIDUAL after a release, else COPIED
MEMORIZED = Measure(name="memorized_share", title="training images that are memorized", of=_memorized)
PATIENTS = Measure(name="patients_share", title="training patients that are memorized", of=_patients)
RATIO = Measure(name="f_ratio", title="synthetic images by the ratio of distances", of=_ratio)


def over_seeds(shares: Sequence[Interval]) -> Interval:
    """Return the mean over seeds; its interval reaches from the lowest to the highest bound of any seed's interval.

    Wider than a pooled interval: seeds differ by more than the images that were drawn from each.
    """
    n = len(shares)
    return Interval(
        value=sum(one.value for one in shares) / n,
        low=min(one.low for one in shares),
        high=max(one.high for one in shares),
    )


def differ(one: Interval, other: Interval) -> int:
    """Return 1 if `one` is above `other`, -1 if below, beyond both intervals; 0 if the intervals overlap."""
    return int(one.low > other.high) - int(one.high < other.low)
