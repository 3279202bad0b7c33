"""How numbers and names are printed in a report: the same digits, units and signs everywhere."""

import math
import re

from memjax.audit.findings import Interval

_NBSP = "\u00a0"  # between a number and its unit
_THIN = "\u202f"  # between thousands
_MINUS = "\u2212"
_SURROGATES = re.compile("[\udc80-\udcff]")
_LONGEST_NAME = 96


def count(number: int | float) -> str:
    """Print how many: `37`, `12 345`; expected counts with one or two digits: `0.4`."""
    if not math.isfinite(number):
        return "unknown"
    if number == round(number):
        digits = f"{int(number):,}"
        return digits.replace(",", "" if abs(number) < 10_000 else _THIN)
    return f"{number:.2g}" if abs(number) < 10 else count(round(number))


def roughly(number: int | float) -> str:
    """Print an expected count in a sentence: `about 2.1`, `fewer than 0.01`, `none`."""
    if number == 0:
        return "none"
    return "fewer than 0.01" if 0 <= number < 0.01 else f"about {count(number)}"


def many(number: int | float, one: str, more: str = "") -> str:
    """Print a count with its noun: `1 image`, `3 images`."""
    return f"{count(number)} {one if number == 1 else more or one + 's'}"


def part_of(part: int | float, whole: int) -> str:
    """Print part of a whole as counts: `3 of 12`."""
    return f"{count(part)} of {count(whole)}"


def percent(share: int | float) -> str:
    """Print a share of 1 as a percentage with about two digits that count: `3.7 %`, `0.04 %`, `100 %`."""
    return f"{_percent_digits(share)}{_NBSP}%"


def share(part: int | float, whole: int | float) -> str:
    """Print part of whole as a percentage; of nothing, a dash."""
    return percent(part / whole) if whole else "–"


def interval(estimate: Interval, whole: int | float) -> str:
    """Print the 95 % interval of a count as shares of the whole: `95 % interval 2.6 to 4.9 %`."""
    low, high = (_percent_digits(bound / whole) if whole else "–" for bound in (estimate.low, estimate.high))
    return f"95{_NBSP}% interval {low} to {high}{_NBSP}%"


def range_of_percent(estimate: Interval) -> str:
    """Print the interval of a share: `81.9 to 98.5 %`."""
    return f"{_percent_digits(estimate.low)} to {_percent_digits(estimate.high)}{_NBSP}%"


def decimals(value: float, places: int) -> str:
    """Print a number with so many decimals; a dash where there is none."""
    rounded = round(value, places) + 0.0  # no minus before nothing
    return f"{rounded:.{places}f}".replace("-", _MINUS) if math.isfinite(value) else "–"


def score(value: float) -> str:
    """Print a score with four decimals: `0.9900`."""
    if not math.isfinite(value):
        return "none"
    return f"{value:.4f}".replace("-", _MINUS)


def measure(value: float) -> str:
    """Print a score or a distance of any scale: four decimals, or three digits that count of what is small."""
    if not 0 < abs(value) < 0.01:
        return score(value)
    return f"{value:.3g}".replace("-", _MINUS)


def p_value(value: float) -> str:
    """Print a p-value: `p = 0.031`, `p < 0.0001`; nothing where there is none."""
    if not math.isfinite(value):
        return ""
    return f"p < {0.0001}" if value < 0.0001 else f"p = {value:.2g}"


def name(text: str) -> str:
    """Print a file's name or a patient id: bytes that are not UTF-8 and invisible characters as escapes, middle cut."""
    shown = "".join(_visible(character) for character in text)
    if len(shown) <= _LONGEST_NAME:
        return shown
    half = _LONGEST_NAME // 2
    return f"{shown[:half]}…{shown[-half:]}"


def _visible(character: str) -> str:
    if _SURROGATES.match(character):
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")


def _percent_digits(share: int | float) -> str:
    value = share * 100
    if value in (0, 100) or not math.isfinite(value):
        return f"{value:.0f}"
    if value > 99.95:
        return "> 99.9"
    return f"{value:.1f}".removesuffix(".0") if value >= 0.095 else f"{value:.1g}"
