"""Equalized layers keep the second moment at initialization, and the multiplier changes only how fast they learn."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import QUICK

from memjax.nn.equalized import EqualConv, EqualDense, leaky_relu, unit_moment

KEY = jax.random.key(0)


@functools.partial(jax.jit, static_argnums=0, compiler_options=QUICK)
def begun(layer, x, seed=1):
    """Return the result at initialization, and the parameters."""
    return layer.init_with_output(jax.random.key(seed), x)


def moment(y):
    return float(jnp.mean(jnp.square(y)))


@pytest.mark.parametrize("lr_multiplier", [1.0, 0.01])
def test_dense_layers_keep_the_second_moment(lr_multiplier):
    y = jax.random.normal(KEY, (256, 100))
    for seed in range(3):
        y = leaky_relu(begun(EqualDense(200, lr_multiplier), y, seed)[0])
        assert moment(y) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_convolutions_keep_the_second_moment(kernel_size):
    x = jax.random.normal(KEY, (4, 16, 16, 32))
    y = begun(EqualConv(64, kernel_size), x)[0]
    assert moment(y[:, 1:-1, 1:-1]) == pytest.approx(1, abs=0.08)


@pytest.mark.parametrize("kernel_size", [1, 3])
@pytest.mark.parametrize("resample", ["up", "down"])
def test_resampling_convolutions_keep_the_second_moment_of_what_is_smooth(kernel_size, resample):
    """Away from the border; the filter takes from what varies from one position to the next."""
    x = jnp.broadcast_to(unit_moment(jax.random.normal(KEY, (4, 1, 1, 64))), (4, 8, 8, 64))
    layer = EqualConv(256, kernel_size, resample)
    y = begun(layer, x)[0]
    assert y.shape == (4, *((16, 16) if resample == "up" else (4, 4)), 256)
    inside = slice(3, -3) if resample == "up" else slice(1, -1)
    assert moment(y[:, inside, inside]) == pytest.approx(1, abs=0.15)


def test_the_multiplier_slows_learning_and_changes_nothing_else():
    """The same weights, stored larger: the same result, and under Adam a change smaller by the multiplier."""
    x = jax.random.normal(KEY, (8, 16))

    @functools.partial(jax.jit, static_argnums=0)
    def moved(layer, params):
        grads = jax.grad(lambda params: jnp.sum(jnp.sin(layer.apply(params, x))))(params)
        after = jax.tree.map(lambda p, g: p - 1e-3 * jnp.sign(g), params, grads)  # Adam's first step
        return grads, jnp.abs(layer.apply(after, x) - layer.apply(params, x))

    fast, slow = (EqualDense(4, multiplier, bias_init=0.5) for multiplier in (1.0, 0.01))
    (y, params), (y_slow, params_slow) = (begun(layer, x) for layer in (fast, slow))
    np.testing.assert_allclose(y, y_slow, rtol=1e-5, atol=1e-6)
    (grads, move), (grads_slow, move_slow) = moved(fast, params), moved(slow, params_slow)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(0.01 * a, b, rtol=1e-4), grads, grads_slow)
    np.testing.assert_allclose(0.01 * move.mean(), move_slow.mean(), rtol=0.05)


def test_a_bias_begins_as_told():
    x = jnp.zeros((2, 4, 4, 3))
    np.testing.assert_allclose(begun(EqualDense(4, 0.1, bias_init=1.0), x)[0], 1.0, rtol=1e-6)
    for layer in (EqualDense(4, use_bias=False), EqualConv(4, use_bias=False)):
        assert "bias" not in begun(layer, x)[1]["params"]


@pytest.mark.parametrize("layer", [EqualDense(4, dtype=jnp.bfloat16), EqualConv(4, resample="up", dtype=jnp.bfloat16)])
def test_parameters_are_float32_whatever_is_computed_in(layer):
    y, params = begun(layer, jnp.ones((1, 4, 4, 3)))
    assert y.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}


def test_the_activation():
    x = jnp.asarray([-2.0, 0.0, 1.0])
    np.testing.assert_allclose(leaky_relu(x), np.sqrt(2) * np.array([-0.4, 0, 1]), rtol=1e-6)
    np.testing.assert_allclose(leaky_relu(x, 10.0, clamp=5.0), [-4, 0, 5], rtol=1e-6)
    assert moment(leaky_relu(jax.random.normal(KEY, (10_000,)))) == pytest.approx(1.04, abs=0.05)
    assert leaky_relu(x.astype(jnp.bfloat16), clamp=256.0).dtype == jnp.bfloat16


def test_unit_moment():
    x = 7 * jax.random.normal(KEY, (5, 12))
    y = unit_moment(x)
    np.testing.assert_allclose(jnp.mean(jnp.square(y), -1), 1, rtol=1e-5)
    np.testing.assert_allclose(y / x, jnp.broadcast_to(y[:, :1] / x[:, :1], x.shape), rtol=1e-5)
