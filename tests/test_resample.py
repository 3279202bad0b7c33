"""Resampling is what numpy says, in two and three axes, and leaves kept axes alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from memjax.nn.resample import Down, Up, nearest, pool

CASES = [
    ((2, 4, 6, 3), ()),
    ((1, 4, 6, 2, 2), ()),
    ((2, 4, 5, 3), (1,)),
    ((1, 3, 4, 6, 2), (0,)),
    ((1, 3, 5, 2), (0, 1)),
]


def image(shape):
    return jnp.asarray(np.random.default_rng(0).standard_normal(shape), jnp.float32)


def moved(shape, keep):
    return [axis + 1 for axis in range(len(shape) - 2) if axis not in keep]


@pytest.mark.parametrize(("shape", "keep"), CASES)
def test_pool_is_the_mean_of_strided_slices(shape, keep):
    x = image(shape)
    expected = np.asarray(x)
    for axis in moved(shape, keep):
        pairs = np.arange(0, shape[axis], 2)
        expected = (np.take(expected, pairs, axis) + np.take(expected, pairs + 1, axis)) / 2
    np.testing.assert_allclose(pool(x, keep), expected, atol=1e-6)


@pytest.mark.parametrize(("shape", "keep"), CASES)
def test_nearest_repeats(shape, keep):
    x = expected = image(shape)
    for axis in moved(shape, keep):
        expected = np.repeat(expected, 2, axis)
    np.testing.assert_array_equal(nearest(x, keep), expected)


@pytest.mark.parametrize(("shape", "keep"), CASES)
def test_pool_undoes_nearest_and_they_are_transposes(shape, keep):
    x = image(shape)
    np.testing.assert_allclose(pool(nearest(x, keep), keep), x, atol=1e-6)
    y, back = jax.vjp(lambda a: nearest(a, keep), x)
    z = jnp.cos(y)
    np.testing.assert_allclose(back(z)[0], pool(z, keep) * 2 ** len(moved(shape, keep)), rtol=1e-5, atol=1e-5)
    _, back = jax.vjp(lambda a: pool(a, keep), z)
    np.testing.assert_allclose(back(x)[0] * 2 ** len(moved(shape, keep)), nearest(x, keep), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 4, 6, 3), (1, 4, 2, 6, 2)])
def test_layers_against_scipy(shape):
    axes, x = len(shape) - 2, image(shape)
    for layer, before, after in [(Down(), lambda a: a, 2), (Up(), nearest, 1)]:
        params = layer.init(jax.random.key(0), x)
        kernel, bias = (np.asarray(params["params"]["conv"][name]) for name in ("kernel", "bias"))
        flat = np.asarray(before(x))
        expected = np.zeros((*flat.shape[:-1], shape[-1]))
        for b, c, d in np.ndindex(shape[0], shape[-1], shape[-1]):
            expected[b, ..., d] += ndimage.correlate(flat[b, ..., c], kernel[..., c, d], mode="constant")
        expected = (expected + bias)[(slice(None), *(slice(None, None, after),) * axes)]
        np.testing.assert_allclose(layer.apply(params, x), expected, atol=1e-5)


def test_layers_keep_axes():
    x = image((1, 4, 6, 5, 2))
    assert jax.eval_shape(lambda: Down((2,)).init_with_output(jax.random.key(0), x)[0]).shape == (1, 2, 3, 5, 2)
    assert jax.eval_shape(lambda: Up((0, 2)).init_with_output(jax.random.key(0), x)[0]).shape == (1, 4, 12, 5, 2)
