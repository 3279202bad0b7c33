"""Detectors by a learned embedding: mean squared distance (paper B) or Pearson correlation (its follow-up).

The audit knows no network: an embedding is a function from images to vectors.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from memjax.audit.describe import ArrayImages, Descriptor, Images, Score
from memjax.audit.detectors.setting import Found, Setting
from memjax.audit.findings import Neighbours
from memjax.audit.leaks import NEAR_IDENTICAL
from memjax.audit.pairs.allpairs import allpairs
from memjax.errors import UserError
from memjax.mesh import narrowed
from memjax.orientation import orientations

SCORE_NAMES: dict[Score, str] = {
    "msd": "negative mean squared distance of embeddings",
    "correlation": "correlation of embeddings",
}
_SOURCES: dict[Score, str] = {"msd": "Dar et al. 2023 (paper B)", "correlation": "Dar et al. 2025 (the follow-up)"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Embedding:
    """A function from images to vectors, and what is known of it.

    embed: gives [n, d] for n images, by whatever they are: a network looks at pixels, a file looks up their sources.
    digest: names the weights or the file.
    invariant_to: what a copy may differ by and still lie close (`Detector.invariant_to`).
    is_control: it was not made from the training images.
    can_turn: `embed` takes any images, so that turned ones can be asked about, too; a file knows its own only.
    """

    embed: Callable[[Images], np.ndarray]
    digest: str = ""
    invariant_to: tuple[str, ...] = ()
    is_control: bool = False
    can_turn: bool = False

    @property
    def kinds(self) -> tuple[str, ...]:
        """What the names of its detectors begin with, before the colon."""
        return ("embedding-msd", "embedding-correlation", *(["embedding-turned"] if self.can_turn else []))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Embedded:
    """Compare embeddings."""

    of: str  # the embedding's name
    embedding: Embedding
    law: Score

    @property
    def name(self) -> str:
        """As it is asked for."""
        return f"embedding-{self.law}:{self.of}"

    @property
    def title(self) -> str:
        """For people."""
        return f"{'Distance' if self.law == 'msd' else 'Correlation'} of embeddings by {self.of}"

    @property
    def source(self) -> str:
        """Who proposed it."""
        return _SOURCES[self.law]

    @property
    def score_name(self) -> str:
        """What its score is."""
        return SCORE_NAMES[self.law]

    @property
    def published(self) -> float | None:
        """The correlation of practically identical images; distances have no scale of their own."""
        return NEAR_IDENTICAL if self.law == "correlation" else None

    @property
    def invariant_to(self) -> tuple[str, ...]:
        """What the embedding was made to overlook."""
        return self.embedding.invariant_to

    @property
    def is_control(self) -> bool:
        """Whether the embedding was not made from the training images."""
        return self.embedding.is_control

    @property
    def digest(self) -> str:
        """Names the embedding's weights or file."""
        return self.embedding.digest

    def search(self, query: Images, gallery: Images, setting: Setting) -> Found:
        """Find the best partners by embedding.

        Raises:
          UserError: an embedding holds NaN or infinity, or the two sides' lengths differ.
        """
        x, y = (embedded(self.of, self.embedding, images) for images in (query, gallery))
        return closest(x, y, self.law, setting, how=self.name)


def embedded(name: str, embedding: Embedding, images: Images) -> np.ndarray:
    """Return the vectors of images as float32 [n, d], checked.

    Raises:
      UserError: as many vectors as images are not there, or one holds NaN or infinity.
    """
    vectors = np.asarray(embedding.embed(images), np.float32)
    if vectors.ndim != 2 or len(vectors) != len(images):
        raise UserError(
            f"the embedding {name!r} gives {' x '.join(map(str, vectors.shape))} numbers for {len(images)} images; "
            "give one row of numbers an image."
        )
    bad = np.flatnonzero(~np.isfinite(vectors).all(1))
    if len(bad):
        raise UserError(
            f"the embedding {name!r} of {images.name(int(bad[0]))} holds NaN or infinity ({len(bad)} such); mend it."
        )
    return vectors


def closest(x: np.ndarray, y: np.ndarray, score: Score, setting: Setting, *, how: str) -> Found:
    """Search vectors [n, d] against vectors [m, d], exactly.

    Raises:
      UserError: the lengths differ.
    """
    if x.shape[1] != y.shape[1]:
        raise UserError(
            f"{how}: embeddings of {x.shape[1]} and of {y.shape[1]} numbers cannot be compared; make both alike."
        )
    # The distance is that of images in [-1, 1]: one range for all keeps distances in proportion, and clips nothing.
    low, high = (float(of((of(x), of(y)))) for of in (np.min, np.max))
    high = high if high > low else low + 1
    range_ = np.array([[low, high]], np.float64)
    sides = [ArrayImages(vectors[:, :, None], np.repeat(range_, len(vectors), axis=0)) for vectors in (x, y)]
    what = f"{setting.what}, {how}"
    pairs = allpairs(
        *sides,
        k=setting.k,
        group=orientations((x.shape[1],), "none"),
        mesh=narrowed(setting.mesh, len(x)),
        descriptor=Descriptor(score=score),
        plan="product",
        bins=0,
        progress=setting.progress(what, len(x) * len(y)),
    )
    scale = ((high - low) / 2) ** 2 if score == "msd" else 1.0

    def real(near: Neighbours) -> Neighbours:
        return dataclasses.replace(near, score=near.score * scale)

    return Found(query_to_gallery=real(pairs.query_to_gallery), gallery_to_query=real(pairs.gallery_to_query))
