"""From scores to calls: which synthetic images are copies, how many of what, and how sure.

The default rule controls the false-discovery rate: each synthetic image's best training score gets a p-value from the
held-out null, and Benjamini & Hochberg's step-up procedure (1995) calls as many copies as the declared rate allows. For
a generator that only makes unseen patients' images the chance that anything is called at all is at most that rate.
The papers' rule calls whatever exceeds the 95th (or 99th) percentile of the null, so that a perfect generator has 5 %
(1 %) "copies"; there the set is called clean unless there are more than the rate explains.

Intervals are percentile bootstraps of 95 %. Each draw resamples the held-out patients (and fits the null and the
threshold again), the synthetic images, and the training patients, whole patients at a time.
"""

import dataclasses
from collections import Counter

import numpy as np
from scipy import stats

from memjax.audit.findings import Decision, ImageSet, Interval, Neighbours, NullSummary, Rule
from memjax.audit.leaks import NEAR_IDENTICAL
from memjax.audit.null import Null
from memjax.errors import UserError

_DRAWS = 500
_PERCENTILE = {"p95": 95.0, "p99": 99.0}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Criterion:
    """How copies are called: a rule, its declared rate ("fdr") and its score ("value")."""

    rule: Rule = "fdr"
    rate: float = 0.05
    value: float = NEAR_IDENTICAL

    def threshold(self, score: np.ndarray, null: Null | None) -> float:
        """Return the score that a copy exceeds, given all synthetic images' best scores (finite ones)."""
        if self.rule == "value" or self.rule == "identical":
            return self.value
        assert null is not None, "the launcher falls back to `identical` without held-out images"
        if self.rule in _PERCENTILE:
            return null.percentile(_PERCENTILE[self.rule])
        called = int(step_up(null.p_value(score), self.rate).sum())
        if not called:
            return max(null.score_at(self.rate / len(score)), float(score.max()))
        return float(np.nextafter(np.sort(score)[-called], -np.inf))


def step_up(p_value: np.ndarray, rate: float) -> np.ndarray:
    """Return what is called at a false-discovery rate (Benjamini & Hochberg 1995); nan is never called: bool [n]."""
    known = np.sort(p_value[~np.isnan(p_value)])
    passing = np.flatnonzero(known <= rate * np.arange(1, len(known) + 1) / max(len(known), 1))
    if not len(passing):
        return np.zeros(len(p_value), bool)
    return p_value <= known[passing[-1]]


def decide(
    criterion: Criterion,
    *,
    train: ImageSet,
    synthetic_to_train: Neighbours,
    train_to_synthetic: Neighbours,
    null: Null | None,
    train_to_heldout: np.ndarray | None,
    seed: int = 0,
) -> Decision:
    """Call the copies and count them per synthetic image, per training image and per patient.

    Args:
      criterion: the rule.
      train: the training set, for its patients.
      synthetic_to_train: each synthetic image's best training images.
      train_to_synthetic: each training image's best synthetic images.
      null: the held-out reference; None without held-out images.
      train_to_heldout: each training image's best scores among the held-out images used, [N, k]; -inf for others.
      seed: of the bootstrap.

    Raises:
      UserError: no synthetic image has a score.
    """
    best, nearest = synthetic_to_train.score[:, 0], synthetic_to_train.id[:, 0]
    scored = np.flatnonzero(nearest >= 0)
    if not len(scored):
        raise UserError(
            "none of the synthetic images has any contrast, or none of the training images; nothing to compare."
        )
    threshold = criterion.threshold(best[scored], null)
    is_copy = np.where(nearest >= 0, best, -np.inf) > threshold
    p_value = np.full(len(best), np.nan)
    if null is not None:
        p_value[scored] = null.p_value(best[scored])
    train_best = train_to_synthetic.score[:, 0]
    patients = _patients(train)
    copied = Counter(patients[nearest[is_copy]].tolist())
    names = _patient_names(train, patients)
    draws = _bootstrap(criterion, null, best, nearest, train_best, patients, np.random.default_rng(seed))
    n_heldout = 0 if null is None else len(null.score)
    n_beyond, p_beyond = (0, float("nan")) if null is None else beyond(best[scored], null)
    matched = min(n_heldout, len(best))
    heldout_hits = np.zeros((0, 1), bool) if train_to_heldout is None else train_to_heldout > threshold
    return Decision(
        rule=criterion.rule,
        rate={"fdr": criterion.rate, "p95": 0.05, "p99": 0.01}.get(criterion.rule, float("nan")),
        threshold=threshold,
        p_value=p_value,
        is_copy=is_copy,
        is_clean=_is_clean(criterion, int(is_copy.sum()), len(scored), null),
        n_copies=_interval(int(is_copy.sum()), draws[:, 0]),
        n_copies_by_chance=float("nan") if null is None else float(null.p_value(threshold)) * len(scored),
        n_mem=_interval(int((train_best > threshold).sum()), draws[:, 1]),
        n_matched=matched,
        n_mem_size_matched=_expected_hits(train_to_synthetic.score > threshold, len(best), matched),
        n_mem_heldout=_expected_hits(heldout_hits, n_heldout, matched),
        patients_memorized=[names[patient] for patient, _ in copied.most_common()],
        n_patients_memorized=_interval(len(copied), draws[:, 2]),
        n_beyond=n_beyond,
        p_beyond=p_beyond,
    )


