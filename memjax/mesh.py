"""The only file that names mesh axes."""

import jax
from jax.sharding import AxisType, Mesh

from memjax.errors import UserError

QUERY = "query"  # the audit splits the query images over this axis


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
