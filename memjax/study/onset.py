"""When memorization begins in training (tau_mem), and how that grows with the number of training images.

Bonnaire et al. (arXiv 2505.17638): a generator first learns to make good images, then, at tau_mem, begins to memorize;
tau_mem grows in proportion to the number N of training images: the slope of log tau_mem against log N is 1.
"""

import dataclasses
import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from scipy import stats

from memjax.audit.findings import Interval
from memjax.study.axes import SEED, described, varying
from memjax.study.lines import Point, lines
from memjax.study.row import Row
from memjax.study.shares import COPIED

LEVEL = 0.05  # of the synthetic images are copies: declared, so that it does not depend on how long a study trains


@dataclasses.dataclass(frozen=True, kw_only=True)
class Onset:
    """When the copied share passes `LEVEL` in a training on n images; `low` and `high` are measured lengths."""

    n: float
    value: float  # images seen; nan where the share is above the level from the first length on, or never
    low: float  # 0 if it is above from the first length on
    high: float  # inf if it never is


@dataclasses.dataclass(frozen=True, kw_only=True)
class Onsets:
    """The onsets of one generator, and the slope of log tau_mem against log N; None with fewer than two onsets."""

    title: str
    onsets: Sequence[Onset]
    slope: Interval | None

    @property
    def known(self) -> list[Onset]:
        """Onsets between two measured lengths."""
        return [onset for onset in self.onsets if math.isfinite(onset.value)]


def onsets(rows: Sequence[Row]) -> list[Onsets]:
    """Return the onsets by generator (and by the values of other axes), of studies with several training lengths."""
    others = [name for name in varying(rows) if name not in (SEED, "images_seen", "n_train")]
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row.axes.get(name) for name in others), []).append(row)
    return [found for same in groups.values() if (found := _onsets(same, described(same[0], others))).onsets]


def _onsets(rows: Sequence[Row], title: str) -> Onsets:
    found = [_onset(line.points) for line in lines(rows, "images_seen", COPIED)]
    found.sort(key=lambda onset: onset.n)
    made = Onsets(title=title, onsets=found, slope=None)
    several = len({onset.n for onset in made.known}) > 1
    return dataclasses.replace(made, slope=_slope(made.known)) if several else made


def _onset(points: Sequence[Point]) -> Onset:
    """Find the first passing of the level, linear in the logarithm of the training's length."""
    facts = points[0].rows[0].facts
    assert facts is not None, "lines are made of finished cells"
    n = float(facts.n_train)
    if points[0].share.value >= LEVEL:
        return Onset(n=n, value=math.nan, low=0.0, high=points[0].x)
    for here, after in pairwise(points):
        if after.share.value >= LEVEL:
            part = (LEVEL - here.share.value) / (after.share.value - here.share.value)
            value = math.exp(math.log(here.x) + part * (math.log(after.x) - math.log(here.x)))
            return Onset(n=n, value=value, low=here.x, high=after.x)
    return Onset(n=n, value=math.nan, low=points[-1].x, high=math.inf)


def _slope(known: Sequence[Onset]) -> Interval:
    """Fit log tau on log N by least squares.

    The interval holds every slope that the measured lengths on both sides of each onset allow and, from three sizes on,
    the 95 % interval of the fit's residuals.
    """
    x = np.log([onset.n for onset in known])
    weight = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    y = np.log([onset.value for onset in known])
    ends = np.log([[onset.low, onset.high] for onset in known]) * weight[:, None]
    slope, low, high = float(weight @ y), float(ends.min(1).sum()), float(ends.max(1).sum())
    if len(known) > 2:
        residual = y - y.mean() - slope * (x - x.mean())
        error = math.sqrt(float(residual @ residual) / (len(known) - 2) * float(weight @ weight))
        margin = float(stats.t.ppf(0.975, len(known) - 2)) * error
        low, high = min(low, slope - margin), max(high, slope + margin)
    return Interval(value=slope, low=low, high=high)
