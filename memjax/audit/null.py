r"""The yardstick: how alike to the training set are images of patients whom the model never saw?

For every held-out image the best training score is taken, over the same training set and the same orientations as for a
synthetic image, so both are maxima over equally many pairs. Images of one patient are alike, so every patient
counts once: an image of a patient with n images has weight 1/n.

A p-value is the share of unseen patients that score as high, (1 + W(s)) / (1 + W). Among W patients it cannot fall
below 1 / (1 + W), which is useless for a handful of copies among thousands of images. Above a high quantile u it
therefore follows the law of nearest-neighbour distances: with d = sqrt(2 (1 - r)), P(distance < d) ~ d^m near 0, where
m is the intrinsic dimension of the data (Levina & Bickel 2004; estimated as by Hill 1975). In z = artanh r, for which
d ~ exp(-z), this is an exponential tail; with its mean excess b estimated from k patients, the predictive tail is

    P(Z > z) = P(Z > z_u) (1 + (z - z_u) / (k b))^-k,                                                             (1)

which is heavier than exponential for small k, so that few held-out patients give cautious p-values.

Every detector's score has such a z; how it is made of the score is the score's *law*:

    correlation   1 - score grows like d^2 (Pearson's r, SSIM):             z = artanh score
    msd           -score is d^2 (mean squared distances):                   z = -log(-score) / 2
    distance      -score is d, or d divided by a length of the query's own
                  neighbourhood (adaptive, ratio, largest of tiles):        z = -log(-score)
    closeness     the score is z, up to scale and shift:                    z = score

For the ratio of the nearest and the second nearest distance the law is exact and not only a tail: with points of
locally even density in m dimensions (d_1 / d_2)^m is uniform (Facco et al. 2017).
"""

import dataclasses
from typing import Literal

import numpy as np

from memjax.errors import UserError

Law = Literal["correlation", "msd", "distance", "closeness"]

_TAIL_SHARE = 0.1  # the part of the patients that the tail is fitted on
_TAIL_PATIENTS = 10  # but at least so many, if there are
_CLOSEST = 1e-12  # 1 - r or d^2 of an exact copy, so that z stays finite


def log_closeness(score: np.ndarray | float, kind: Law) -> np.ndarray:
    """Return z, which grows like -log(distance), by the score's law."""
    score = np.asarray(score, np.float64)
    if kind == "closeness":
        return score
    if kind == "correlation":
        return np.asarray(np.arctanh(np.clip(score, -1 + _CLOSEST, 1 - _CLOSEST)))
    square = -score if kind == "msd" else np.sign(-score) * score**2
    return np.asarray(-0.5 * np.log(np.maximum(square, _CLOSEST)))


def from_log_closeness(z: float, kind: Law) -> float:
    """Return the score whose `log_closeness` is z."""
    if kind == "closeness":
        return float(z)
    if kind == "correlation":
        return float(np.tanh(z))
    return float(-np.exp(-2 * z if kind == "msd" else -z))


@dataclasses.dataclass(frozen=True)
class Null:
    """The distribution of held-out images' best training scores. Make with `fit_null`."""

    score: np.ndarray  # float64 [h], ascending
    patient: np.ndarray  # int64 [h], 0 to P - 1
    weight: np.ndarray  # float64 [h], sums to the number of patients
    kind: Law
    tail_start: float
    tail_share: float
    tail_patients: float
    mean_excess: float

    @property
    def n_patients(self) -> float:
        """The number of patients, each counted once."""
        return float(self.weight.sum())

    def resampled(self, rng: np.random.Generator) -> "Null":
        """Return the null of as many patients drawn from these with replacement (one bootstrap draw)."""
        patients = int(self.patient.max()) + 1
        times = rng.multinomial(patients, np.full(patients, 1 / patients))
        return fit_null(self.score, self.patient, self.kind, times.astype(np.float64))

    def p_value(self, score: np.ndarray | float) -> np.ndarray:
        """Return the probability that an unseen patient's image scores at least this high (equation 1 in the tail)."""
        score = np.asarray(score, np.float64)
        above = self.n_patients - np.concatenate([[0.0], np.cumsum(self.weight)])
        p = (1 + above[np.searchsorted(self.score, score, side="left")]) / (1 + self.n_patients)
        excess = log_closeness(score, self.kind) - log_closeness(self.tail_start, self.kind)
        with np.errstate(invalid="ignore"):
            scaled = np.maximum(excess, 0) / (self.tail_patients * self.mean_excess)
        tail = self.tail_share * (1 + scaled) ** -self.tail_patients
        return np.where(score > self.tail_start, np.minimum(tail, self.tail_share), np.maximum(p, self.tail_share))

    def score_at(self, p: float) -> float:
        """Return the smallest score whose p-value is at most p."""
        if p < self.tail_share:
            scaled = (p / self.tail_share) ** (-1 / self.tail_patients) - 1
            start = log_closeness(self.tail_start, self.kind)
            return from_log_closeness(float(start + scaled * self.tail_patients * self.mean_excess), self.kind)
        enough = np.flatnonzero(self.p_value(self.score) <= p)
        return float(self.score[enough[0]]) if len(enough) else self.tail_start

    def percentile(self, q: float) -> float:
        """Return the patient-weighted percentile of the observed scores; numpy's if every patient has one image."""
        middle = np.cumsum(self.weight) - self.weight / 2
        rank = (middle - middle[0]) / max(middle[-1] - middle[0], 1e-300)
        return float(np.interp(q / 100, rank, self.score))


def fit_null(score: np.ndarray, patient: np.ndarray, kind: Law, times: np.ndarray | None = None) -> Null:
    """Fit the null to held-out images.

    Args:
      score: best training score of each held-out image, [h], finite.
      patient: index of each image's patient, [h], 0 to P - 1.
      kind: the score's law.
      times: how often each patient counts, [P] (a bootstrap's draw); default once.

    Raises:
      UserError: there are fewer than two patients.
    """
    images = np.bincount(patient)
    if len(images) < 2:
        raise UserError(
            f"the held-out images come from {len(images)} patient(s), leaks and images without contrast left out; how "
            "much unseen patients differ cannot be told from fewer than 2. Give held-out images of more patients (20 "
            "or more make a useful reference), or leave --heldout away to list nearest neighbours without a verdict."
        )
    times = np.ones(len(images)) if times is None else times
    order = np.argsort(score, kind="stable")
    order = order[times[patient[order]] > 0]
    score, patient = score[order], patient[order]
    weight = (times / images)[patient]
    total = weight.sum()

    wanted = min(max(_TAIL_SHARE * total, _TAIL_PATIENTS), total / 2)
    above = total - np.cumsum(weight)  # weight of what lies strictly above each score
    start = int(np.argmax(above <= wanted))
    in_tail = score > score[start]
    z = log_closeness(score, kind)
    patients = weight[in_tail].sum()
    excess = float((weight[in_tail] * (z[in_tail] - z[start])).sum() / patients) if patients else 0.0
    return Null(
        score=score,
        patient=patient,
        weight=weight,
        kind=kind,
        tail_start=float(score[start]),
        tail_share=float((1 + patients) / (1 + total)),
        tail_patients=float(max(patients, 1.0)),
        mean_excess=max(excess, 1e-6),  # equal scores above the start: no excess to measure
    )
