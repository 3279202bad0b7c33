"""When does a model begin to copy? The audit of a few fixed seeds, while the model trains.

The same seed ids are drawn at every look and compared with the training images by the audit's exact search. A score
counts as a copy's if it is above the threshold that few of the held-out images' best training scores exceed. Whether
there are more such images than chance explains is Fisher's exact test of synthetic against held-out images.
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
      percentile: of the held-out images' best training scores: the threshold.
      p_value: below which there are too many above the threshold for chance.

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
        self._heldout = np.sort(self._best(_Part(*sets.heldout), "correlation", 1)[:, 0])
        self._threshold = float(np.percentile(self._heldout, percentile))

    def __call__(self, step: int, state: Any) -> tuple[dict[str, float], bool]:
        """Return what to tell of this state, and whether the run is to end."""
        from memjax.audit.describe import ArrayImages

        images = self._draw(state, self._seed_ids)
        drawn = ArrayImages(images, np.tile(np.float32([-1, 1]), (len(images), 1)))
        score = self._best(drawn, "correlation", 1)[:, 0]
        near = self._best(drawn, "msd", 2)
        ratio = np.sqrt(near[:, 0] / np.minimum(near[:, 1], -1e-12))
        above = int((score > self._threshold).sum())
        p = self._chance(above)
        told = {
            "monitor/copied_fraction": above / len(score),
            "monitor/p_value": p,
            "monitor/threshold": self._threshold,
            "monitor/score_median": float(np.median(score)),
            "monitor/heldout_score_median": float(np.median(self._heldout)),
            "monitor/ratio_fraction": float((ratio < _RATIO).mean()),
        }
        return told, self._may_stop and p < self._p_value

    def _chance(self, above: int) -> float:
        """Return how likely so many images above the threshold are if synthetic ones score like held-out ones."""
        from scipy.stats import hypergeom

        n, held = len(self._seed_ids), len(self._heldout)
        both = above + int((self._heldout > self._threshold).sum())
        return float(hypergeom.sf(above - 1, n + held, both, n))

    def _best(self, images: Any, score: str, k: int) -> np.ndarray:
        """Return the k best training scores of each image, best first."""
        from memjax.audit.allpairs import allpairs
        from memjax.audit.describe import Descriptor
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

    def name(self, id_: int) -> str:
        """Say which image this is."""
        return self.store.name(int(self._ids[id_]))

    def check_unchanged(self) -> None:
        """Raise if the store changed."""
        self.store.check_unchanged()
