"""When does a model begin to copy? The audit of a few fixed seeds, while the model trains.

The same seed ids are drawn at every look and compared with the training images by the audit's exact search. An image
counts as a copy if its best training score is above the threshold that few held-out images' exceed, and its nearest
training image is nearer, compared with the second nearest, than it is to all but as few held-out images. Without the
second condition blurred images count, which resemble everybody. Whether there are more such images than chance explains
is Fisher's exact test of synthetic against held-out images, which are put through the same rule.

Beside it stands how good the images are as a whole: the Fréchet distance to the training images in principal components
of these, for the synthetic images and for as many held-out ones.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from memjax.errors import UserError

if TYPE_CHECKING:
    from jax.sharding import Mesh

    from launch.training import Sets
    from memjax.data.store import Store
    from memjax.orientation import Symmetry

_COMPONENTS = 32  # principal components that the Fréchet distance sees
_DESCRIBED, _NUMBERS = 2048, 1 << 26  # training images that they are of, and numbers in these, at most
_RATIO = 1 / 3  # nearest over second-nearest distance of a copy: Yoon et al. 2023


class MemorizationMonitor:
    """Look at a training run; make one a run.

    Args:
      draw: (state, seed ids) -> images in [-1, 1].
      sets: what is trained on, and what is held out.
      mesh: this process's devices, for the search.
      may_stop: whether the run ends when copying is seen.
      seeds: how many seed ids are drawn.
      symmetry: orientations under which a copy is still a copy.
      percentile: of the held-out images' best training scores: the threshold; 100 minus it, of their ratios.
      p_value: below which there are more copies than chance explains.

    Raises:
      UserError: nothing is held out, or a value is out of range.
    """

    def __init__(
        self,
        *,
        draw: Callable[[Any, np.ndarray], np.ndarray],
        sets: "Sets",
        mesh: "Mesh",
        may_stop: bool,
        seeds: int = 64,
        symmetry: "Symmetry" = "none",
        percentile: float = 95.0,
        p_value: float = 0.001,
    ):
        if sets.heldout is None:
            raise UserError(
                "every.monitor needs held-out images to compare with; give --heldout=STORE or every.monitor=0."
            )
        if seeds < 1 or not 0 < percentile < 100 or not 0 < p_value < 1:
            raise UserError(
                f"monitor.seeds={seeds} must be 1 or more, monitor.percentile={percentile} between 0 and 100, "
                f"monitor.p_value={p_value} between 0 and 1."
            )
        self._draw = draw
        self._may_stop = may_stop
        self._seed_ids = np.arange(seeds)
        self._symmetry = symmetry
        self._p_value = p_value
        self._mesh = mesh
        self._train = _Part(sets.store, sets.ids)
        heldout = _Part(*sets.heldout)
        self._heldout_score, ratio = self._nearness(heldout)
        self._threshold = float(np.percentile(self._heldout_score, percentile))
        self._ratio = float(np.percentile(ratio, 100 - percentile))
        self._features = _Features(self._train)
        self._heldout_frechet = self._features.frechet(_spread(heldout, seeds))
        self._heldout_copies = int(self._are_copies(self._heldout_score, ratio).sum())

    def __call__(self, step: int, state: Any) -> tuple[dict[str, float], bool]:
        """Return what to tell of this state, and whether the run is to end."""
        from memjax.audit.describe import ArrayImages

        images = self._draw(state, self._seed_ids)
        drawn = ArrayImages(images, np.tile(np.float32([-1, 1]), (len(images), 1)))
        score, ratio = self._nearness(drawn)
        copies = int(self._are_copies(score, ratio).sum())
        p = self._chance(copies)
        told = {
            "monitor/copied_fraction": copies / len(score),
            "monitor/p_value": p,
            "monitor/above_fraction": float((score > self._threshold).mean()),
            "monitor/ratio_fraction": float((ratio < _RATIO).mean()),
            "monitor/frechet": self._features.frechet(images),
            "monitor/heldout_frechet": self._heldout_frechet,
            "monitor/threshold": self._threshold,
            "monitor/score_median": float(np.median(score)),
            "monitor/heldout_score_median": float(np.median(self._heldout_score)),
        }
        return told, self._may_stop and p < self._p_value

    def _are_copies(self, score: np.ndarray, ratio: np.ndarray) -> np.ndarray:
        return (score > self._threshold) & (ratio < self._ratio)

    def _chance(self, copies: int) -> float:
        """Return how likely so many copies are if synthetic images are to training images as held-out ones are."""
        from scipy.stats import hypergeom

        n, held = len(self._seed_ids), len(self._heldout_score)
        return float(hypergeom.sf(copies - 1, n + held, copies + self._heldout_copies, n))

    def _nearness(self, images: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return each image's best training score, and its nearest over its second-nearest distance."""
        near = -self._best(images, "msd", 2)
        ratio = np.sqrt(np.maximum(near[:, 0], 0) / np.maximum(near[:, 1], 1e-12))
        return self._best(images, "correlation", 1)[:, 0], ratio

    def _best(self, images: Any, score: str, k: int) -> np.ndarray:
        """Return the k best training scores of each image, best first."""
        from memjax.audit.describe import Descriptor
        from memjax.audit.pairs.allpairs import allpairs
        from memjax.mesh import narrowed
        from memjax.orientation import orientations

        found = allpairs(
            images,
            self._train,
            k=k,
            group=orientations(self._train.store.manifest.shape[:-1], self._symmetry),
            mesh=narrowed(self._mesh, len(images)),
            descriptor=Descriptor(score=score),
            bins=0,
        )
        return found.query_to_gallery.score