def beyond(score: np.ndarray, null: Null) -> tuple[int, float]:
    """Return how many synthetic images score higher than every held-out image, and the chance of so many.

    Of S images of unseen patients and those of P held-out patients, one a patient, every order is as probable as any
    other, so the chance that the k highest are all synthetic is the product of (S - i) / (S + P - i) for i below k. A
    held-out patient with several images has several chances to be the highest, which makes this cautious.

    It asks one question of the whole set, and so has an answer where there are too few held-out patients to call
    single images: the p-value of one image cannot fall far below 1 / (1 + P).

    Args:
      score: best training score of each synthetic image, [S], finite.
      null: of the held-out images.
    """
    k, n = int((score > null.score.max()).sum()), len(score)
    i = np.arange(k)
    return k, float(np.exp(np.log((n - i) / (n + null.n_patients - i)).sum()))


def _interval(value: int, draws: np.ndarray) -> Interval:
    low, high = np.percentile(draws, [2.5, 97.5], method="nearest")  # counts stay whole
    return Interval(value=float(value), low=float(low), high=float(high))


def summarize(
    null: Null, ids: np.ndarray, score: np.ndarray, *, by_patient: bool, left_out: dict[str, int]
) -> NullSummary:
    """Put the null into the report's terms; `ids` and `score` are the held-out images used."""
    return NullSummary(
        score=score,
        id=ids,
        n_patients=round(null.n_patients),
        by_patient=by_patient,
        left_out=left_out,
        p95=null.percentile(95.0),
        p99=null.percentile(99.0),
        tail_start=null.tail_start,
        tail_patients=round(null.tail_patients),
        tail_dimension=1 / null.mean_excess,
    )


def patient_index(images: ImageSet, ids: np.ndarray) -> np.ndarray:
    """Number the patients of these images 0 to P - 1; an image whose patient is unknown is a patient of its own."""
    names = [images.store.items[i].patient or f"\0{i}" for i in ids]
    return np.unique(names, return_inverse=True)[1]


def _patients(train: ImageSet) -> np.ndarray:
    return patient_index(train, np.arange(len(train.store)))


def _patient_names(train: ImageSet, patients: np.ndarray) -> dict[int, str]:
    return {
        int(patient): item.patient or item.source for patient, item in zip(patients, train.store.items, strict=True)
    }


def _is_clean(criterion: Criterion, copies: int, scored: int, null: Null | None) -> bool:
    """Say whether the declared rate explains the copies.

    Above a percentile of W null patients lies a beta-binomial number of images: the percentile is itself estimated.
    """
    if criterion.rule not in _PERCENTILE or null is None:
        return copies == 0
    rate = 1 - _PERCENTILE[criterion.rule] / 100
    ranks = null.n_patients + 1
    return bool(stats.betabinom.sf(copies - 1, scored, rate * ranks, (1 - rate) * ranks) >= 0.05)


def _expected_hits(hits: np.ndarray, n: int, drawn: int) -> float:
    """Return how many training images are hit, on average, by a random choice of `drawn` of n images.

    A training image with c of the n images above the threshold (`hits` [N, k]) is missed with the hypergeometric
    probability C(n - c, drawn) / C(n, drawn). c is counted among its k stored neighbours: a lower bound for large c.
    """
    if not drawn:
        return float("nan")
    return float((1 - stats.hypergeom.pmf(0, n, hits.sum(1), drawn)).sum())


def _bootstrap(
    criterion: Criterion,
    null: Null | None,
    best: np.ndarray,
    nearest: np.ndarray,
    train_best: np.ndarray,
    patients: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return bootstrap draws of (copies, training images memorized, patients memorized): [draws, 3]."""
    draws = []
    n_patients = int(patients.max()) + 1
    for _ in range(_DRAWS):
        sample = rng.integers(len(best), size=len(best))
        score = best[sample]
        finite = np.isfinite(score)
        drawn_null = null and null.resampled(rng)
        if not finite.any():
            draws.append((0, 0, 0))
            continue
        threshold = criterion.threshold(score[finite], drawn_null)
        times = rng.multinomial(n_patients, np.full(n_patients, 1 / n_patients))
        copied = np.unique(patients[nearest[best > threshold]])  # all copies: a resample would lose distinct patients
        memorized = times[patients[train_best > threshold]].sum()
        draws.append((int((score > threshold).sum()), memorized, times[copied].sum()))
    return np.array(draws)
