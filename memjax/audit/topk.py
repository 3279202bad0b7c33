"""The k best of blocks of scores, and merging of the lists that come out of many blocks.

`lax.top_k` costs 4 ns an element on a CPU core; a two-stage form (maxima of groups, then inside the best groups) was no
faster here, since its gathers cost what it saves (BUILD_NOTES).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class Hits(NamedTuple):
    """The best of something, best first: score, id (-1 where there is none), orientation code."""

    score: Float[Array, "n k"]
    id: Int[Array, "n k"]
    code: Int[Array, "n k"]


def select_rows(scores: Float[Array, "n m"], codes: Int[Array, "n m"], ids: Int[Array, " m"], k: int) -> Hits:
    """Return each row's k best, ties to the earlier column; fewer than k finite scores leave id -1 behind."""
    n, m = scores.shape
    score, place = jax.lax.top_k(scores, min(k, m))
    return _found(score, ids[place], codes[jnp.arange(n)[:, None], place], k)


def select_columns(scores: Float[Array, "n m"], codes: Int[Array, "n m"], ids: Int[Array, " n"], k: int) -> Hits:
    """Return each column's k best, ties to the earlier row; fewer than k finite scores leave id -1 behind."""
    n, m = scores.shape
    score, place = jax.lax.top_k(scores.T, min(k, n))
    return _found(score, ids[place], codes[place, jnp.arange(m)[:, None]], k)


def _found(score: Float[Array, "n m"], ids: Int[Array, "n m"], codes: Int[Array, "n m"], k: int) -> Hits:
    real = score > -jnp.inf
    hits = Hits(score, jnp.where(real, ids, -1), jnp.where(real, codes, 0))
    return hits if score.shape[1] == k else merge(empty(len(score), k), hits)


def best(hits: Hits, k: int) -> Hits:
    """Return the k best of longer lists; where scores tie, the earlier entry."""
    score, place = jax.lax.top_k(hits.score, k)
    return Hits(score, *(jnp.take_along_axis(part, place, axis=1) for part in (hits.id, hits.code)))


def merge(first: Hits, second: Hits) -> Hits:
    """Merge two lists of k; ids of `first` must be the lower ones, so that ties keep the lower id."""
    both = Hits(*(jnp.concatenate(pair, axis=1) for pair in zip(first, second, strict=True)))
    return best(both, first.score.shape[1])


def empty(n: int, k: int) -> Hits:
    """Return lists with nothing in them yet."""
    return Hits(jnp.full((n, k), -jnp.inf, jnp.float32), jnp.full((n, k), -1, jnp.int32), jnp.zeros((n, k), jnp.int32))
