"""Detectors of copies behind one interface: each scores pairs in its own way and lists each image's best partners.

A detector says nothing about what is a copy; `judge` calibrates its scores on held-out images, by the score's law.
"""

import difflib
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from memjax.audit.describe import Images
from memjax.audit.detectors.adaptive import Adaptive
from memjax.audit.detectors.aligned import AlignedSSIM
from memjax.audit.detectors.correlated import FOREGROUND, TURNED, UNTURNED
from memjax.audit.detectors.embedded import Embedded, Embedding
from memjax.audit.detectors.embedded_turned import EmbeddedTurned
from memjax.audit.detectors.ratio import Ratio
from memjax.audit.detectors.setting import Found, Setting
from memjax.audit.detectors.tiled import Tiled
from memjax.audit.null import Law
from memjax.errors import UserError


@runtime_checkable
class Detector(Protocol):
    """One way to tell copies."""

    @property
    def name(self) -> str:
        """As it is asked for: "ratio", "embedding-msd:NAME"."""
        ...

    @property
    def title(self) -> str:
        """For people."""
        ...

    @property
    def source(self) -> str:
        """Who proposed it."""
        ...

    @property
    def invariant_to(self) -> tuple[str, ...]:
        """What a copy may differ by and still score alike, by design.

        Of "flips", "quarter turns", "small rotations", "shifts", "noise", "blur", "contrast", "deformation".
        """
        ...

    @property
    def score_name(self) -> str:
        """What its score is; higher is always more alike."""
        ...

    @property
    def law(self) -> Law:
        """How its scores become distances, for the tail of p-values."""
        ...

    @property
    def published(self) -> float | None:
        """The score above which its authors call a copy, or two images are practically identical; None: no such."""
        ...

    @property
    def is_control(self) -> bool:
        """Whether it never saw the training images, or not those that it is asked about."""
        ...

    @property
    def digest(self) -> str:
        """Names whatever its scores depend on besides its name and the images."""
        ...

    def search(self, query: Images, gallery: Images, setting: Setting) -> Found:
        """Find the best partners of each query image and of each gallery image.

        Args:
          query: images asked about, [S, *space, channels]: synthetic or held-out.
          gallery: images searched, [N, *space, channels]: the training set.
          setting: how.
        """
        ...


_OF_PIXELS: dict[str, Detector] = {
    detector.name: detector for detector in (UNTURNED, TURNED, FOREGROUND, Ratio(), Adaptive(), AlignedSSIM(), Tiled())
}
NAMES: tuple[str, ...] = tuple(_OF_PIXELS)  # of those that need nothing but the images


def make_detectors(names: Sequence[str], embeddings: Mapping[str, Embedding] | None = None) -> list[Detector]:
    """Return the detectors of these names, each once, in this order.

    Args:
      names: of `NAMES`, or `embedding-msd:NAME`, `embedding-correlation:NAME` and, where turned images can be embedded,
        `embedding-turned:NAME` with the NAME of an embedding.
      embeddings: by name.

    Raises:
      UserError: there is no detector of a name.
    """
    known = dict(_OF_PIXELS)
    for name, embedding in (embeddings or {}).items():
        made: list[Detector] = [Embedded(of=name, embedding=embedding, law=law) for law in ("msd", "correlation")]
        if embedding.can_turn:
            made.append(EmbeddedTurned(of=name, embedding=embedding))
        known |= {detector.name: detector for detector in made}
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            meant = f"did you mean {close[0]}? " if close else ""
            raise UserError(f"there is no detector {name!r}; {meant}Choose from {', '.join(known)}.")
    return [known[name] for name in dict.fromkeys(names)]
