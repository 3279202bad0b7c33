"""The all-pairs kernel: for each query image its k best gallery images, for each gallery image its k best queries.

Every pair is scored once, under every orientation of a group; the best orientation counts. Nothing of size
queries x gallery ever exists: the gallery streams from disk block by block, queries are split over the devices. Of a
block's scores only those go on that may belong to somebody's k best: a list's k-th best score so far, or the k-th
largest of the maxima of 4k parts of the block, is a floor that its k best cannot lie below. Floors cost a pass over
the scores where sorting costs ten, and let about 1.1 k scores of each list through.

The device works in float32. `refine` then settles what float32 cannot: lists whose order, orientation or last place is
closer than the rounding error are scored again in float64, so ids and orientations are those of a float64 brute force,
with ties (closer than 1e-9) to the lower id.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float, Int, Shaped, UInt

from memjax.audit import plan as plans
from memjax.audit import symmetry
from memjax.audit.describe import Descriptor, Images, Score, facts, values
from memjax.audit.findings import Histogram, Neighbours
from memjax.audit.memory import available_bytes
from memjax.audit.refine import refine, rounding_slack
from memjax.audit.resume import Progress
from memjax.audit.shortlist import AMBIGUOUS
from memjax.audit.symmetry import Group, Parts, Symmetry
from memjax.errors import UserError
from memjax.mesh import QUERY

_SPARE = 4  # candidates kept beyond k, so that near-ties across the last place can be settled without a second pass
_QUERY_BYTES = 1 << 30  # described queries held at once, over all devices
_GALLERY_BYTES = 16 << 20  # one described gallery block: what stays in cache is read twice for the price of once
_GALLERY_ROWS = 128  # but at least so many images, or the product starves,
_GALLERY_MOST = 64 << 20  # as far as they are no larger than this
_COPIES = 4  # of a described gallery block, in all its stages
_SCORE_BYTES = 64 << 20  # one block of scores in all orientations on one device
_PARTS = 4  # times k: parts of a block whose maxima give a floor


@dataclasses.dataclass(frozen=True, kw_only=True)
class AllPairs:
    """What one pass over all pairs gives; both ways an orientation turns the *gallery* image into the query."""

    query_to_gallery: Neighbours
    gallery_to_query: Neighbours
    histogram: Histogram | None


@dataclasses.dataclass(frozen=True)
class _How:
    """What the compiled steps depend on besides shapes."""

    kind: plans.Kind
    score: Score
    group: Group
    channels: tuple[int, ...] | None
    k: int
    bins: int  # 0: no histogram
    limits: tuple[float, float]
    slack: float
    exclude_self: bool
    mesh: Mesh


class _Raw(NamedTuple):
    """Images as they lie on disk; `id` is -1 for padding."""

    raw: Shaped[Array, "n *space c"]
    ranges: Float[Array, "n 2"]
    id: Int[Array, " n"]


class _Side(NamedTuple):
    """Described images. Images without a score have an offset of -inf, which takes them out for good."""

    parts: Parts  # [d, n, numbers] each
    offset: Float[Array, " n"]
    id: Int[Array, " n"]
    finite: Bool[Array, " n"]


class _Screened(NamedTuple):
    """A block's scores, and which of them may belong to somebody's k best."""

    score: Float[Array, "s n"]
    code: UInt[Array, "s n"]
    passed: Bool[Array, "s n"]
    query_floor: Float[Array, " s"]
    gallery_floor: Float[Array, " n"]
    counted: Int[Array, " bins"]


def allpairs(
    query: Images,
    gallery: Images,
    *,
    k: int,
    group: Group,
    mesh: Mesh,
    descriptor: Descriptor | None = None,
    plan: plans.Kind | Literal["auto"] = "auto",
    bins: int = 400,
    exclude_self: bool = False,
    unfinished: Path | None = None,
    progress: Callable[[int], object] = lambda pairs: None,
    tell: Callable[[str], object] = lambda text: None,
) -> AllPairs:
    """Find each image's k best partners on the other side, exactly, and count all pairs by score.

    Args:
      query: images asked about, [S, *space, channels].
      gallery: images searched, [N, *space, channels]; streamed, never held.
      k: neighbours per image; where fewer exist the lists are filled up with id -1 and score -inf.
      group: the orientations to try on the gallery image; a group that keeps the shape, identity first.
      mesh: the devices to use; the answer does not depend on how many.
      descriptor: what is compared; default: Pearson correlation of all pixels and channels.
      plan: how the work is done; the answer does not depend on it.
      bins: number of histogram bins over the score's range; 0: no histogram.
      exclude_self: leave out pairs of equal id, to search a set for its own duplicates.
      unfinished: where an interrupted search is kept and taken up again; None: nowhere.
      progress: called with the number of pairs finished since the last call.
      tell: called with a sentence on the plan.

    Raises:
      UserError: k below 1, a group that the shape does not allow, more devices than queries, an image with NaN or
        infinity in it, or images that change during the search.
    """
    descriptor = descriptor or Descriptor()
    shape = query.block(0, 1).shape[1:]
    assert shape == gallery.block(0, 1).shape[1:], "the caller checks shapes"
    if k < 1:
        raise UserError(f"k={k}, but at least the one nearest image must be asked for; give k=1 or more.")
    if mesh.size > len(query):
        raise UserError(
            f"{mesh.size} devices for {len(query)} query images; use at most {len(query)} (--devices={len(query)})."
        )
    size = int(np.prod(shape))
    chosen = plans.choose(plan, queries=len(query), gallery=len(gallery), size=size, group=group)
    tell(chosen.sentence)
    how = _How(
        kind=chosen.kind,
        score=descriptor.score,
        group=group,
        channels=descriptor.channels,
        k=k,
        bins=bins,
        limits=descriptor.limits,
        slack=rounding_slack(size),
        exclude_self=exclude_self,
        mesh=mesh,
    )
    symmetry.check_group(group, shape[:-1])
    transform = Symmetry.of(
        group if how.kind == "symmetric" else group[:1], shape, channels=descriptor.channels, mask=descriptor.mask
    )
    mask = None if descriptor.mask is None else jax.device_put(descriptor.mask, NamedSharding(mesh, P()))
    blocks = _blocks(how, len(query), len(gallery), size, available_bytes(mesh))
    found = Progress.begin(unfinished, [chosen.kind, mesh.size, blocks], len(query), len(gallery), k + _SPARE, bins)
    progress(blocks.pairs_before(found.done))

    try:
        for number, start, queries in _query_chunks(how, transform, query, mask, blocks, found.done):
            for left, block in _gallery_blocks(gallery, blocks, mesh, max(0, found.done - number)):
                described = _describe_gallery(how, transform, block, mask)
                _check_finite(gallery, described)
                floors = [
                    _floors(lists.floor(k), place, rows, mesh, spec)
                    for lists, place, rows, spec in (
                        (found.query, start, blocks.chunk, P(QUERY)),
                        (found.gallery, left, blocks.width, P()),
                    )
                ]
                screened = _screen(how, queries, described, *floors)
                gallery.check_unchanged()
                found.begin_block()
                _take(found, screened, start, left, how.slack)
                found.end_block()
                progress(blocks.pairs_of(start, left))
        query.check_unchanged()
    except BaseException:
        found.rescue()
        raise

    settle = functools.partial(
        refine, query=query, gallery=gallery, k=k, group=group, descriptor=descriptor, exclude_self=exclude_self
    )
    answer = AllPairs(
        query_to_gallery=settle(found.query, by_query=True),
        gallery_to_query=settle(found.gallery, by_query=False),
        histogram=Histogram(edges=np.linspace(*descriptor.limits, bins + 1), count=found.count) if bins else None,
    )
    found.end()
    return answer


class _Blocks(NamedTuple):
    """How the pairs are cut up: chunks of queries, and blocks of the gallery for each."""

    queries: int
    gallery: int
    chunk: int
    width: int

    def pairs_of(self, start: int, left: int) -> int:
        return min(self.chunk, self.queries - start) * min(self.width, self.gallery - left)

    def pairs_before(self, done: int) -> int:
        """Return how many pairs the first `done` blocks hold."""
        per_chunk = -(-self.gallery // self.width)
        chunks, blocks = divmod(done, per_chunk)
        whole = min(chunks * self.chunk, self.queries)
        rest = min(self.chunk, self.queries - whole)
        return whole * self.gallery + rest * min(blocks * self.width, self.gallery)


def _blocks(how: _How, n_queries: int, n_gallery: int, size: int, available: int | None) -> _Blocks:
    """Size the blocks: what a device computes on stays in its cache or at least in its memory.

    Raises:
      UserError: there is not even memory for one query and one gallery image a device.
    """
    devices = how.mesh.size
    turns = len(how.group) if how.kind == "product" else 1
    query_bytes = 4 * size * turns
    if available is None:
        available = 8 * _QUERY_BYTES
    least = devices * (query_bytes + _COPIES * 4 * size)
    if least > available:
        raise UserError(
            f"comparing images of {size} numbers takes at least {least / 2**30:.3g} GiB, {available / 2**30:.3g} GiB "
            "are free; free memory, use fewer --devices, or prepare the images with a smaller --size."
        )
    local = -(-_even(n_queries, min(_QUERY_BYTES, available // 4) // query_bytes) // devices)
    local = _in_parts(local, -(-_PARTS * how.k // devices))
    most = min(_GALLERY_MOST, available // (2 * _COPIES))
    rows = max(min(_GALLERY_ROWS, most // (4 * size)), min(_GALLERY_BYTES, most) // (4 * size))
    width = _even(n_gallery, min(rows, _SCORE_BYTES // (4 * local * len(how.group))))
    width = -(-_in_parts(width, math.lcm(_PARTS * how.k, devices)) // devices) * devices
    return _Blocks(n_queries, n_gallery, local * devices, width)


def _in_parts(n: int, parts: int) -> int:
    """Round n up to a multiple of `parts`, if it is large enough to be parted."""
    return n if n < 2 * parts else -(-n // parts) * parts


def _part(n: int, parts: int) -> int:
    """Return the size of `parts` equal parts of n; 1 if it has no such parts."""
    return n // parts if n % parts == 0 else 1


def _even(n: int, largest: int) -> int:
    """Return the size of equal blocks of at most `largest` (at least 1) that cover n with the least padding."""
    blocks = -(-n // max(1, largest))
    return -(-n // blocks)


def _query_chunks(
    how: _How, transform: Symmetry, query: Images, mask: Bool[Array, "..."] | None, blocks: _Blocks, done: int
) -> Iterator[tuple[int, int, _Side]]:
    """Yield the chunks of queries with blocks left to do: number of the first block, first query, the queries."""
    per_chunk = -(-blocks.gallery // blocks.width)
    for chunk, start in enumerate(range(0, blocks.queries, blocks.chunk)):
        if done < (chunk + 1) * per_chunk:
            raw = _place(_read(query, start, blocks.chunk), how.mesh, P(QUERY))
            queries = _describe_queries(how, transform, raw, mask)
            _check_finite(query, queries)
            yield chunk * per_chunk, start, queries


def _gallery_blocks(gallery: Images, blocks: _Blocks, mesh: Mesh, skip: int) -> Iterator[tuple[int, _Raw]]:
    """Yield blocks of the gallery from number `skip` on; the next is read while the caller works on one."""
    starts = range(skip * blocks.width, blocks.gallery, blocks.width)
    with ThreadPoolExecutor(1) as reader:
        ahead = [reader.submit(_read, gallery, start, blocks.width) for start in starts[:1]]
        for place, start in enumerate(starts):
            block = _place(ahead.pop().result(), mesh, P(QUERY))
            ahead += [reader.submit(_read, gallery, after, blocks.width) for after in starts[place + 1 : place + 2]]
            yield start, block


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


def _place(block: tuple[np.ndarray, ...], mesh: Mesh, spec: P) -> _Raw:
    return _Raw(*(jax.device_put(part, NamedSharding(mesh, spec)) for part in block))


def _floors(floor: np.ndarray, start: int, rows: int, mesh: Mesh, spec: P) -> Array:
    """Return the floors of `rows` lists from `start` on; padding lets nothing through."""
    part = np.full(rows, np.inf, np.float32)
    part[: len(floor) - start] = floor[start : start + rows]
    return jax.device_put(part, NamedSharding(mesh, spec))


def _take(found: Progress, screened: _Screened, start: int, left: int, slack: float) -> None:
    """Add the pairs that passed to the lists that they may belong to, and the block's count to the histogram."""
    passed = np.flatnonzero(np.asarray(screened.passed))
    row, column = np.divmod(passed, screened.score.shape[1])
    score, code = (np.asarray(part).ravel()[passed] for part in (screened.score, screened.code))
    sides = (
        (found.query, row, column + left, screened.query_floor, start),
        (found.gallery, column, row + start, screened.gallery_floor, left),
    )
    for lists, owner, other, floor, first in sides:
        mine = score >= np.asarray(floor)[owner] - 2 * slack
        lists.add(owner[mine] + first, other[mine], score[mine], code[mine].astype(np.int16))
    found.count += np.asarray(screened.counted)


