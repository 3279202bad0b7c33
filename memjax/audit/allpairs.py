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
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array

from memjax.audit import blocks as cuts
from memjax.audit import plan as plans
from memjax.audit import symmetry
from memjax.audit.describe import Descriptor, Images
from memjax.audit.findings import Histogram, Neighbours
from memjax.audit.memory import available_bytes
from memjax.audit.refine import refine, rounding_slack
from memjax.audit.resume import Progress
from memjax.audit.screen import How, Side, describe_gallery, describe_queries, screen
from memjax.audit.sketch import Sketch, left_out
from memjax.audit.survivors import Survivors, TooManyError
from memjax.audit.symmetry import Group, Symmetry
from memjax.errors import UserError
from memjax.mesh import QUERY

_LOOKED_AT = 64  # gallery images on which sketches are tried
_SPARE = 4  # candidates kept beyond k, so that near-ties across the last place can be settled without a second pass


@dataclasses.dataclass(frozen=True, kw_only=True)
class AllPairs:
    """What one pass over all pairs gives; both ways an orientation turns the *gallery* image into the query."""

    query_to_gallery: Neighbours
    gallery_to_query: Neighbours
    histogram: Histogram | None


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
      plan: how the work is done; the lists do not depend on it.
      bins: number of histogram bins over the score's range; 0: no histogram. A sketched search counts a sample of
        the pairs.
      exclude_self: leave out pairs of equal id, to search a set for its own duplicates.
      unfinished: where an interrupted search is kept and taken up again; None: nowhere.
      progress: called with the number of pairs finished since the last call.
      tell: called with a sentence on the plan.

    Raises:
      UserError: k below 1, a group that the shape does not allow, more devices than queries, an image with NaN or
        infinity in it, images that change during the search, or too little memory.
    """
    descriptor = descriptor or Descriptor()
    first = query.block(0, 1)
    shape = first.shape[1:]
    assert shape == gallery.block(0, 1).shape[1:], "the caller checks shapes"
    _check(len(query), k, group, shape, mesh)
    size = int(np.prod(shape))
    chosen = plans.choose(
        plan,
        queries=len(query),
        gallery=len(gallery),
        size=size,
        n_axes=len(shape) - 1,
        group=group,
        left_out=lambda block: left_out(_some(gallery), block),
    )
    tell(chosen.sentence)
    how = How(
        kind=chosen.kind,
        block=chosen.block,
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
    search = functools.partial(_search, query, gallery, descriptor, unfinished=unfinished, progress=progress)
    try:
        found = search(how, may_turn=plan == "auto")
    except TooManyError:
        tell("the sketches rule out too little: plan symmetric instead")
        how = dataclasses.replace(how, kind="symmetric")
        found = search(how, may_turn=False)

    settle = functools.partial(
        refine, query=query, gallery=gallery, k=k, group=group, descriptor=descriptor, exclude_self=exclude_self
    )
    counted = None
    if bins:
        is_sample = how.kind == "sketched"
        counted = Histogram(np.linspace(*descriptor.limits, bins + 1), found.count, is_sample=is_sample)
    answer = AllPairs(
        query_to_gallery=settle(found.query, by_query=True),
        gallery_to_query=settle(found.gallery, by_query=False),
        histogram=counted,
    )
    found.end()
    return answer


def _search(
    query: Images,
    gallery: Images,
    descriptor: Descriptor,
    how: How,
    *,
    unfinished: Path | None,
    progress: Callable[[int], object],
    may_turn: bool,
) -> Progress:
    """Go through all pairs by one plan.

    Raises:
      TooManyError: the plan is sketched, `may_turn`, and the first block shows that another plan is better.
    """
    first = query.block(0, 1)
    shape, size = first.shape[1:], first[0].size
    transform = _transform(how, shape, descriptor)
    mask = None if descriptor.mask is None else jax.device_put(descriptor.mask, NamedSharding(how.mesh, P()))
    blocks = cuts.cut(how, len(query), len(gallery), size, first.dtype.itemsize, available_bytes(how.mesh))
    settings = [how.kind, how.block, how.mesh.size, blocks]
    found = Progress.begin(unfinished, settings, len(query), len(gallery), how.k + _SPARE, how.bins)
    progress(blocks.pairs_before(found.done))
    try:
        for number, start, raw_queries in cuts.query_chunks(query, blocks, how.mesh, found.done):
            queries = describe_queries(how, transform, raw_queries, mask)
            _check_finite(query, queries)
            survivors = None
            if how.kind == "sketched":
                survivors = Survivors(how, raw_queries, queries, descriptor, pairs=len(query) * len(gallery))
            for left, block in cuts.gallery_blocks(gallery, blocks, how.mesh, max(0, found.done - number)):
                described = describe_gallery(how, transform, block, mask)
                _check_finite(gallery, described)
                gallery.check_unchanged()
                pairs = blocks.pairs_of(start, left)
                if survivors:
                    most = plans.most_survivors(pairs, size, how.group) if may_turn and not found.done else None
                    survivors.take(found, block, described, start, left, most=most)
                else:
                    _take(found, how, queries, described, start, left)
                found.end_block()
                progress(pairs)
        query.check_unchanged()
    except BaseException:
        found.rescue()
        raise
    return found


def _check(n_queries: int, k: int, group: Group, shape: tuple[int, ...], mesh: Mesh) -> None:
    if k < 1:
        raise UserError(f"k={k}, but at least the one nearest image must be asked for; give k=1 or more.")
    if mesh.size > n_queries:
        raise UserError(
            f"{mesh.size} devices for {n_queries} query images; use at most {n_queries} (--devices={n_queries})."
        )
    symmetry.check_group(group, shape[:-1])


def _transform(how: How, shape: tuple[int, ...], descriptor: Descriptor) -> Symmetry | Sketch:
    if how.kind == "sketched":
        symmetry.check_mask(how.group, descriptor.mask)
        n_channels = shape[-1] if how.channels is None else len(how.channels)
        return Sketch.of(how.group, shape[:-1], how.block, n_channels=n_channels)
    group = how.group if how.kind == "symmetric" else how.group[:1]
    symmetry.check_mask(how.group, descriptor.mask)
    return Symmetry.of(group, shape, channels=descriptor.channels, mask=descriptor.mask)


def _some(images: Images) -> np.ndarray:
    """Return images from all over the set."""
    return images.gather(np.arange(0, len(images), -(-len(images) // _LOOKED_AT)))


def _floors(floor: np.ndarray, start: int, rows: int, mesh: Mesh, spec: P) -> Array:
    """Return the floors of `rows` lists from `start` on; padding lets nothing through."""
    part = np.full(rows, np.inf, np.float32)
    part[: len(floor) - start] = floor[start : start + rows]
    return jax.device_put(part, NamedSharding(mesh, spec))


def _take(found: Progress, how: How, queries: Side, described: Side, start: int, left: int) -> None:
    """Add the pairs that may belong to a list to it, and the block's scores to the histogram."""
    floors = (
        _floors(found.query.floor(how.k), start, len(queries.id), how.mesh, P(QUERY)),
        _floors(found.gallery.floor(how.k), left, len(described.id), how.mesh, P()),
    )
    screened = screen(how, queries, described, *floors)
    passed = np.flatnonzero(np.asarray(screened.passed))
    row, column = np.divmod(passed, screened.score.shape[1])
    score, code = (np.asarray(part).ravel()[passed] for part in (screened.score, screened.code))
    found.begin_block()
    sides = (
        (found.query, row, column + left, screened.query_floor, start),
        (found.gallery, column, row + start, screened.gallery_floor, left),
    )
    for lists, owner, other, floor, first in sides:
        mine = score >= np.asarray(floor)[owner] - 2 * how.slack
        lists.add(owner[mine] + first, other[mine], score[mine], code[mine].astype(np.int16))
    found.count += np.asarray(screened.counted)


def _check_finite(images: Images, described: Side) -> None:
    bad = np.asarray(described.id)[~np.asarray(described.facts.finite) & (np.asarray(described.id) >= 0)]
    if len(bad):
        raise UserError(
            f"{images.name(int(bad[0]))} holds NaN or infinity ({len(bad)} such images in its block); "
            "mend or leave out such images."
        )
