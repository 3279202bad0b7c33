"""Linear attention is the formula, one number after the other, and costs no square of the positions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import jit

from memjax.nn.linear_attention import linear_attend


def arrays(*shapes):
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in shapes]


def loop(q, k, v):
    """Return linear attention number by number, in float64."""
    out = np.zeros((*q.shape[:3], v.shape[-1]))
    for b, h, n, e in np.ndindex(out.shape):
        share = np.exp(q[b, h, n]) / np.exp(q[b, h, n]).sum()
        for d in range(q.shape[-1]):
            weight = np.exp(k[b, h, :, d]) / np.exp(k[b, h, :, d]).sum()
            out[b, h, n, e] += share[d] * np.dot(weight, v[b, h, :, e]) / np.sqrt(q.shape[-1])
    return out


@pytest.mark.parametrize(("dtype", "error"), [(jnp.float32, 1e-6), (jnp.bfloat16, 0.01)])
def test_is_the_formula(dtype, error):
    q, k, v = (x.astype(dtype) for x in arrays((2, 3, 5, 4), (2, 3, 7, 4), (2, 3, 7, 6)))
    out = jit(linear_attend)(q, k, v)
    assert out.dtype == dtype
    np.testing.assert_allclose(np.float64(out), loop(*(np.float64(x) for x in (q, k, v))), atol=error)


def test_large_numbers_do_not_overflow():
    q, k, v = arrays((1, 1, 4, 8), (1, 1, 4, 8), (1, 1, 4, 8))
    out = np.asarray(jit(linear_attend)(1e4 * q, 1e4 * k, v))
    chosen = np.asarray(v)[0, 0][np.argmax(k[0, 0], 0)]  # the position that each channel of the keys looks at
    np.testing.assert_allclose(out[0, 0], chosen[np.argmax(q[0, 0], -1)] / np.sqrt(8), rtol=1e-4)


def test_cost_is_linear_in_positions():
    def flops(n):
        args = [jax.ShapeDtypeStruct((1, 1, n, 4), jnp.float32)] * 3
        found = jax.jit(linear_attend).lower(*args).cost_analysis()
        assert found is not None
        return found["flops"]

    assert flops(4096) < 9 * flops(512)
