"""A learned embedding that need not have been taught to overlook flips and turns: each is tried.

The networks of paper B and of its follow-up (arXiv 2307.01148, 2402.01054) see mirrored and turned images in training,
and have to learn that these are the same. Here the query is embedded in every orientation of the setting's symmetry and
its best is taken, so that what the network learned to overlook comes on top of what needs no learning.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from memjax.audit.describe import Images, Score
from memjax.audit.detectors.embedded import Embedded, closest, embedded
from memjax.audit.detectors.rescored import best_of
from memjax.audit.detectors.setting import Found, Setting
from memjax.audit.findings import Neighbours
from memjax.orientation import Orientation

_BY_DESIGN = ("flips", "quarter turns")


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmbeddedTurned(Embedded):
    """Compare embeddings by their correlation, the query's in its best orientation."""

    law: Score = "correlation"

    @property
    def name(self) -> str:
        """As it is asked for."""
        return f"embedding-turned:{self.of}"

    @property
    def title(self) -> str:
        """For people."""
        return f"Embeddings by {self.of}, best orientation"

    @property
    def source(self) -> str:
        """Who proposed it."""
        return f"{super().source}, in all orientations"

    @property
    def invariant_to(self) -> tuple[str, ...]:
        """Flips and quarter turns, and what the embedding was made to overlook."""
        return (*_BY_DESIGN, *(word for word in self.embedding.invariant_to if word not in _BY_DESIGN))

    def search(self, query: Images, gallery: Images, setting: Setting) -> Found:
        """Find the best partners by embedding, under every orientation.

        Raises:
          UserError: an embedding holds NaN or infinity.
        """
        y = embedded(self.of, self.embedding, gallery)
        found = []
        for code, orientation in enumerate(setting.group(query)):
            turned = query if orientation.name == "identity" else _Turned(query, orientation.inverse)
            x = embedded(self.of, self.embedding, turned)
            one = closest(x, y, self.law, setting, how=f"{self.name}, {orientation.name}")
            found.append([_laid(near, code) for near in (one.query_to_gallery, one.gallery_to_query)])
        by_query, by_gallery = zip(*found, strict=True)
        return Found(query_to_gallery=best_of(by_query), gallery_to_query=best_of(by_gallery))


def _laid(near: Neighbours, code: int) -> Neighbours:
    return dataclasses.replace(near, orientation=np.full_like(near.orientation, code))


@dataclasses.dataclass(frozen=True, eq=False)
class _Turned:
    """Images, each turned alike."""

    images: Images
    orientation: Orientation

    @property
    def ranges(self) -> np.ndarray:
        return self.images.ranges

    def __len__(self) -> int:
        return len(self.images)

    def block(self, start: int, stop: int) -> np.ndarray:
        return self._turned(self.images.block, start, stop)

    def gather(self, ids: np.ndarray) -> np.ndarray:
        return self._turned(self.images.gather, ids)

    def name(self, id_: int) -> str:
        return self.images.name(id_)

    def check_unchanged(self) -> None:
        self.images.check_unchanged()

    def _turned(self, read: Callable[..., np.ndarray], *which: object) -> np.ndarray:
        return np.ascontiguousarray(self.orientation.apply(read(*which), leading=1))
