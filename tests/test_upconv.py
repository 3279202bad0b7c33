"""A transposed convolution scatters every position of the image, its border repeated, and crops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.nn import upconv as module
from memjax.nn.upconv import UpConv, upconv

SHAPES = [  # space, taps, channels in, channels out, strides
    ((5, 4), 4, 2, 3, 2),
    ((3, 1), 3, 2, 3, 1),
    ((3, 4, 2), 4, 3, 2, 2),
    ((3, 2, 4), 4, 2, 1, 2),
    ((2, 3, 3), 4, 1, 2, (1, 2, 2)),
    ((2, 3, 3), (1, 4, 4), 3, 2, (1, 2, 2)),
    ((3, 2, 4), 4, 2, 3, 1),
]


def by_scatter(x, kernel, strides):
    """The definition, in float64: position i adds x[i] @ kernel[tap] to i * stride + tap."""
    x, kernel = np.float64(x), np.float64(kernel)
    taps, axes = kernel.shape[:-2], x.ndim - 2
    strides = (strides,) * axes if isinstance(strides, int) else strides
    around = [(k - s - (k - s) // 2, (k - s) // 2) for k, s in zip(taps, strides, strict=True)]
    x = np.pad(x, [(0, 0), *around, (0, 0)], mode="edge")
    full = [(n - 1) * s + k for n, s, k in zip(x.shape[1:-1], strides, taps, strict=True)]
    y = np.zeros((len(x), *full, kernel.shape[-1]))
    for i in np.ndindex(*x.shape[1:-1]):
        for tap in np.ndindex(*taps):
            at = tuple(p * s + t for p, s, t in zip(i, strides, tap, strict=True))
            y[(slice(None), *at)] += x[(slice(None), *i)] @ kernel[tap]
    return y[(slice(None), *(slice(k - 1, n - k + 1) for k, n in zip(taps, full, strict=True)))]


@pytest.mark.parametrize(("space", "taps", "c", "d", "strides"), SHAPES)
def test_values_and_gradients_are_those_of_scattering(space, taps, c, d, strides):
    rng = np.random.default_rng(0)
    taps = (taps,) * len(space) if isinstance(taps, int) else taps
    x, kernel = jnp.float32(rng.normal(size=(2, *space, c))), jnp.float32(rng.normal(size=(*taps, c, d)))
    factors = (strides,) * len(space) if isinstance(strides, int) else strides
    dy = jnp.float32(rng.normal(size=(2, *(n * s for n, s in zip(space, factors, strict=True)), d)))

    @jax.jit
    def all_three(x, kernel, dy):
        y, back = jax.vjp(lambda x, kernel: upconv(x, kernel, strides=strides), x, kernel)
        return y, *back(dy)

    y, dx, dkernel = all_three(x, kernel, dy)
    assert y.shape == dy.shape
    np.testing.assert_allclose(y, by_scatter(x, kernel, strides), atol=1e-4)

    # It is linear in each of its arguments.
    u, v = rng.normal(size=x.shape), rng.normal(size=kernel.shape)
    np.testing.assert_allclose(np.vdot(dx, u), np.vdot(dy, by_scatter(u, kernel, strides)), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(np.vdot(dkernel, v), np.vdot(dy, by_scatter(x, v, strides)), rtol=1e-3, atol=1e-3)


def test_the_form_for_accelerators_is_the_same():
    x = jax.random.normal(jax.random.key(0), (1, 4, 5, 3, 2))
    kernel = jax.random.normal(jax.random.key(1), (4, 4, 4, 2, 3))
    forms = (jax.jit(fn, static_argnums=2)(x, kernel, (2, 2, 2)) for fn in (module._plain, module._by_phases))
    np.testing.assert_allclose(*forms, atol=1e-4)


def test_gradients_of_gradients_are_those_of_the_plain_form():
    x = jax.random.normal(jax.random.key(0), (1, 3, 2, 2, 2))
    kernel = jax.random.normal(jax.random.key(1), (4, 4, 4, 2, 2)) / 8

    def penalty(fn):
        return lambda x, kernel: jnp.sum(jnp.square(jax.grad(lambda x: jnp.sum(jnp.sin(fn(x, kernel, (2, 2, 2)))))(x)))

    forms = module._by_phases, module._plain
    for ours, plain in zip(*(jax.jit(jax.grad(penalty(fn), (0, 1)))(x, kernel) for fn in forms), strict=True):
        np.testing.assert_allclose(ours, plain, rtol=1e-3, atol=1e-4 * np.abs(plain).max())


def test_accelerators_get_plain_convolutions():
    x, kernel, dy = jnp.ones((1, 2, 2, 2, 2)), jnp.ones((4, 4, 4, 2, 2)), jnp.ones((1, 4, 4, 4, 2))
    traced = jax.jit(lambda x, k, dy: jax.vjp(lambda *a: upconv(*a, strides=2), x, k)[1](dy)).trace(x, kernel, dy)
    for platform, plain in (("tpu", True), ("cuda", True), ("cpu", False)):
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        assert (text.count("stablehlo.convolution") == 2) is plain  # those of both gradients


def test_lengths_that_would_not_be_exact_are_refused():
    with pytest.raises(AssertionError, match="exact"):
        upconv(jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 1)), strides=2)


def test_the_layer_keeps_float32_parameters_and_computes_in_its_dtype():
    x = jnp.ones((1, 3, 2, 2, 2))
    layer = UpConv(3, dtype=jnp.bfloat16)
    params = layer.init(jax.random.key(0), x)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    assert params["params"]["kernel"].shape == (4, 4, 4, 2, 3)
    y = layer.apply(params, x)
    assert y.dtype == jnp.bfloat16 and y.shape == (1, 6, 4, 4, 3)


def test_the_bias_is_added_and_can_be_left_out():
    x = jnp.zeros((1, 4, 4, 2))
    params = {"params": {"kernel": jnp.ones((4, 4, 2, 3)), "bias": jnp.float32([1, 2, 3])}}
    np.testing.assert_array_equal(UpConv(3).apply(params, x)[0, 2, 1], [1, 2, 3])
    assert "bias" not in UpConv(3, use_bias=False).init(jax.random.key(0), x)["params"]
