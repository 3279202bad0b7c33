"""The sentences on what more synthetic images would show: found so far, expected from ten times as many, and in all."""

from collections.abc import Sequence

from memjax.audit.findings import Growth, Interval
from memjax.audit.report.numerals import count, many

REFERENCES = (
    "Hurlbert: The nonconcept of species diversity. Ecology 52 (1971) 577–586.",
    "Chao: Nonparametric estimation of the number of classes in a population. Scand. J. Stat. 11 (1984) 265–270.",
    "Chao, Lee: Estimating the number of classes via sample coverage. J. Am. Stat. Assoc. 87 (1992) 210–217.",
    "Colwell et al.: Models and estimators linking individual-based and sample-based rarefaction, extrapolation and "
    "comparison of assemblages. J. Plant Ecol. 5 (2012) 3–21.",
)

_TIMES = 10


def sentences(growths: Sequence[Growth]) -> list[str]:
    """Return what is found, what ten times as many images would reveal, and what there is to be found in all."""
    said = []
    for growth in growths:
        noun = _noun(growth)
        verb = "shows" if growth.n_copies == 1 else "show"
        more = " or more" if growth.chao1.value < growth.n_train else ""
        said.append(
            f"The {many(growth.n_copies, 'copy', 'copies')} among {many(growth.n_drawn, 'synthetic image')} {verb} "
            f"{many(growth.found, f'different {noun}')}. Drawing {_TIMES} times as many images "
            f"({count(_TIMES * growth.n_drawn)}) would reveal about {_estimate(growth.tenfold)} of the "
            f"{many(growth.n_train, noun)}. However many are drawn, about {_estimate(growth.chao1)}{more} can be shown "
            f"(Chao1); a second estimate is {_estimate(growth.ace)} (ACE)."
        )
        if max(growth.tenfold.high, growth.chao1.high, growth.ace.high) >= growth.n_train:
            said.append(f"Estimates end at {count(growth.n_train)}, all {noun}s that there are.")
    return said


def cautions() -> list[str]:
    """Return what the estimates rest on."""
    return [
        "The estimates hold for further images drawn from the same model in the same way. What is copied rarely and "
        "not yet seen leaves no trace, so they are lower estimates: up to twice as many images they can be relied on; "
        "for ten times as many, the true number lay above the interval in one to four of ten simulated cases, the more "
        "often the more unevenly images were copied. An image called a copy by mistake mostly counts as one more that "
        "was seen only once, which raises the estimates.",
    ]


def chart_text(growths: Sequence[Growth]) -> tuple[str, str]:
    """Return title and sentence of the growth chart."""
    nouns = " and ".join(f"{_noun(growth)}s" for growth in growths)
    return (
        "Copies found against images drawn",
        f"How many different {nouns} the copies show, in a part of the images (full line, on average over all ways to "
        "choose it), and in more of them (dashed, estimated). A curve that bends flat has shown nearly all it can; one "
        "that still rises has not. Shaded: 95\u00a0% intervals. On the right: how many there are to be shown in all.",
    )


def _noun(growth: Growth) -> str:
    return "training patient" if growth.of == "patients" else "training image"


def _estimate(estimate: Interval) -> str:
    """Print an estimate of a count with its interval: `37 (21 to 66)`."""
    value, low, high = (count(round(number)) for number in (estimate.value, estimate.low, estimate.high))
    return f"{value} ({low} to {high})"
