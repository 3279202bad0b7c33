"""Images of seed ids from a model in training: for previews and the monitor, as `launch.sample` would draw them."""

from collections.abc import Callable, Sequence

import jax
import numpy as np
from jax.sharding import Mesh

from memjax.data.labels import labels_of
from memjax.mesh import batch_sharding

PREVIEWED = 16  # seed ids 0 to 15, the same at every step
_AT_ONCE = 16  # images a device


def draw_by_seed(
    drawn: Callable[[jax.Array, jax.Array | None], jax.Array],
    seed_ids: np.ndarray,
    *,
    label_share: Sequence[float],
    mesh: Mesh,
) -> np.ndarray:
    """Return float32 [n, *space, c], drawn in equal batches: `drawn` is compiled once.

    Args:
      drawn: (seed ids, label numbers or None), int32 and split over the mesh -> images on every device.
      seed_ids: any number of them.
      label_share: how often each class occurs; none: no labels.
      mesh: whose devices share each batch.
    """
    size = _AT_ONCE * mesh.size

    def placed(values: np.ndarray) -> jax.Array:
        sharding = batch_sharding(mesh)
        return jax.make_array_from_callback(values.shape, sharding, lambda rows: values.astype(np.int32)[rows])

    parts = []
    for start in range(0, len(seed_ids), size):
        ids = np.resize(seed_ids[start : start + size], size)  # the last batch is filled up
        label = labels_of(ids, label_share)
        parts.append(jax.device_get(drawn(placed(ids), None if label is None else placed(label))))
    return np.concatenate(parts)[: len(seed_ids)]
