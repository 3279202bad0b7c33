"""The all-pairs kernel: for each query image its k best gallery images, for each gallery image its k best queries.

Every pair is scored once, under every orientation of a group; the best orientation counts. Nothing of size
queries x gallery ever exists: the gallery streams from disk block by block, queries are split over the devices. Of a
block's scores only those go on that may belong to somebody's k best: a list's k-th best score so far, or the k-th
largest of the maxima of 4k parts of the block, is a floor that its k best cannot lie below. Floors cost a pass over
the scores where sorting costs ten, and let about 1.1 k scores of each list through.

The device multiplies in float32, bytes in whole numbers where that is quick, and bounds in bfloat16. `refine` then
settles what that cannot: lists whose order, orientation or last place is closer than the rounding error are scored
again in whole numbers or float64, so ids and orientations are those of a float64 brute force, with ties (closer than
1e-9) to the lower id.

Of a team of processes each searches its share of the gallery with its own devices, and reads no other (but for the few
images that are scored again); what they found is put together, so every process returns the whole answer.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
from jax.sharding import Mesh

from memjax.audit.describe import Descriptor, Images
from memjax.audit.findings import Histogram, Neighbours
from memjax.audit.pairs import plan as plans
from memjax.audit.pairs.processes import forget
from memjax.audit.pairs.refine import refine
from memjax.audit.pairs.search import Search
from memjax.audit.pairs.symmetry import Group
from memjax.errors import UserError
from memjax.team import ALONE, Team


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
    settled: int | None = None,
    team: Team = ALONE,
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
      mesh: this process's devices to use; the answer does not depend on how many.
      descriptor: what is compared; default: Pearson correlation of all pixels and channels.
      plan: how the work is done; the lists do not depend on it.
      bins: number of histogram bins over the score's range; 0: no histogram. A sketched search counts a sample of
        the pairs.
      exclude_self: leave out pairs of equal id, to search a set for its own duplicates.
      settled: how many of the k best are wanted exactly, if not all; the others' order and scores are those of float32.
      team: the processes that share the search; all call this alike, and see `unfinished`.
      unfinished: where an interrupted search is kept and taken up again; None: nowhere.
      progress: called with the number of pairs finished since the last call.
      tell: called with a sentence on the plan.

    Raises:
      UserError: k below 1, a group that the shape does not allow, more devices than queries, an image with NaN or
        infinity in it, images that change during the search, or too little memory.
    """
    if k < 1:
        raise UserError(f"k={k}, but at least the one nearest image must be asked for; give k=1 or more.")
    descriptor = descriptor or Descriptor()
    found, how = Search(
        query=query,
        gallery=gallery,
        group=group,
        mesh=mesh,
        descriptor=descriptor,
        plan=plan,
        k=k,
        bins=bins,
        leave_out="self" if exclude_self else "nothing",
        team=team,
        unfinished=unfinished,
        progress=progress,
        tell=tell,
    ).run()
    by_query, by_gallery = (
        refine(
            lists,
            query=query,
            gallery=gallery,
            k=k,
            group=group,
            descriptor=descriptor,
            by_query=is_query,
            own=0 if exclude_self else None,
            slack=how.slack,
            settled=settled,
        )
        for lists, is_query in ((found.query, True), (found.gallery, False))
    )
    histogram = None
    if how.bins:
        edges = np.linspace(*how.limits, how.bins + 1)
        histogram = Histogram(edges, found.count, is_sample=how.kind == "sketched")
    forget(unfinished, team)
    return AllPairs(query_to_gallery=by_query, gallery_to_query=by_gallery, histogram=histogram)
