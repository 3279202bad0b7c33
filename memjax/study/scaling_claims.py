"""Claims on how memorization scales: the effective model memorization, and when it begins in training."""

import math
from collections.abc import Sequence

from memjax.audit.report.numerals import count, decimals, many
from memjax.study.axes import ALL, kind
from memjax.study.axis_claims import trained
from memjax.study.compare import UNTESTABLE, Judged
from memjax.study.emm import LEVEL, Emm, effective_memorization
from memjax.study.onset import Onsets, onsets
from memjax.study.row import Row


def small_sets_are_memorized_whole(rows: Sequence[Row]) -> Judged:
    """EMM: nearly all is memorized up to some number of training images, and no longer above it."""
    found = effective_memorization([row for row in trained(rows) if kind(row) == "diffusion"])
    if not found:
        missing = "no diffusion model was trained on several numbers of images with the ratio of distances at hand"
        return Judged(outcome=UNTESTABLE, sentence="", reason=missing)
    sentence = f"Effective model memorization: {'; '.join(emm_in_words(one) for one in found)}."
    inside = [one for one in found if math.isfinite(one.value)]
    if not inside:
        reason = f"the share passes {LEVEL * 100:.0f} % nowhere between the smallest and the largest training set"
        return Judged(outcome=UNTESTABLE, sentence=sentence, reason=reason)
    sure = [one for one in inside if one.is_sure]
    if len(sure) > len(inside) / 2:
        reason = f"the 95 % intervals on both sides exclude {LEVEL * 100:.0f} % in {_of(len(sure), len(inside))}"
        return Judged(outcome="reproduced", sentence=sentence, reason=reason)
    reason = f"the 95 % intervals on both sides exclude {LEVEL * 100:.0f} % in only {_of(len(sure), len(inside))}"
    return Judged(outcome="not reproduced", sentence=sentence, reason=reason)


def onset_grows_with_the_set(rows: Sequence[Row]) -> Judged:
    """TAU: tau_mem is proportional to N if the slope of the logarithms can be 1 and cannot be 0."""
    found = [one for one in onsets([row for row in trained(rows) if kind(row) == "diffusion"]) if one.onsets]
    sloped = [one for one in found if one.slope is not None]
    sentence = f"{'; '.join(onset_in_words(one) for one in found)}." if found else ""
    if not sloped:
        reason = "memorization begins between two measured training lengths for fewer than two numbers of images"
        return Judged(outcome=UNTESTABLE, sentence=sentence, reason=reason)
    agreeing = [one for one in sloped if one.slope and one.slope.low <= 1 <= one.slope.high and one.slope.low > 0]
    if len(agreeing) > len(sloped) / 2:
        reason = f"the slope's interval holds 1 and excludes 0 in {_of(len(agreeing), len(sloped))}"
        return Judged(outcome="reproduced", sentence=sentence, reason=reason)
    reason = f"the slope's interval holds 1 and excludes 0 in only {_of(len(agreeing), len(sloped))}"
    return Judged(outcome="not reproduced", sentence=sentence, reason=reason)


def emm_in_words(emm: Emm) -> str:
    """Say what an EMM is: `ddpm: about 130 training images (between 64 and 256)`."""
    title = "" if emm.title == ALL else f"{emm.title}: "
    if math.isfinite(emm.value):
        return (
            f"{title}about {count(round(emm.value))} training images (between {count(emm.low)} and {count(emm.high)})"
        )
    if emm.low:
        return f"{title}above the largest training set, {count(emm.low)}"
    return f"{title}below the smallest training set, {count(emm.high)}"


def onset_in_words(found: Onsets) -> str:
    """Say when memorization begins, by number of training images, and the slope."""
    parts = []
    for onset in found.onsets:
        if math.isfinite(onset.value):
            when = f"after {count(round(onset.value, -2) or round(onset.value))} images seen"
        elif math.isinf(onset.high):
            when = f"not within {count(onset.low)}"
        else:
            when = f"before {count(onset.high)}"
        parts.append(f"{count(onset.n)} training images {when}")
    title = "" if found.title == ALL else f"{found.title}: "
    slope = found.slope
    fit = f"; slope {decimals(slope.value, 2)} ({decimals(slope.low, 2)} to {decimals(slope.high, 2)})" if slope else ""
    return f"{title}5 % of the images are copies: {', '.join(parts)}{fit}"


def _of(part: int, whole: int) -> str:
    return f"{count(part)} of {many(whole, 'generator')}"
