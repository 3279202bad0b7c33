"""The device's side of the kernel: describe blocks of images, multiply them out, and find the scores that matter.

A plan decides what a described image is: the image itself (`product`, queries in all orientations), its block-diagonal
transform (`symmetric`), or a sketch whose products bound the scores from above (`sketched`).
"""

import dataclasses
import functools
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float, Int, Shaped, UInt

from memjax.audit.describe import Facts, Score, facts, multiply_as_bytes, of_bytes, signed_bytes, values
from memjax.audit.pairs import symmetry
from memjax.audit.pairs.machine import Quick
from memjax.audit.pairs.plan import Kind
from memjax.audit.pairs.shortlist import AMBIGUOUS
from memjax.audit.pairs.sketch import Sketch
from memjax.audit.pairs.symmetry import Group, Parts, Symmetry
from memjax.mesh import QUERY

LeaveOut = Literal["nothing", "self", "earlier"]  # "earlier": of two images of one set only one pair counts

PARTS = 4  # times k: parts of a block whose maxima give a floor


@dataclasses.dataclass(frozen=True)
class How:
    """What the compiled steps depend on besides shapes."""

    kind: Kind
    block: int  # side of a sketch's blocks, 1 where images are rounded; 0 without sketches
    score: Score
    group: Group
    channels: tuple[int, ...] | None
    k: int  # 0: no lists, but all pairs from a threshold on
    bins: int  # 0: no histogram
    limits: tuple[float, float]
    quick: Quick
    dtype: str  # that holds the raw images of both sides
    shape: tuple[int, ...]  # of one of them
    leave_out: LeaveOut
    mesh: Mesh

    @property
    def size(self) -> int:
        """Numbers in an image."""
        return int(np.prod(self.shape))

    @property
    def of_bytes(self) -> bool:
        """Whether scores are made of products of bytes; the block-diagonal transform makes other numbers of them."""
        return self.quick.bytes and self.kind != "symmetric" and multiply_as_bytes(self.score, self.dtype, self.shape)

    @property
    def are_parts_bytes(self) -> bool:
        """Whether described images are bytes; those of a sketch are its numbers, however its pairs are scored."""
        return self.of_bytes and self.kind == "product"

    @property
    def slack(self) -> float:
        """A bound on the rounding error of scores."""
        return 2.0**-20 if self.of_bytes else rounding_slack(self.size, self.score)


class Raw(NamedTuple):
    """Images as they lie on disk; `id` is -1 for padding."""

    raw: Shaped[Array, "n *space c"]
    ranges: Float[Array, "n 2"]
    id: Int[Array, " n"]


class Side(NamedTuple):
    """Described images. Images without a score have an offset of -inf, which takes them out for good."""

    parts: Parts  # [d, n, numbers] each
    excess: Float[Array, " n"]  # by how much the image's bounds must be raised for the rounding of its parts
    facts: Facts
    id: Int[Array, " n"]


class Screened(NamedTuple):
    """A block's scores (or their upper bounds), and which of them may belong to somebody's k best."""

    score: Float[Array, "s n"]
    code: UInt[Array, "s n"]
    passed: Bool[Array, "s n"]
    query_floor: Float[Array, " s"]
    gallery_floor: Float[Array, " n"]
    counted: Int[Array, " bins"]
    products: tuple[Float[Array, "d s n"], ...]  # of which `pick` makes the bounds of all orientations; sketched only
    offset: Float[Array, "s n"] | None  # sketched only


_SHARDED = Side(parts=P(None, QUERY), excess=P(QUERY), facts=P(QUERY), id=P(QUERY))  # type: ignore[arg-type]


@functools.partial(jax.jit, static_argnums=0)
def describe_queries(how: How, transform: Symmetry | Sketch, block: Raw, mask: Bool[Array, "..."] | None) -> Side:
    """Describe queries, each device its own."""

    def local(transform: Symmetry | Sketch, block: Raw, mask: Bool[Array, "..."] | None) -> Side:
        side = _describe(how, transform, block, mask)
        if how.kind != "product" or len(how.group) == 1:
            return side
        # <x, g y> = <g' x, y> with g' the inverse of g: the few queries are turned, not the gallery.
        turned = [
            _describe(how, transform, block._replace(raw=g.inverse.apply(block.raw, leading=1)), mask).parts[0][0]
            for g in how.group
        ]
        return side._replace(parts=(jnp.stack(turned),))

    return jax.shard_map(local, mesh=how.mesh, in_specs=(P(), P(QUERY), P()), out_specs=_SHARDED, check_vma=False)(
        transform, block, mask
    )


