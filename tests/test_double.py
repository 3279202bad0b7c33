"""Doubling slices is the transposed convolution, tap by tap."""

import jax
import jax.numpy as jnp
import numpy as np
from compiling import jit

from memjax.nn.double import Double, doubled


def arrays(*shapes):
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in shapes]


def test_every_position_spreads_over_four_by_four():
    x, kernel = arrays((2, 3, 4, 2, 5), (4, 4, 5, 6))
    expected = np.zeros((2, 3, 8 + 2, 4 + 2, 6))
    for i, j, k, m in np.ndindex(4, 2, 4, 4):
        # The kernel is that of the convolution over zeros in between: a position meets its last tap first.
        expected[:, :, 2 * i + k, 2 * j + m] += np.float64(x[:, :, i, j]) @ np.float64(kernel[3 - k, 3 - m])
    np.testing.assert_allclose(jit(doubled)(x, kernel), expected[:, :, 1:-1, 1:-1], atol=1e-4)


def test_layer_adds_its_bias():
    (x,) = arrays((1, 2, 2, 2, 3))
    params = Double().init(jax.random.key(0), x)["params"]
    assert params["kernel"].shape == (4, 4, 3, 3) and not np.any(params["bias"])
    shifted = params | {"bias": jnp.arange(3.0)}
    y, y_shifted = (jit(Double().apply)({"params": p}, x) for p in (params, shifted))
    assert y.shape == (1, 2, 4, 4, 3)
    np.testing.assert_allclose(y_shifted - y, np.broadcast_to(np.arange(3.0), y.shape), atol=1e-6)
    assert Double(jnp.bfloat16).apply({"params": params}, x).dtype == jnp.bfloat16
