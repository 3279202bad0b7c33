"""How sure a share is that was counted among few (Wilson, J. Am. Stat. Assoc. 22, 1927)."""

import math

from memjax.audit.findings import Interval

_NORMAL = 1.959963984540054  # 95 % of a normal variable lie within so many standard deviations


def wilson(part: int | float, whole: int | float) -> Interval:
    """Return a share with its 95 % Wilson interval; not-a-number of nothing.

    Args:
      part: how many have it, 0 to `whole`; what counts as so many may be a fraction.
      whole: of how many, 0 or more.
    """
    if not whole:
        return Interval(value=math.nan, low=math.nan, high=math.nan)
    value, spread = part / whole, _NORMAL**2 / whole
    middle = (value + spread / 2) / (1 + spread)
    margin = math.sqrt(value * (1 - value) * spread + spread**2 / 4) / (1 + spread)
    return Interval(value=value, low=max(0.0, middle - margin), high=min(1.0, middle + margin))
