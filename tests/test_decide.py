"""Calls and counts on cases whose answer is known."""

import itertools

import numpy as np
import pytest
from small_findings import make_store

from memjax.audit.decide import Criterion, beyond, decide
from memjax.audit.findings import ImageSet, Neighbours
from memjax.audit.null import fit_null
from memjax.errors import UserError


def neighbours(score, ids):
    return Neighbours(score=np.asarray(score, float), id=np.asarray(ids), orientation=np.zeros(np.shape(ids), np.int16))


def reference(rng, n=100):
    """Scores of n unseen patients, all below 0.9."""
    return fit_null(0.9 - 0.3 * rng.uniform(size=n) ** 0.5, np.arange(n), "correlation")


@pytest.fixture
def train(tmp_path):
    """Six images of three patients, two each."""
    images = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 1)).astype(np.uint8)
    store = make_store(tmp_path / "train", images, patients=["a", "a", "b", "b", "c", "c"])
    return ImageSet(role="train", given="train", store=store)


def decided(train, scores, nearest, *, null=None, rule="fdr", value=0.5, train_best=None):
    train_best = np.zeros((6, 1)) if train_best is None else train_best
    return decide(
        Criterion(rule=rule, value=value),
        train=train,
        synthetic_to_train=neighbours(np.reshape(scores, (-1, 1)), np.reshape(nearest, (-1, 1))),
        train_to_synthetic=neighbours(train_best, np.zeros(np.shape(train_best), int)),
        null=null,
        train_to_heldout=None if null is None else np.full((6, 2), 0.4),
    )


def test_exact_copies_are_called_and_strangers_are_not(train):
    rng = np.random.default_rng(1)
    strangers = 0.9 - 0.3 * rng.uniform(size=50) ** 0.5
    best = np.array([[1.0], [0.2], [0.9999], [0.2], [0.3], [0.1]])
    nearest = np.r_[0, 2, np.full(50, 4)]
    found = decided(train, np.r_[1.0, 0.9999, strangers], nearest, null=reference(rng), train_best=best)
    assert found.is_copy[:2].all()
    assert not found.is_copy[2:].any()
    assert not found.is_clean
    assert (found.n_copies.value, found.n_mem.value) == (2, 2)
    assert found.patients_memorized == ["a", "b"]
    assert strangers.max() < found.threshold < 0.9999
    assert found.n_mem_heldout == 0
    assert found.n_copies_by_chance < 1


@pytest.mark.parametrize("rule", ["fdr", "p95", "p99"])
def test_unseen_patients_are_called_clean(train, rule):
    """Over many perfect generators the verdict is wrong at most about as often as declared."""
    wrong = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        null = reference(rng)
        strangers = 0.9 - 0.3 * rng.uniform(size=80) ** 0.5
        wrong += not decided(train, strangers, np.zeros(80, int), null=null, rule=rule).is_clean
    assert wrong <= 6  # 40 * 0.05 = 2 expected; P(more than 6) < 0.003


def test_many_images_beyond_few_patients_are_improbable_though_none_can_be_called(train):
    """Half of the images are copies, but of 12 unseen patients no p-value is small enough for Benjamini-Hochberg."""
    rng = np.random.default_rng(5)
    null = reference(rng, 12)
    strangers = 0.9 - 0.3 * rng.uniform(size=50) ** 0.5
    found = decided(train, np.r_[np.full(50, 0.91), strangers], np.zeros(100, int), null=null)
    assert found.is_clean and found.n_copies.value == 0
    assert found.n_beyond == 50 + (strangers > null.score.max()).sum()
    assert found.p_beyond < 0.001
    assert beyond(strangers, null)[1] > 0.01


def test_the_chance_of_images_beyond_is_that_of_ranks(train):
    """Against all orders of three synthetic and two held-out images, counted; and uniform over perfect generators."""
    orders = set(itertools.permutations("sssPP"))
    for k in range(4):
        null = fit_null(np.array([0.1, 0.5]), np.arange(2), "correlation")
        n, p = beyond(np.r_[np.full(k, 0.6), np.full(3 - k, 0.2)], null)
        assert n == k
        assert p == pytest.approx(sum(order[:k] == ("s",) * k for order in orders) / len(orders))
    chances = []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        null = reference(rng, 20)
        chances.append(beyond(0.9 - 0.3 * rng.uniform(size=200) ** 0.5, null)[1])
    assert 8 <= sum(np.array(chances) <= 0.05) <= 34  # 20 expected; outside in one case of 1000


