"""The sentences of a report: what was found, how sure it is, what it means and what it does not.

Written for a clinician or a data officer: every number with its denominator, its interval and what it is measured
against, and no word that promises more than a comparison of images can show.
"""

import dataclasses
import math

import numpy as np

from memjax.audit.findings import Decision, Findings, Interval, NullSummary
from memjax.audit.report import numerals
from memjax.audit.report.numerals import count, many, percent, roughly, score, share

REFERENCES = (
    "Akbar, Wang, Eklund: Beware of diffusion models for synthesizing medical images. arXiv 2305.07644.",
    "Dar et al.: Investigating data memorization in 3D latent diffusion models for medical image synthesis. "
    "arXiv 2307.01148.",
    "Benjamini, Hochberg: Controlling the false discovery rate. J. R. Stat. Soc. B 57 (1995) 289–300.",
    "Levina, Bickel: Maximum likelihood estimation of intrinsic dimension. NIPS 17 (2004).",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Headline:
    """One of the three numbers at the top: `part` of `whole`, what it counts, and what it is measured against."""

    part: str
    whole: str
    what: str
    notes: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Alert:
    """One line of the box above the verdict, and the section that says more."""

    text: str
    href: str = ""


def score_noun(findings: Findings) -> str:
    """Return what a score is called, in sentences and on the axes of charts."""
    return "correlation" if findings.score == "correlation" else "similarity"


def verdict_sentence(findings: Findings) -> str:
    """Return the verdict as the one sentence at the top of the report."""
    decision, n = findings.decision, len(findings.synthetic.store)
    called = int(decision.n_copies.value)
    if not decision.is_clean:
        shown = many(decision.n_mem.value, "training image")
        patients = findings.train.n_patients
        if patients is not None:
            shown = f"training images of {many(decision.n_patients_memorized.value, 'patient')}"
        verb = "reproduces" if called == 1 else "reproduce"
        return f"{count(called)} of {many(n, 'synthetic image')} {verb} {shown}."
    if findings.agreement is not None and not findings.is_clean:
        copies = int(findings.agreement.is_copy.sum())
        verb = "is a copy" if copies == 1 else "are copies"
        return (
            f"{count(copies)} of {many(n, 'synthetic image')} {verb} by all {len(findings.agreement.names)} detectors "
            f"together, though not by {score_noun(findings)} of pixels alone, which the numbers below are of."
        )
    if findings.null is None:
        return (
            f"None of {many(n, 'synthetic image')} is the same as a training image; whether some are unusually alike "
            "cannot be said without held-out images."
            if called == 0
            else f"{count(called)} of {many(n, 'synthetic image')} are above the threshold that was set."
        )
    if findings.verdict == "undecided":
        unseen = many(findings.null.n_patients, "unseen patient")
        return (
            f"{count(decision.n_beyond)} of {many(n, 'synthetic image')} are more like a training image than all "
            f"images of {unseen} are, as copies would be; which ones are copies cannot be told with so few unseen "
            "patients."
        )
    if called:
        return (
            f"{count(called)} of {many(n, 'synthetic image')} are above the threshold, no more than chance explains: "
            f"{roughly(decision.n_copies_by_chance)} of as many images of unseen patients would be too."
        )
    return f"None of {many(n, 'synthetic image')} is more like a training image than images of unseen patients are."


def headlines(findings: Findings) -> list[Headline]:
    """Return the three numbers that matter: copies, patients shown, training images memorized."""
    decision = findings.decision
    n_synthetic, n_train = len(findings.synthetic.store), len(findings.train.store)
    copies = Headline(
        part=count(decision.n_copies.value),
        whole=count(n_synthetic),
        what=f"synthetic images {'can be called' if decision.is_undecided else 'are'} copies of training images",
        notes=(share_note(decision.n_copies, n_synthetic), chance_note(decision)),
    )
    n_patients = findings.train.n_patients
    patients = Headline(
        part="not known",
        whole="",
        what="training patients are shown by these copies",
        notes=("Patient ids were not given, so this report counts images, not people.",),
    )
    if n_patients is not None:
        patients = Headline(
            part=count(decision.n_patients_memorized.value),
            whole=count(n_patients),
            what="training patients are shown by these copies",
            notes=(share_note(decision.n_patients_memorized, n_patients),),
        )
    memorized = Headline(
        part=count(decision.n_mem.value),
        whole=count(n_train),
        what="training images are memorized: a synthetic image repeats them",
        notes=(share_note(decision.n_mem, n_train), _size_matched_note(findings)),
    )
    return [copies, patients, memorized]


def share_note(estimate: Interval, whole: int) -> str:
    """Return a count as a share of the whole, with its interval: `37.5 % (95 % interval 22.5 to 56.2 %)`."""
    if estimate.value == estimate.low == estimate.high:  # a bootstrap of none, or of all, has no width
        return share(estimate.value, whole)
    return f"{share(estimate.value, whole)} ({numerals.interval(estimate, whole)})"


def chance_note(decision: Decision) -> str:
    """Return how many copies would be called if all images were of unseen patients."""
    if math.isnan(decision.n_copies_by_chance):
        return "no held-out images: how many chance would give is not known"
    return f"by chance {roughly(decision.n_copies_by_chance)} of as many images of unseen patients"


def alerts(findings: Findings) -> list[Alert]:
    """Return what a reader must know before the verdict: leaks between folders, duplicates, warnings."""
    found = []
    if findings.leaks:
        text = f"{many(len(findings.leaks), 'image or patient is', 'images or patients are')} in two of the folders."
        found.append(Alert(text=text, href="#leaks"))
    if findings.duplicates:
        images = sum(len(group) for group in findings.duplicates)
        text = f"The training set holds {count(images)} images that are practically identical to another one of it."
        found.append(Alert(text=text, href="#duplicates"))
    if findings.synthetic.constant:
        blank = many(len(findings.synthetic.constant), "synthetic image has", "synthetic images have")
        found.append(Alert(text=f"{blank} no contrast at all and could not be compared.", href="#sets"))
    if findings.verdict == "undecided":
        text = "No image can be called a copy, but the set is nearer to the training images than chance explains."
        found.append(Alert(text=text))
    missed = 0 if findings.agreement is None else (findings.agreement.is_copy & ~findings.decision.is_copy).sum()
    if missed:
        images = many(int(missed), "more image a copy that", "more images copies that")
        text = f"All detectors together call {images} the numbers below do not count."
        found.append(Alert(text=text, href="#missed"))
    return found + [Alert(text=warning) for warning in findings.warnings]


def yardstick(findings: Findings) -> list[str]:
    """Return how the threshold was found and what it is measured against, sentence by sentence."""
    null = findings.null
    said = [_rule(findings.decision)]
    if null is None:
        return [
            "No held-out images were given. So there is nothing to say how alike two different patients' images are "
            "in this kind of data, and no p-values.",
            *said,
        ]
    whom = many(null.n_patients, "patient") if null.by_patient else "patients whose ids are not known"
    used = many(len(null.score), "held-out image")
    said.insert(
        0,
        f"The yardstick is {used} of {whom} whom the model never saw, compared with the training images in the same "
        f"way. Of these {count(len(null.score))} images, 95{numerals._NBSP}% stay below a {score_noun(findings)} of "
        f"{score(null.p95)} and 99{numerals._NBSP}% below {score(null.p99)}.",
    )
    if not null.by_patient:
        said.append(
            "Each held-out image counts as a patient of its own, which makes the p-values look surer than they are."
        )
    for reason, left_out in null.left_out.items():
        if left_out:
            said.append(f"{many(left_out, 'held-out image')} not used: {reason}.")
    return said + _p_value_sentences(findings.decision, null)


def meaning(findings: Findings) -> list[str]:
    """Return what the result says."""
    if findings.verdict == "undecided":
        return [
            "As a set, the synthetic images lie nearer to the training images than images of unseen patients do. "
            "Copies do so, and so may images that are smoother than real ones. No single image can be called a copy: "
            "with few unseen patients a high score may be theirs by chance.",
            "Before these images are shared, give held-out images of more patients, and look at the closest pairs.",
        ]
    if findings.is_clean:
        said = (
            "In this comparison the synthetic images are not closer to the training images than images of patients the "
            "model never saw."
            if findings.null is not None
            else "In this comparison no synthetic image is the same as a training image."
        )
        return [said, f"It speaks of these {count(len(findings.synthetic.store))} synthetic images only."]
    return [
        "Each image called a copy is closer to one training image than images of other patients are. What can be seen "
        "or recognised in that training image may be seen in the synthetic one.",
        "Taking these images out removes the copies found here. The model has still learned them, and further images "
        "drawn from it may repeat the same or other training images.",
    ]


def limits(findings: Findings) -> list[str]:
    """Return what the result does not say."""
    said = [
        "It is not a proof of privacy. It compares images; it does not test whether other facts about a patient can be "
        "inferred from the model or from the images.",
        _what_the_score_sees(findings),
        "More synthetic images can only add copies: the number found grows with the number looked at.",
    ]
    if findings.null is None:
        said.insert(
            1,
            "Without held-out images it cannot be said that a score is unusual. Add a folder of real images of "
            "patients the model never saw, and run the audit again.",
        )
    if findings.foreground_share < 1 and findings.score == "correlation":
        said.append(
            "A shared dark background raises the correlation of any two images. What counts is the distance to the "
            "held-out images, not the correlation itself."
        )
    if findings.train.n_patients is None:
        said.append("Patient ids were not given: two images of one person were counted as two people.")
    return said


def method(findings: Findings) -> str:
    """Return the method in one paragraph."""
    compared = (
        "by Pearson correlation of their pixel values"
        if findings.score == "correlation"
        else "by the mean squared distance of their pixel values in −1 to 1 (similarity is minus that distance)"
    )
    turns = len(findings.orientations)
    how = "as they are" if turns == 1 else f"in {turns} orientations (flips and turns)"
    text = (
        f"Every synthetic image was compared with every training image {compared}, {how}; the best counts. "
        "Nothing was skipped or approximated. "
    )
    if findings.null is None:
        return text
    return text + (
        "Held-out images were compared in the same way. A synthetic image's p-value is the chance that an image of an "
        "unseen patient scores as high; beyond the highest held-out scores it comes from a tail fitted to the "
        "distances of nearest neighbours. Intervals are 95 % bootstrap intervals."
    )


def _size_matched_note(findings: Findings) -> str:
    decision, null = findings.decision, findings.null
    if null is None or math.isnan(decision.n_mem_size_matched):
        return "no held-out images to compare with"
    return (
        f"for comparison, in sets of {count(decision.n_matched)}: synthetic images repeat "
        f"{roughly(decision.n_mem_size_matched)} training images, held-out ones {roughly(decision.n_mem_heldout)}"
    )


def _rule(decision: Decision) -> str:
    above = f"a score above {score(decision.threshold)}"
    if decision.rule == "fdr":
        return (
            f"A synthetic image is called a copy if it has {above}. The threshold is set so that of the images called "
            f"copies at most {percent(decision.rate)} are expected to be chance (false-discovery rate, "
            "Benjamini–Hochberg)."
        )
    if decision.rule in ("p95", "p99"):
        return (
            f"A synthetic image is called a copy if it has {above}, which {percent(decision.rate)} of the images of "
            "unseen patients exceed as well. So a few are expected even if nothing was copied."
        )
    if decision.rule == "value":
        return f"A synthetic image is called a copy if it has {above}, a threshold that was set by hand."
    return f"Only images that are the same up to brightness and contrast ({above}) are called copies."


def _p_value_sentences(decision: Decision, null: NullSummary) -> list[str]:
    known = decision.p_value[np.isfinite(decision.p_value)]
    if not known.size:
        return []
    said = [
        f"The smallest p-value among {many(known.size, 'synthetic image')} is {numerals.p_value(float(known.min()))}: "
        "the chance that one image of an unseen patient would be as much like a training image."
    ]
    if math.isfinite(null.tail_start):
        said.append(
            f"Above {score(null.tail_start)} there are too few held-out images to count, so p-values come from a tail "
            f"fitted on {many(null.tail_patients, 'patient')}; read very small ones as an order of magnitude."
        )
    return said


def _what_the_score_sees(findings: Findings) -> str:
    seen = "flipped or turned copies, and " if len(findings.orientations) > 1 else ""
    if findings.score == "msd":
        return (
            f"Pixel distance sees {seen}copies with small changes of grey value. It does not see copies that are "
            "brighter, shifted, scaled or strongly deformed."
        )
    unturned = "" if seen else "flipped, turned, "
    return (
        f"Correlation sees {seen}copies with another brightness or contrast. It does not see copies that are "
        f"{unturned}shifted, scaled or strongly deformed."
    )