class _Features:
    """Principal components of the training images, as the Fréchet distance compares them."""

    def __init__(self, train: "_Part"):
        from memjax.audit.fidelity.features import principal_components

        of_image = int(np.prod(train.store.manifest.shape))
        images = _spread(train, max(2 * _COMPONENTS, min(_DESCRIBED, _NUMBERS // of_image)))
        self._mean, self._axes = principal_components(images.reshape(len(images), -1), _COMPONENTS)
        self._train = self._of(images)

    def frechet(self, images: np.ndarray) -> float:
        """Return the distance of these images, [n, *space, c] in [-1, 1], to the training images."""
        from memjax.audit.fidelity.frechet import frechet_distance

        return frechet_distance(self._of(images), self._train)

    def _of(self, images: np.ndarray) -> np.ndarray:
        return (images.reshape(len(images), -1) - self._mean) @ self._axes


def _spread(part: "_Part", at_most: int) -> np.ndarray:
    """Return images from all over a part, in [-1, 1]."""
    ids = np.unique(np.linspace(0, len(part) - 1, min(len(part), at_most)).astype(int))
    return part.unit(ids)


class _Part:
    """Some images of a store, as the search takes them."""

    def __init__(self, store: "Store", ids: np.ndarray):
        self.store = store
        self._ids = ids
        self.ranges = store.ranges[ids]

    def __len__(self) -> int:
        return len(self._ids)

    def block(self, start: int, stop: int) -> np.ndarray:
        """Read images start:stop of the part."""
        return self.store.gather(self._ids[start:stop])

    def gather(self, ids: np.ndarray) -> np.ndarray:
        """Read images by their number in the part."""
        return self.store.gather(self._ids[ids])

    def unit(self, ids: np.ndarray) -> np.ndarray:
        """Read images by their number in the part, in [-1, 1]."""
        return self.store.unit_range(self._ids[ids])

    def name(self, id_: int) -> str:
        """Say which image this is."""
        return self.store.name(int(self._ids[id_]))

    def check_unchanged(self) -> None:
        """Raise if the store changed."""
        self.store.check_unchanged()
