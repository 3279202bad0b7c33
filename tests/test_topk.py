"""Lists of the best, against a stable sort."""

import jax.numpy as jnp
import numpy as np
import pytest

from memjax.audit import topk


def expected(scores, ids, codes, k):
    """Best first, ties to the earlier place, filled up with -1."""
    place = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    score = np.take_along_axis(scores, place, 1)
    found = score > -np.inf
    lists = (score, np.where(found, ids[place], -1), np.where(found, np.take_along_axis(codes, place, 1), 0))
    missing = k - place.shape[1]
    return [
        np.pad(part, ((0, 0), (0, missing)), constant_values=fill)
        for part, fill in zip(lists, (-np.inf, -1, 0), strict=True)
    ]


def case(seed, n, m):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 6, (n, m)).astype(np.float32)  # many ties
    scores[rng.uniform(size=(n, m)) < 0.3] = -np.inf
    return scores, rng.integers(0, 8, (n, m)).astype(np.int32)


@pytest.mark.parametrize(("n", "m", "k"), [(5, 40, 7), (1, 3, 5), (6, 6, 6)])
def test_rows_and_columns(n, m, k):
    scores, codes = case(0, n, m)
    ids = np.arange(100, 100 + m, dtype=np.int32)
    rows = topk.select_rows(jnp.asarray(scores), jnp.asarray(codes), jnp.asarray(ids), k)
    columns = topk.select_columns(jnp.asarray(scores.T), jnp.asarray(codes.T), jnp.asarray(ids), k)
    for found in (rows, columns):
        for part, wanted in zip(found, expected(scores, ids, codes, k), strict=True):
            np.testing.assert_array_equal(part, wanted)


def test_merging_blocks_is_selecting_from_the_whole():
    scores, codes = case(1, 4, 30)
    ids = np.arange(30, dtype=np.int32)
    hits = topk.empty(4, 6)
    for part in (slice(0, 11), slice(11, 13), slice(13, 30)):
        block = (jnp.asarray(scores[:, part]), jnp.asarray(codes[:, part]), jnp.asarray(ids[part]))
        hits = topk.merge(hits, topk.select_rows(*block, 6))
    for part, wanted in zip(hits, expected(scores, ids, codes, 6), strict=True):
        np.testing.assert_array_equal(part, wanted)
