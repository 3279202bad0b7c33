"""A learned embedding that need not have been taught to overlook flips and turns: each is tried.

The networks of paper B and of its follow-up (arXiv 2307.01148, 2402.01054) see mirrored and turned images in training,
and have to learn that these are the same. Here the query is embedded in every orientation of the setting's symmetry and
its best is taken, so that what the network learned to overlook comes on top of what needs no learning.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from memjax.audit.describe import Images
from memjax.audit.detectors.embedded import SCORE_NAMES, Embedding, closest, embedded
from memjax.audit.detectors.setting import Found, Setting
from memjax.audit.findings import Neighbours
from memjax.audit.leaks import NEAR_IDENTICAL
from memjax.audit.null import Law
from memjax.orientation import Orientation

_BY_DESIGN = ("flips", "quarter turns")


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmbeddedTurned:
    """Compare embeddings by their correlation, the query's in its best orientation."""

    of: str  # the embedding's name
    embedding: Embedding
    law: Law = "correlation"
    score_name: str = SCORE_NAMES["correlation"]
    source: str = "memjax: the follow-up's detector (Dar et al. 2025), in all orientations"
    published: float | None = NEAR_IDENTICAL

    @property
    def name(self) -> str:
        """As it is asked for."""
        return f"embedding-turned:{self.of}"

    @property
    def title(self) -> str:
        """For people."""
        return f"Embeddings by {self.of}, best orientation"

    @property
    def invariant_to(self) -> tuple[str, ...]:
        """Flips and quarter turns, and what the embedding was made to overlook."""
        return (*_BY_DESIGN, *(word for word in self.embedding.invariant_to if word not in _BY_DESIGN))

    @property
    def is_control(self) -> bool:
        """Whether the embedding was not made from the training images."""
        return self.embedding.is_control

    @property
    def digest(self) -> str:
        """Names the embedding's weights."""
        return self.embedding.digest

    def search(self, query: Images, gallery: Images, setting: Setting) -> Found:
        """Find the best partners by embedding, under every orientation.

        Raises:
          UserError: an embedding holds NaN or infinity.
        """
        y = embedded(self.of, self.embedding, gallery)
        found = []
        for orientation in setting.group(query):
            turned = query if orientation.name == "identity" else _Turned(query, orientation.inverse)
            x = embedded(self.of, self.embedding, turned)
            found.append(closest(x, y, "correlation", setting, how=f"{self.name}, {orientation.name}"))
        return Found(
            query_to_gallery=best_of([one.query_to_gallery for one in found]),
            gallery_to_query=best_of([one.gallery_to_query for one in found]),
        )


def best_of(lists: Sequence[Neighbours]) -> Neighbours:
    """Return the best partners of several searches for the same images, one an orientation, each partner once.

    Args:
      lists: of as many neighbours each; their place is the orientation's index. Ties go to the lower id.
    """
    n, k = lists[0].id.shape
    id_ = np.concatenate([near.id for near in lists], axis=1)
    score = np.concatenate([near.score for near in lists], axis=1)
    turn = np.repeat(np.arange(len(lists)), k)[None].repeat(n, axis=0)
    row = np.arange(n)[:, None].repeat(id_.shape[1], axis=1)
    order = np.lexsort((turn.ravel(), -score.ravel(), id_.ravel(), row.ravel())).reshape(n, -1) % id_.shape[1]
    id_, score, turn = (np.take_along_axis(column, order, axis=1) for column in (id_, score, turn))
    again = np.zeros(id_.shape, bool)
    again[:, 1:] = id_[:, 1:] == id_[:, :-1]
    gone = again | (id_ < 0)
    score = np.where(gone, -np.inf, score)
    best = np.lexsort((id_.ravel(), -score.ravel(), row.ravel())).reshape(n, -1)[:, :k] % id_.shape[1]
    id_, score, turn, gone = (np.take_along_axis(column, best, axis=1) for column in (id_, score, turn, gone))
    return Neighbours(score=score, id=np.where(gone, -1, id_), orientation=np.where(gone, 0, turn).astype(np.int16))


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
