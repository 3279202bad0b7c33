"""The all-pairs kernel: for each query image its k best gallery images, for each gallery image its k best queries.

Every pair is scored once, under every orientation of a group; the best orientation counts. Nothing of size
queries x gallery ever exists: the gallery streams from disk block by block, queries are split over the devices, each
block's scores are reduced at once to the rows' and the columns' k best and to a histogram.

The device works in float32. `refine` then settles what float32 cannot: lists whose order, orientation or last place is
closer than the rounding error are scored again in float64, so ids and orientations are those of a float64 brute force,
with ties (closer than 1e-9) to the lower id.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float, Int, Shaped

from memjax.audit import topk
from memjax.audit.describe import Descriptor, Images, Score, describe
from memjax.audit.findings import Histogram, Neighbours
from memjax.audit.refine import AMBIGUOUS, Candidates, refine, rounding_slack
from memjax.audit.topk import Hits
from memjax.mesh import QUERY
from memjax.orientation import Orientation

_SPARE = 2  # candidates kept beyond k, so that near-ties across the last place can be settled without a second pass
_QUERY_BYTES = 256 << 20  # described queries held at once, over all devices
_GALLERY_BYTES = 16 << 20  # one described gallery block: what stays in cache is read twice for the price of once
_GALLERY_ROWS = 128  # but at least so many images, or the product starves
_SCORE_BYTES = 32 << 20  # one block of scores on one device


@dataclasses.dataclass(frozen=True, kw_only=True)
class AllPairs:
    """What one pass over all pairs gives; both ways an orientation turns the *gallery* image into the query."""

    query_to_gallery: Neighbours
    gallery_to_query: Neighbours
    histogram: Histogram


@dataclasses.dataclass(frozen=True)
class _Plan:
    """What the compiled block step depends on besides shapes."""

    score: Score
    channels: tuple[int, ...] | None
    group: tuple[Orientation, ...]
    kept: int  # candidates per list
    bins: int
    limits: tuple[float, float]
    slack: float
    mesh: Mesh
    exclude_self: bool


class _Block(NamedTuple):
    """Images as they lie on disk; `id` is -1 for padding."""

    raw: Shaped[Array, "n *space c"]
    ranges: Float[Array, "n 2"]
    id: Int[Array, " n"]


class _Queries(NamedTuple):
    """Described queries; `id` is -1 for padding and for images without a score."""

    vector: Float[Array, "n d"]
    offset: Float[Array, " n"]
    id: Int[Array, " n"]


def allpairs(
    query: Images,
    gallery: Images,
    *,
    k: int,
    group: tuple[Orientation, ...],
    mesh: Mesh,
    descriptor: Descriptor | None = None,
    bins: int = 400,
    exclude_self: bool = False,
    progress: Callable[[int], object] = lambda pairs: None,
) -> AllPairs:
    """Find each image's k best partners on the other side, exactly, and count all pairs by score.

    Args:
      query: images asked about, [S, *space, channels].
      gallery: images searched, [N, *space, channels]; streamed, never held.
      k: neighbours per image; where fewer exist the lists are filled up with id -1 and score -inf.
      group: the orientations to try on the gallery image; a group that keeps the shape, identity first.
      mesh: the devices to use; the answer does not depend on how many.
      descriptor: what is compared; default: Pearson correlation of all pixels and channels.
      bins: number of histogram bins over the score's range.
      exclude_self: leave out pairs of equal id, to search a set for its own duplicates.
      progress: called with the number of pairs finished since the last call.
    """
    descriptor = descriptor or Descriptor()
    shape = query.block(0, 1).shape[1:]
    assert shape == gallery.block(0, 1).shape[1:], "the caller checks shapes"
    size = int(np.prod(shape))
    plan = _Plan(
        score=descriptor.score,
        channels=descriptor.channels,
        group=group,
        kept=k + _SPARE,
        bins=bins,
        limits=descriptor.limits,
        slack=rounding_slack(size),
        mesh=mesh,
        exclude_self=exclude_self,
    )
    mask = None if descriptor.mask is None else jax.device_put(descriptor.mask, NamedSharding(mesh, P()))
    rows, columns = Candidates.nothing(len(query), plan.kept), Candidates.nothing(len(gallery), plan.kept)
    count = np.zeros(bins, np.int64)

    chunk = -(-_even(len(query), _QUERY_BYTES // (4 * size)) // mesh.size) * mesh.size
    rows_of_block = max(_GALLERY_ROWS, _GALLERY_BYTES // (4 * size))
    width = _even(len(gallery), min(rows_of_block, _SCORE_BYTES * mesh.size // (4 * chunk)))
    for start in range(0, len(query), chunk):
        queries = _describe_queries(plan, _place(_read(query, start, chunk), mesh, P(QUERY)), mask)
        hits = jax.device_put(topk.empty(chunk, plan.kept), NamedSharding(mesh, P(QUERY)))
        block = _read(gallery, 0, width)
        for left in range(0, len(gallery), width):
            hits, column_hits, counted = _step(plan, hits, queries, _place(block, mesh, P()), mask)
            if left + width < len(gallery):
                block = _read(gallery, left + width, width)  # while the device works on the one before
            columns.merge(left, column_hits)
            count += np.asarray(counted)
            progress(min(chunk, len(query) - start) * min(width, len(gallery) - left))
        rows.merge(start, hits)

    settle = functools.partial(
        refine, query=query, gallery=gallery, k=k, group=group, descriptor=descriptor, exclude_self=exclude_self
    )
    return AllPairs(
        query_to_gallery=settle(rows, by_query=True),
        gallery_to_query=settle(columns, by_query=False),
        histogram=Histogram(edges=np.linspace(*descriptor.limits, bins + 1), count=count),
    )


def _even(n: int, largest: int) -> int:
    """Return the size of equal blocks of at most `largest` (at least 1) that cover n with the least padding."""
    blocks = -(-n // max(1, largest))
    return -(-n // blocks)


def _read(images: Images, start: int, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read exactly `rows` images with ranges and ids; past the end they are padded, so that nothing compiles twice."""
    stop = min(start + rows, len(images))
    raw, ranges, ids = images.block(start, stop), images.ranges[start:stop], np.arange(start, stop, dtype=np.int32)
    missing = rows - len(raw)
    if missing:
        raw = np.concatenate([raw, np.zeros((missing, *raw.shape[1:]), raw.dtype)])
        ranges = np.concatenate([ranges, np.zeros((missing, 2), ranges.dtype)])
        ids = np.concatenate([ids, np.full(missing, -1, np.int32)])
    return raw, ranges, ids


