"""Turning queries and keys tells differences of positions alone, and buckets are T5's."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import jit

from memjax.nn.positions import DistanceBias, distance_buckets, rotated


def vectors(shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def test_rotation_in_complex_numbers():
    x = np.float64(vectors((2, 6, 3, 8)))
    as_complex = x[..., :4] + 1j * x[..., 4:]
    turn = np.exp(1j * np.arange(6)[:, None, None] * 10_000.0 ** (-np.arange(4) / 4))
    expected = as_complex * turn
    expected = np.concatenate([expected.real, expected.imag], -1)
    np.testing.assert_allclose(rotated(jnp.asarray(x, jnp.float32), 1), expected, atol=1e-5)
    moved = rotated(jnp.swapaxes(jnp.asarray(x, jnp.float32), 1, 2), 2)
    np.testing.assert_allclose(np.swapaxes(moved, 1, 2), expected, atol=1e-5)


def test_products_depend_on_differences_and_norms_are_kept():
    q, k = (rotated(jnp.broadcast_to(vectors(8, seed), (12, 8)), 0) for seed in (1, 2))
    logits = np.asarray(q @ k.T)
    for ahead in range(-11, 12):
        np.testing.assert_allclose(np.diag(logits, ahead), np.diag(logits, ahead)[0], atol=1e-5)
    assert np.ptp([np.diag(logits, ahead)[0] for ahead in range(-11, 12)]) > 0.5
    np.testing.assert_allclose(np.linalg.norm(q, axis=-1), np.linalg.norm(q[0]), rtol=1e-6)
    np.testing.assert_array_equal(q[0], vectors(8, 1))


def test_rotation_keeps_the_type():
    assert rotated(vectors((3, 4)).astype(jnp.bfloat16), 0).dtype == jnp.bfloat16


def bucket(query: int, key: int, count: int, longest: int) -> int:
    """Return T5's bucket with whole numbers only: powers are compared in place of logarithms."""
    later, apart, half = key > query, abs(key - query), count // 2
    exact = half // 2
    if apart >= exact:
        steps, grown = half - exact, 0
        while grown < steps - 1 and Fraction(apart, exact) ** steps >= Fraction(longest, exact) ** (grown + 1):
            grown += 1
        apart = exact + grown
    return later * half + apart


@pytest.mark.parametrize(("count", "longest"), [(32, 32), (32, 128), (8, 20)])
def test_buckets_with_whole_numbers(count, longest):
    found = distance_buckets(40, count, longest)
    assert found.shape == (40, 40)
    assert found.tolist() == [[bucket(q, k, count, longest) for k in range(40)] for q in range(40)]


def test_buckets_that_can_be_counted_by_hand():
    """With 32 and a longest way of 32: 0 to 7 alone, then powers of 4^(1/8) = 1.19 from 8: 8, 9.5, 11.3, 13.5, 16..."""
    from_first = distance_buckets(33, 32, 32)[0] - 16
    assert from_first[1:8].tolist() == list(range(1, 8))
    assert from_first[[8, 9, 10, 12, 14, 16, 31, 32]].tolist() == [8, 8, 9, 10, 11, 12, 15, 15]
    assert distance_buckets(33, 32, 32)[:, 0].tolist() == [0, *from_first[1:].tolist()]


def test_bias_is_one_number_a_bucket_and_head():
    layer = DistanceBias(heads=3)
    params = layer.init(jax.random.key(0), 5)
    table = np.asarray(params["params"]["table"])
    assert table.shape == (32, 3)
    bias = jit(lambda p: layer.apply(p, 5))(params)
    assert bias.shape == (3, 5, 5)
    for head, query, key in np.ndindex(3, 5, 5):
        assert bias[head, query, key] == table[bucket(query, key, 32, 32), head]
