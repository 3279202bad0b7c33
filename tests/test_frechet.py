"""Distances of whole sets: exact for Gaussians that are known, zero for a set and itself, whatever its axes."""

import numpy as np
import pytest

from memjax.audit.fidelity.frechet import frechet_distance, principal_axes

RNG = np.random.default_rng(0)


def whitened(n, d):
    """Return features of exactly zero mean and unit covariance."""
    x = RNG.normal(size=(n, d))
    x -= x.mean(0)
    return x @ np.linalg.inv(np.linalg.cholesky(np.cov(x, rowvar=False))).T


def test_known_gaussians():
    x = whitened(50, 4)
    shift, scale = np.array([1.0, -2.0, 0.5, 0.0]), np.array([1.0, 2.0, 3.0, 0.5])
    expected = np.square(shift).sum() + np.square(scale - 1).sum()  # for covariances that commute
    assert frechet_distance(x, whitened(60, 4) * scale + shift) == pytest.approx(expected, rel=1e-6)


def test_a_set_and_itself_and_symmetry():
    x, y = RNG.normal(size=(40, 6)), RNG.normal(size=(30, 6)) + 1
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(y, x), rel=1e-6)


def test_singular_sets():
    x = np.tile([1.0, 2.0, 3.0], (5, 1))  # one point
    y = whitened(40, 3) * [2.0, 0.0, 1.0]
    assert frechet_distance(x, x) == 0
    assert frechet_distance(x, y) == pytest.approx(14 + 5, rel=1e-6)


def test_principal_axes_hold_the_largest_variance():
    spread = np.array([5.0, 1.0, 3.0, 0.1])
    x = whitened(200, 4) * spread + 7
    mean, axes = principal_axes(x, 2)
    np.testing.assert_allclose(mean, 7, atol=1e-9)
    np.testing.assert_allclose(np.abs(axes.T), np.eye(4)[[0, 2]], atol=1e-6)
    assert principal_axes(x[:3], 10)[1].shape == (4, 3)