def _check_finite(images: Images, described: _Side) -> None:
    bad = np.asarray(described.id)[~np.asarray(described.finite) & (np.asarray(described.id) >= 0)]
    if len(bad):
        raise UserError(
            f"{images.name(int(bad[0]))} holds NaN or infinity ({len(bad)} such images in its block); "
            "mend or leave out such images."
        )


@functools.partial(jax.jit, static_argnums=0)
def _describe_queries(how: _How, transform: Symmetry, block: _Raw, mask: Bool[Array, "..."] | None) -> _Side:
    def local(transform: Symmetry, block: _Raw, mask: Bool[Array, "..."] | None) -> _Side:
        side = _describe(how, transform, block, mask)
        if how.kind == "symmetric" or len(how.group) == 1:
            return side
        # <x, g y> = <g' x, y> with g' the inverse of g: the few queries are turned, not the gallery.
        turned = [
            _describe(how, transform, block._replace(raw=g.inverse.apply(block.raw, leading=1)), mask).parts[0][0]
            for g in how.group
        ]
        return side._replace(parts=(jnp.stack(turned),))

    sharded = _Side(parts=P(None, QUERY), offset=P(QUERY), id=P(QUERY), finite=P(QUERY))  # type: ignore[arg-type]
    return jax.shard_map(local, mesh=how.mesh, in_specs=(P(), P(QUERY), P()), out_specs=sharded, check_vma=False)(
        transform, block, mask
    )