def _place(block: tuple[np.ndarray, ...], mesh: Mesh, spec: P) -> _Block:
    return _Block(*(jax.device_put(part, NamedSharding(mesh, spec)) for part in block))


@functools.partial(jax.jit, static_argnums=0)
def _describe_queries(plan: _Plan, block: _Block, mask: Bool[Array, "..."] | None) -> _Queries:
    vector, factor, offset, ids = _described(plan, block, mask)
    return _Queries(vector.reshape(len(vector), -1) * factor[:, None], offset, ids)


def _described(
    plan: _Plan, block: _Block, mask: Bool[Array, "..."] | None
) -> tuple[Float[Array, "n *space chosen"], Float[Array, " n"], Float[Array, " n"], Int[Array, " n"]]:
    """Describe a block; padding and images without a score get id -1 and offset -inf, which takes them out for good."""
    raw = block.raw if plan.channels is None else block.raw[..., jnp.array(plan.channels)]
    vector, factor, offset, valid = describe(raw, block.ranges, mask, score=plan.score)
    counts = valid & (block.id >= 0)
    return vector, factor, jnp.where(counts, offset, -jnp.inf), jnp.where(counts, block.id, -1)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def _step(
    plan: _Plan, hits: Hits, queries: _Queries, block: _Block, mask: Bool[Array, "..."] | None
) -> tuple[Hits, Hits, Int[Array, " bins"]]:
    """Score one gallery block against all queries: rows merged into `hits`, the block's columns, its histogram."""
    return jax.shard_map(
        functools.partial(_local_step, plan),
        mesh=plan.mesh,
        in_specs=(P(QUERY), P(QUERY), P(), P()),
        out_specs=(P(QUERY), P(), P()),
        check_vma=False,  # columns are equal on all devices after the gather, which the checker cannot see
    )(hits, queries, block, mask)