@functools.partial(jax.jit, static_argnums=0)
def describe_gallery(how: How, transform: Symmetry | Sketch, block: Raw, mask: Bool[Array, "..."] | None) -> Side:
    """Describe a block, each device its part of it, and give all devices the whole."""

    def local(transform: Symmetry | Sketch, block: Raw, mask: Bool[Array, "..."] | None) -> Side:
        side = _describe(how, transform, block, mask)
        if how.mesh.size == 1:
            return side
        gather = functools.partial(jax.lax.all_gather, axis_name=QUERY, tiled=True)
        parts = tuple(gather(part, axis=1) for part in side.parts)
        return Side(parts, *jax.tree.map(gather, (side.excess, side.facts, side.id)))

    return jax.shard_map(local, mesh=how.mesh, in_specs=(P(), P(QUERY), P()), out_specs=P(), check_vma=False)(
        transform, block, mask
    )


def _describe(how: How, transform: Symmetry | Sketch, block: Raw, mask: Bool[Array, "..."] | None) -> Side:
    raw = block.raw if how.channels is None else block.raw[..., jnp.array(how.channels)]
    if isinstance(transform, Sketch):
        parts, of = transform.describe(raw, block.ranges, mask, score=how.score)
    else:
        of = facts(raw, block.ranges, mask, score=how.score)
        flat = block.raw.reshape(len(block.raw), -1)
        if how.are_parts_bytes:
            parts = (signed_bytes(transform.pick(flat))[None],)
        else:
            parts = transform.split(flat, lambda pixels: values(pixels, of, score=how.score))
    parts, excess = _bounding(how, parts) if how.kind == "sketched" else (parts, jnp.zeros(len(raw), jnp.float32))
    offset = jnp.where(of.valid & (block.id >= 0), of.offset, -jnp.inf)
    return Side(parts, excess, of._replace(offset=offset), block.id)


def _bounding(how: How, parts: Parts) -> tuple[Parts, Float[Array, " n"]]:
    """Round parts to bfloat16 where that is quick, and tell by how much that and float32 may lower any product.

    With x = u + e, y = v + f (u and v rounded) and the transform orthogonal, <x, g y> - <u, g v> = <e, g y> + <u, g f>
    <= |e| |y| + |u| |f|. Vectors are no longer than 1, or the root of 2 for distances; 1 % is for rounding here.
    """
    slack = jnp.full(parts[0].shape[1], rounding_slack(how.size, how.score) / 2)
    if not how.quick.halves:
        return parts, slack
    longest = 1.01 * (1.0 if how.score == "correlation" else 2**0.5)
    halves = tuple(part.astype(jnp.bfloat16) for part in parts)
    lost = sum(((part - half) ** 2).sum((0, 2)) for part, half in zip(parts, halves, strict=True))
    return halves, longest * jnp.sqrt(lost) + slack


@functools.partial(jax.jit, static_argnums=0)
def screen(
    how: How, queries: Side, block: Side, query_floor: Float[Array, " s"], gallery_floor: Float[Array, " n"]
) -> Screened:
    """Score one gallery block against all queries, and say which scores may belong to somebody's k best.

    Floors are what lists cannot lie below; those returned are risen by what the block itself tells.
    """
    kept = (P(None, QUERY), P(QUERY)) if how.kind == "sketched" else (P(), None)
    return jax.shard_map(
        functools.partial(_screen, how),
        mesh=how.mesh,
        in_specs=(_SHARDED, P(), P(QUERY), P()),
        out_specs=Screened(P(QUERY), P(QUERY), P(QUERY), P(QUERY), P(), P(), *kept),  # type: ignore[arg-type]
        check_vma=False,  # floors are equal on all devices after the gather, which the checker cannot see
    )(queries, block, query_floor, gallery_floor)


