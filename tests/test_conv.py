"""Every form of a convolution is the sum over its taps, and so are its gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.nn.conv import Conv, conv

SHAPES = [  # space, taps, channels in, channels out, strides
    ((8, 8), (3, 3), 4, 6, 1),
    ((7, 5), (3, 3), 3, 2, 1),
    ((9, 6), (3, 3), 3, 4, 2),
    ((6, 6), (1, 1), 5, 3, 1),
    ((8, 6), (5, 3), 1, 2, (2, 1)),
    ((8, 8), (4, 4), 2, 3, 2),
    ((7, 7), (1, 1), 2, 3, 2),
    ((4, 5, 6), (3, 3, 3), 2, 3, 1),
    ((5, 4, 7), (3, 3, 3), 3, 2, 2),
    ((4, 4, 3), (1, 1, 1), 3, 4, 1),
    ((6, 4, 4), (1, 3, 3), 2, 2, (1, 2, 2)),
]


def by_taps(x, kernel, strides):
    """The definition, in float64: y[s] = sum over taps of x[s * stride + tap - pad] @ kernel[tap]."""
    x, kernel = np.float64(x), np.float64(kernel)
    taps, axes = kernel.shape[:-2], x.ndim - 2
    strides = (strides,) * axes if isinstance(strides, int) else strides
    pads = [(k - 1) // 2 for k in taps]
    padded = np.pad(x, [(0, 0), *((p, p) for p in pads), (0, 0)])
    out = [(n + 2 * p - k) // s + 1 for n, p, k, s in zip(x.shape[1:-1], pads, taps, strides, strict=True)]
    y = np.zeros((len(x), *out, kernel.shape[-1]))
    for tap in np.ndindex(*taps):
        window = tuple(slice(t, t + s * (n - 1) + 1, s) for t, s, n in zip(tap, strides, out, strict=True))
        y += padded[(slice(None), *window)] @ kernel[tap]
    return y


@pytest.mark.parametrize(("space", "taps", "c", "d", "strides"), SHAPES)
def test_values_and_gradients_are_those_of_the_sum_over_taps(space, taps, c, d, strides):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, *space, c)).astype(np.float32)
    kernel = rng.normal(size=(*taps, c, d)).astype(np.float32)
    y, back = jax.vjp(lambda x, kernel: conv(x, kernel, strides=strides), x, kernel)
    np.testing.assert_allclose(y, by_taps(x, kernel, strides), rtol=1e-4, atol=1e-4)

    dy = rng.normal(size=y.shape).astype(np.float32)
    dx, dkernel = back(dy)
    # The convolution is linear in each of its arguments: <dy, conv(u, kernel)> = <dx, u>, and so for kernels.
    u, v = rng.normal(size=x.shape), rng.normal(size=kernel.shape)
    np.testing.assert_allclose(np.vdot(dx, u), np.vdot(dy, by_taps(u, kernel, strides)), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(np.vdot(dkernel, v), np.vdot(dy, by_taps(x, v, strides)), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("space", [(6, 6), (4, 4, 4)])
def test_the_layer_keeps_float32_parameters_and_computes_in_its_dtype(space):
    x = jnp.ones((1, *space, 2))
    layer = Conv(3, dtype=jnp.bfloat16)
    params = layer.init(jax.random.key(0), x)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    assert params["params"]["kernel"].shape == (*(3,) * len(space), 2, 3)
    assert layer.apply(params, x).dtype == jnp.bfloat16


def test_the_bias_is_added_and_can_be_left_out():
    x = jnp.zeros((1, 4, 4, 2))
    params = {"params": {"kernel": jnp.ones((3, 3, 2, 3)), "bias": jnp.float32([1, 2, 3])}}
    np.testing.assert_array_equal(Conv(3).apply(params, x)[0, 2, 1], [1, 2, 3])
    assert "bias" not in Conv(3, use_bias=False).init(jax.random.key(0), x)["params"]
