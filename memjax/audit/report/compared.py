"""Which audits may be set side by side, and the numbers that only a comparison needs."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from memjax.audit.findings import Findings, ImageSet, Interval
from memjax.errors import UserError

_NONE_FOUND = 3.0  # with 0 found, up to 3 can be there (95 %: the rule of three); a bootstrap of nothing has no width


@dataclasses.dataclass(frozen=True, kw_only=True)
class Audited:
    """One generator: what its audit found, where its own report is, and how long it was trained."""

    findings: Findings
    link: str = ""  # its report.html, relative to the comparison; "" if there is none
    images_seen: int | None = None  # real images shown to it in training, repeats counted; None: not known

    @property
    def n(self) -> int:
        """Number of images drawn."""
        return len(self.findings.synthetic.store)

    @property
    def score(self) -> np.ndarray:
        """The best training score of each image that has one, float64 [at most n]."""
        best = self.findings.synthetic_to_train.score[:, 0]
        return best[np.isfinite(best)]

    @property
    def median(self) -> float:
        """The median of `score`; nan if there is none."""
        return float(np.median(self.score)) if self.score.size else float("nan")

    @property
    def copied(self) -> Interval:
        """The part of the images that are copies, with an interval that has a width even where none was found."""
        copies = self.findings.decision.n_copies
        high = copies.high if copies.value else max(copies.high, min(_NONE_FOUND, self.n))
        return Interval(value=copies.value / self.n, low=copies.low / self.n, high=high / self.n)

    @property
    def n_above_p99(self) -> int | None:
        """How many images score above what 99 % of unseen patients' images do; None without held-out images."""
        null = self.findings.null
        return None if null is None else int((self.score > null.p99).sum())

    def copies_more_than(self, other: "Audited") -> bool:
        """Say whether more of its images are copies: beyond both intervals, and by one threshold for both as well."""
        mine, theirs = self.n_above_p99 or 0, other.n_above_p99 or 0
        return self.copied.low > other.copied.high and mine / self.n >= theirs / other.n


def check(generators: Mapping[str, Audited]) -> None:
    """Raise `UserError` unless all were audited against the same images, in the same way."""
    assert generators, "nothing to compare"
    name, first = next(iter(generators.items()))
    for other_name, other in generators.items():
        for term, theirs in _terms(other.findings).items():
            mine = _terms(first.findings)[term]
            if mine[0] != theirs[0]:
                raise UserError(
                    f"{name} and {other_name} cannot be set side by side, for {term} differs: {mine[1]} for {name}, "
                    f"{theirs[1]} for {other_name}; audit both with the same."
                )
        if not _same_yardstick(first.findings, other.findings):
            raise UserError(
                f"{name} and {other_name} cannot be set side by side: the same held-out images score differently in "
                "the two audits; audit both with the same --channels and options."
            )


def _terms(findings: Findings) -> dict[str, tuple[Any, str]]:
    """Return what must be equal, each with how it is shown."""
    decision = findings.decision
    rule = (decision.rule, decision.threshold if decision.rule == "value" else str(decision.rate))  # nan is not nan
    return {
        "the training set": _set(findings.train),
        "the held-out set": _set(findings.heldout),
        "the score": (findings.score, findings.score),
        "what counts as the same orientation": (tuple(findings.orientations), ", ".join(findings.orientations)),
        "the rule for calling copies": (rule, f"{rule[0]} {rule[1]}"),
    }


def _set(images: ImageSet | None) -> tuple[str, str]:
    if images is None:
        return "", "none"
    digest = images.store.manifest.digest
    return digest, f"{images.given} (digest {digest[:12]}…)"


def _same_yardstick(one: Findings, two: Findings) -> bool:
    """Say whether the held-out images have the same scores, up to the rounding of another way to search."""
    if one.null is None or two.null is None:
        return one.null is two.null
    return one.null.score.shape == two.null.score.shape and np.allclose(one.null.score, two.null.score, atol=1e-4)
