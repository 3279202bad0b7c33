"""A GAN's losses: against scipy, finite differences, and forms whose answers are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from memjax.objectives import adversarial

B, SIDE, C = 3, 4, 2


def normal(shape: tuple[int, ...], seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def smooth_critic(weights: jax.Array):
    """Return a critic whose logits bend everywhere: a row of tanh and their product with another."""

    def critic(images: jax.Array) -> jax.Array:
        flat = images.reshape(len(images), -1)
        hidden = jnp.tanh(flat @ weights)
        return jnp.sum(hidden * jnp.sin(hidden[:, ::-1]), axis=1)

    return critic


def smooth_synthesis(weights: jax.Array):
    """Return a generator of images [SIDE, SIDE, C] from ws [b, styles, w], bent everywhere."""

    def synthesize(ws: jax.Array) -> jax.Array:
        flat = jnp.tanh(ws.reshape(len(ws), -1) @ weights)
        return (flat + 0.3 * jnp.square(flat)).reshape(-1, SIDE, SIDE, C)

    return synthesize


def test_losses_are_log_probabilities():
    real, fake = normal((50,)) * 8, normal((50,), 1) * 8

    def log_of(logits: jax.Array) -> np.ndarray:
        return scipy.special.log_expit(np.asarray(logits, np.float64))

    np.testing.assert_allclose(adversarial.generator_loss(fake), -log_of(fake), rtol=1e-5, atol=1e-6)
    wanted = -log_of(real) - log_of(-fake)
    np.testing.assert_allclose(adversarial.discriminator_loss(real, fake), wanted, rtol=1e-5, atol=1e-6)


def test_losses_survive_extreme_logits():
    extreme = jnp.array([-1e4, 1e4])
    assert np.array_equal(adversarial.generator_loss(extreme), [1e4, 0])
    slope = jax.grad(lambda x: adversarial.generator_loss(x).sum())(extreme)
    assert np.array_equal(slope, [-1, 0])  # it does not saturate where the discriminator is sure


def test_gamma():
    assert adversarial.default_gamma(256, 16) == pytest.approx(0.8192)
    assert adversarial.default_gamma(32, 64) == pytest.approx(0.0032)


def test_r1_of_a_quadratic_form():
    """D(x) = x^T A x / 2 with A symmetric: the gradient is A x."""
    half = normal((SIDE * SIDE * C,) * 2)
    matrix = half + half.T
    images = normal((B, SIDE, SIDE, C), 1)
    flat = images.reshape(B, -1)
    found = adversarial.r1(lambda x: jnp.einsum("bi,ij,bj->b", x.reshape(B, -1), matrix, x.reshape(B, -1)) / 2, images)
    np.testing.assert_allclose(found, np.square(flat @ matrix).sum(1), rtol=1e-4)


def test_r1_against_finite_differences():
    with jax.enable_x64(True):
        weights = normal((SIDE * SIDE * C, 6)).astype(jnp.float64)
        images = normal((B, SIDE, SIDE, C), 1).astype(jnp.float64)
        critic = jax.jit(smooth_critic(weights))
        found = adversarial.r1(critic, images)
        steps = 1e-5 * np.eye(SIDE * SIDE * C).reshape(-1, 1, SIDE, SIDE, C)
        slopes = np.stack([(critic(images + step) - critic(images - step)) / 2e-5 for step in steps])
        np.testing.assert_allclose(found, np.square(slopes).sum(0), rtol=1e-6)


def test_r1_of_coupled_images_is_of_the_sum():
    """A logit that looks at its neighbour, as standard deviations over a group do."""
    images = normal((B, SIDE, SIDE, C))
    found = adversarial.r1(lambda x: jnp.sum(x * jnp.roll(x, 1, 0), axis=(1, 2, 3)), images)
    gradient = np.roll(images, 1, 0) + np.roll(images, -1, 0)
    np.testing.assert_allclose(found, np.square(gradient).sum((1, 2, 3)), rtol=1e-5)


def test_paths_of_a_linear_generator():
    """Images = M w: J^T y is M^T y whatever w is, and its length is known."""
    styles, w = 3, 5
    matrix = normal((styles * w, SIDE * SIDE * C))
    y = normal((B, SIDE, SIDE, C), 1)
    found = adversarial.path_lengths(
        lambda ws: (ws.reshape(B, -1) @ matrix).reshape(B, SIDE, SIDE, C), normal((B, styles, w), 2), y
    )
    pulled = np.asarray((y.reshape(B, -1) @ matrix.T).reshape(B, styles, w)) / SIDE
    np.testing.assert_allclose(found, np.sqrt(np.square(pulled).sum(2).mean(1)), rtol=1e-5)


def test_paths_against_finite_differences():
    with jax.enable_x64(True):
        styles, w = 2, 4
        synthesize = smooth_synthesis(normal((styles * w, SIDE * SIDE * C)).astype(jnp.float64))
        ws = normal((B, styles, w), 1).astype(jnp.float64)
        y = normal((B, SIDE, SIDE, C), 2).astype(jnp.float64)
        found = adversarial.path_lengths(synthesize, ws, y)

        @jax.jit
        def along(ws: jax.Array) -> jax.Array:
            return jnp.sum(synthesize(ws) * y / SIDE, axis=(1, 2, 3))

        steps = 1e-5 * np.eye(styles * w).reshape(-1, 1, styles, w)
        slopes = np.stack([(along(ws + step) - along(ws - step)) / 2e-5 for step in steps], axis=1)
        wanted = np.sqrt(np.square(slopes.reshape(B, styles, w)).sum(2).mean(1))
        np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_penalties_are_differentiated_again():
    """What training needs: the slopes of R1 and path penalties along one direction of the weights."""
    with jax.enable_x64(True):
        images = normal((B, SIDE, SIDE, C), 1).astype(jnp.float64)
        ws = normal((B, 2, 4), 2).astype(jnp.float64)

        def of_critic(weights: jax.Array) -> jax.Array:
            return adversarial.r1(smooth_critic(weights), images).mean()

        def of_synthesis(weights: jax.Array) -> jax.Array:
            lengths = adversarial.path_lengths(smooth_synthesis(weights), ws, images)
            return jnp.square(lengths - 1.5).mean()

        for loss, shape in ((of_critic, (SIDE * SIDE * C, 6)), (of_synthesis, (8, SIDE * SIDE * C))):
            loss = jax.jit(loss)
            weights, direction = normal(shape).astype(jnp.float64) / 4, normal(shape, 3).astype(jnp.float64)
            slope = (loss(weights + 1e-5 * direction) - loss(weights - 1e-5 * direction)) / 2e-5
            np.testing.assert_allclose(jnp.vdot(jax.grad(loss)(weights), direction), slope, rtol=1e-6)


def test_paths_that_do_not_move_have_no_slope():
    """All images clamped: lengths of zero, and gradients that are numbers."""

    def penalty(scale: jax.Array) -> jax.Array:
        black = jnp.zeros((B, SIDE, SIDE, C))
        lengths = adversarial.path_lengths(lambda ws: scale * black * ws.sum(), normal((B, 2, 4)), black + 1)
        return adversarial.path_penalty(lengths, jnp.float32(1.0))[0].mean()

    assert jax.grad(penalty)(jnp.float32(1.0)) == 0


def test_path_mean_goes_a_share_of_the_way():
    lengths = jnp.array([1.0, 2.0, 6.0])
    penalties, mean = adversarial.path_penalty(lengths, jnp.float32(1.0), decay=0.25)
    assert mean == 1.5
    np.testing.assert_allclose(penalties, [0.25, 0.25, 20.25])
    slope = jax.grad(lambda x: adversarial.path_penalty(x, jnp.float32(1.0), decay=0.25)[0].sum())(lengths)
    np.testing.assert_allclose(slope, 2 * (lengths - 1.5))  # the mean is held
    for _ in range(200):
        _, mean = adversarial.path_penalty(lengths, mean, decay=0.25)
    np.testing.assert_allclose(mean, 3.0, rtol=1e-6)


@pytest.mark.parametrize("probability", [0.0, 0.9, 1.0])
def test_mixing(probability):
    n, styles = 4000, 6
    w, other = jnp.zeros((n, 2)), jnp.ones((n, 2))
    ws = np.asarray(adversarial.mix_styles(jax.random.key(0), w, other, styles, probability))
    assert ws.shape == (n, styles, 2) and (ws[:, :, 0] == ws[:, :, 1]).all()
    taken = ws[:, :, 0]
    assert (np.diff(taken, axis=1) >= 0).all() and (taken[:, 0] == 0).all()  # one crossover, never the first
    mixed = taken[:, -1] == 1
    assert abs(mixed.mean() - probability) < 4 * np.sqrt(probability * (1 - probability) / n) + 1e-9
    if probability:
        crossover = np.argmax(taken[mixed], axis=1)
        assert set(crossover) == set(range(1, styles))
        counts = np.bincount(crossover)[1:]
        assert scipy.stats.chisquare(counts).pvalue > 1e-4


def test_mixing_needs_two_styles_to_mix():
    w = normal((B, 4))
    assert np.array_equal(adversarial.mix_styles(jax.random.key(0), w, w + 1, 1, 1.0), w[:, None])
