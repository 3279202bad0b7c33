"""Attention within slices and along the depth, against loops; each leaves alone what the other joins."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import jit

from memjax.nn.attention import attend
from memjax.nn.linear_attention import linear_attend
from memjax.nn.positions import DistanceBias, rotated
from memjax.nn.slice_attention import SliceAttention, along_depth, within_slices

HEADS, CHANNELS = 2, 4


def arrays(*shapes):
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in shapes]


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_along_depth_place_by_place():
    *qkv, bias = arrays(*[(2, 5, 2, 3, HEADS, CHANNELS)] * 3, (HEADS, 5, 5))
    out = jit(along_depth)(*qkv, bias)
    q, k = (np.float64(rotated(x, 1)) for x in qkv[:2])
    for b, y, x, head in np.ndindex(2, 2, 3, HEADS):
        place = (b, slice(None), y, x, head)
        weights = softmax(q[place] @ k[place].T / np.sqrt(CHANNELS) + np.float64(bias[head]))
        np.testing.assert_allclose(out[place], weights @ np.float64(qkv[2])[place], atol=1e-5)


@pytest.mark.parametrize("fn", [attend, linear_attend])
def test_within_slices_one_slice_at_a_time(fn):
    qkv = arrays(*[(2, 3, 2, 4, HEADS, CHANNELS)] * 3)
    out = jit(within_slices(fn))(*qkv)
    for b, n in np.ndindex(2, 3):
        one = [jnp.swapaxes(x[b, n].reshape(1, 8, HEADS, CHANNELS), 1, 2) for x in qkv]
        expected = jnp.swapaxes(fn(*one), 1, 2).reshape(2, 4, HEADS, CHANNELS)
        np.testing.assert_allclose(out[b, n], expected, atol=1e-6)


@pytest.mark.parametrize("use_bias", [False, True])
def test_layer_against_numpy(use_bias):
    (x,) = arrays((2, 3, 2, 2, 6))
    layer = SliceAttention(lambda q, k, v: q + 2 * k - 3 * v, HEADS, CHANNELS, use_bias)
    shapes = jax.eval_shape(layer.init, jax.random.key(0), x)
    params = jax.tree.map(lambda leaf: arrays(leaf.shape)[0], shapes)
    p = jax.tree.map(np.float64, params["params"])
    assert set(p["project"]) == ({"kernel", "bias"} if use_bias else {"kernel"})
    y = np.float64(x)
    y = (y - y.mean(-1, keepdims=True)) / np.sqrt(y.var(-1, keepdims=True) + 1e-5) * p["norm"]["scale"]
    q, k, v = np.split(y @ p["qkv"]["kernel"][0, 0, 0], 3, -1)
    expected = np.float64(x) + (q + 2 * k - 3 * v) @ p["project"]["kernel"][0, 0, 0] + p["project"].get("bias", 0)
    np.testing.assert_allclose(jit(layer.apply)(params, x), expected, rtol=1e-4, atol=1e-4)


def test_depth_joins_a_place_and_only_it():
    (x,) = arrays((1, 4, 2, 2, 8))
    layer, bias = SliceAttention(along_depth, HEADS, CHANNELS), arrays((HEADS, 4, 4))[0]
    params = layer.init(jax.random.key(0), x, bias)
    apply = jit(layer.apply)
    other = apply(params, x.at[0, 2, 1, 0].multiply(-1.0), bias)
    moved = np.abs(other - apply(params, x, bias)).max(-1)[0] > 1e-5
    assert moved[:, 1, 0].all() and moved.sum() == 4


def test_positions_matter_along_the_depth():
    """Slices in another order do not give the same in another order: be it by turning or by the bias."""
    q, k, v = arrays(*[(1, 4, 1, 1, HEADS, CHANNELS)] * 3)
    order = np.array([2, 0, 3, 1])
    bias = DistanceBias(HEADS).apply(DistanceBias(HEADS).init(jax.random.key(0), 4), 4)
    run = jit(along_depth)
    for q_, bias_ in ((q, jnp.zeros_like(bias)), (jnp.zeros_like(q), bias)):
        shuffled = run(*(x[:, order] for x in (q_, k, v)), bias_)
        assert np.abs(shuffled - run(q_, k, v, bias_)[:, order]).max() > 1e-2
