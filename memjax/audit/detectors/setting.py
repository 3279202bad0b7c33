"""What a detector is given besides the images, and what it gives back."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jax.sharding import Mesh

from memjax.audit.describe import Descriptor, Images
from memjax.audit.findings import Neighbours
from memjax.audit.keep import kept_pairs
from memjax.audit.pairs.allpairs import AllPairs, allpairs
from memjax.audit.pairs.plan import Kind
from memjax.data.store import Store
from memjax.mesh import narrowed
from memjax.orientation import Orientation, Symmetry, orientations
from memjax.team import ALONE, Team

Progress = Callable[[str, int], Callable[[int], object]]  # (what, pairs in all) -> called with pairs done


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """Each image's best partners on the other side, by a detector's score; higher is more alike.

    `orientation` is the index into `orientations(space, setting.symmetry)` of what turns the gallery image into the
    query; 0, the identity, where a detector tries no other.
    """

    query_to_gallery: Neighbours
    gallery_to_query: Neighbours


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reference:
    """Held-out images, and those of them (ids) that may stand for unseen patients."""

    images: Images
    ids: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """How a detector searches.

    mesh: devices.
    symmetry: orientations that a detector may try, if it tries any.
    mask: the foreground, bool [*space], symmetric; None: not known.
    channels: channels to compare; None: all.
    k: neighbours to list.
    reference: held-out images, for detectors that must put two scales together; None: none.
    what: words for the search, for progress.
    kept: folder where searches of image stores are kept; None: they are kept in memory, as long as this setting.
    plan: how pairs of pixels are searched; the answer does not depend on it.
    team: the processes that share the searches that are kept.
    progress: makes a progress callback for each search.
    tell: called with a sentence on each search's plan.
    memory: searches already done with this setting.
    """

    mesh: Mesh
    symmetry: Symmetry = "all"
    mask: np.ndarray | None = None
    channels: tuple[int, ...] | None = None
    k: int = 10
    reference: Reference | None = None
    what: str = "search"
    kept: Path | None = None
    plan: Kind | Literal["auto"] = "auto"
    team: Team = ALONE
    progress: Progress = lambda what, pairs: lambda done: None
    tell: Callable[[str], object] = lambda text: None
    memory: dict[Any, Any] = dataclasses.field(default_factory=dict, repr=False)

    def group(self, images: Images) -> tuple[Orientation, ...]:
        """Return the orientations that images of this shape have."""
        return orientations(images.block(0, 1).shape[1:-1], self.symmetry)

    def pairs(
        self,
        query: Images,
        gallery: Images,
        descriptor: Descriptor,
        *,
        group: tuple[Orientation, ...],
        k: int | None = None,
        settled: int | None = None,
        bins: int = 0,
        how: str = "",
    ) -> AllPairs:
        """Search all pairs of pixels, or return the same search done before.

        Args:
          query: images asked about, [S, *space, channels].
          gallery: images searched, [N, *space, channels].
          descriptor: what is compared.
          group: orientations to try.
          k: neighbours to list; default: the setting's.
          settled: how many of them exactly, if not all (`allpairs`).
          bins: of a histogram of all pairs.
          how: words to add to the progress.
        """
        k = k or self.k
        what = self.what + (f", {how}" if how else "")

        def run(unfinished: Path | None, team: Team = ALONE) -> AllPairs:
            return allpairs(
                query,
                gallery,
                k=k,
                group=group,
                mesh=narrowed(self.mesh, len(query)),
                descriptor=descriptor,
                plan=self.plan,
                bins=bins,
                settled=settled,
                team=team,
                unfinished=unfinished,
                progress=self.progress(what, len(query) * len(gallery)),
                tell=lambda sentence: self.tell(f"{what}: {sentence}"),
            )

        if self.kept is not None and isinstance(query, Store) and isinstance(gallery, Store):
            digests = (query.manifest.digest, gallery.manifest.digest)
            asked = (digests, descriptor, group, (k, settled) if settled else k)
            return kept_pairs(self.kept, *asked, lambda unfinished: run(unfinished, self.team), team=self.team)
        mask = None if descriptor.mask is None else descriptor.mask.tobytes()
        key = (id(query), id(gallery), descriptor.score, descriptor.channels, mask, group, k, settled)
        if key not in self.memory:
            self.memory[key] = (run(None), query, gallery)  # the sets, so that nothing else gets their ids
        return self.memory[key][0]
