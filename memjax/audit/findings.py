"""What an audit finds, as plain data: made by `null` and `decide`, read by `report`. No computation lives here.

Sides are named as in the field: *query* = the images asked about, *gallery* = the images searched. Scores are Pearson
correlations in [-1, 1], or the negative mean squared distance of images in [-1, 1]; higher is always more alike.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from memjax.data.store import Store

Role = Literal["train", "synthetic", "heldout"]
Rule = Literal["fdr", "p95", "p99", "value", "identical"]
Verdict = Literal["copies found", "undecided", "no copies found"]

_CHANCE_AS_A_SET = 0.001  # a set that is this improbable, if it shows unseen patients, is not said to be free of copies


@dataclasses.dataclass(frozen=True, kw_only=True)
class Neighbours:
    """The k best gallery images of each query image, best first, ties to the lower id.

    `orientation` is the index (into the audit's list of orientations) of the operation that turns the *training* or
    gallery image into the query image. Where a query has fewer than k neighbours (it is constant, or the gallery is
    small) the id is -1 and the score -inf.
    """

    score: np.ndarray  # float64 [n, k]
    id: np.ndarray  # int64 [n, k]
    orientation: np.ndarray  # int16 [n, k]


@dataclasses.dataclass(frozen=True)
class Histogram:
    """How many (query, gallery) pairs have their best-over-orientations score in each bin: of all, or of a sample."""

    edges: np.ndarray  # float64 [bins + 1]
    count: np.ndarray  # int64 [bins]
    is_sample: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageSet:
    """One of the folders of an audit. `constant` are ids of images without any contrast: no correlation exists."""

    role: Role
    given: str
    store: Store
    constant: Sequence[int] = ()

    @property
    def n_patients(self) -> int | None:
        """Number of patients, None where they are not known."""
        known = {item.patient for item in self.store.items if item.patient}
        return len(known) if self.store.manifest.has_patients else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Leak:
    """An image or a patient in two of the folders: "same image", "same patient" or "near-identical image"."""

    kind: str
    roles: tuple[str, str]
    ids: tuple[int, int]
    patient: str = ""
    score: float = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class NullSummary:
    """How alike unseen patients' images are to the training set: the yardstick."""

    score: np.ndarray  # float64 [h], the best training score of each held-out image used
    id: np.ndarray  # int64 [h], their ids in the held-out store
    n_patients: int
    by_patient: bool  # False: patient ids unknown, every image counted as a patient of its own
    left_out: Mapping[str, int]  # reason -> how many held-out images were not used (leaks, constant)
    p95: float
    p99: float
    tail_start: float  # above this score, p-values come from the fitted tail
    tail_patients: int  # how many patients the tail was fitted on
    tail_dimension: float  # the fitted exponent: the intrinsic dimension seen by nearest neighbours


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decision:
    """Which synthetic images are called copies, and how sure."""

    rule: Rule
    rate: float  # the declared false-discovery rate ("fdr") or per-image rate ("p95", "p99"); nan otherwise
    threshold: float  # copies are the synthetic images with a score above it
    p_value: np.ndarray  # float64 [S]; nan without a null, and for constant images
    is_copy: np.ndarray  # bool [S]
    is_clean: bool  # the verdict on the set: no more copies than the declared rate explains
    n_copies: Interval  # synthetic images that are copies
    n_copies_by_chance: float  # how many unseen patients' images would be called, at this S; nan without a null
    n_mem: Interval  # training images with a synthetic image above the threshold
    n_matched: int  # the size of the smaller set, synthetic or held-out: both are compared at it; 0 without a null
    n_mem_size_matched: float  # expected training images with one of `n_matched` synthetic images above; nan without
    n_mem_heldout: float  # the same with `n_matched` held-out images; nan without a null
    patients_memorized: Sequence[str]  # their patient ids (or sources where patients are unknown), most copied first
    n_patients_memorized: Interval
    n_beyond: int  # synthetic images that score higher than every held-out image; 0 without a null
    p_beyond: float  # the chance of so many, if they showed unseen patients; nan without a null

    @property
    def is_undecided(self) -> bool:
        """No image can be called, but the set lies nearer than unseen patients' images do.

        That is so where the held-out patients are few: no p-value is then small enough, even of exact copies.
        """
        return self.is_clean and is_beyond_chance(self.p_beyond)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Detected:
    """What one detector finds among the same images. Its scores are its own, higher is always more alike.

    The searches are like those of `Findings`, of at least one neighbour; `tau` and what follows it is the rule of the
    follow-up of paper B (arXiv 2402.01054): the 95th percentile of the training images' best held-out scores.
    """

    name: str  # as it is asked for: "correlation", "embedding:NAME"
    title: str  # for people
    source: str  # who proposed it
    invariant_to: Sequence[str]  # what a copy may differ by and still score alike, by design
    is_control: bool  # it never saw the training images, or not those that it is asked about
    score_name: str  # what its score is: "correlation", "negative mean squared distance"…
    synthetic_to_train: Neighbours
    train_to_synthetic: Neighbours
    heldout_to_train: Neighbours | None
    train_to_heldout: Neighbours | None
    null: NullSummary | None
    decision: Decision
    tau: float  # nan without held-out images
    tau_n_mem: int  # training images with a synthetic image above tau
    tau_n_copies: int  # synthetic images with a training image above tau


@dataclasses.dataclass(frozen=True, kw_only=True)
class Agreement:
    """Which detectors call which synthetic image, and the verdict of all together.

    The combined p-value is the smallest of the D, times D (Bonferroni: valid however the detectors depend on each
    other); copies are called from it at the declared false-discovery rate (Benjamini & Hochberg).
    """

    names: Sequence[str]  # [D], as in `Detected.name`
    calls: np.ndarray  # bool [S, D]
    p_value: np.ndarray  # float64 [S, D]; nan for images without a score
    combined_p: np.ndarray  # float64 [S]
    is_copy: np.ndarray  # bool [S]: the combined verdict
    rate: float  # its declared false-discovery rate
    kappa: np.ndarray  # float64 [D, D]: Cohen's kappa of each two detectors' calls; nan where both always say the same
    n_patients_memorized: int  # patients of the combined verdict's nearest training images


@dataclasses.dataclass(frozen=True, kw_only=True)
class Growth:
    """How many different training images, or patients, are found as more is drawn, and how many there may be in all."""

    of: Literal["images", "patients"]
    n_drawn: int  # synthetic images drawn
    n_copies: int  # of which so many are copies
    n_train: int  # training images or patients there are
    found: int  # different ones among the copies
    drawn: np.ndarray  # int64 [G], ascending: numbers of synthetic images
    expected: np.ndarray  # float64 [G]: rarefied up to n_drawn, extrapolated above
    low: np.ndarray  # float64 [G], 95 %
    high: np.ndarray  # float64 [G]
    tenfold: Interval  # at ten times n_drawn
    chao1: Interval  # in all, at least (Chao 1984); never above n_train
    ace: Interval  # in all, by coverage (Chao & Lee 1992)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Confusion:
    """A detector's calls on the pairs that readers agreed on; the readers are the truth."""

    name: str
    both_copy: int
    only_detector: int
    only_readers: int
    both_novel: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Labelled:
    """What two readers said of candidate pairs (paper B, figure 3b)."""

    readers: Sequence[str]
    n_pairs: int  # shown
    n_both: int  # labelled by both readers
    n_copy: int  # both said copy
    n_novel: int  # both said novel
    n_open: int  # they differ, or one is unsure
    kappa: float  # Cohen's, of copy / novel / unsure; nan with one reader
    synthetic: np.ndarray  # int64 [n], ids of the pairs with a consensus
    train: np.ndarray  # int64 [n]
    is_copy: np.ndarray  # bool [n]
    confusions: Sequence[Confusion]  # one a detector


@dataclasses.dataclass(frozen=True, kw_only=True)
class Findings:
    """Everything that the report states."""

    train: ImageSet
    synthetic: ImageSet
    heldout: ImageSet | None
    score: Literal["correlation", "msd"]
    k: int  # neighbours listed in pairs.csv
    orientations: Sequence[str]  # names, "identity" first
    synthetic_to_train: Neighbours
    train_to_synthetic: Neighbours
    heldout_to_train: Neighbours | None
    train_to_heldout: Neighbours | None
    synthetic_to_heldout: Neighbours | None
    all_pairs: Histogram  # synthetic x train
    null: NullSummary | None
    decision: Decision
    foreground_share: float  # part of the pixels that is foreground; 1.0 if there is no common background
    foreground: Decision | None  # the same decision on foreground pixels only; None if not computed
    foreground_null: NullSummary | None
    foreground_score: np.ndarray | None  # float64 [S], each synthetic image's best training score on the foreground
    duplicates: Sequence[Sequence[int]]  # groups of training ids with practically identical images
    leaks: Sequence[Leak]
    warnings: Sequence[str] = ()  # one sentence each: what limits the conclusion
    detectors: Sequence[Detected] = ()  # others than the one above, which the verdict is of
    agreement: Agreement | None = None  # with several detectors and a null
    growth: Sequence[Growth] = ()  # of images and, where they are known, of patients; none without copies
    labelled: Labelled | None = None  # what readers said, where they were asked

    @property
    def is_clean(self) -> bool:
        """The verdict: neither the audit's own detector finds copies, nor do all detectors together."""
        return self.decision.is_clean and (self.agreement is None or not self.agreement.is_copy.any())

    @property
    def verdict(self) -> Verdict:
        """In a word."""
        if not self.is_clean:
            return "copies found"
        return "undecided" if self.decision.is_undecided else "no copies found"


def is_beyond_chance(p_beyond: float) -> bool:
    """Say whether a set is too near to the training images to be said to show unseen patients; not where unknown."""
    return p_beyond < _CHANCE_AS_A_SET
