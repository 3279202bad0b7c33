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
from memjax.audit.screen import How, Screened, Side, describe_gallery, describe_queries, screen
from memjax.audit.sketch import Sketch
from memjax.audit.survivors import Survivors
from memjax.audit.symmetry import Group, Symmetry
from memjax.errors import UserError
from memjax.mesh import QUERY

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
    chosen = plans.choose(plan, queries=len(query), gallery=len(gallery), size=size, group=group)
    tell(chosen.sentence)
    how = How(
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
    transform = _transform(how, shape, descriptor)
    mask = None if descriptor.mask is None else jax.device_put(descriptor.mask, NamedSharding(mesh, P()))
    blocks = cuts.cut(how, len(query), len(gallery), size, first.dtype.itemsize, available_bytes(mesh))
    found = Progress.begin(unfinished, [chosen.kind, mesh.size, blocks], len(query), len(gallery), k + _SPARE, bins)
    progress(blocks.pairs_before(found.done))
    try:
        for number, start, raw_queries in cuts.query_chunks(query, blocks, mesh, found.done):
            queries = describe_queries(how, transform, raw_queries, mask)
            _check_finite(query, queries)
            survivors = None
            if how.kind == "sketched":
                survivors = Survivors(how, raw_queries, queries, descriptor, pairs=len(query) * len(gallery))
            for left, block in cuts.gallery_blocks(gallery, blocks, mesh, max(0, found.done - number)):
                described = describe_gallery(how, transform, block, mask)
                _check_finite(gallery, described)
                gallery.check_unchanged()
                found.begin_block()
                if survivors:
                    survivors.take(found, block, described, start, left)
                else:
                    floors = (
                        _floors(found.query.floor(k), start, blocks.chunk, mesh, P(QUERY)),
                        _floors(found.gallery.floor(k), left, blocks.width, mesh, P()),
                    )
                    _take(found, screen(how, queries, described, *floors), start, left, how.slack)
                found.end_block()
                progress(blocks.pairs_of(start, left))
        query.check_unchanged()
    except BaseException:
        found.rescue()
        raise

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
        return Sketch.of(how.group, shape[:-1], 4, n_channels=n_channels)
    group = how.group if how.kind == "symmetric" else how.group[:1]
    symmetry.check_mask(how.group, descriptor.mask)
    return Symmetry.of(group, shape, channels=descriptor.channels, mask=descriptor.mask)


def _floors(floor: np.ndarray, start: int, rows: int, mesh: Mesh, spec: P) -> Array:
    """Return the floors of `rows` lists from `start` on; padding lets nothing through."""
    part = np.full(rows, np.inf, np.float32)
    part[: len(floor) - start] = floor[start : start + rows]
    return jax.device_put(part, NamedSharding(mesh, spec))


def _take(found: Progress, screened: Screened, start: int, left: int, slack: float) -> None:
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


def _check_finite(images: Images, described: Side) -> None:
    bad = np.asarray(described.id)[~np.asarray(described.facts.finite) & (np.asarray(described.id) >= 0)]
    if len(bad):
        raise UserError(
            f"{images.name(int(bad[0]))} holds NaN or infinity ({len(bad)} such images in its block); "
            "mend or leave out such images."
        )
