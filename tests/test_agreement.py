"""The detectors' agreement and the combined verdict, against plain loops."""

import dataclasses

import numpy as np
import pytest
from small_findings import planted_findings

from memjax.audit.agreement import agreement, kappas
from memjax.audit.decide import step_up
from memjax.audit.findings import Neighbours


def kappa_of_table(one, two):
    """Cohen's kappa by its confusion table."""
    n = len(one)
    table = np.array([[np.sum((one == a) & (two == b)) for b in (False, True)] for a in (False, True)])
    observed = np.trace(table) / n
    chance = float(table.sum(0) @ table.sum(1)) / n**2
    return (observed - chance) / (1 - chance) if chance < 1 else np.nan


def test_kappa_is_that_of_the_confusion_table():
    rng = np.random.default_rng(0)
    calls = rng.uniform(size=(50, 4)) < [0.1, 0.5, 0.6, 0.0]
    calls[:, 2] = calls[:, 1] ^ (rng.uniform(size=50) < 0.1)
    found = kappas(calls)
    for i in range(4):
        for j in range(4):
            assert found[i, j] == pytest.approx(kappa_of_table(calls[:, i], calls[:, j]), nan_ok=True), (i, j)
    assert np.isnan(found[3, 3])
    assert found[1, 1] == 1


def test_step_up_is_benjamini_and_hochbergs():
    rng = np.random.default_rng(1)
    for _ in range(20):
        p = np.r_[rng.uniform(size=30), rng.uniform(0, 0.01, 5)]
        p[rng.integers(30)] = np.nan
        known = sorted(p[~np.isnan(p)])
        last = max((i for i, value in enumerate(known, 1) if value <= 0.1 * i / len(known)), default=0)
        wanted = np.zeros(35, bool) if not last else p <= known[last - 1]
        np.testing.assert_array_equal(step_up(p, 0.1), wanted)
    assert not step_up(np.full(3, np.nan), 0.1).any()


def test_the_surest_detector_decides_after_paying_for_all(tmp_path):
    findings = planted_findings(tmp_path)  # 8 synthetic images, patients of two training images each
    p = np.ones((8, 3))
    p[0] = (0.9, 0.001, 0.9)  # one is sure
    p[1] = (0.009, 0.008, 0.009)  # all are barely suspicious: 3 x 0.008 is above 0.05 x 2 / 8
    p[2] = (np.nan, 0.002, 0.5)  # no score by one
    p[3] = np.nan
    calls = p < 0.01
    decisions = [dataclasses.replace(findings.decision, p_value=p[:, d], is_copy=calls[:, d]) for d in range(3)]
    nearest = [
        Neighbours(score=np.zeros((8, 1)), id=np.full((8, 1), id_), orientation=np.zeros((8, 1), np.int16))
        for id_ in (8, 4, 10)
    ]
    found = agreement(["a", "b", "c"], decisions, nearest, train=findings.train, rate=0.05)
    np.testing.assert_allclose(found.combined_p, [0.003, 0.024, 0.006, np.nan, 1, 1, 1, 1])
    np.testing.assert_array_equal(np.flatnonzero(found.is_copy), [0, 2])
    assert found.n_patients_memorized == 1  # both by the second detector: training image 4
    np.testing.assert_array_equal(found.calls, calls)
