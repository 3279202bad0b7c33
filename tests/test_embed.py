"""Times and classes as vectors: distinct, bounded, and the waves of the paper."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies

from memjax.nn.embed import Embedding, waves


@pytest.mark.parametrize("width", [2, 7, 64])
def test_waves_are_the_formula(width):
    t = np.array([0.0, 1.0, 2.5, 999.0])
    half = width // 2
    angle = t[:, None] / 10_000 ** (np.arange(half) / half)
    expected = np.concatenate([np.cos(angle), np.sin(angle), np.zeros((4, width % 2))], -1)
    np.testing.assert_allclose(waves(jnp.asarray(t), width), expected, atol=1e-4)  # of angles near 1000 in float32


@given(strategies.lists(strategies.integers(0, 4000), min_size=8, max_size=8, unique=True))
def test_steps_are_told_apart(steps):
    rows = np.asarray(waves(jnp.asarray(steps), 64))
    apart = np.linalg.norm(rows[:, None] - rows[None], axis=-1) + 10 * np.eye(len(steps))
    assert apart.min() > 0.5


@given(strategies.floats(0, 3000), strategies.floats(0, 900))
def test_products_depend_on_the_difference_alone(t, later):
    """cos a cos b + sin a sin b = cos(a - b): the same dot product wherever on the axis the pair is."""
    dots = [float(np.dot(*np.float64(waves(jnp.asarray([s, s + later]), 32)))) for s in (0.0, t)]
    assert dots[0] == pytest.approx(dots[1], abs=0.02)  # float32 angles up to 4000


def test_embedding_adds_the_class():
    layer, t = Embedding(8, 12, n_classes=3), jnp.array([5, 5, 5, 5])
    params = layer.init(jax.random.key(0), t)
    y = np.asarray(layer.apply(params, t, jnp.arange(4)))
    table = np.asarray(params["params"]["label"]["embedding"])
    assert table.shape == (4, 12)
    np.testing.assert_allclose(y - y[0], table - table[0], atol=1e-5)
    np.testing.assert_array_equal(layer.apply(params, t)[0], y[3])  # None: no class
    assert not np.any(np.isfinite(layer.apply(params, t, jnp.array([0, 1, 2, 4]))[3]))  # loud, not clipped


def test_embedding_is_float32():
    layer, t = Embedding(8, 12), jnp.array([998, 999])
    params = layer.init(jax.random.key(0), t)
    y = layer.apply(params, t)
    assert y.dtype == jnp.float32
    assert np.abs(y[0] - y[1]).max() > 1e-3
