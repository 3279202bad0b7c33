"""The sentences and the table on what readers said of candidate pairs, and how each detector compares with them."""

import dataclasses
import math

from memjax.audit.findings import Confusion, Labelled
from memjax.audit.report import numerals
from memjax.audit.report.numerals import count, many, percent
from memjax.audit.wilson import wilson

_KAPPA_WORDS = ((0.8, "almost perfect"), (0.6, "substantial"), (0.4, "moderate"), (0.2, "fair"), (0.0, "slight"))

REFERENCES = (
    "Landis, Koch: The measurement of observer agreement for categorical data. Biometrics 33 (1977) 159–174.",
    "Wilson: Probable inference, the law of succession, and statistical inference. J. Am. Stat. Assoc. 22 (1927) "
    "209–212.",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One detector against the readers, as printed."""

    title: str
    cells: tuple[str, str, str, str]  # both copy, only the detector, only the readers, both novel
    sensitivity: tuple[str, str]  # the share, and its interval
    specificity: tuple[str, str]


def sentences(labelled: Labelled) -> list[str]:
    """Return who looked at how many pairs, and how far they agree."""
    pairs = many(labelled.n_pairs, "pair")
    if len(labelled.readers) < 2:
        who = labelled.readers[0] if labelled.readers else "no reader"
        return [
            f"Of {pairs} of a synthetic and a training image, {count(labelled.n_both)} were labelled by two readers "
            f"(only {numerals.name(who)} has begun). Without a second reader there is no consensus, so nothing is "
            "concluded from the labels."
        ]
    who = " and ".join(numerals.name(reader) for reader in labelled.readers)
    said = [
        f"{who} looked at {pairs} of a synthetic and a training image, blind to each other and to the scores; "
        f"{count(labelled.n_both)} were labelled by both. Both said copy of {count(labelled.n_copy)} and novel of "
        f"{count(labelled.n_novel)}; on {count(labelled.n_open)} they differ, or one is unsure.",
    ]
    if math.isfinite(labelled.kappa):
        said.append(
            f"Cohen's kappa of their labels is {numerals.decimals(labelled.kappa, 2)}, {_in_words(labelled.kappa)} "
            "agreement beyond chance (Landis & Koch): 1 means that they always agree, 0 that they agree no more than "
            "chance would have it."
        )
    return said


def table_text() -> str:
    """Return how the table is to be read."""
    return (
        "Taking the pairs that both agreed on as the truth: sensitivity is the share of the readers' copies that a "
        "detector calls copies, specificity the share of their novel images that it does not. In grey: 95\u00a0% "
        "intervals (Wilson). Both speak of the pairs that were shown, which are not a fair sample of all images."
    )


def row(confusion: Confusion, title: str) -> Row:
    """Return one row of the table."""
    c = confusion
    numbers = (c.both_copy, c.only_detector, c.only_readers, c.both_novel)
    shown = {
        "sensitivity": (c.both_copy, c.both_copy + c.only_readers),
        "specificity": (c.both_novel, c.both_novel + c.only_detector),
    }
    first, second, third, fourth = (count(number) for number in numbers)
    return Row(
        title=title,
        cells=(first, second, third, fourth),
        **{name: _share(part, whole) for name, (part, whole) in shown.items()},
    )


def _share(part: int, whole: int) -> tuple[str, str]:
    """Print a share and its interval: `94.4 %`, `81.9 to 98.5 %`."""
    return (percent(part / whole), numerals.range_of_percent(wilson(part, whole))) if whole else ("–", "")


def _in_words(kappa: float) -> str:
    return next((words for least, words in _KAPPA_WORDS if kappa > least), "poor")
