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

from memjax.audit import describe
from memjax.audit.describe import Facts, Score, signed_bytes, values
from memjax.audit.pairs.symmetry import Group
from memjax.mesh import QUERY

_SLOTS = 8  # pairs of one gallery image taken at once
_TASK_BYTES = 8 << 20  # described rows at once on one device
_MOST_TOGETHER = 64  # gallery images
_RUN = 4096  # numbers in float32 summed at once: one after the other they lose digits where all are alike
_TASKS = 512  # of _SLOTS pairs in one call on one device: one size, one compilation


@functools.partial(jax.jit, static_argnums=(0, 1, 3))
def turned_queries(
    mesh: Mesh, group: Group, raw: Shaped[Array, "s *space c"], of_bytes: bool
) -> Shaped[Array, "rows size"]:
    """Return the queries in all orientations, <x, g y> = <x turned by the inverse of g, y>.

    Each device has its own queries: first all of them for the first orientation, then for the second, and so on. They
    are as they were stored, or as `signed_bytes`.
    """

    def local(raw: Array) -> Array:
        raw = signed_bytes(raw) if of_bytes else raw
        return jnp.concatenate([g.inverse.apply(raw, leading=1).reshape(len(raw), -1) for g in group])

    return jax.shard_map(local, mesh=mesh, in_specs=P(QUERY), out_specs=P(QUERY))(raw)


def score_pairs(
    mesh: Mesh,
    score: Score,
    table: Shaped[Array, "rows size"],
    of_query: Facts,
    raw: Shaped[Array, "n *space c"],
    of_gallery: Facts,
    use: Bool[Array, " size"] | None,
    pairs: tuple[np.ndarray, np.ndarray, np.ndarray],
    of_bytes: bool,
) -> np.ndarray:
    """Score pairs, in float32 or as bytes.

    Args:
      mesh: the devices; queries are split over them in order.
      score: which score.
      table: `turned_queries`.
      of_query: facts of the queries, split alike.
      raw: a block of gallery images, on every device.
      of_gallery: their facts.
      use: which of the pixels and channels are compared; None: all.
      pairs: query and gallery image (places in `table` and `raw`) and orientation of each pair.
      of_bytes: whether the table holds `signed_bytes`, to be multiplied as such.

    Returns:
      float32 [pairs].
    """
    query, gallery, orientation = pairs
    if not len(query):
        return np.zeros(0, np.float32)
    device, place = np.divmod(query, len(of_query.valid) // mesh.size)
    together = min(_MOST_TOGETHER, 1 << int(max(1, _TASK_BYTES // (4 * _SLOTS * table.shape[1]))).bit_length() - 1)
    rows, images, where = _tasks(mesh.size, device, place, gallery, orientation)
    put = functools.partial(jax.device_put, device=NamedSharding(mesh, P(QUERY)))
    call = functools.partial(_score_tasks, mesh, score, of_bytes, together, table, of_query, raw, of_gallery, use)
    scores = [
        call(put(rows[:, :, start : start + _TASKS]), put(images[:, start : start + _TASKS]))
        for start in range(0, images.shape[1], _TASKS)
    ]
    return np.concatenate([np.asarray(some) for some in scores], axis=1).ravel()[where]


def _tasks(
    devices: int, device: np.ndarray, place: np.ndarray, image: np.ndarray, orientation: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lay pairs out as tasks of at most _SLOTS pairs of one gallery image.

    Returns:
      Rows of the table, [devices, (orientation, query), tasks, _SLOTS]; gallery images, [devices, tasks]; and the place
      of each pair in [devices, tasks, _SLOTS].
    """
    run = device.astype(np.int64) * (int(image.max()) + 1) + image
    order = np.argsort(run, kind="stable")
    run = run[order]
    begins = np.flatnonzero(np.r_[True, run[1:] != run[:-1]])
    lengths = np.diff(np.r_[begins, len(run)])
    slot = np.arange(len(run)) - np.repeat(begins, lengths)
    needed = -(-lengths // _SLOTS)
    owner = device[order][begins]
    of_device = np.bincount(owner, needed, devices).astype(np.int64)
    first = np.cumsum(needed) - needed - (np.cumsum(of_device) - of_device)[owner]  # of its device's tasks
    task = np.repeat(first, lengths) + slot // _SLOTS
    n_tasks = -(-int(of_device.max()) // _TASKS) * _TASKS
    where = np.empty(len(run), np.int64)
    where[order] = (device[order] * n_tasks + task) * _SLOTS + slot % _SLOTS
    rows = np.zeros((2, devices, n_tasks, _SLOTS), np.int32)
    rows.reshape(2, -1)[:, where] = orientation, place
    images = np.zeros((devices, n_tasks), np.int32)
    images.ravel()[where // _SLOTS] = image
    return rows.swapaxes(0, 1), images, where


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _score_tasks(
    mesh: Mesh,
    score: Score,
    of_bytes: bool,
    together: int,
    table: Shaped[Array, "rows size"],
    of_query: Facts,
    raw: Shaped[Array, "n *space c"],
    of_gallery: Facts,
    use: Bool[Array, " size"] | None,
    rows: Int[Array, "devices 2 tasks slots"],
    images: Int[Array, "devices tasks"],
) -> Float[Array, "devices tasks slots"]:
    def local(table, of_query, raw, of_gallery, use, rows, images):
        def some(task):
            orientations, places, at = task
            of_x = jax.tree.map(lambda fact: fact[places], of_query)
            of_y = jax.tree.map(lambda fact: fact[at][:, None], of_gallery)
            x = table[(orientations * len(of_query.valid) + places).ravel()]
            y = raw.reshape(len(raw), -1)[at]
            if of_bytes:
                y = signed_bytes(y) if use is None else jnp.where(use, signed_bytes(y), 0)
                size = y.shape[1] if use is None else jnp.sum(use)
                scores = describe.of_bytes(product(x, y), of_x, of_y, dtype=raw.dtype, size=size)
            else:
                x = values(x, jax.tree.map(jnp.ravel, of_x), score=score)
                y = values(y, jax.tree.map(jnp.ravel, of_y), score=score)
                scores = product(x, y if use is None else jnp.where(use, y, 0))
            return scores + of_x.offset + of_y.offset

        def product(x, y):
            x = x.reshape(len(y), _SLOTS, -1)
            step = x.shape[2] if of_bytes else _RUN
            runs = [dot(x[:, :, i : i + step], y[:, None, i : i + step]) for i in range(0, x.shape[2], step)]
            return functools.reduce(jnp.add, runs)

        def dot(x, y):
            return jax.lax.dot_general(
                x,
                y,
                dimension_numbers=(((2,), (2,)), ((0,), (0,))),
                precision=jax.lax.Precision.HIGHEST,
                preferred_element_type=jnp.int32 if of_bytes else jnp.float32,
            )[..., 0]

        parted = [a.reshape(-1, together, *a.shape[1:]) for a in (*rows[0], images[0])]
        return jax.lax.map(some, tuple(parted)).reshape(1, -1, _SLOTS)

    of_sharded = jax.tree.map(lambda _: P(QUERY), of_query)
    return jax.shard_map(
        local,
        mesh=mesh,
        in_specs=(P(QUERY), of_sharded, P(), P(), P(), P(QUERY), P(QUERY)),
        out_specs=P(QUERY),
        check_vma=False,
    )(table, of_query, raw, of_gallery, use, rows, images)