def test_percentile_rule_is_the_papers(train):
    rng = np.random.default_rng(3)
    null = reference(rng, 400)
    found = decided(train, np.linspace(0.3, 0.95, 200), np.zeros(200, int), null=null, rule="p95")
    assert found.threshold == pytest.approx(np.percentile(null.score, 95))
    np.testing.assert_array_equal(found.is_copy, np.linspace(0.3, 0.95, 200) > found.threshold)
    assert found.n_copies_by_chance == pytest.approx(0.05 * 200, rel=0.1)


def test_benjamini_hochberg_is_the_textbooks(train):
    """Against the step-up procedure written down directly on the p-values."""
    rng = np.random.default_rng(4)
    null = reference(rng)
    scores = np.r_[rng.uniform(0.85, 1.0, 30), rng.uniform(0.3, 0.9, 70)]
    found = decided(train, scores, np.zeros(100, int), null=null)
    p = null.p_value(scores)
    ranked = np.sort(p)
    passing = [ranked[i] for i in range(100) if ranked[i] <= 0.05 * (i + 1) / 100]
    assert passing, "the case should call something"
    np.testing.assert_array_equal(found.is_copy, p <= max(passing))
    np.testing.assert_allclose(found.p_value, p)


def test_given_value_and_no_reference(train):
    scores = [0.7, 0.99995, 0.4]
    assert decided(train, scores, [0, 1, 2], rule="value", value=0.6).is_copy.tolist() == [True, True, False]
    alone = decide(
        Criterion(rule="identical"),
        train=train,
        synthetic_to_train=neighbours(np.reshape(scores, (-1, 1)), np.array([[0], [1], [2]])),
        train_to_synthetic=neighbours(np.zeros((6, 1)), np.zeros((6, 1), int)),
        null=None,
        train_to_heldout=None,
    )
    assert alone.is_copy.tolist() == [False, True, False]
    assert np.isnan(alone.p_value).all()
    assert np.isnan(alone.n_copies_by_chance)
    assert np.isnan(alone.n_mem_heldout)


def test_constant_images_are_neither_copies_nor_counted(train):
    rng = np.random.default_rng(5)
    found = decided(train, [-np.inf, 1.0], [-1, 0], null=reference(rng))
    assert found.is_copy.tolist() == [False, True]
    assert np.isnan(found.p_value[0])
    with pytest.raises(UserError, match="contrast"):
        decided(train, [-np.inf], [-1], null=reference(rng))


def test_size_matching_is_hypergeometric(train):
    """A training image with all S images above the threshold is hit for sure; with one of S, with probability m / S."""
    rng = np.random.default_rng(6)
    best = np.full((6, 10), 0.1)
    best[0] = 1.0
    best[1, 0] = 1.0
    scores = np.r_[np.full(10, 1.0), np.full(30, 0.4)]
    found = decided(train, scores, np.zeros(40, int), null=reference(rng, 20), train_best=best)
    hit = 1 - np.prod([(30 - i) / (40 - i) for i in range(20)])  # ten of forty, twenty drawn
    assert found.n_mem_size_matched == pytest.approx(hit + 20 / 40)


def test_intervals_hold_the_estimate_and_whole_numbers(train):
    rng = np.random.default_rng(7)
    scores = np.r_[np.full(10, 0.9999), 0.9 - 0.3 * rng.uniform(size=40) ** 0.5]
    nearest = np.r_[np.arange(10) % 6, np.zeros(40, int)]
    found = decided(train, scores, nearest, null=reference(rng), train_best=np.ones((6, 1)))
    for interval in (found.n_copies, found.n_mem, found.n_patients_memorized):
        assert interval.low <= interval.value <= interval.high
        assert interval.low == int(interval.low)
    assert found.n_copies.low < 10 < found.n_copies.high
