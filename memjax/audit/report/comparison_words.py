"""The sentences of a comparison: who copies more, by how much that is sure, and what cannot be concluded."""

from collections.abc import Mapping
from itertools import pairwise

from memjax.audit.report import words
from memjax.audit.report.compared import Audited
from memjax.audit.report.numerals import count, many, part_of, percent, roughly, score

_AS_LONG = 1.05  # trainings whose lengths differ by less count as equally long
_LOW_QUANTILE = 0.05


def verdict(generators: Mapping[str, Audited]) -> str:
    """Return what was found, by generator, in a few words."""
    copying = [name for name, audited in generators.items() if not audited.findings.decision.is_clean]
    if not copying:
        return "Undecided" if _undecided(generators) else "No copies found"
    return "Copies found" if len(generators) == 1 else f"Copies found: {listed(copying)}"


def sentence(generators: Mapping[str, Audited]) -> str:
    """Return the outcome as the one sentence at the top."""
    (name, first), *others = _by_copies(generators)
    if not others:
        return words.verdict_sentence(first.findings)
    if all(audited.findings.decision.is_clean for audited in generators.values()):
        near = _undecided(generators)
        return _near(list(near)) if near else _all_clean(generators)
    if not all(first.copies_more_than(other) for _, other in others):
        told = listed([f"{_copies(audited)} images from {name}" for name, audited in generators.items()])
        return f"Which generator copies most cannot be told: {told} are copies."
    more = "more than" if len(others) == 1 else "most, before"
    second, runner_up = others[0]
    return f"{name} copies {more} {second}: {_copies(first)} images are copies, against {_copies(runner_up)}."


def listed(parts: list[str]) -> str:
    """Join words: `a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def thresholds(generators: Mapping[str, Audited]) -> str:
    """Say why generators have thresholds of their own, and which line of the table measures all alike."""
    first = next(iter(generators.values())).findings
    decision, null = first.decision, first.null
    if decision.rule != "fdr" or null is None:
        return f"An image whose {words.score_noun(first)} is above the threshold is called a copy."
    return (
        f"An image whose {words.score_noun(first)} is above the threshold is called a copy. Each generator's threshold "
        f"depends on its own images: it is set so that of those called copies at most {percent(decision.rate)} are "
        "expected to be chance. So the thresholds themselves are not to be compared. The last line of numbers measures "
        f"all by one value: {percent(0.01)} of the images of unseen patients are above {score(null.p99)} too, so not "
        "every image above it is a copy."
    )


def conclusions(generators: Mapping[str, Audited]) -> list[str]:
    """Return what the comparison says."""
    copying = [audited for audited in generators.values() if not audited.findings.decision.is_clean]
    near = list(_undecided(generators).values())
    said = words.meaning((copying or near or list(generators.values()))[0].findings)
    ranked = _by_copies(generators)
    if len(ranked) == 1 or not copying:
        return said if copying or near else said[:1]
    alike = [(one, two) for (one, a), (two, b) in pairwise(ranked) if not a.copies_more_than(b)]
    if not alike:
        order = ", ".join(name for name, _ in ranked)
        return [f"From most to fewest copies: {order}. The differences are larger than the uncertainty.", *said]
    pairs = "; ".join(f"{one} and {two}" for one, two in alike)
    return [f"Too close to say which of the two copies more: {pairs}.", *said]


def limits(generators: Mapping[str, Audited]) -> list[str]:
    """Return what the comparison does not say, the differences between the generators' audits first."""
    first = next(iter(generators.values())).findings
    said = [*_numbers_drawn(generators), *_nothing_found(generators)]
    if len(generators) > 1:
        said += [*_length_of_training(generators), *_realism(generators)]
        said.append(
            "One trained model of each kind was looked at. Another run, size or setting of the same kind may copy more "
            "or less, so this does not say that one kind of generator is safe and another is not."
        )
    return [*said, *words.limits(first)]


def _by_copies(generators: Mapping[str, Audited]) -> list[tuple[str, Audited]]:
    """Return the generators, the one with the largest share of copies first."""
    return sorted(generators.items(), key=lambda pair: -pair[1].copied.value)


def _copies(audited: Audited) -> str:
    return part_of(audited.findings.decision.n_copies.value, audited.n)


def _undecided(generators: Mapping[str, Audited]) -> dict[str, Audited]:
    """Return the generators none of whose images can be called, but whose sets are nearer than chance explains."""
    return {name: audited for name, audited in generators.items() if audited.findings.decision.is_undecided}


def _near(names: list[str]) -> str:
    return (
        f"No single image can be called a copy, but the images from {listed(names)} lie nearer to the training images "
        "than chance explains; with so few unseen patients it cannot be told which ones are copies."
    )


def _all_clean(generators: Mapping[str, Audited]) -> str:
    which = "Neither of the two" if len(generators) == 2 else f"None of the {len(generators)}"
    first = next(iter(generators.values())).findings
    if first.null is None:
        return (
            f"{which} generators repeated a training image as it is; whether some images are unusually alike cannot be "
            "said without held-out images."
        )
    return f"{which} generators made more images that are unusually like a training image than chance explains."


def _numbers_drawn(generators: Mapping[str, Audited]) -> list[str]:
    if len({audited.n for audited in generators.values()}) == 1:
        return []
    drawn = listed([f"{count(audited.n)} from {name}" for name, audited in generators.items()])
    said = (
        f"Different numbers of images were looked at ({drawn}). Compare the shares of copies; the numbers of patients "
        "and training images shown grow with every image drawn and cannot be compared."
    )
    matched = {audited.findings.decision.n_matched for audited in generators.values()}
    if len(matched) > 1 or matched == {0}:
        return [said]
    expected = listed(
        [f"{roughly(a.findings.decision.n_mem_size_matched)} from {name}" for name, a in generators.items()]
    )
    return [f"{said} As many as {count(matched.pop())} images from each would repeat training images: {expected}."]


def _nothing_found(generators: Mapping[str, Audited]) -> list[str]:
    return [
        f"That no copy was found in {many(audited.n, 'image')} from {name} does not mean that it makes none: up to "
        f"{percent(audited.copied.high)} of its images may be copies."
        for name, audited in generators.items()
        if not audited.findings.decision.n_copies.value
    ]


def _length_of_training(generators: Mapping[str, Audited]) -> list[str]:
    seen = {name: audited.images_seen for name, audited in generators.items()}
    known = [images for images in seen.values() if images is not None]
    if len(known) < len(seen):
        return [
            "How long each generator was trained is not known here. A generator that trains longer may copy more, so "
            "a difference may come from that and not from its kind."
        ]
    if max(known) <= _AS_LONG * min(known):
        return []
    told = listed([f"{name} {count(images)}" for name, images in seen.items() if images is not None])
    return [
        f"The generators were not trained equally long (images seen: {told}). A generator that trains longer may copy "
        "more, so a difference may come from that and not from its kind."
    ]


def _realism(generators: Mapping[str, Audited]) -> list[str]:
    said = "Which images are better is not measured: images that do not look real copy nothing. Look at the samples."
    null = next(iter(generators.values())).findings.null
    if null is None:
        return [said]
    low = sorted(null.score)[int(_LOW_QUANTILE * len(null.score))]
    poor = [name for name, audited in generators.items() if audited.median < low]
    if not poor:
        return [said]
    return [
        f"{said} Half of the images from {listed(poor)} are less like any training image than "
        f"{percent(1 - _LOW_QUANTILE)} of the unseen patients' images are; they may not look real."
    ]
