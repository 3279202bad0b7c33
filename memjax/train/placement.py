"""Say where a process's part of a training lies: its devices, their mesh, how the state is split, and its size."""

import math
import socket
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from memjax.mesh import own_rows
from memjax.trees import Tree


def held_bytes(abstract: Tree, shardings: Tree) -> int:
    """Return the bytes of a tree that one device holds; of processes with the same mesh all devices hold as many."""
    leaves = zip(jax.tree.leaves(abstract), jax.tree.leaves(shardings), strict=True)
    return sum(math.prod(at.shard_shape(leaf.shape)) * np.dtype(leaf.dtype).itemsize for leaf, at in leaves)


def placement(mesh: Mesh, abstract: Any, shardings: Any, batch_size: int) -> str:
    """Return one line about this process.

    Args:
      mesh: of all devices of all processes.
      abstract: the state, of which only shapes and types matter.
      shardings: of its leaves.
      batch_size: of the global batch.
    """
    own = mesh.local_devices
    kind = own[0].device_kind if own else "no device"
    where = f"process {jax.process_index()} of {jax.process_count()} on {socket.gethostname()}"
    axes = " x ".join(f"{name} {size}" for name, size in mesh.shape.items())
    numbers = _split_numbers(abstract.params, shardings.params)
    total = sum(numbers.values())
    split = (
        f"{numbers['split'] / total:.1%} of {total:,} parameters split"
        if numbers["split"]
        else (f"{total:,} parameters whole on each device")
    )
    rows = own_rows(mesh, batch_size)
    state = f"{held_bytes(abstract, shardings) / 2**20:,.1f} MiB of state a device"
    return (
        f"{where}: {len(own)} of {mesh.size} devices ({kind}), mesh {axes}; {split}; {state}; "
        f"{len(rows)} of {batch_size} images a step"
    )


def _split_numbers(abstract: Tree, shardings: Tree) -> Mapping[str, int]:
    """Return how many numbers lie in leaves that are split over devices, and in those that are whole on each."""
    found = {"split": 0, "whole": 0}
    for leaf, at in zip(jax.tree.leaves(abstract), jax.tree.leaves(shardings), strict=True):
        found["whole" if at.is_fully_replicated else "split"] += math.prod(leaf.shape)
    return found
