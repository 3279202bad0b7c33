"""A control that cannot know the answer: each half of the training images is searched by a network that never saw it.

A descriptor that was trained on the training set knows it, and knows neither the synthetic nor the held-out images that
are compared with it. So two are trained, each on the patients of one half, and every training image is looked up with
the one that did not see it. Their scores have scales of their own; each half's are put on a common one by what they are
for unseen patients: with z the log-closeness of a score (`null`) and z_v those of the held-out images' best partners in
that half,

    score = (z - median z_v) / spread z_v,        the spread as the distance of the quartiles.

Held-out images go through the same as synthetic ones, so that p-values stay honest; only location and scale are taken
from them, of hundreds of images one or two numbers a half.
"""

import dataclasses

import numpy as np

from memjax.audit.describe import Images, Score
from memjax.audit.detectors.embedded import SCORE_NAMES, Embedding, closest, embedded
from memjax.audit.detectors.rescored import best_of
from memjax.audit.detectors.setting import Found, Setting
from memjax.audit.findings import Neighbours
from memjax.audit.null import Law, log_closeness
from memjax.digest import array_digest
from memjax.errors import UserError

_NARROWEST = 1e-3  # a spread of z: all held-out images are alike


@dataclasses.dataclass(frozen=True, kw_only=True)
class CrossFitted:
    """Search each half of the gallery by the embedding that did not see it.

    of: the name of both together.
    embeddings: two, the first trained on half 0, the second on half 1.
    half: which half each gallery image is of, [N], 0 or 1; those that neither network saw may be of either.
    score: how embeddings are compared.
    """

    of: str
    embeddings: tuple[Embedding, Embedding]
    half: np.ndarray
    score: Score = "correlation"
    law: Law = "closeness"
    score_name: str = "standardised log-closeness of embeddings"
    source: str = "cross-fitting, as in Chernozhukov et al. 2018"
    published: float | None = None
    is_control: bool = True

    @property
    def name(self) -> str:
        """As it is listed."""
        return f"embedding-crossfit:{self.of}"

    @property
    def title(self) -> str:
        """For people."""
        return f"{SCORE_NAMES[self.score].capitalize()}, cross-fitted ({self.of})"

    @property
    def invariant_to(self) -> tuple[str, ...]:
        """What both were made to overlook."""
        first, second = (embedding.invariant_to for embedding in self.embeddings)
        return tuple(word for word in first if word in second)

    @property
    def digest(self) -> str:
        """Names the weights of both, and the halves."""
        return "-".join([*(embedding.digest for embedding in self.embeddings), self.score, array_digest(self.half)])

    def search(self, query: Images, gallery: Images, setting: Setting) -> Found:
        """Find the best partners in both halves.

        Raises:
          UserError: there are no held-out images, or a half is empty.
        """
        if setting.reference is None:
            raise UserError("cross-fitting needs --heldout images of unseen patients, to compare two networks' scores.")
        if set(np.unique(self.half)) != {0, 1}:
            raise UserError("all training images are in one half; cross-fitting needs patients in both.")
        parts = [self._half(number, query, gallery, setting) for number in (0, 1)]
        by_gallery = Neighbours(
            score=np.full((len(gallery), setting.k), -np.inf),
            id=np.full((len(gallery), setting.k), -1, np.int64),
            orientation=np.zeros((len(gallery), setting.k), np.int16),
        )
        for number, part in enumerate(parts):
            for name, mine in vars(by_gallery).items():
                mine[self.half == number] = getattr(part.gallery_to_query, name)
        return Found(query_to_gallery=best_of([part.query_to_gallery for part in parts]), gallery_to_query=by_gallery)

    def _half(self, number: int, query: Images, gallery: Images, setting: Setting) -> Found:
        """Search one half by the other half's embedding; ids are those of the whole gallery."""
        assert setting.reference is not None
        embedding = self.embeddings[1 - number]
        ids = np.flatnonzero(self.half == number)
        x, y = (embedded(self.of, embedding, images) for images in (query, gallery))
        unseen = embedded(self.of, embedding, setting.reference.images)[setting.reference.ids]
        how = f"{self.name}, half {number}"
        best = closest(unseen, y[ids], self.score, setting, how=f"{how}: scale").query_to_gallery.score[:, 0]
        z = log_closeness(best[np.isfinite(best)], self.score)
        middle, spread = np.median(z), max(float(np.subtract(*np.percentile(z, [75, 25]))), _NARROWEST)

        def scaled(near: Neighbours, names: np.ndarray | None = None) -> Neighbours:
            known = near.id >= 0
            score = np.where(known, (log_closeness(near.score, self.score) - middle) / spread, -np.inf)
            id_ = near.id if names is None else np.where(known, names[near.id], -1)
            return Neighbours(score=score, id=id_, orientation=near.orientation)

        found = closest(x, y[ids], self.score, setting, how=how)
        return Found(
            query_to_gallery=scaled(found.query_to_gallery, ids), gallery_to_query=scaled(found.gallery_to_query)
        )
