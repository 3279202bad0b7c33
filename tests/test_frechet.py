"""Distances of whole sets: exact for Gaussians that are known, zero for a set and itself, unbiased if extrapolated."""

import numpy as np
import pytest
import scipy.linalg

from memjax.audit.fidelity.frechet import distance_of_halves, fid_infinity, frechet_distance

RNG = np.random.default_rng(0)


def whitened(n, d):
    """Return features of exactly zero mean and unit covariance."""
    x = RNG.normal(size=(n, d))
    x -= x.mean(0)
    return x @ np.linalg.inv(np.linalg.cholesky(np.cov(x, rowvar=False))).T


def by_definition(x, y):
    """Return equation 6 as it stands, with a root of a matrix that is not symmetric."""
    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = scipy.linalg.sqrtm(a @ b)
    return np.square(x.mean(0) - y.mean(0)).sum() + np.trace(a + b - 2 * np.real(root))


def test_known_gaussians():
    x = whitened(50, 4)
    shift, scale = np.array([1.0, -2.0, 0.5, 0.0]), np.array([1.0, 2.0, 3.0, 0.5])
    expected = np.square(shift).sum() + np.square(scale - 1).sum()  # for covariances that commute
    assert frechet_distance(x, whitened(60, 4) * scale + shift) == pytest.approx(expected, rel=1e-6)


def test_by_definition_whatever_the_axes_the_order_and_the_precision():
    x, y = RNG.normal(size=(150, 30)), RNG.gamma(2.0, size=(110, 30)) @ RNG.normal(size=(30, 30)) / 5
    expected = by_definition(x, y)
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(y[::-1], x) == pytest.approx(expected, rel=1e-9)
    turn = np.linalg.qr(RNG.normal(size=(30, 30)))[0]
    assert frechet_distance(x @ turn + 7, y @ turn + 7) == pytest.approx(expected, rel=1e-9)
    few = np.sqrt(np.linalg.eigvals(np.cov(x[:20].T) @ np.cov(y[:25].T)).astype(complex)).real.sum()  # both singular
    variance = np.trace(np.cov(x[:20].T) + np.cov(y[:25].T))
    mean = np.square(x[:20].mean(0) - y[:25].mean(0)).sum()
    assert frechet_distance(x[:20], y[:25]) == pytest.approx(mean + variance - 2 * few, rel=1e-6)
    assert frechet_distance(x[:20], y) == pytest.approx(frechet_distance(y, x[:20]), rel=1e-9)
    assert frechet_distance(np.float32(x), np.float32(y)) == pytest.approx(expected, rel=1e-6)


def test_a_set_and_itself():
    for n in (40, 4):  # more images than features, and fewer
        x = RNG.normal(size=(n, 6)) * [1e3, 1, 1e-3, 0, 1, 1]
        assert frechet_distance(x, x[::-1]) == pytest.approx(0, abs=1e-7)  # of a variance of 10^6


def test_singular_sets():
    x = np.tile([1.0, 2.0, 3.0], (5, 1))  # one point
    y = whitened(40, 3) * [2.0, 0.0, 1.0]
    assert frechet_distance(x, x) == 0
    assert frechet_distance(x, y) == pytest.approx(14 + 5, rel=1e-6)
    with pytest.raises(ValueError, match="2 images"):
        frechet_distance(x[:1], y)


def test_extrapolated_to_many_images_the_distance_is_what_it_is_for_many():
    """Of 300 perfect images the distance is about d (d + 1) / 4n + d / n = 0.28, of infinitely many 0."""
    train = whitened(400, 16)
    shift = np.zeros(16)
    shift[0] = 1.0
    drawn = [RNG.normal(size=(300, 16)) for _ in range(12)]
    plain = np.mean([frechet_distance(train, x) for x in drawn])
    assert plain == pytest.approx(16 * 17 / 1200 + 16 / 300, rel=0.1)
    assert abs(np.mean([fid_infinity(train, x, seed=0) for x in drawn])) < 0.1 * plain
    shifted = np.mean([fid_infinity(train, x + shift, seed=0) for x in drawn])
    assert shifted == pytest.approx(1, abs=0.2 * plain + 3 * 2 / np.sqrt(12 * 300))  # sampling of the mean itself
    assert fid_infinity(train, drawn[0], seed=1) == fid_infinity(train, drawn[0], seed=1)
    with pytest.raises(ValueError, match="too few"):
        fid_infinity(train, drawn[0][:15], seed=0)


def test_halves_of_a_set_show_what_few_images_cause():
    for n in (200, 800):
        found = [distance_of_halves(RNG.normal(size=(n, 16)), seed=0) for _ in range(20)]
        expected = 2 * (16 * 17 / 4 + 16) / (n / 2)  # twice that of one half and a known Gaussian
        assert np.mean(found) == pytest.approx(expected, rel=0.1)
