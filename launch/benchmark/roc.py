"""How well scores tell copies from images of unseen patients: the area under the ROC curve, and shares, with intervals.

The area is the chance that a copy scores higher than a stranger, ties half (Mann & Whitney). Its variance is that of
DeLong et al. (Biometrics 44:837, 1988), with images of one patient as one cluster (Obuchowski, Biometrics 53:567,
1997).
"""

import math
from collections.abc import Sequence

import numpy as np

_Z = 1.959963984540054  # of 95 %


def area(positive: np.ndarray, negative: np.ndarray) -> float:
    """Return the area under the ROC curve of scores [n] and [m]; -inf is allowed."""
    return float(_placements(positive, negative).mean())


def area_interval(
    positive: np.ndarray, positive_patient: np.ndarray, negative: np.ndarray, negative_patient: np.ndarray
) -> tuple[float, float]:
    """Return the 95 % interval of the area, on the logit scale.

    Where copies and strangers do not overlap (and nothing varies) it is Newcombe's of as many patients instead.

    Args:
      positive: scores of copies, [n].
      positive_patient: of each of them, [n]; none of them is a patient of the other side.
      negative: scores of strangers, [m].
      negative_patient: of each of them, [m].
    """
    value = area(positive, negative)
    one = _cluster_variance(_placements(positive, negative), positive_patient)
    other = _cluster_variance(1 - _placements(negative, positive), negative_patient)
    error = math.sqrt(one + other)
    if error < 1e-12:
        return newcombe_interval(value, len(np.unique(positive_patient)), len(np.unique(negative_patient)))
    middle, half = math.log(value / (1 - value)), _Z * error / (value * (1 - value))
    low, high = (1 / (1 + np.exp(-np.clip(middle + way * half, -700, 700))) for way in (-1, 1))
    return float(low), float(high)


def newcombe_interval(value: float, n: int, m: int) -> tuple[float, float]:
    """Return the 95 % interval of an area from n and m independent images, by the area alone.

    The areas whose own standard error puts `value` 1.96 of them away (Newcombe, Statistics in Medicine 25:559, 2006,
    method 5): usable at 0 and 1, where every estimated variance is 0.
    """
    return _lowest(value, n, m), 1 - _lowest(1 - value, n, m)


def share_interval(count: int, n: int) -> tuple[float, float]:
    """Return the exact 95 % interval of a binomial share (Clopper & Pearson, 1934)."""
    from scipy import stats

    found = stats.binomtest(count, n).proportion_ci(0.95, "exact")
    return float(found.low), float(found.high)


def curve(positive: np.ndarray, negative: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the ROC curve's corners: false- and true-positive rates, ascending, from (0, 0) to (1, 1)."""
    thresholds = np.unique(np.concatenate([positive, negative]))[::-1]

    def at_least(scores: np.ndarray) -> np.ndarray:
        return 1 - np.searchsorted(np.sort(scores), thresholds, "left") / len(scores)

    return np.append(0.0, at_least(negative)), np.append(0.0, at_least(positive))


def sensitivities(positive: np.ndarray, negative: np.ndarray, rates: Sequence[float]) -> list[float]:
    """Return the largest true-positive rate at no more than each of these false-positive rates."""
    false, true = curve(positive, negative)
    return true[np.searchsorted(false, np.asarray(rates) + 1e-12, "right") - 1].tolist()


def _placements(scores: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return for each score the share of the others that is lower, ties half."""
    ascending = np.sort(others)
    return (np.searchsorted(ascending, scores, "left") + np.searchsorted(ascending, scores, "right")) / 2 / len(others)


def _cluster_variance(placements: np.ndarray, patient: np.ndarray) -> float:
    """Return what one side adds to the variance of the area: patients vary, images of one patient go together."""
    _, number = np.unique(patient, return_inverse=True)
    total = np.bincount(number, placements - placements.mean())
    if len(total) < 2:
        return 0.0
    return float(len(total) / (len(total) - 1) * np.square(total).sum() / len(placements) ** 2)


def _lowest(value: float, n: int, m: int) -> float:
    """Return the lowest area that `value` does not contradict, by bisection."""
    if value <= 0:
        return 0.0
    more = (n + m) / 2 - 1

    def is_too_low(a: float) -> bool:
        variance = a * (1 - a) * (1 + more * ((1 - a) / (2 - a) + a / (1 + a))) / (n * m)
        return (value - a) ** 2 > _Z**2 * variance

    low, high = 0.0, value
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if is_too_low(middle) else (low, middle)
    return high
