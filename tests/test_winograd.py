"""Winograd's filtering is the convolution: its matrices exactly, its arrays to float32 rounding."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.nn import winograd


def test_the_matrices_are_exact():
    """A^T ((G k) * (B^T x)) is the correlation of x and k, for each unit tap and row, in fractions."""
    for tap in range(3):
        for row in range(6):
            kernel = [round(24 * winograd._G[u, tap]) * Fraction(1, 24) for u in range(6)]
            rows = [Fraction(int(winograd._BT[u, row])) for u in range(6)]
            y = [sum(int(winograd._AT[i, u]) * kernel[u] * rows[u] for u in range(6)) for i in range(4)]
            assert y == [Fraction(int(row == i + tap)) for i in range(4)]


def by_taps(x, kernel, mode="constant"):
    """The definition, in float64."""
    x, kernel = np.float64(x), np.float64(kernel)
    padded = np.pad(x, [(0, 0), *((1, 1) for _ in x.shape[1:-1]), (0, 0)], mode=mode)
    y = np.zeros((*x.shape[:-1], kernel.shape[-1]))
    for tap in np.ndindex(*kernel.shape[:-2]):
        window = tuple(slice(t, t + n) for t, n in zip(tap, x.shape[1:-1], strict=True))
        y += padded[(slice(None), *window)] @ kernel[tap]
    return y


@pytest.mark.parametrize(
    ("space", "c", "d"),
    [((1, 1), 1, 2), ((4, 7), 2, 1), ((9, 3), 2, 2), ((2, 3, 4), 1, 3), ((8, 1, 5), 3, 1), ((5, 6, 2), 2, 2)],
)
def test_any_shape(space, c, d):
    rng = np.random.default_rng(0)
    x, dy = rng.normal(size=(2, *space, c)), rng.normal(size=(2, *space, d))
    kernel = rng.normal(size=(*(3 for _ in space), c, d))
    y = winograd.convolve(jnp.float32(x), jnp.float32(kernel))
    np.testing.assert_allclose(y, by_taps(x, kernel), atol=1e-4)
    # The convolution is linear in its kernel: <dy, conv(x, v)> = <gradient, v>.
    v = rng.normal(size=kernel.shape)
    gradient = winograd.kernel_gradient(jnp.float32(x), jnp.float32(dy))
    np.testing.assert_allclose(np.vdot(gradient, v), np.vdot(dy, by_taps(x, v)), atol=2e-3)


@pytest.mark.parametrize(
    ("space", "c", "d"),
    [((1, 1), 1, 2), ((4, 7), 2, 1), ((9, 3), 1, 2), ((2, 8, 4), 1, 3), ((5, 1, 1), 3, 1)],
)
def test_any_shape_with_its_border_repeated(space, c, d):
    rng = np.random.default_rng(0)
    x, dy = rng.normal(size=(2, *space, c)), rng.normal(size=(2, *space, d))
    kernel = rng.normal(size=(*(3 for _ in space), c, d))

    @jax.jit
    def all_three(x, kernel, dy):
        y, back = jax.vjp(winograd.convolve_edge, x, kernel)
        return y, *back(dy)

    y, dx, dkernel = all_three(*(jnp.float32(array) for array in (x, kernel, dy)))
    np.testing.assert_allclose(y, by_taps(x, kernel, "edge"), atol=1e-4)
    u, v = rng.normal(size=x.shape), rng.normal(size=kernel.shape)
    np.testing.assert_allclose(np.vdot(dx, u), np.vdot(dy, by_taps(u, kernel, "edge")), atol=2e-3)
    np.testing.assert_allclose(np.vdot(dkernel, v), np.vdot(dy, by_taps(x, v, "edge")), atol=2e-3)


def test_gradients_of_gradients_with_the_border_repeated():
    x = jax.random.normal(jax.random.key(0), (1, 4, 3, 2))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 2, 2))

    def plain(x, kernel):
        x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def penalty(fn):
        return lambda x, kernel: jnp.sum(jnp.square(jax.grad(lambda x: jnp.sum(jnp.sin(fn(x, kernel))))(x)))

    forms = (jax.jit(jax.grad(penalty(fn), (0, 1)))(x, kernel) for fn in (winograd.convolve_edge, plain))
    for ours, expected in zip(*forms, strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(("space", "most"), [((28, 28), 1e-5), ((8, 8, 8), 3e-5)])
def test_rounding_stays_small_at_real_sizes(space, most):
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(1, *space, 64)), rng.normal(size=(*(3 for _ in space), 64, 64))
    exact = by_taps(x, kernel)
    y = jax.jit(winograd.convolve)(np.float32(x), np.float32(kernel))
    assert np.abs(y - exact).max() < most * np.abs(exact).max()
