"""Scaling features instead of kernels gives each image the convolution with its own kernel."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import jit
from scipy import signal

from memjax.nn.fir import conv_up
from memjax.nn.modulated import adain, modulated_conv


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def image_by_image(x, kernel, style, demodulate):
    """The definition, in float64: each image with its own kernel (equations 1 and 3 of the paper)."""
    y = np.zeros((*x.shape[:3], kernel.shape[-1]))
    for i, (image, s) in enumerate(zip(np.float64(x), style, strict=True)):
        own = kernel * s[:, None]
        if demodulate:
            own = own / np.sqrt((own**2).sum((0, 1, 2)) + 1e-8)
        for c, d in np.ndindex(*own.shape[2:]):
            y[i, ..., d] += signal.correlate2d(image[..., c], own[..., c, d], "same")
    return y


@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize(("taps", "c", "d"), [(3, 3, 5), (1, 5, 3), (3, 24, 25)])
def test_modulated_convolutions_are_those_of_each_image_with_its_own_kernel(taps, c, d, demodulate):
    x, kernel, style = normal(0, 3, 6, 5, c), normal(1, taps, taps, c, d), normal(2, 3, c)
    ours = jit(functools.partial(modulated_conv, demodulate=demodulate))(*map(jnp.asarray, (x, kernel, style)))
    expected = image_by_image(x, kernel, style, demodulate)
    np.testing.assert_allclose(ours, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("demodulate", [True, False])
def test_upsampling_with_its_own_kernel(demodulate):
    """And the gradients of images, kernel and styles are those of that."""
    x, kernel, style = map(jnp.asarray, (normal(0, 3, 4, 6, 3), normal(1, 3, 3, 3, 4), normal(2, 3, 3)))

    def one_by_one(x, kernel, style):
        own = kernel * style[:, None, None, :, None]
        if demodulate:
            own *= jax.lax.rsqrt(jnp.sum(own**2, (1, 2, 3), keepdims=True) + 1e-8)
        return jnp.concatenate([conv_up(x[i : i + 1], own[i]) for i in range(len(x))])

    def ours(x, kernel, style):
        return modulated_conv(x, kernel, style, demodulate=demodulate, resample="up")

    @functools.partial(jit, static_argnums=0)
    def with_gradients(fn, dy):
        y, back = jax.vjp(fn, x, kernel, style)
        return y, *back(dy)

    dy = jnp.asarray(normal(3, 3, 8, 12, 4))
    for a, b in zip(*(with_gradients(fn, dy) for fn in (ours, one_by_one)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_demodulation_gives_white_inputs_unit_variance_whatever_the_style():
    x, kernel = normal(0, 4, 16, 16, 16), normal(1, 3, 3, 16, 64)
    for size in (0.01, 1.0, 100.0):
        y = modulated_conv(jnp.asarray(x), jnp.asarray(kernel), jnp.asarray(size * normal(2, 4, 16)))
        assert float(jnp.var(y[:, 1:-1, 1:-1])) == pytest.approx(1, abs=0.08)


def test_features_of_less_precision_keep_it():
    x = jnp.asarray(normal(0, 2, 4, 4, 3), jnp.bfloat16)
    y = modulated_conv(x, jnp.asarray(normal(1, 3, 3, 3, 4)), jnp.asarray(normal(2, 2, 3)))
    assert y.dtype == jnp.bfloat16
    assert adain(x, jnp.zeros((2, 3)), jnp.zeros((2, 3))).dtype == jnp.bfloat16


def test_adain_gives_every_channel_of_every_image_its_moments():
    x = jnp.asarray(5 + 3 * normal(0, 3, 8, 6, 4))
    scale, shift = jnp.asarray(normal(1, 3, 4)), jnp.asarray(normal(2, 3, 4))
    y = adain(x, scale, shift)
    np.testing.assert_allclose(jnp.mean(y, (1, 2)), shift, atol=1e-4)
    np.testing.assert_allclose(jnp.std(y, (1, 2)), jnp.abs(1 + scale), rtol=1e-4)
    assert np.all(np.isfinite(adain(jnp.ones((1, 4, 4, 2)), jnp.zeros((1, 2)), jnp.zeros((1, 2)))))
