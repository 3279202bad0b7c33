"""Trees by name, and keys by purpose."""

import jax
import jax.numpy as jnp
import numpy as np

from memjax.keys import key_at, key_for, keys_of
from memjax.trees import count, from_named, named_leaves, norm

TREE = {"b": [jnp.ones((2, 3)), jnp.zeros(4)], "a": {"kernel": 2 * jnp.ones(())}}


def test_names_are_paths_and_lead_back():
    leaves = named_leaves(TREE)
    assert list(leaves) == ["a/kernel", "b/0", "b/1"]
    jax.tree.map(np.testing.assert_array_equal, from_named(TREE, leaves), TREE)


def test_size_and_norm():
    assert count(TREE) == 11
    assert count(jax.eval_shape(lambda: TREE)) == 11
    np.testing.assert_allclose(norm(TREE), np.sqrt(6 + 4))
    assert norm({"x": jnp.full(4, 300, jnp.bfloat16)}).dtype == jnp.float32


def test_keys_differ_by_seed_purpose_step_and_id_and_by_nothing_else():
    seen = [
        jax.random.key_data(key).tobytes()
        for seed in (0, 1)
        for purpose in ("init", "noise")
        for key in [key_for(seed, purpose), *(key_at(key_for(seed, purpose), step) for step in (0, 1))]
    ]
    assert len(set(seen)) == len(seen)
    key = key_for(0, "sample")
    whole = jax.random.key_data(keys_of(key, jnp.arange(8)))
    np.testing.assert_array_equal(whole[5:], jax.random.key_data(keys_of(key, jnp.arange(5, 8))))
    np.testing.assert_array_equal(whole[3], jax.random.key_data(key_at(key, 3)))
