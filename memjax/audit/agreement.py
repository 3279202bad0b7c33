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
from jaxtyping import Int

from memjax.audit.decide import patient_index, step_up
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
    combined, surest = bonferroni(p_value)
    is_copy = step_up(combined, rate)
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


def bonferroni(p_value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Combine the p-values of D detectors, [n, D], nan where one has none.

    Returns:
      the smallest of each row, times D, at most 1, float64 [n] (nan where all are), and whose it is, int64 [n].
    """
    known = np.where(np.isnan(p_value), np.inf, p_value)
    least = known.min(axis=1)
    return np.where(np.isfinite(least), np.minimum(p_value.shape[1] * least, 1), np.nan), known.argmin(axis=1)


def kappas(calls: np.ndarray) -> np.ndarray:
    """Return Cohen's kappa of each two columns of calls, bool [n, D]: float64 [D, D]."""
    columns = calls.astype(np.int64).T
    return np.array([[cohens_kappa(one, other) for other in columns] for one in columns])


def cohens_kappa(first: Int[np.ndarray, " n"], second: Int[np.ndarray, " n"]) -> float:
    """Return how far two readers (or detectors) agree beyond chance: (p_o - p_e) / (1 - p_e), at most 1 (Cohen 1960).

    p_o is the share of pairs with the same label, p_e the share expected of readers who keep their own proportions of
    labels but do not look. Not a number without pairs, and where both always give one and the same label.

    Args:
      first: one reader's labels, numbers from 0 on.
      second: the other's of the same pairs.
    """
    if not len(first):
        return float("nan")
    n_labels = int(max(first.max(), second.max())) + 1
    share = [np.bincount(labels, minlength=n_labels) / len(labels) for labels in (first, second)]
    observed, expected = float((first == second).mean()), float(share[0] @ share[1])
    return (observed - expected) / (1 - expected) if expected < 1 else float("nan")
