"""Structural similarity after the images are laid alike: only the best-correlated candidates are turned and compared.

SSIM is for images in register. Which orientation that is, and which ten training images are worth a look, the pixel
correlation over all orientations says.
"""

import dataclasses

import jax
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float

from memjax.audit.describe import Descriptor, Images, unit_range
from memjax.audit.detectors.rescored import Listed, best_partners, listed
from memjax.audit.detectors.setting import Found, Setting
from memjax.audit.leaks import NEAR_IDENTICAL
from memjax.audit.null import Law
from memjax.mesh import QUERY, narrowed
from memjax.objectives.fidelity import ssim
from memjax.orientation import Orientation

_CANDIDATES = 10  # of a query
_OF_GALLERY = 1  # candidates of a training image, so that each one has a score
_BLOCK_BYTES = 32 << 20  # one side of the pairs compared at once, in float32


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlignedSSIM:
    """Compare each query with its ten best-correlated candidates, turned into its orientation."""

    name: str = "ssim"
    title: str = "Structural similarity, aligned"
    source: str = "Wang et al. 2004, after alignment by correlation"
    invariant_to: tuple[str, ...] = ("flips", "quarter turns")
    score_name: str = "structural similarity"
    law: Law = "correlation"
    published: float | None = NEAR_IDENTICAL
    is_control: bool = False
    digest: str = ""

    def search(self, query: Images, gallery: Images, setting: Setting) -> Found:
        """Find the best partners among the candidates."""
        group = setting.group(query)
        pairs = setting.pairs(
            query, gallery, Descriptor(channels=setting.channels), group=group, k=max(setting.k, _CANDIDATES)
        )
        chosen = listed(pairs, per_query=_CANDIDATES, per_gallery=_OF_GALLERY)
        score = _ssim_of(chosen, query, gallery, group, setting)
        return best_partners(chosen, score, n_queries=len(query), n_gallery=len(gallery), k=setting.k)


def _ssim_of(
    chosen: Listed, query: Images, gallery: Images, group: tuple[Orientation, ...], setting: Setting
) -> np.ndarray:
    """Return the pairs' similarity, [p]."""
    if not len(chosen.query):
        return np.zeros(0)
    mesh = narrowed(setting.mesh, len(chosen.query))
    step = max(1, _BLOCK_BYTES // (4 * int(np.prod(query.block(0, 1).shape[1:]))))
    step = -(-min(step, len(chosen.query)) // mesh.size) * mesh.size
    sharding = NamedSharding(mesh, P(QUERY))
    scores = np.zeros(len(chosen.query))
    done = setting.progress(f"{setting.what}, structural similarity", len(scores))
    for start in range(0, len(scores), step):
        part = np.minimum(np.arange(start, start + step), len(scores) - 1)  # the last block is filled up
        x = unit_range(query, chosen.query[part], setting.channels)
        y = unit_range(gallery, chosen.gallery[part], setting.channels)
        for code in np.unique(chosen.orientation[part]).tolist():
            turned = chosen.orientation[part] == code
            if code:
                y[turned] = group[code].apply(y[turned], leading=1)
        found = np.asarray(_compared(*(jax.device_put(side, sharding) for side in (x, y))))
        stop = min(start + step, len(scores))
        scores[start:stop] = found[: stop - start]
        done(stop - start)
    return scores


@jax.jit
def _compared(x: Float[Array, "b *space c"], y: Float[Array, "b *space c"]) -> Float[Array, " b"]:
    return ssim(x, y)
