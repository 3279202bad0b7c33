"""Every form of a convolution is the sum over its taps, and so are its gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import signal

from memjax.nn import conv as module
from memjax.nn.conv import Conv, conv
from memjax.nn.padding import pads

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
    ((1, 5, 5), (3, 3, 3), 2, 3, 1),
    ((5, 6, 5), (4, 4, 4), 2, 3, 2),
    ((9, 6), (3, 3), 24, 31, 1),  # from here on in the forms for many channels
    ((4, 7), (3, 3), 40, 24, 1),
    ((6, 5, 7), (3, 3, 3), 25, 24, 1),
    ((2, 2), (3, 3), 4, 6, 1),  # few positions along an axis
    ((5, 1), (3, 3), 24, 25, 1),
    ((3, 2, 4), (3, 3, 3), 2, 3, 1),
    ((3, 2, 2), (1, 7, 5), 2, 3, 1),
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
    x, kernel = jnp.float32(rng.normal(size=(2, *space, c))), jnp.float32(rng.normal(size=(*taps, c, d)))
    y, back = jax.vjp(lambda x, kernel: conv(x, kernel, strides=strides), x, kernel)
    expected = by_taps(x, kernel, strides)
    np.testing.assert_allclose(y, expected, atol=1e-5 * np.abs(expected).max())

    dy = jnp.float32(rng.normal(size=y.shape))
    dx, dkernel = back(dy)
    # The convolution is linear in each of its arguments: <dy, conv(u, kernel)> = <dx, u>, and so for kernels.
    u, v = rng.normal(size=x.shape), rng.normal(size=kernel.shape)
    np.testing.assert_allclose(np.vdot(dx, u), np.vdot(dy, by_taps(u, kernel, strides)), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(np.vdot(dkernel, v), np.vdot(dy, by_taps(x, v, strides)), rtol=1e-3, atol=1e-3)


AROUND = [  # space, taps, channels in, channels out, strides, padding, edge
    ((5, 4, 6), (3, 3, 3), 2, 3, 1, "same", True),  # Winograd's form for repeated borders, of any length
    ((8, 1, 3), (3, 3, 3), 3, 2, 1, None, True),
    ((4, 7), (3, 3), 24, 25, 1, None, True),
    ((4, 4), (3, 3), 2, 3, 1, "same", True),
    ((4, 2, 3), (3, 3, 3), 2, 3, 1, "same", True),
    ((4, 5, 4), (3, 3, 3), 1, 4, 1, "same", True),  # one channel
    ((4, 5, 4), (3, 3, 3), 4, 1, 1, "same", True),
    ((6, 4, 8), (4, 4, 4), 2, 3, 2, "same", True),  # blocks of positions
    ((3, 4, 6), (4, 4, 4), 2, 3, (1, 2, 2), "same", True),
    ((6, 5, 4), (4, 4, 4), 1, 3, 2, [(2, 2)] * 3, False),  # as discriminators of patches do
    ((3, 4, 3), (4, 4, 4), 3, 1, 1, [(2, 2)] * 3, False),
    ((7, 6), (4, 4), 3, 2, 2, [(2, 2)] * 2, False),
    ((5, 6), (4, 4), 3, 2, 1, [(2, 2)] * 2, False),
    ((3, 6, 5), (1, 3, 3), 2, 3, 1, None, False),  # slices as images
    ((2, 8, 8), (1, 7, 7), 2, 3, 1, None, False),
    ((3, 6, 4), (1, 4, 4), 2, 3, (1, 2, 2), "same", True),
    ((4, 3, 4), (1, 1, 1), 2, 3, 1, [(1, 1), (0, 1), (0, 0)], True),
    ((5, 6, 4), (3, 3, 3), 2, 3, 2, None, True),  # strides that do not divide the taps
    ((5, 4), (3, 3), 2, 3, 2, [(0, 2), (1, 0)], True),
]


def by_scipy(x, kernel, strides, around, edge):
    """The definition again, in float64: what goes around by NumPy, the sum over taps by SciPy."""
    x, kernel = np.float64(x), np.float64(kernel)
    padded, (c, d) = np.pad(x, [(0, 0), *around, (0, 0)], mode="edge" if edge else "constant"), kernel.shape[-2:]
    sums = [
        [sum(signal.correlate(image[..., i], kernel[..., i, j], "valid") for i in range(c)) for image in padded]
        for j in range(d)
    ]
    strides = (strides,) * (x.ndim - 2) if isinstance(strides, int) else strides
    return np.moveaxis(np.array(sums), 0, -1)[(slice(None), *(slice(None, None, s) for s in strides))]


@pytest.mark.parametrize(("space", "taps", "c", "d", "strides", "padding", "edge"), AROUND)
def test_what_goes_around_is_zeros_or_the_border(space, taps, c, d, strides, padding, edge):
    rng = np.random.default_rng(0)
    x, kernel = jnp.float32(rng.normal(size=(2, *space, c))), jnp.float32(rng.normal(size=(*taps, c, d)))
    strided = (strides,) * len(space) if isinstance(strides, int) else strides
    around = padding
    if padding is None:
        around = [((k - 1) // 2,) * 2 for k in taps]
    elif padding == "same":
        around = [(-(-(k - s) // 2), (k - s) // 2) for k, s in zip(taps, strided, strict=True)]

    expected = by_scipy(x, kernel, strides, around, edge)
    dy = jnp.float32(rng.normal(size=expected.shape))

    @jax.jit
    def all_three(x, kernel, dy):
        y, back = jax.vjp(lambda x, kernel: conv(x, kernel, strides=strides, padding=padding, edge=edge), x, kernel)
        return y, *back(dy)

    y, dx, dkernel = all_three(x, kernel, dy)
    np.testing.assert_allclose(y, expected, atol=1e-5 * np.abs(expected).max())
    assert y.shape == expected.shape
    u, v = rng.normal(size=x.shape), rng.normal(size=kernel.shape)
    for gradient, at, result in (
        (dx, u, by_scipy(u, kernel, strides, around, edge)),
        (dkernel, v, by_scipy(x, v, strides, around, edge)),
    ):
        np.testing.assert_allclose(np.vdot(gradient, at), np.vdot(dy, result), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("taps", "stride", "expected"),
    [(4, 2, (1, 1)), (3, 1, (1, 1)), (4, 1, (2, 1)), (1, 1, (0, 0)), (2, 2, (0, 0)), (7, 2, (3, 2))],
)
def test_the_same_rule_divides_lengths_by_the_stride(taps, stride, expected):
    assert pads((taps,), (stride,), "same") == (expected,)
    for n in (stride, 3 * stride, 8 * stride):
        assert (n + sum(expected) - taps) // stride + 1 == n // stride


@pytest.mark.parametrize("space", [(8, 6), (4, 4, 4)])
def test_gradients_of_gradients_are_those_of_the_plain_convolution(space):
    """As a penalty on gradients needs them."""
    x = jax.random.normal(jax.random.key(0), (1, *space, 24))
    kernel = jax.random.normal(jax.random.key(1), (*(3 for _ in space), 24, 24)) / 24

    def penalty(fn):
        return lambda x, kernel: jnp.sum(jnp.square(jax.grad(lambda x: jnp.sum(jnp.sin(fn(x, kernel))))(x)))

    for ours, plain in zip(
        *(jax.jit(jax.grad(penalty(fn), (0, 1)))(x, kernel) for fn in (conv, module._plain)), strict=True
    ):
        np.testing.assert_allclose(ours, plain, rtol=1e-3, atol=1e-4 * np.abs(plain).max())


@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("space", [(8, 8), (4, 4, 4)])
def test_accelerators_get_plain_convolutions(space, strides):
    """Whatever machine compiles for them."""
    x, kernel = jnp.ones((1, *space, 24)), jnp.ones((*(3 for _ in space), 24, 24))
    traced = jax.jit(lambda x, k: jax.vjp(lambda *a: conv(*a, strides=strides), x, k)[1](conv(x, k, strides=strides)))
    for platform, plain in (("tpu", True), ("cuda", True), ("cpu", len(space) == 2 and strides == 2)):
        text = traced.trace(x, kernel).lower(lowering_platforms=(platform,)).as_text()
        assert (text.count("stablehlo.convolution") == 3) is plain


@pytest.mark.parametrize(
    ("taps", "how"),
    [
        ((3, 3, 3), {"padding": "same", "edge": True}),
        ((4, 4, 4), {"strides": 2, "padding": "same", "edge": True}),
        ((4, 4, 4), {"padding": ((2, 2),) * 3}),
        ((1, 3, 3), {}),
    ],
)
def test_accelerators_get_plain_convolutions_whatever_goes_around(taps, how):
    x, kernel = jnp.ones((1, 4, 4, 4, 2)), jnp.ones((*taps, 2, 2))
    y = jax.eval_shape(lambda x, k: conv(x, k, **how), x, kernel)
    traced = jax.jit(lambda x, k, dy: jax.vjp(lambda *a: conv(*a, **how), x, k)[1](dy)).trace(x, kernel, y)
    for platform, plain in (("tpu", True), ("cuda", True), ("cpu", taps[0] == 1)):
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        assert (text.count("stablehlo.convolution") == 2) is plain  # those of both gradients


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


def test_the_layer_repeats_borders_and_pads_by_the_rule():
    x = jax.random.normal(jax.random.key(0), (1, 4, 6, 3, 2))
    layer = Conv(3, kernel_size=4, strides=(2, 2, 1), padding="same", edge=True)
    params = layer.init(jax.random.key(1), x)
    y = jax.jit(layer.apply)(params, x)
    assert y.shape == (1, 2, 3, 3, 3)
    expected = by_scipy(x, params["params"]["kernel"], (2, 2, 1), [(1, 1), (1, 1), (2, 1)], True)
    np.testing.assert_allclose(y, expected, atol=1e-5)