def _screen(
    how: How, queries: Side, block: Side, query_floor: Float[Array, " s"], gallery_floor: Float[Array, " n"]
) -> Screened:
    pair_products = symmetry.products(queries.parts, block.parts)
    every = list(pair_products[0][0]) if how.kind == "product" else symmetry.recombine(how.group, pair_products)
    if how.are_parts_bytes:
        query = jax.tree.map(lambda fact: fact[:, None], queries.facts)
        size = block.parts[0].shape[2]
        every = [of_bytes(product, query, block.facts, dtype=how.dtype, size=size) for product in every]
    best, code = _best_orientation(how, every)
    offset = (queries.facts.offset + queries.excess)[:, None] + (block.facts.offset + block.excess)
    if how.leave_out != "nothing":
        same_or_earlier = jnp.greater_equal if how.leave_out == "earlier" else jnp.equal
        offset = jnp.where(same_or_earlier(queries.id[:, None], block.id), -jnp.inf, offset)
    score = best + offset
    s, n = score.shape
    devices = jax.lax.axis_size(QUERY)

    if how.k:
        part = part_size(s, -(-PARTS * how.k // devices))
        maxima = jax.lax.all_gather(score.reshape(s // part, part, n).max(1), QUERY, axis=0, tiled=True)
        gallery_floor = jnp.maximum(gallery_floor, _kth(maxima, how.k))
        part = part_size(n, PARTS * how.k)
        query_floor = jnp.maximum(query_floor, _kth(score.reshape(s, n // part, part).max(2).T, how.k))
    floor = jnp.minimum(query_floor[:, None], gallery_floor) - 2 * how.slack
    passed = (score >= floor) & (score > -jnp.inf)
    counted = jax.lax.psum(_histogram(how, score), QUERY)
    if how.kind != "sketched":
        return Screened(score, code, passed, query_floor, gallery_floor, counted, (), None)
    products = tuple(product for of_one in pair_products for product in of_one)
    return Screened(score, code, passed, query_floor, gallery_floor, counted, products, offset)


def rounding_slack(size: int, score: Score = "correlation") -> float:
    """Return a bound on the float32 rounding error of scores of images of `size` numbers.

    Numbers that are all alike round alike, so the errors of images with two values are the largest: 1e-6 at 256
    numbers, 5.8e-6 at 1024, 1.4e-5 from 4096 to 130,000, where sums are made in runs; for distances, whose vectors
    are up to the root of 2 long, 1.9e-5. Real images stay below 3e-6, noise below 1e-6. The bound is at least twice
    what was seen (BUILD_NOTES).
    """
    return 2.0**-23 * min(max(16.0, size / 8), 256.0) * (1 if score == "correlation" else 2)


def part_size(n: int, parts: int) -> int:
    """Return the size of `parts` equal parts of n; 1 if it has no such parts."""
    return n // parts if n % parts == 0 else 1


def _kth(maxima: Float[Array, "parts n"], k: int) -> Float[Array, " n"]:
    """Return the k-th largest of each column; -inf where there are fewer: then nothing is known yet.

    It is made bit by bit from the highest on, as the largest integer that k of them reach: `top_k` sorts, and takes 10
    to 30 times as long on processors.
    """
    if len(maxima) < k:
        return jnp.full(maxima.shape[1], -jnp.inf)
    rising = _swap_sign(jax.lax.bitcast_convert_type(maxima, jnp.int32))

    def next_bit(bit: Int[Array, ""], found: Int[Array, " n"]) -> Int[Array, " n"]:
        trial = found + jnp.left_shift(jnp.int32(1), 31 - bit)  # from the lowest integer; the first one wraps to 0
        return jnp.where((rising >= trial).sum(0) >= k, trial, found)

    found = jax.lax.fori_loop(0, 32, next_bit, jnp.full(maxima.shape[1], jnp.iinfo(jnp.int32).min))
    return jax.lax.bitcast_convert_type(_swap_sign(found), jnp.float32)


def _swap_sign(bits: Int[Array, "..."]) -> Int[Array, "..."]:
    """Turn the bits of floats into integers of the same order, and back."""
    return jnp.where(bits < 0, bits ^ jnp.iinfo(jnp.int32).max, bits)


def _best_orientation(how: How, every: list[Float[Array, "s n"]]) -> tuple[Float[Array, "s n"], UInt[Array, "s n"]]:
    """Return each pair's largest product over the group, and its index (+ AMBIGUOUS if another is as good)."""
    best, second = every[0], jnp.full_like(every[0], -jnp.inf)
    if len(every) == 1:
        return best, jnp.zeros(best.shape, jnp.uint8)
    code = jnp.zeros(best.shape, jnp.uint8)
    for g, score in enumerate(every[1:], start=1):
        code = jnp.where(score > best, jnp.uint8(g), code)
        second = jnp.maximum(second, jnp.minimum(score, best))
        best = jnp.maximum(best, score)
    return best, jnp.where(best - second <= how.slack, code + jnp.uint8(AMBIGUOUS), code)


def _histogram(how: How, score: Float[Array, "s n"]) -> Int[Array, " bins"]:
    if not how.bins or how.kind == "sketched":  # bounds are no scores
        return jnp.zeros(0, jnp.int32)
    low, high = how.limits
    place = jnp.clip((score - low) / (high - low) * how.bins, 0, how.bins - 1).astype(jnp.int32)
    place = jnp.where(score == -jnp.inf, how.bins, place)
    return jnp.zeros(how.bins, jnp.int32).at[place.ravel()].add(1, mode="drop")


@jax.jit
def above(
    score: Float[Array, "s n"], query_floor: Float[Array, " s"], gallery_floor: Float[Array, " n"]
) -> Bool[Array, "s n"]:
    """Say which scores reach the floor of either list they may belong to."""
    return (score >= jnp.minimum(query_floor[:, None], gallery_floor)) & (score > -jnp.inf)


@functools.partial(jax.jit, static_argnums=0)
def pick(
    how: How, screened: Screened, row: Int[Array, " pairs"], column: Int[Array, " pairs"]
) -> Float[Array, "g pairs"]:
    """Return the bounds of some pairs in all orientations."""
    products = iter([product[:, row, column] for product in screened.products])
    by_representation = [[next(products) for _ in range(d)] for d in symmetry.dimensions(how.group)]
    assert screened.offset is not None
    return jnp.stack(symmetry.recombine(how.group, by_representation)) + screened.offset[row, column]
