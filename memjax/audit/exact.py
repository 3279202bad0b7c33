"""Scores of listed pairs, each in one orientation: what is left to compute where a bound ruled out the rest.

Queries lie on the devices in all orientations, raw; so a pair is two rows of pixels, fetched as they were stored (a
byte each, mostly), converted, multiplied and summed. Pairs of one gallery image are taken eight at a time,
several images at once: 4.3 us a pair of 50,176 bytes on two cores, where pair by pair takes 14 (BUILD_NOTES).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float, Int, Shaped

from memjax.audit.describe import Facts, Score, values
from memjax.audit.symmetry import Group
from memjax.mesh import QUERY

_SLOTS = 8  # pairs of one gallery image taken at once
_TASK_BYTES = 8 << 20  # described rows at once on one device
_MOST_TOGETHER = 64  # gallery images
_MOST_TASKS = 4096  # of _SLOTS pairs in one call


@functools.partial(jax.jit, static_argnums=(0, 1))
def turned_queries(mesh: Mesh, group: Group, raw: Shaped[Array, "s *space c"]) -> Shaped[Array, "g s size"]:
    """Return the queries in all orientations, <x, g y> = <row g of x, y>; each device its own queries."""

    def local(raw: Array) -> Array:
        return jnp.stack([g.inverse.apply(raw, leading=1).reshape(len(raw), -1) for g in group])

    return jax.shard_map(local, mesh=mesh, in_specs=P(QUERY), out_specs=P(None, QUERY))(raw)


def score_pairs(
    mesh: Mesh,
    score: Score,
    table: Shaped[Array, "g s size"],
    of_query: Facts,
    raw: Shaped[Array, "n *space c"],
    of_gallery: Facts,
    use: Bool[Array, " size"] | None,
    pairs: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> np.ndarray:
    """Score pairs in float32.

    Args:
      mesh: the devices; queries are split over them in order.
      score: which score.
      table: `turned_queries`.
      of_query: facts of the queries, split alike.
      raw: a block of gallery images, on every device.
      of_gallery: their facts.
      use: which of the pixels and channels are compared; None: all.
      pairs: query and gallery image (places in `table` and `raw`) and orientation of each pair.

    Returns:
      float32 [pairs].
    """
    query, gallery, orientation = pairs
    found = np.empty(len(query), np.float32)
    per_device = table.shape[1] // mesh.size
    for part in np.array_split(np.arange(len(query)), max(1, -(-len(query) // (_MOST_TASKS * _SLOTS // 2)))):
        if not len(part):
            continue
        device, place = np.divmod(query[part], per_device)
        together = min(_MOST_TOGETHER, max(1, _TASK_BYTES // (4 * _SLOTS * table.shape[2])))
        rows, images, where = _tasks(mesh.size, device, place, gallery[part], orientation[part], together)
        put = functools.partial(jax.device_put, device=NamedSharding(mesh, P(QUERY)))
        scores = _score_tasks(
            mesh, score, together, table, of_query, raw, of_gallery, use, tuple(put(row) for row in rows), put(images)
        )
        found[part] = np.asarray(scores).ravel()[where]
    return found


def _tasks(
    devices: int, device: np.ndarray, place: np.ndarray, image: np.ndarray, orientation: np.ndarray, together: int
) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray, np.ndarray]:
    """Lay pairs out as tasks [devices, tasks, _SLOTS] of one gallery image each; `where` each pair went (flattened)."""
    run = device.astype(np.int64) * (int(image.max()) + 1) + image
    order = np.argsort(run, kind="stable")
    run = run[order]
    begins = np.flatnonzero(np.r_[True, run[1:] != run[:-1]])
    lengths = np.diff(np.r_[begins, len(run)])
    slot = np.arange(len(run)) - np.repeat(begins, lengths)
    needed = -(-lengths // _SLOTS)
    owner = device[order][begins]
    before = np.cumsum(needed) - needed
    first_of_device = np.array([needed[owner < d].sum() for d in range(devices)])
    task = np.repeat(before - first_of_device[owner], lengths) + slot // _SLOTS
    most = int(task.max()) + 1
    n_tasks = together * (1 << int(np.ceil(np.log2(max(1, -(-most // together))))))  # few sizes: few compilations
    where = np.empty(len(run), np.int64)
    where[order] = (device[order] * n_tasks + task) * _SLOTS + slot % _SLOTS
    rows = (np.zeros((devices, n_tasks, _SLOTS), np.int32), np.zeros((devices, n_tasks, _SLOTS), np.int32))
    rows[0].ravel()[where], rows[1].ravel()[where] = place, orientation
    images = np.zeros((devices, n_tasks), np.int32)
    images.ravel()[where // _SLOTS] = image
    return rows, images, where


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _score_tasks(
    mesh: Mesh,
    score: Score,
    together: int,
    table: Shaped[Array, "g s size"],
    of_query: Facts,
    raw: Shaped[Array, "n *space c"],
    of_gallery: Facts,
    use: Bool[Array, " size"] | None,
    rows: tuple[Int[Array, "devices tasks slots"], Int[Array, "devices tasks slots"]],
    images: Int[Array, "devices tasks"],
) -> Float[Array, "devices tasks slots"]:
    def local(table, of_query, raw, of_gallery, use, rows, images):
        def some(task):
            places, orientations, at = task
            of_x, of_y = (
                jax.tree.map(lambda fact, i=i: fact[i], of) for of, i in ((of_query, places.ravel()), (of_gallery, at))
            )
            x = values(table[orientations.ravel(), places.ravel()], of_x, score=score)
            y = values(raw.reshape(len(raw), -1)[at], of_y, score=score)
            y = y if use is None else jnp.where(use, y, 0)
            x = x.reshape(*places.shape, -1)
            product = jnp.einsum("cwd,cd->cw", x, y, precision=jax.lax.Precision.HIGHEST)
            return product + of_x.offset.reshape(places.shape) + of_y.offset[:, None]

        parted = jax.tree.map(lambda a: a.reshape(-1, together, *a.shape[2:]), (*rows, images))
        return jax.lax.map(some, parted).reshape(1, -1, _SLOTS)

    of_sharded = jax.tree.map(lambda _: P(QUERY), of_query)
    return jax.shard_map(
        local,
        mesh=mesh,
        in_specs=(P(None, QUERY), of_sharded, P(), P(), P(), P(QUERY), P(QUERY)),
        out_specs=P(QUERY),
        check_vma=False,
    )(table, of_query, raw, of_gallery, use, rows, images)
