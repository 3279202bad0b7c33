"""The sentences on several detectors: what each is for, what each finds, and what they say together."""

import math

from memjax.audit.findings import Agreement, Detected, Findings
from memjax.audit.report.detected import embeddings, everyone, is_distance, is_embedding, measured, unit
from memjax.audit.report.matches import Match
from memjax.audit.report.numerals import count, many, measure, percent, score
from memjax.audit.report.words import score_noun
from memjax.data.embeddings import INVARIANCES

REFERENCES = (
    "Dar et al.: Unconditional latent diffusion models memorize patient imaging data. arXiv 2402.01054; Nat. Biomed. "
    "Eng. (2025).",
    "Cohen: A coefficient of agreement for nominal scales. Educ. Psychol. Meas. 20 (1960) 37–46.",
)


def introduction(findings: Findings) -> list[str]:
    """Return why there are several detectors, and which of them the verdict rests on."""
    others = many(len(everyone(findings)) - 1, "other detector was", "other detectors were")
    said = [
        f"One way of comparing images is one opinion. So {others} asked about the same images. A copy that one of them "
        "cannot see, because it is turned, shifted or has another contrast, another may see. The verdict at the top "
        "rests on the first row alone.",
    ]
    if findings.null is not None:
        said.append(
            "Each detector has a scale of its own, so each has its own threshold, found with the same held-out images "
            "and the same rule. Their scores cannot be compared with each other, their counts can."
        )
    if any(not detector.is_control for detector in embeddings(findings)):
        said.append(
            "A network that was trained on the training images knows them and not the held-out ones, so its threshold "
            "may be too low or too high. Set it beside a control: a network that never saw them."
        )
    return said


def sees_through(detector: Detected) -> str:
    """Return what a copy may differ by and still be found."""
    none = "not declared" if is_embedding(detector) else "nothing by design"
    return ", ".join(detector.invariant_to) or none


def blind_to(detector: Detected) -> str:
    """Return what a detector was not made to overlook: a copy that differs by it may be missed."""
    if is_embedding(detector) and not detector.invariant_to:
        return "not declared"
    return ", ".join(change for change in INVARIANCES if change not in detector.invariant_to) or "–"


def training(detector: Detected) -> str:
    """Return what a detector learned from."""
    if not is_embedding(detector):
        return "nothing learned"
    return (
        "images that it is not asked about: a control" if detector.is_control else "the training images, or not known"
    )


def threshold(detector: Detected) -> str:
    """Return the score from which images are called copies, in the unit that people read."""
    return _bound(detector, detector.decision.threshold)


def tau(detector: Detected) -> str:
    """Return the follow-up's threshold in the unit that people read."""
    return _bound(detector, detector.tau) if math.isfinite(detector.tau) else "–"


def equal_sets(detector: Detected) -> str:
    """Return how many training images synthetic and held-out sets of one size come so close to: `5.5 against 0`."""
    decision = detector.decision
    if math.isnan(decision.n_mem_size_matched):
        return "–"
    return f"{count(decision.n_mem_size_matched)} against {count(decision.n_mem_heldout)}"


def equal_sets_text(findings: Findings) -> str:
    """Return what the equal sets are; nothing without held-out images."""
    sizes = {one.decision.n_matched for one in everyone(findings)} - {0}
    if not sizes:
        return ""
    n = count(sizes.pop()) if len(sizes) == 1 else "equally many"
    return (
        "A larger set comes closer by number alone. So in equal sets: how many training images are so close to one of "
        f"{n} synthetic images, against one of as many held-out images, on average over the choice of them."
    )


def followup(findings: Findings) -> str:
    """Return what the follow-up's rule is, and how it differs."""
    if all(math.isnan(detector.tau) for detector in everyone(findings)):
        return ""
    return (
        "The follow-up of paper B sets the threshold τ where 5\u00a0% of the training images are closer than that to a "
        "held-out image, and counts the training and the synthetic images that are closer to one another. It is given "
        "here to compare with published numbers. It takes no account of the sizes of the sets: among more synthetic "
        "than held-out images, some are closer by number alone."
    )


