"""Where several detectors agree, and one verdict of all together.

The combined rule, in words: an image is as suspicious as the detector that is surest of it says, less the price of
having asked all of them: its p-value is the smallest of the D, times D, at most 1 (Bonferroni). That is valid however
much the detectors have in common, and they do look at the same images. From these p-values the images are called by the
step-up procedure of Benjamini & Hochberg at the declared false-discovery rate. So one detector that is very sure is
enough, an image that all find barely suspicious is not called, and each further detector makes all calls a little
harder.
"""

from collections.abc import Sequence

import numpy as np

from memjax.audit.decide import patient_index
from memjax.audit.findings import Agreement, Decision, ImageSet, Neighbours


def agreement(
    names: Sequence[str],
    decisions: Sequence[Decision],
    nearest: Sequence[Neighbours],
    *,
    train: ImageSet,
    rate: float,
) -> Agreement:
    """Put the decisions of several detectors together.

    Args:
      names: of the detectors, [D], D > 0.
      decisions: of each on the same synthetic images, calibrated on held-out ones.
      nearest: each one's best training images of the synthetic ones.
      train: the training set, for its patients.
      rate: the false-discovery rate of the combined verdict.
    """
    p_value = np.stack([decision.p_value for decision in decisions], axis=1)
    calls = np.stack([decision.is_copy for decision in decisions], axis=1)
    known = ~np.isnan(p_value)
    least = np.where(known, p_value, np.inf).min(axis=1)
    combined = np.where(known.any(axis=1), np.minimum(len(names) * least, 1), np.nan)
    is_copy = step_up(combined, rate)
    surest = np.where(known, p_value, np.inf).argmin(axis=1)
    best = np.stack([near.id[:, 0] for near in nearest], axis=1)[np.arange(len(surest)), surest]
    patients = patient_index(train, np.arange(len(train.store)))
    return Agreement(
        names=tuple(names),
        calls=calls,
        p_value=p_value,
        combined_p=combined,
        is_copy=is_copy,
        rate=rate,
        kappa=kappas(calls),
        n_patients_memorized=len(np.unique(patients[best[is_copy]])),
    )


def step_up(p_value: np.ndarray, rate: float) -> np.ndarray:
    """Return what is called at a false-discovery rate (Benjamini & Hochberg 1995); nan is never called: bool [n]."""
    known = np.sort(p_value[~np.isnan(p_value)])
    passing = np.flatnonzero(known <= rate * np.arange(1, len(known) + 1) / max(len(known), 1))
    if not len(passing):
        return np.zeros(len(p_value), bool)
    return p_value <= known[passing[-1]]


def kappas(calls: np.ndarray) -> np.ndarray:
    """Return Cohen's kappa of each two columns of calls, bool [n, D]: float64 [D, D].

    nan where chance alone makes them agree for certain: both always say the same one thing.
    """
    share = calls.mean(axis=0)
    both = (calls[:, :, None] == calls[:, None, :]).mean(axis=0)
    chance = share[:, None] * share + (1 - share[:, None]) * (1 - share)
    return np.where(chance < 1, (both - chance) / np.where(chance < 1, 1 - chance, 1), np.nan)