@functools.partial(jax.jit, static_argnums=0)
def _describe_gallery(how: _How, transform: Symmetry, block: _Raw, mask: Bool[Array, "..."] | None) -> _Side:
    """Describe a block, each device its part of it, and give all devices the whole."""

    def local(transform: Symmetry, block: _Raw, mask: Bool[Array, "..."] | None) -> _Side:
        side = _describe(how, transform, block, mask)
        if how.mesh.size == 1:
            return side
        gather = functools.partial(jax.lax.all_gather, axis_name=QUERY, tiled=True)
        return _Side(tuple(gather(part, axis=1) for part in side.parts), *(gather(part) for part in side[1:]))

    return jax.shard_map(local, mesh=how.mesh, in_specs=(P(), P(QUERY), P()), out_specs=P(), check_vma=False)(
        transform, block, mask
    )


def _describe(how: _How, transform: Symmetry, block: _Raw, mask: Bool[Array, "..."] | None) -> _Side:
    raw = block.raw if how.channels is None else block.raw[..., jnp.array(how.channels)]
    of = facts(raw, block.ranges, mask, score=how.score)
    parts = transform.split(block.raw.reshape(len(block.raw), -1), lambda pixels: values(pixels, of, score=how.score))
    counts = of.valid & (block.id >= 0)
    return _Side(parts, jnp.where(counts, of.offset, -jnp.inf), block.id, of.finite)


