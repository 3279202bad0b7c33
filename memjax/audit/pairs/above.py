"""All pairs of two sets from a score on: what is nearly the same, without a list for everybody."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
from jax.sharding import Mesh

from memjax.audit.describe import Descriptor, Images
from memjax.audit.pairs.plan import Kind
from memjax.audit.pairs.processes import forget
from memjax.audit.pairs.refine import ALMOST_EQUAL, exact_pairs
from memjax.audit.pairs.search import Search
from memjax.audit.pairs.shortlist import AMBIGUOUS
from memjax.audit.pairs.symmetry import Group
from memjax.team import ALONE, Team


@dataclasses.dataclass(frozen=True)
class ScoredPairs:
    """Pairs by query, then by gallery image; the orientation turns the gallery image into the query."""

    query: np.ndarray  # int64 [pairs]
    gallery: np.ndarray  # int64 [pairs]
    score: np.ndarray  # float64 [pairs]
    orientation: np.ndarray  # int16 [pairs], index into the group


def pairs_above(
    query: Images,
    gallery: Images,
    threshold: float,
    *,
    group: Group,
    mesh: Mesh,
    descriptor: Descriptor | None = None,
    plan: Kind | Literal["auto"] = "auto",
    within: bool = False,
    team: Team = ALONE,
    unfinished: Path | None = None,
    progress: Callable[[int], object] = lambda pairs: None,
    tell: Callable[[str], object] = lambda text: None,
) -> ScoredPairs:
    """Find all pairs with a score of `threshold` or more under some orientation, exactly.

    Args:
      query: images, [S, *space, channels].
      gallery: images, [N, *space, channels]; streamed, never held.
      threshold: the least score; scores are computed in float64 where float32 could not tell.
      group: the orientations to try on the gallery image.
      mesh: the devices to use; the answer does not depend on how many.
      descriptor: what is compared; default: Pearson correlation of all pixels and channels.
      plan: how the work is done; the answer does not depend on it.
      within: both sides are one set: each pair of different images once, the lower id as query.
      team: the processes that share the search; all call this alike, and see `unfinished`.
      unfinished: where an interrupted search is kept and taken up again; None: nowhere.
      progress: called with the number of pairs finished since the last call.
      tell: called with a sentence on the plan.

    Raises:
      UserError: as `Search.run`.
    """
    descriptor = descriptor or Descriptor()
    found, how = Search(
        query=query,
        gallery=gallery,
        group=group,
        mesh=mesh,
        descriptor=descriptor,
        plan=plan,
        threshold=threshold,
        leave_out="earlier" if within else "nothing",
        team=team,
        unfinished=unfinished,
        progress=progress,
        tell=tell,
    ).run()
    pairs = found.above
    score, code = pairs.score.astype(np.float64), pairs.code.astype(np.int64) % AMBIGUOUS
    ambiguous = pairs.code >= AMBIGUOUS
    unsure = ambiguous | (score < threshold + 2 * how.slack) | (score > descriptor.limits[1] - ALMOST_EQUAL)
    if unsure.any():
        ids = (pairs.query[unsure], pairs.gallery[unsure])
        among = ambiguous[unsure]
        score[unsure], code[unsure] = exact_pairs(ids, code[unsure], among, query, gallery, group, descriptor)
    kept = np.flatnonzero(score >= threshold)
    order = kept[np.lexsort((pairs.gallery[kept], pairs.query[kept]))]
    forget(unfinished, team)
    return ScoredPairs(
        query=pairs.query[order],
        gallery=pairs.gallery[order],
        score=np.clip(score[order], *descriptor.limits),
        orientation=code[order].astype(np.int16),
    )