def combined_rule(agreement: Agreement) -> str:
    """Return the rule of the combined verdict in one sentence."""
    return (
        f"The rule: an image's smallest p-value counts {count(len(agreement.names))}-fold, because "
        f"{count(len(agreement.names))} detectors had a chance to find it (Bonferroni, which holds however alike the "
        f"detectors are), and the threshold is set so that of the images called copies at most "
        f"{percent(agreement.rate)} are expected to be chance (false-discovery rate, Benjamini–Hochberg)."
    )


def combined(agreement: Agreement, findings: Findings) -> str:
    """Return the verdict of all detectors together."""
    n, copies = len(agreement.is_copy), int(agreement.is_copy.sum())
    if not copies:
        return f"All detectors together call none of {many(n, 'synthetic image')} a copy."
    verb = "a copy" if copies == 1 else "copies"
    whom = "training patient" if findings.train.n_patients is not None else "training image"
    said = (
        f"All detectors together call {count(copies)} of {many(n, 'synthetic image')} {verb}, "
        f"showing {many(agreement.n_patients_memorized, whom)}."
    )
    more = int((agreement.is_copy & ~findings.decision.is_copy).sum())
    fewer = int((findings.decision.is_copy & ~agreement.is_copy).sum())
    if more:
        said += f" {count(more)} of them the numbers at the top do not count."
    if fewer:
        said += (
            f" {many(fewer, 'image')} that the verdict at the top counts {'is' if fewer == 1 else 'are'} not among "
            "them: asking more detectors makes the rule stricter for each."
        )
    return said


def agreement_sentence(agreement: Agreement) -> str:
    """Return how far the detectors agree on single images."""
    by_all, by_any = int(agreement.calls.all(axis=1).sum()), int(agreement.calls.any(axis=1).sum())
    if not by_any:
        return "No detector calls any image a copy."
    alone = int((agreement.calls.sum(axis=1) == 1).sum())
    is_one = by_any == 1
    return (
        f"{many(by_any, 'image')} {'is' if is_one else 'are'} called a copy by at least one detector, "
        f"{count(by_all)} by all of them, {count(alone)} by one alone."
    )


def titles(findings: Findings, names: list[str]) -> list[str]:
    """Return the titles of detectors by name; the name itself where a detector is not known."""
    known = {detector.name: detector.title for detector in everyone(findings)}
    return [known.get(name, name) for name in names]


def match_scores(findings: Findings, match: Match) -> list[str]:
    """Return what is said of a match's score; beside another detector's score, how alike the pixels are."""
    if match.found_by is None:
        return [f"{score_noun(findings)} {score(match.score)}"]
    value = float(measured(match.found_by, match.score))
    return [f"{unit(match.found_by)} {measure(value)}", f"pixel correlation {score(match.correlation)}"]


def chart_texts(detector: Detected, findings: Findings) -> dict[str, tuple[str, str]]:
    """Return title and sentence of an embedding's charts, by the chart's name."""
    what = unit(detector)
    near = "Small distances, on the left, are" if is_distance(detector) else "High correlations, on the right, are"
    judged = (
        "The lower rows part the pairs that the readers agreed on, as far as this detector lists them among the "
        "closest."
        if findings.labelled is not None and len(findings.labelled.is_copy)
        else "Copies are called by this detector itself, beyond its threshold: nobody has looked at them."
    )
    return {
        "candidates": (
            f"{detector.title}: candidates and held-out images",
            f"For each training image its closest synthetic image (a candidate for a copy) and its closest held-out "
            f"image, by {what}. {near} alike. {judged}",
        ),
        "pixels_against_embedding": (
            f"{detector.title}: against the pixels",
            "Each dot is a synthetic image. Further right, its pixels are more like a training image's; further up, "
            "the network finds it more like one. A flipped or turned copy lies up and to the left: compared as they "
            "lie, its pixels do not give it away.",
        ),
    }


def _bound(detector: Detected, value: float) -> str:
    """Print a threshold with its side: `above 0.9130`, `below 0.0210` for distances."""
    if not math.isfinite(value):
        return "none"
    return f"below {measure(-value)}" if is_distance(detector) else f"above {measure(value)}"