@functools.partial(jax.jit, static_argnums=0)
def _screen(
    how: _How, queries: _Side, block: _Side, query_floor: Float[Array, " s"], gallery_floor: Float[Array, " n"]
) -> _Screened:
    """Score one gallery block against all queries, and say which scores may belong to somebody's k best."""
    sharded = _Side(parts=P(None, QUERY), offset=P(QUERY), id=P(QUERY), finite=P(QUERY))  # type: ignore[arg-type]
    return jax.shard_map(
        functools.partial(_local_screen, how),
        mesh=how.mesh,
        in_specs=(sharded, P(), P(QUERY), P()),
        out_specs=_Screened(P(QUERY), P(QUERY), P(QUERY), P(QUERY), P(), P()),  # type: ignore[arg-type]
        check_vma=False,  # floors are equal on all devices after the gather, which the checker cannot see
    )(queries, block, query_floor, gallery_floor)


def _local_screen(
    how: _How, queries: _Side, block: _Side, query_floor: Float[Array, " s"], gallery_floor: Float[Array, " n"]
) -> _Screened:
    best, code = _best_orientation(how, queries.parts, block.parts)
    score = best + queries.offset[:, None] + block.offset
    if how.exclude_self:
        score = jnp.where(queries.id[:, None] == block.id, -jnp.inf, score)
    s, n = score.shape
    devices = jax.lax.axis_size(QUERY)

    part = _part(s, -(-_PARTS * how.k // devices))
    maxima = jax.lax.all_gather(score.reshape(s // part, part, n).max(1), QUERY, axis=0, tiled=True)
    gallery_floor = jnp.maximum(gallery_floor, _kth(maxima.T, how.k))
    part = _part(n, _PARTS * how.k)
    query_floor = jnp.maximum(query_floor, _kth(score.reshape(s, n // part, part).max(2), how.k))
    floor = jnp.minimum(query_floor[:, None], gallery_floor) - 2 * how.slack
    passed = (score >= floor) & (score > -jnp.inf)
    return _Screened(score, code, passed, query_floor, gallery_floor, jax.lax.psum(_histogram(how, score), QUERY))


def _kth(maxima: Float[Array, "n parts"], k: int) -> Float[Array, " n"]:
    """Return the k-th largest; -inf where there are fewer: then nothing is known yet."""
    if maxima.shape[1] < k:
        return jnp.full(len(maxima), -jnp.inf)
    return jax.lax.top_k(maxima, k)[0][:, -1]


def _best_orientation(how: _How, query: Parts, block: Parts) -> tuple[Float[Array, "s n"], UInt[Array, "s n"]]:
    """Return each pair's largest inner product over the group, and its index (+ AMBIGUOUS if another is as good)."""
    pair_products = symmetry.products(query, block)
    scores = symmetry.recombine(how.group, pair_products) if how.kind == "symmetric" else list(pair_products[0][0])
    best, second = scores[0], jnp.full_like(scores[0], -jnp.inf)
    code = jnp.zeros(best.shape, jnp.uint8)
    for g, score in enumerate(scores[1:], start=1):
        code = jnp.where(score > best, jnp.uint8(g), code)
        second = jnp.maximum(second, jnp.minimum(score, best))
        best = jnp.maximum(best, score)
    return best, jnp.where(best - second <= how.slack, code + jnp.uint8(AMBIGUOUS), code)


def _histogram(how: _How, score: Float[Array, "s n"]) -> Int[Array, " bins"]:
    if not how.bins:
        return jnp.zeros(0, jnp.int32)
    low, high = how.limits
    place = jnp.clip((score - low) / (high - low) * how.bins, 0, how.bins - 1).astype(jnp.int32)
    place = jnp.where(score == -jnp.inf, how.bins, place)
    return jnp.zeros(how.bins, jnp.int32).at[place.ravel()].add(1, mode="drop")
