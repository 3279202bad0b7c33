"""Resampling is scipy's, its form for processors is the plain one, and with a convolution it is one after the other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import jit
from scipy import signal

from memjax.nn import fir
from memjax.nn.conv import conv
from memjax.nn.fir import FIR, blur, conv_down, conv_up, downsample, upfirdn, upsample

LOPSIDED = (1.0, 2.0, 4.0, 3.0, 1.0)
CASES = [  # taps, up, down, padding, height and width, channels
    (FIR, 1, 1, (2, 1), (6, 5), 1),
    (FIR, 2, 1, (2, 1), (5, 8), 3),
    (FIR, 1, 2, (1, 1), (8, 6), 5),
    (LOPSIDED, 1, 1, (0, 0), (7, 6), 3),
    (LOPSIDED, 2, 1, (0, 3), (4, 5), 1),
    (LOPSIDED, 3, 2, (4, 2), (5, 6), 2),
    (LOPSIDED, 2, 1, (-1, -2), (8, 6), 3),
    (LOPSIDED, 1, 2, (-2, 1), (9, 10), 2),
    ((1.0, 2.0, 1.0), 3, 1, (2, 2), (4, 5), 5),
    ((1.0, 1.0), 2, 2, (1, 0), (5, 5), 1),
]


def normal(seed, *shape):
    return jnp.float32(np.random.default_rng(seed).normal(size=shape))


def by_scipy(x, taps, up=1, down=1, padding=(0, 0), gain=1.0):
    """Zeros in between and around, every sum over the taps that lie wholly inside, every down-th of them."""
    x = np.float64(x)
    for axis in (1, 2):
        line = np.sqrt(gain) * np.array(taps) / sum(taps)
        wide = np.moveaxis(x, axis, -1)
        stuffed = np.zeros((*wide.shape[:-1], wide.shape[-1] * up))
        stuffed[..., ::up] = wide
        before, after = padding
        stuffed = np.pad(stuffed, [(0, 0)] * 3 + [(max(before, 0), max(after, 0))])
        stuffed = stuffed[..., max(-before, 0) : stuffed.shape[-1] - max(-after, 0)]
        whole = signal.upfirdn(line, stuffed, axis=-1)[..., len(taps) - 1 : stuffed.shape[-1]]
        x = np.moveaxis(whole[..., ::down], -1, axis)
    return x


@pytest.mark.parametrize(("taps", "up", "down", "padding", "space", "c"), CASES)
def test_resampling_is_that_of_scipy_in_both_forms_and_its_gradient_the_transpose(taps, up, down, padding, space, c):
    """<dy, A u> = <A^T dy, u>, and the transpose is a linear map whose own gradient is A."""
    x, u = normal(0, 2, *space, c), normal(1, 2, *space, c)
    expected, of_u = (by_scipy(a, taps, up, down, padding, gain=3.0) for a in (x, u))
    line = tuple(np.sqrt(3.0) * tap / sum(taps) for tap in reversed(taps))

    @jit
    def everything(x, dy, u):
        y, back = jax.vjp(lambda x: upfirdn(x, taps, up=up, down=down, padding=padding, gain=3.0), x)
        again = jax.vjp(lambda dy: back(dy)[0], dy)[1](u)[0]
        return y, fir._plain(x, line, up, down, (padding, padding)), back(dy)[0], again

    dy = normal(2, *expected.shape)
    y, plain, dx, of_dx = everything(x, dy, u)
    np.testing.assert_allclose(y, expected, atol=1e-5)
    np.testing.assert_allclose(plain, expected, atol=1e-5)
    np.testing.assert_allclose(np.vdot(dx, u), np.vdot(dy, of_u), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(of_dx, of_u, atol=1e-5)


@pytest.mark.parametrize("taps", [FIR, (1.0, 2.0, 1.0), LOPSIDED])
def test_a_constant_image_keeps_its_value(taps):
    blurred, *resampled = jit(lambda x: (blur(x, taps), upsample(x, taps), downsample(x, taps)))(
        jnp.full((1, 12, 12, 3), 0.7)
    )
    np.testing.assert_allclose(blurred[:, 2:-2, 2:-2], 0.7, atol=1e-6)
    for y in resampled:
        # Of lopsided taps the even ones may weigh more than the odd ones.
        np.testing.assert_allclose(y[:, 2:-2, 2:-2].mean(), 0.7, atol=0.1 if taps == LOPSIDED else 1e-5)


def test_what_is_in_the_middle_stays_there():
    x = jnp.zeros((1, 8, 8, 1)).at[:, 3:5, 3:5].set(1.0)
    for y, side in zip(
        jit(lambda x: (upsample(x), downsample(x), downsample(upsample(x))))(x), (16, 4, 8), strict=True
    ):
        assert y.shape == (1, side, side, 1)
        np.testing.assert_allclose(y, np.flip(y, (1, 2)), atol=1e-7)


def up_by_hand(x, kernel, taps):
    """Zeros in between; the full correlation with the kernel; the filter."""
    b, h, w, _ = x.shape
    stuffed = np.zeros((b, 2 * h - 1, 2 * w - 1, x.shape[-1]))
    stuffed[:, ::2, ::2] = x
    y = np.zeros((b, 2 * h + 1, 2 * w + 1, kernel.shape[-1]))
    for i, c, d in np.ndindex(b, *kernel.shape[2:]):
        y[i, ..., d] += signal.correlate2d(stuffed[i, ..., c], kernel[..., c, d], "full")
    odd = len(taps) % 2
    return by_scipy(y, taps, padding=(1, 0) if odd else (1, 1), gain=4.0)


def down_by_hand(x, kernel, taps):
    """The filter; every second of the correlations with the kernel that lie inside."""
    odd = len(taps) % 2
    x = by_scipy(x, taps, padding=(2, 1) if odd else (2, 2))
    y = np.zeros((len(x), x.shape[1] - 2, x.shape[2] - 2, kernel.shape[-1]))
    for i, c, d in np.ndindex(len(x), *kernel.shape[2:]):
        y[i, ..., d] += signal.correlate2d(x[i, ..., c], kernel[..., c, d], "valid")
    return y[:, ::2, ::2]


@pytest.mark.parametrize("taps", [FIR, (1.0, 2.0, 1.0)])
@pytest.mark.parametrize(("fn", "by_hand", "scale"), [(conv_up, up_by_hand, 2), (conv_down, down_by_hand, 0.5)])
def test_resampling_convolutions_are_the_two_one_after_the_other(taps, fn, by_hand, scale):
    x, kernel = normal(0, 2, 6, 8, 3), normal(1, 3, 3, 3, 4)
    dy, u, v = normal(2, 2, int(6 * scale), int(8 * scale), 4), normal(3, *x.shape), normal(4, *kernel.shape)

    @jit
    def with_gradients(x, kernel, dy):
        y, back = jax.vjp(lambda x, kernel: fn(x, kernel, taps), x, kernel)
        return y, *back(dy)

    y, dx, dkernel = with_gradients(x, kernel, dy)
    np.testing.assert_allclose(y, by_hand(x, kernel, taps), atol=1e-4)
    np.testing.assert_allclose(np.vdot(dx, u), np.vdot(dy, by_hand(u, kernel, taps)), rtol=1e-3)
    np.testing.assert_allclose(np.vdot(dkernel, v), np.vdot(dy, by_hand(x, v, taps)), rtol=1e-3)


def test_up_is_the_convolution_of_the_upsampled_image_away_from_its_border():
    x, kernel = normal(0, 1, 8, 8, 3), normal(1, 3, 3, 3, 4)
    inside = (slice(None), slice(3, -3), slice(3, -3))
    np.testing.assert_allclose(conv_up(x, kernel)[inside], conv(upsample(x), kernel)[inside], atol=1e-4)


@pytest.mark.parametrize("fn", [conv_up, conv_down])
def test_gradients_of_gradients_are_those_of_the_plain_convolution(fn):
    """As R1 and the path length need them."""

    def plain(x, kernel):
        layout = ("NHWC", "HWIO", "NHWC")
        if fn is conv_down:
            x = fir._plain(x, (0.125, 0.375, 0.375, 0.125), 1, 1, ((2, 2), (2, 2)))
            return jax.lax.conv_general_dilated(x, kernel, (2, 2), "VALID", dimension_numbers=layout)
        y = jax.lax.conv_general_dilated(x, kernel, (1, 1), [(2, 2)] * 2, (2, 2), dimension_numbers=layout)
        return fir._plain(y, (0.25, 0.75, 0.75, 0.25), 1, 1, ((1, 1), (1, 1)))

    def penalty(fn):
        return lambda x, kernel: jnp.sum(jnp.square(jax.grad(lambda x: jnp.sum(jnp.sin(fn(x, kernel))))(x)))

    x, kernel = normal(0, 1, 4, 6, 2), normal(1, 3, 3, 2, 3) / 4
    ours, expected = (jit(jax.grad(penalty(fn), (0, 1)))(x, kernel) for fn in (fn, plain))
    for a, b in zip(ours, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(b).max())


def test_accelerators_filter_by_a_convolution_of_each_channel():
    """Whatever machine compiles for them; processors would take a hundred times as long."""
    kernel = jnp.ones((3, 3, 3, 3))
    for fn in (upsample, lambda x: conv_up(x, kernel), lambda x: conv_down(x, kernel)):
        traced = jax.jit(jax.grad(lambda x, fn=fn: jnp.sum(jnp.square(fn(x))))).trace(jnp.ones((1, 4, 4, 3)))
        for platform in ("tpu", "cuda", "cpu"):
            text = traced.lower(lowering_platforms=(platform,)).as_text()
            assert ("feature_group_count = 3" in text) is (platform != "cpu")
