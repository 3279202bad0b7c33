"""Which measures lower memorization: each against the same cells without it."""

from collections.abc import Sequence

from memjax.study.axis_claims import trained, without_and_with
from memjax.study.compare import UNTESTABLE, Comparison, Judged, ends, judged
from memjax.study.lines import lines
from memjax.study.row import Row
from memjax.study.shares import COPIED, RESIDUAL

_WITHOUT = {  # axis: what it is called, and its value without the measure
    "augmentation": ("augmentation", "none"),
    "ada": ("adaptive discriminator augmentation", False),
    "deduplicate": ("de-duplication", False),
    "early_stop": ("early stopping", False),
    "release": ("release filtering", False),
}


def mitigations_lower(rows: Sequence[Row]) -> Judged:
    """Judge each measure that a study tests; together, whether more than half of them lower the share of copies.

    What is left after release filtering is measured by the detectors that did not choose what was taken out.
    """
    each = {name: judged(found, "", missing="") for name, found in _comparisons(rows).items()}
    tested = {name: one for name, one in each.items() if one.outcome != UNTESTABLE}
    if not tested:
        missing = "no two finished cells differ in one measure alone, and hold copies"
        return Judged(outcome=UNTESTABLE, sentence="", reason=missing)
    lower = [name for name, one in tested.items() if one.outcome == "reproduced"]
    others = [f"{name} ({one.reason})" for name, one in tested.items() if one.outcome != "reproduced"]
    parts = [f"lower beyond the 95 % intervals: {', '.join(lower)}"] if lower else []
    parts += [f"not shown to be lower: {'; '.join(others)}"] if others else []
    return Judged(
        outcome="reproduced" if len(lower) > len(tested) / 2 else "not reproduced",
        sentence="\n".join(f"{name[0].upper()}{name[1:]}: {one.sentence}" for name, one in tested.items()),
        reason="; ".join(parts),
    )


def _comparisons(rows: Sequence[Row]) -> dict[str, list[Comparison]]:
    found = {}
    for axis, (name, off) in _WITHOUT.items():
        measure = RESIDUAL if axis == "release" else COPIED
        found[name] = without_and_with(lines(trained(rows), axis, measure), axis, off)
    found["smaller models"] = ends(lines(trained(rows), "model_size", COPIED), is_rising=True)
    return found
