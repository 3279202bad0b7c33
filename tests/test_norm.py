"""Group norm is its definition, modulated, and its gradient is the definition's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.nn.norm import GroupNorm


def by_groups(x, groups, gain, bias, scale, shift, silu):
    """The definition, group by group, in float64."""
    x = np.float64(x)
    parts = []
    for part in np.split(x, groups, axis=-1):
        axes = tuple(range(1, x.ndim))
        parts.append((part - part.mean(axes, keepdims=True)) / np.sqrt(part.var(axes, keepdims=True) + 1e-5))
    over_space = (slice(None), *(None,) * (x.ndim - 2))
    y = np.concatenate(parts, -1) * gain + bias
    y = y * (1 + np.float64(scale)[over_space]) + np.float64(shift)[over_space]
    return y / (1 + np.exp(-y)) if silu else y


@pytest.mark.parametrize("silu", [False, True])
@pytest.mark.parametrize(
    ("shape", "asked", "groups"), [((2, 6, 5, 8), 4, 4), ((3, 4, 4, 3, 6), 4, 3), ((1, 9, 9, 7), 32, 7)]
)
def test_values_and_gradients_are_the_definitions(shape, asked, groups, silu):
    rng = np.random.default_rng(0)
    x = (3 + 2 * rng.normal(size=shape)).astype(np.float32)
    scale, shift = rng.normal(size=(2, shape[0], shape[-1])).astype(np.float32)
    gain, bias = rng.normal(size=(2, shape[-1])).astype(np.float32)
    layer = GroupNorm(groups=asked, silu=silu)

    def ours(x, gain, bias, scale, shift):
        return layer.apply({"params": {"scale": gain, "bias": bias}}, x, scale, shift)

    args = (x, gain, bias, scale, shift)
    y, back = jax.vjp(ours, *args)
    np.testing.assert_allclose(y, by_groups(x, groups, gain, bias, scale, shift, silu), rtol=1e-4, atol=1e-4)

    dy = rng.normal(size=shape)
    for which, gradient in enumerate(back(jnp.float32(dy))):
        along = rng.normal(size=args[which].shape)

        def at(step, which=which, along=along):
            moved = [np.float64(arg) + (step * along if i == which else 0) for i, arg in enumerate(args)]
            y = by_groups(moved[0], groups, *moved[1:], silu)
            return np.vdot(dy, y)

        slope = (at(1e-5) - at(-1e-5)) / 2e-5
        np.testing.assert_allclose(np.vdot(gradient, along), slope, rtol=1e-3, atol=1e-3)


def test_without_modulation_it_is_the_plain_norm():
    x = jax.random.normal(jax.random.key(0), (2, 5, 5, 4))
    layer = GroupNorm(groups=2)
    params = layer.init(jax.random.key(0), x)
    zeros = jnp.zeros((2, 4))
    np.testing.assert_array_equal(layer.apply(params, x), layer.apply(params, x, zeros, zeros))


def test_the_result_has_the_dtype_that_is_asked_for():
    x = jnp.ones((1, 4, 4, 2), jnp.bfloat16)
    for dtype, expected in ((None, jnp.bfloat16), (jnp.float32, jnp.float32)):
        params = GroupNorm(dtype=dtype).init(jax.random.key(0), x)
        assert params["params"]["scale"].dtype == jnp.float32
        assert GroupNorm(dtype=dtype).apply(params, x).dtype == expected
