"""The only file that names mesh axes: where training and the audit put their arrays.

Training uses one global mesh of all devices of all processes, data x fsdp. The batch is split over both axes;
parameters, optimizer state and averages over fsdp alone, by one rule: the largest axis that divides, small leaves
replicated. The audit splits the queries of one process over its own devices.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from memjax.errors import UserError

QUERY = "query"  # the audit splits the query images over this axis
DATA, FSDP = "data", "fsdp"  # training splits batches over both, parameters over the second

_SMALL = 1 << 14  # numbers in a leaf that is not worth splitting: gathering it costs more than keeping it


def train_mesh(fsdp: int = 1, n_devices: int | None = None, *, devices: Sequence[Any] | None = None) -> Mesh:
    """Return the mesh of all devices of all processes (or of the first `n_devices`), `fsdp` of them to one copy.

    `devices` may be some that are not there, to compile for.

    Raises:
      UserError: there are fewer devices, or `fsdp` does not divide them.
    """
    devices = jax.devices() if devices is None else list(devices)
    n_devices = n_devices or len(devices)
    if n_devices > len(devices):
        raise UserError(f"--devices={n_devices}, but there are {len(devices)}; give 1 to {len(devices)}.")
    if fsdp < 1 or n_devices % fsdp:
        fitting = ", ".join(str(d) for d in range(1, n_devices + 1) if n_devices % d == 0)
        raise UserError(f"--config.fsdp={fsdp} does not divide {n_devices} devices; give one of {fitting}.")
    shape = (n_devices // fsdp, fsdp)
    return jax.make_mesh(shape, (DATA, FSDP), axis_types=(AxisType.Auto,) * 2, devices=devices[:n_devices])


def replicated(mesh: Mesh) -> NamedSharding:
    """Return the sharding of what every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Return the sharding of a batch: its first axis over all devices."""
    return NamedSharding(mesh, PartitionSpec(tuple(mesh.axis_names)))


def state_shardings(mesh: Mesh, abstract: Any) -> Any:
    """Return the shardings of a tree of abstract leaves: each over `fsdp` along its largest axis that divides.

    Small leaves, and those that no axis divides, are replicated. Of equally long axes the last is taken: a kernel's
    output channels.
    """
    fsdp = mesh.shape[FSDP]

    def one(leaf: Any) -> NamedSharding:
        fitting = [axis for axis, length in enumerate(leaf.shape) if length % fsdp == 0]
        if fsdp == 1 or math.prod(leaf.shape) < _SMALL or not fitting:
            return replicated(mesh)
        longest = max(fitting, key=lambda axis: (leaf.shape[axis], axis))
        return NamedSharding(mesh, PartitionSpec(*(FSDP if a == longest else None for a in range(longest + 1))))

    return jax.tree.map(one, abstract)


def placed(tree: Any, shardings: Any) -> Any:
    """Return a tree of abstract leaves that say where they lie."""
    return jax.tree.map(lambda leaf, at: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=at), tree, shardings)


def check_batch(mesh: Mesh, batch_size: int, microbatches: int = 1) -> None:
    """Raise `UserError` unless every device gets equally many images of every microbatch."""
    whole = mesh.size * microbatches
    if batch_size % whole == 0 and batch_size > 0:
        return
    parts = f"{mesh.size} devices" + (f" x {microbatches} microbatches" if microbatches > 1 else "")
    near = sorted({max(whole, batch_size // whole * whole), (batch_size // whole + 1) * whole})
    fitting = [d for d in range(1, mesh.size + 1) if batch_size > 0 and batch_size % (d * microbatches) == 0]
    also = f", or use {' or '.join(map(str, fitting))} devices" if fitting else ""
    raise UserError(
        f"a batch of {batch_size} does not divide over {parts}; use a batch of {' or '.join(map(str, near))}{also}."
    )


def own_rows(mesh: Mesh, batch_size: int) -> np.ndarray:
    """Return which rows of a global batch this process has to supply, ascending: [b].

    Raises:
      UserError: none of its devices is in the mesh.
    """
    places = batch_sharding(mesh).addressable_devices_indices_map((batch_size,))
    rows = [np.arange(batch_size)[place[0]] for place in places.values() if place is not None]
    if not rows:
        raise UserError(f"--devices={mesh.size} leaves this process none; leave it away, or start fewer processes.")
    return np.unique(np.concatenate(rows))


def put(mesh: Mesh, batch: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
    """Place a batch, of which this process gives its `own_rows`: one call for one process or many."""
    sharding = batch_sharding(mesh)
    return {name: jax.make_array_from_process_local_data(sharding, local) for name, local in batch.items()}


def audit_mesh(n_devices: int | None = None, *, at_most: int | None = None) -> Mesh:
    """Return a one-axis mesh of this process's first `n_devices` devices (None: all, but not more than `at_most`).

    Raises:
      UserError: there are fewer devices than asked for.
    """
    devices = jax.local_devices()
    if n_devices is None:
        n_devices = min(len(devices), at_most or len(devices))
    if not 1 <= n_devices <= len(devices):
        raise UserError(f"--devices={n_devices}, but this machine has {len(devices)}; give 1 to {len(devices)}.")
    return jax.make_mesh((n_devices,), (QUERY,), axis_types=(AxisType.Auto,), devices=devices[:n_devices])


def narrowed(mesh: Mesh, at_most: int) -> Mesh:
    """Return a mesh of the first devices of this one: every device must have a query of its own."""
    if mesh.size <= at_most:
        return mesh
    return Mesh(mesh.devices[:at_most], mesh.axis_names, axis_types=(AxisType.Auto,))
