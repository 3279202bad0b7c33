"""Held-out retrieval: planted answers, ties that count against it, and the area under the curve as scipy finds it."""

import numpy as np
import pytest
from scipy import stats

from memjax.objectives.retrieval import auc, ranks_of, retrieval, similarity

RNG = np.random.default_rng(0)
NOBODY = np.full(4, -1, np.int32)


def test_planted_views_and_patients():
    # Two patients of two images, two images of people whom nobody knows. One view is nearer to a stranger's image.
    image = np.float32([[0, 0], [1, 0], [10, 0], [14, 0], [20, 0], [30, 0]])
    view = image + np.float32([0.1, 0])
    view[4] = [29, 0]
    patient = np.int32([0, 0, 1, 1, -1, -1])
    found = retrieval(image, view, patient, score="distance")
    assert found.view_recall == pytest.approx(5 / 6)
    assert found.view_mrr == pytest.approx((5 + 1 / 2) / 6)
    assert (found.patient_recall, found.patient_mrr) == (1, 1)
    image[3] = [19, 0]  # nearer to a stranger at 20, and from 10 the nearest is at 1 as at 19: a tie is no find
    found = retrieval(image, image, patient, score="distance")
    assert found.view_recall == 1
    assert found.patient_recall == pytest.approx(2 / 4) and found.patient_mrr == pytest.approx((2 + 1 / 2 + 1 / 2) / 4)


def test_a_descriptor_that_says_the_same_of_all_finds_nothing():
    alike = np.ones((4, 3), np.float32)
    for score in ("cosine", "distance"):
        found = retrieval(alike, alike, np.int32([0, 0, 1, 1]), score=score)
        assert (found.view_recall, found.patient_recall, found.auc) == (0, 0, 0.5)
        assert found.view_mrr == pytest.approx(1 / 4)


def test_what_cannot_be_said_is_nan():
    image = RNG.normal(size=(4, 3)).astype(np.float32)
    found = retrieval(image, image, NOBODY)
    assert np.isnan(found.patient_recall) and np.isnan(found.patient_mrr)
    assert (found.view_recall, found.auc) == (1, 1)
    assert np.isnan(retrieval(image[:1], image[:1], NOBODY[:1]).auc)


def test_the_order_of_images_and_the_length_of_descriptors_do_not_count():
    image, view = (RNG.normal(size=(30, 4)).astype(np.float32) for _ in range(2))
    view += image
    patient = RNG.integers(-1, 8, 30).astype(np.int32)
    first = retrieval(image, view, patient)
    order = RNG.permutation(30)
    longer = RNG.uniform(0.5, 2, (30, 1)).astype(np.float32)
    assert retrieval(image[order], (view * longer)[order], patient[order]) == pytest.approx(first)
    assert 0 < first.view_recall < 1 and 0.5 < first.auc < 1


def test_ranks_and_area():
    found = RNG.normal(size=(20, 9)).round(1)  # with ties
    own = np.eye(20, 9, dtype=bool)[RNG.permutation(20) % 9]
    own[:, 0] |= ~own.any(1)
    for row, target, rank in zip(found, own, ranks_of(found, own, np.ones_like(own)), strict=True):
        assert rank == 1 + (row[~target] >= row[target].max()).sum()
    positive, negative = found[own], found[~own]
    u = stats.mannwhitneyu(positive, negative).statistic
    assert auc(positive, negative) == pytest.approx(u / (len(positive) * len(negative)))
    a, b = RNG.normal(size=(2, 5, 3))
    cosine = [[x @ y / np.linalg.norm(x) / np.linalg.norm(y) for y in b] for x in a]
    np.testing.assert_allclose(similarity(a, b, "cosine"), cosine, rtol=1e-9)
