"""The null's p-values: honest where they can be counted, cautious where they are extrapolated."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from memjax.audit.null import fit_null, from_log_closeness, log_closeness
from memjax.errors import UserError

LAWS = ("correlation", "msd", "distance", "closeness")


def distances_to_scores(distance):
    return 1 - distance**2 / 2


def nearest_neighbour_scores(rng, n, dimension, scale=0.5):
    """Scores whose distances follow the nearest-neighbour law in m = `dimension`: P(d < x) = (x / scale)^m."""
    return distances_to_scores(scale * rng.uniform(size=n) ** (1 / dimension))


def test_counted_p_values_are_those_of_a_permutation_test():
    score = np.linspace(0.1, 0.6, 101)
    null = fit_null(score, np.arange(101), "correlation")
    for s in (0.05, 0.3, 0.455, 0.5):
        assert null.p_value(s) == pytest.approx((1 + (score >= s).sum()) / 102)


def test_a_patient_counts_once_however_many_images():
    """A hundred equal images of one patient weigh as much as one image of another."""
    rng = np.random.default_rng(0)
    single = rng.uniform(0.2, 0.5, 40)
    crowd = np.full(100, 0.45)
    null = fit_null(np.r_[single, crowd], np.r_[np.arange(40), np.full(100, 40)], "correlation")
    alone = fit_null(np.r_[single, 0.45], np.arange(41), "correlation")
    assert null.n_patients == pytest.approx(41)
    for s in (0.25, 0.35):
        assert null.p_value(s) == pytest.approx(float(alone.p_value(s)))


@pytest.mark.parametrize("kind", ["correlation", "msd"])
def test_tail_exponent_is_the_dimension(kind):
    rng = np.random.default_rng(1)
    distance = 0.5 * rng.uniform(size=20000) ** (1 / 6)
    score = distances_to_scores(distance) if kind == "correlation" else -(distance**2)
    null = fit_null(score, np.arange(20000), kind)
    assert 1 / null.mean_excess == pytest.approx(6, rel=0.1)


def test_tail_is_cautious_with_few_patients():
    """Over repeated draws the p-value of a far score is not smaller than its true tail probability, on average."""
    rng = np.random.default_rng(2)
    s = distances_to_scores(0.5 * 0.001 ** (1 / 8))  # exceeded by one image in a thousand
    nulls = [fit_null(nearest_neighbour_scores(rng, 40, 8), np.arange(40), "correlation") for _ in range(300)]
    p = [float(null.p_value(s)) for null in nulls]
    assert np.mean(p) > 0.001
    assert np.median(p) < 0.02


def best_scores(rng, n, law):
    """What a detector of this law makes of n strangers: the nearest of 200 points of 5 dimensions, by its score."""
    gallery = rng.uniform(-1, 1, (200, 5))
    query = rng.uniform(-1, 1, (n, 5))
    square = np.square(query).sum(1)[:, None] + np.square(gallery).sum(1) - 2 * query @ gallery.T
    d = np.sqrt(np.partition(square, 1, axis=1))
    return {
        "correlation": 1 - d[:, 0] ** 2 / 20,
        "msd": -(d[:, 0] ** 2),
        "distance": -d[:, 0] / d[:, 1],  # the ratio; adaptive and tiled distances are of the same kind
        "closeness": -np.log(d[:, 0]) * 3 + 2,
    }[law]


@pytest.mark.parametrize("law", LAWS)
def test_p_values_are_uniform_under_the_null(law):
    """What is called at 5 % is called in 5 % of cases (Kolmogorov's distance within its 99.9 % bound)."""
    rng = np.random.default_rng(3)
    p = []
    for _ in range(300):
        score = best_scores(rng, 101, law)
        p.append(float(fit_null(score[:-1], np.arange(100), law).p_value(score[-1])))
    assert stats.kstest(p, "uniform").pvalue > 1e-3


def test_the_ratio_of_distances_has_the_tail_of_its_dimension():
    score = best_scores(np.random.default_rng(4), 3000, "distance")
    assert 1 / fit_null(score, np.arange(3000), "distance").mean_excess == pytest.approx(5, rel=0.2)


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(2, 60),
    kind=st.sampled_from(["correlation", "msd", "distance", "closeness"]),
)
def test_score_at_inverts_p_value(seed, n, kind):
    rng = np.random.default_rng(seed)
    score = -rng.uniform(0.001, 1, n) if kind in ("msd", "distance") else rng.uniform(-0.5, 0.99, n)
    patient = np.unique(np.r_[0, 1, rng.integers(0, n, n - 2)], return_inverse=True)[1]
    null = fit_null(score, patient, kind)
    grid = np.sort(np.r_[score, rng.uniform(score.min(), score.max(), 20)])
    p = null.p_value(grid)
    assert (np.diff(p) <= 1e-12).all()
    assert ((p > 0) & (p <= 1)).all()
    for level in (1e-6, 1e-3, 0.05, 0.5):
        at = null.score_at(level)
        assert null.p_value(at + 1e-9) <= max(level, float(null.p_value(null.score.max()))) * (1 + 1e-3)


def test_exact_copies_have_a_tiny_p_value_even_with_few_patients():
    rng = np.random.default_rng(4)
    null = fit_null(nearest_neighbour_scores(rng, 12, 10), np.arange(12), "correlation")
    assert null.p_value(1.0) < 1e-3


def test_percentile_is_numpys_where_each_patient_has_one_image():
    score = np.random.default_rng(5).uniform(size=37)
    null = fit_null(score, np.arange(37), "correlation")
    for q in (5.0, 50.0, 95.0, 99.0):
        assert null.percentile(q) == pytest.approx(np.percentile(score, q))


def test_resampling_draws_whole_patients():
    rng = np.random.default_rng(6)
    patient = np.repeat(np.arange(10), 3)
    null = fit_null(rng.uniform(size=30), patient, "correlation")
    drawn = null.resampled(rng)
    assert drawn.n_patients == pytest.approx(10)
    assert set(np.round(np.bincount(drawn.patient, drawn.weight), 9)) <= set(range(11))


@pytest.mark.parametrize("kind", LAWS)
def test_closeness_round_trips(kind):
    for s in (0.2, 0.9, 0.9999) if kind in ("correlation", "closeness") else (-1.0, -0.01, -1e-5):
        assert from_log_closeness(float(log_closeness(s, kind)), kind) == pytest.approx(s)


def test_one_patient_is_no_reference():
    with pytest.raises(UserError, match="1 patient"):
        fit_null(np.array([0.1, 0.2]), np.array([0, 0]), "correlation")
    with pytest.raises(UserError, match="0 patient"):
        fit_null(np.zeros(0), np.zeros(0, int), "correlation")