def _local_step(
    plan: _Plan, hits: Hits, queries: _Queries, block: _Block, mask: Bool[Array, "..."] | None
) -> tuple[Hits, Hits, Int[Array, " bins"]]:
    vector, factor, offset, ids = _described(plan, block, mask)
    product, code = _best_orientation(plan, queries.vector, vector, factor)
    scores = product + queries.offset[:, None] + offset
    if plan.exclude_self:
        scores = jnp.where(queries.id[:, None] == ids, -jnp.inf, scores)

    rows = topk.merge(hits, topk.select_rows(scores, code, ids, plan.kept))
    mine = topk.select_columns(scores, code, queries.id, plan.kept)
    theirs = Hits(*(jax.lax.all_gather(part, QUERY, axis=1, tiled=True) for part in mine))  # devices hold ids in order
    columns = topk.best(theirs, plan.kept)
    return rows, columns, jax.lax.psum(_histogram(plan, scores), QUERY)


def _best_orientation(
    plan: _Plan,
    query: Float[Array, "s d"],
    vector: Float[Array, "n *space c"],
    factor: Float[Array, " n"],
) -> tuple[Float[Array, "s n"], Int[Array, "s n"]]:
    """Return each pair's largest inner product over the group, and its index (+ AMBIGUOUS if another is as good)."""

    def product(turned: Float[Array, "n *space c"]) -> Float[Array, "s n"]:
        # TF32 and bf16 passes would reorder near-ties on accelerators.
        # The barrier keeps XLA from fusing the description into the product: steadier at this block size (BUILD_NOTES).
        flat = jax.lax.optimization_barrier(turned.reshape(len(turned), -1))
        return jnp.matmul(query, flat.T, precision=jax.lax.Precision.HIGHEST) * factor

    if len(plan.group) == 1:
        scores = product(vector)
        return scores, jnp.zeros(scores.shape, jnp.int32)

    turns = [functools.partial(orientation.apply, leading=1) for orientation in plan.group]

    def one(carry: tuple[Array, Array, Array], g: Array) -> tuple[tuple[Array, Array, Array], None]:
        best, second, code = carry
        score = product(jax.lax.switch(g, turns, vector))
        code = jnp.where(score > best, g, code)
        second = jnp.maximum(second, jnp.minimum(score, best))
        return (jnp.maximum(best, score), second, code), None

    shape = (len(query), len(vector))
    nothing = jnp.full(shape, -jnp.inf)
    (best, second, code), _ = jax.lax.scan(one, (nothing, nothing, jnp.zeros(shape, jnp.int32)), jnp.arange(len(turns)))
    return best, jnp.where(best - second <= plan.slack, code + AMBIGUOUS, code)


def _histogram(plan: _Plan, scores: Float[Array, "s n"]) -> Int[Array, " bins"]:
    low, high = plan.limits
    place = jnp.clip((scores - low) / (high - low) * plan.bins, 0, plan.bins - 1).astype(jnp.int32)
    place = jnp.where(scores == -jnp.inf, plan.bins, place)
    return jnp.zeros(plan.bins, jnp.int32).at[place.ravel()].add(1, mode="drop")
