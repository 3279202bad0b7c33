"""Colour maps: against the colours they are made for, and undone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.objectives.ada_colour import inverted_luma, recolour, saturated, turned_hue

ONE = jnp.ones(1)
COLOURS = np.array([[0.3, 0.3, 0.3], [1.0, -1.0, 0.0], [0.5, 0.1, -0.4]])


def of(matrix: jax.Array, colours: np.ndarray = COLOURS) -> np.ndarray:
    return colours @ np.asarray(matrix[0], np.float64).T


def test_inverted_luma():
    for channels in (1, 3):
        matrix = np.asarray(inverted_luma(ONE, channels)[0])
        np.testing.assert_allclose(matrix @ matrix, np.eye(channels), atol=1e-6)
        np.testing.assert_allclose(matrix @ np.ones(channels), -np.ones(channels), atol=1e-6)
        assert np.array_equal(inverted_luma(0 * ONE, channels)[0], np.eye(channels))
    np.testing.assert_allclose(of(inverted_luma(ONE, 3))[1], COLOURS[1], atol=1e-6)  # no grey in it to invert


def test_hue_turns_primaries_into_each_other():
    third = 2 * np.pi / 3 * ONE
    np.testing.assert_allclose(of(turned_hue(third), np.eye(3)), np.roll(np.eye(3), 1, 1), atol=1e-6)
    np.testing.assert_allclose(of(turned_hue(third / 3))[0], COLOURS[0], atol=1e-6)  # greys stay
    angle = jnp.array([0.7])
    turned = np.asarray(turned_hue(angle)[0])
    np.testing.assert_allclose(turned @ turned.T, np.eye(3), atol=1e-6)
    np.testing.assert_allclose(turned @ np.asarray(turned_hue(-angle)[0]), np.eye(3), atol=1e-6)
    np.testing.assert_allclose(np.trace(turned), 1 + 2 * np.cos(0.7), atol=1e-6)


def test_saturation():
    grey = COLOURS.mean(1, keepdims=True)
    np.testing.assert_allclose(of(saturated(0 * ONE)), np.broadcast_to(grey, (3, 3)), atol=1e-6)
    np.testing.assert_allclose(of(saturated(2 * ONE)), grey + 2 * (COLOURS - grey), atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_mapped_by_what_was_drawn(channels):
    """Each image of n is an affine map of its own channels: fitted on some pixels, it predicts the others."""
    n = 6
    x = np.random.default_rng(0).uniform(-1, 1, (n, 8, 8, channels)).astype(np.float32)
    change = jax.jit(recolour)
    assert np.array_equal(change(x, jax.random.key(3), 0.0), x)
    found = np.asarray(change(x, jax.random.key(3), 1.0))
    for before, after in zip(x.reshape(n, 64, -1), found.reshape(n, 64, -1), strict=True):
        known = np.concatenate([before, np.ones((64, 1))], 1)
        fitted = np.linalg.lstsq(known[:16], after[:16])[0]
        np.testing.assert_allclose(known @ fitted, after, atol=1e-4)
        assert not np.allclose(after, before, atol=0.01)
