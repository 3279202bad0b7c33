"""Attention is the formula, head by head, and does not know where positions are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import jit

from memjax.nn.attention import Attention, attend


def loop(q, k, v):
    """Return attention one query at a time, in float64."""
    out = np.zeros((*q.shape[:3], v.shape[-1]))
    for b, h, n in np.ndindex(q.shape[:3]):
        weights = np.exp([np.dot(q[b, h, n], k[b, h, m]) / np.sqrt(q.shape[-1]) for m in range(k.shape[2])])
        out[b, h, n] = sum(w * v[b, h, m] for m, w in enumerate(weights)) / weights.sum()
    return out


def awake(layer, x, seed=0):
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(layer.init, jax.random.key(0), x)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape), jnp.float32), shapes)


def image(shape, seed=1):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_attend_is_the_formula(dtype):
    q, k, v = (image((2, 3, n, 4), seed).astype(dtype) for seed, n in enumerate((5, 7, 7)))
    out = jit(attend)(q, k, v)
    assert out.dtype == dtype
    np.testing.assert_allclose(
        out, loop(*(np.float64(a) for a in (q, k, v))), atol=1e-5 if dtype == jnp.float32 else 0.02
    )


@pytest.mark.parametrize("heads", [{"heads": 2}, {"head_channels": 3}, {"heads": 1, "head_channels": 6}])
@pytest.mark.parametrize("shape", [(2, 3, 4, 6), (1, 2, 3, 2, 6)])
def test_layer_against_numpy(shape, heads):
    layer, x = Attention(groups=2, **heads), image(shape)
    params = awake(layer, x)
    p = jax.tree.map(np.float64, params["params"])
    rows = np.float64(x).reshape(shape[0], -1, 2, 3)
    rows = (rows - rows.mean((1, 3), keepdims=True)) / np.sqrt(rows.var((1, 3), keepdims=True) + 1e-5)
    rows = rows.reshape(shape[0], -1, 6) * p["norm"]["scale"] + p["norm"]["bias"]
    q, k, v = np.split(rows @ p["qkv"]["kernel"].reshape(6, 18) + p["qkv"]["bias"], 3, -1)
    n = 6 // heads["head_channels"] if "head_channels" in heads else heads["heads"]
    q, k, v = (a.reshape(*a.shape[:2], n, 6 // n).swapaxes(1, 2) for a in (q, k, v))
    out = loop(q, k, v).swapaxes(1, 2).reshape(shape)
    out = np.float64(x) + out @ p["project"]["kernel"].reshape(6, 6) + p["project"]["bias"]
    np.testing.assert_allclose(jit(layer.apply)(params, x), out, rtol=1e-4, atol=1e-4)


def test_starts_as_the_identity():
    x = image((2, 4, 4, 8))
    y, _ = jit(Attention().init_with_output)(jax.random.key(0), x)
    np.testing.assert_array_equal(y, x)


def test_positions_may_be_in_any_order():
    layer, x = Attention(heads=2), image((2, 3, 4, 8))
    params = awake(layer, x)
    order = np.random.default_rng(0).permutation(12)
    shuffled = x.reshape(2, 12, 8)[:, order].reshape(x.shape)
    y = jit(layer.apply)(params, x).reshape(2, 12, 8)[:, order]
    np.testing.assert_allclose(jit(layer.apply)(params, shuffled).reshape(2, 12, 8), y, rtol=1e-4, atol=1e-4)


def test_large_logits_do_not_overflow():
    q = 1e4 * image((1, 1, 4, 8))
    out = jit(attend)(q, q, image((1, 1, 4, 8), 2))
    np.testing.assert_allclose(out, image((1, 1, 4, 8), 2), atol=1e-5)  # everybody looks at itself
