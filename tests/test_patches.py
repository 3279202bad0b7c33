"""Losses over maps of logits: numbers by hand, and whom their gradients reach."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.objectives import patches

REAL, FAKE = jnp.array([[0.5, 2.0], [-1.0, 1.0]]), jnp.array([[-3.0, 0.0], [1.0, -1.0]])


def logits(seed: int, shape: tuple[int, ...] = (2, 3, 4, 5, 1)) -> jax.Array:
    return jnp.asarray(3 * np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def test_hinge_by_hand():
    # Real ones lack 0.5 and 0 of 1, 2 and 0; fake ones have 0 and 1, 2 and 0 above -1.
    np.testing.assert_allclose(patches.discriminator_hinge(REAL, FAKE), [0.5 * (0.25 + 0.5), 0.5 * (1.0 + 1.0)])
    np.testing.assert_allclose(patches.generator_hinge(FAKE), [1.5, 0.0])


def test_squares_by_hand():
    real, fake = (0.25 + 1) / 2, (9 + 0) / 2
    np.testing.assert_allclose(patches.discriminator_squares(REAL, FAKE), [0.5 * (real + fake), 0.5 * (2 + 1)])
    np.testing.assert_allclose(patches.generator_squares(FAKE), [(16 + 1) / 2, (0 + 4) / 2])


@pytest.mark.parametrize("name", ["hinge", "squares"])
def test_an_image_counts_its_own_patches_alone(name):
    loss = patches.LOSSES[name]
    real, fake = logits(0), logits(1)
    both = loss.discriminator(real, fake)
    assert both.shape == (2,)
    for i in range(2):
        np.testing.assert_allclose(loss.discriminator(real[i : i + 1], fake[i : i + 1]), both[i : i + 1], rtol=1e-6)
        np.testing.assert_allclose(loss.generator(fake[i : i + 1]), loss.generator(fake)[i : i + 1], rtol=1e-6)


@pytest.mark.parametrize("name", ["hinge", "squares"])
def test_the_two_sides_pull_apart(name):
    """The discriminator lowers its loss by larger real and smaller fake logits, the generator by larger fake ones."""
    loss = patches.LOSSES[name]
    near = jnp.full((1, 8), 0.5)
    to_real, to_fake = jax.grad(lambda *sides: loss.discriminator(*sides).sum(), (0, 1))(near, near)
    assert (to_real < 0).all() and (to_fake > 0).all()
    assert (jax.grad(lambda fake: loss.generator(fake).sum())(near) < 0).all()


def test_features_match_layer_by_layer():
    real, fake = ([logits(i + n, shape) for i, shape in enumerate([(2, 4, 4, 3), (2, 2, 2, 7)])] for n in (0, 10))
    found = patches.feature_matching(real, fake)
    wanted = [
        sum(np.abs(np.float64(r[i]) - np.float64(f[i])).mean() for r, f in zip(real, fake, strict=True)) * 4 / 2
        for i in range(2)
    ]
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    assert not np.any(patches.feature_matching(real, real))
    four = patches.feature_matching([*real, *real], [*fake, *fake])  # of four layers each counts once
    np.testing.assert_allclose(four, wanted, rtol=1e-6)


def test_real_features_are_held_fixed():
    real, fake = [logits(0)], [logits(1)]
    to_real, to_fake = jax.grad(lambda r, f: patches.feature_matching(r, f).sum(), (0, 1))(real, fake)
    assert not np.any(to_real[0])
    np.testing.assert_allclose(to_fake[0], 4 * np.sign(fake[0] - real[0]) / real[0][0].size, rtol=1e-6)
