"""The papers' claims, by key: what each says, where, and the test that judges it on the rows of a study."""

import dataclasses
from collections.abc import Callable, Sequence

from memjax.audit.report.numerals import many
from memjax.errors import UserError
from memjax.study import axis_claims, cell_claims, mitigation_claim, papers, quality_claims, scaling_claims
from memjax.study.compare import UNTESTABLE, Judged, Outcome
from memjax.study.row import Row

_NAMED = 3  # cells named in a reason


@dataclasses.dataclass(frozen=True, kw_only=True)
class Claim:
    """A claim in our words, the paper it is from, and its test."""

    title: str
    text: str
    source: str
    judge: Callable[[Sequence[Row]], Judged]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a study says of one claim."""

    key: str
    title: str
    claim: str  # in our words
    source: str
    outcome: Outcome
    sentence: str  # our numbers with their intervals; "" if there are none
    reason: str  # why this is the outcome
    left_out: str  # of a claim that cannot be tested: cells that failed or are not finished


CLAIMS = {
    "A1": Claim(
        title="Diffusion against GAN",
        text="Diffusion models reproduce training images more readily than StyleGAN does.",
        source=papers.AKBAR,
        judge=axis_claims.diffusion_copies_more,
    ),
    "A2": Claim(
        title="Size of the training set",
        text="The smaller the training set, the more is reproduced. The abstract of paper B's follow-up says in "
        "versions 1 and 3 that larger sets reduce memorization, and in version 2 that they do not.",
        source=papers.AKBAR,
        judge=axis_claims.small_sets_are_copied_more,
    ),
    "A3": Claim(
        title="Training against unseen images",
        text="Synthetic images are more like training images than like images that the generator never saw.",
        source=papers.AKBAR,
        judge=cell_claims.nearer_to_training,
    ),
    "A4": Claim(
        title="Slices against pictures",
        text="Slices that are cut from volumes are reproduced more than pictures such as chest X-rays.",
        source=papers.AKBAR,
        judge=axis_claims.slices_are_copied_more,
    ),
    "A5": Claim(
        title="Scores of quality",
        text="FID and Inception score cannot tell whether a generator copies or generalises.",
        source=papers.AKBAR,
        judge=quality_claims.quality_is_blind,
    ),
    "A6": Claim(
        title="Size of the model",
        text="Larger models reproduce more. Paper A discusses it; the follow-up of paper B reports that a small "
        "architecture memorizes less.",
        source=papers.FOLLOW_UP,
        judge=axis_claims.large_models_copy_more,
    ),
    "B1": Claim(
        title="Volumes of equal edges",
        text="3-D latent diffusion models memorize training volumes of 64 × 64 × 64 (coronary CT).",
        source=papers.DAR,
        judge=cell_claims.cubes_are_memorized,
    ),
    "B2": Claim(
        title="Volumes of few slices",
        text="3-D latent diffusion models memorize training volumes of 256 × 256 × 32 (knee MRI).",
        source=papers.DAR,
        judge=cell_claims.slabs_are_memorized,
    ),
    "B3": Claim(
        title="Augmentation",
        text="Augmentation in training lowers the share of training images that are memorized.",
        source=papers.DAR,
        judge=axis_claims.augmentation_lowers,
    ),
    "B4": Claim(
        title="Pixels against an embedding",
        text="The correlation of pixels misses copies that are flipped or rotated, which a learned embedding sees.",
        source=papers.DAR,
        judge=cell_claims.pixels_miss_turned_copies,
    ),
    "B5": Claim(
        title="Number of samples",
        text="Drawing more synthetic images finds more training images that are memorized.",
        source=papers.DAR,
        judge=cell_claims.more_samples_show_more,
    ),
    "C1": Claim(
        title="Over-training",
        text="Training for longer raises memorization.",
        source=papers.FOLLOW_UP,
        judge=axis_claims.longer_training_copies_more,
    ),
    "C2": Claim(
        title="Duplicates",
        text="Images that are in the training set several times are reproduced more; paper B discusses it as a cause.",
        source=papers.DAR,
        judge=axis_claims.duplicates_are_copied_more,
    ),
    "EMM": Claim(
        title="Effective model memorization",
        text="Up to some number of training images a diffusion model memorizes at least 90 % of what it makes; above, "
        "no longer.",
        source=papers.GU,
        judge=scaling_claims.small_sets_are_memorized_whole,
    ),
    "TAU": Claim(
        title="Onset of memorization",
        text="The training after which memorization begins grows in proportion to the number of training images.",
        source=papers.BONNAIRE,
        judge=scaling_claims.onset_grows_with_the_set,
    ),
    "MITIGATION": Claim(
        title="Mitigation",
        text="Measures against memorization lower it. The follow-up of paper B names augmentation and small "
        "architectures; tested beside them are adaptive discriminator augmentation, de-duplication, early stopping and "
        "release filtering.",
        source=papers.FOLLOW_UP,
        judge=mitigation_claim.mitigations_lower,
    ),
}


def verdicts(keys: Sequence[str], rows: Sequence[Row]) -> list[Verdict]:
    """Judge these claims on the finished rows of a study.

    Raises:
      UserError: there is no claim of a key.
    """
    for key in keys:
        if key not in CLAIMS:
            raise UserError(f"the study names the claim {key!r}; there are {', '.join(CLAIMS)}: see docs/study.md.")
    return [_verdict(key, CLAIMS[key], rows) for key in keys]


def _verdict(key: str, claim: Claim, rows: Sequence[Row]) -> Verdict:
    found = claim.judge(rows)
    return Verdict(
        key=key,
        title=claim.title,
        claim=claim.text,
        source=claim.source,
        outcome=found.outcome,
        sentence=found.sentence,
        reason=found.reason,
        left_out=_left_out(rows) if found.outcome == UNTESTABLE else "",
    )


def _left_out(rows: Sequence[Row]) -> str:
    """Name the cells that could not be asked."""
    failed = [row.cell for row in rows if row.status == "failed"]
    open_ = [row.cell for row in rows if row.status == "waiting"]
    parts = [
        f"{many(len(names), 'cell')} {word} ({_some(names)})"
        for names, word in ((failed, "failed"), (open_, "not finished"))
        if names
    ]
    return "; ".join(parts)


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return "; ".join(names[:_NAMED]) + (f"; and {more} more" if more > 0 else "")
