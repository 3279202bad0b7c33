"""Who talks with whom in a collective: the groups of devices that a compiled program's text writes in four ways."""

import math
import re
from collections.abc import Sequence

import numpy as np

from launch.planning.hlo import integers

_LISTED = re.compile(r"(?:replica_groups|source_target_pairs)=\{((?:\{[\d,]*\},?)+)\}")
_IOTA = re.compile(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?")
_MESH = re.compile(r"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\(\[([\d,]+)\](?:T\(([\d,]+)\))?\))? \{([^}]*)\}")


def groups_of(text: str, n_devices: int) -> np.ndarray:
    """Return the groups, one a row [groups, size], of places in the mesh's order.

    Written as `{{0,1},{2,3}}`, as `[2,2]<=[4]` (numbers in order, reshaped, turned), as axes of a mesh, or not at all:
    then all devices are one group.

    Args:
      text: an instruction's attributes.
      n_devices: how many there are.
    """
    if found := _LISTED.search(text):
        return np.array([integers(group) for group in re.findall(r"\{([\d,]*)\}", found[1])])
    if found := _IOTA.search(text):
        return _turned(integers(found[2]), found[3]).reshape(integers(found[1]))
    if found := _MESH.search(text):
        axes = re.findall(r"'([^']+)'=(\d+)", found[1])
        named = re.findall(r"'([^']+)'(?::\((\d+)\)(\d+))?", found[4])
        sizes = [int(size) for _, size in axes]
        places = _turned(integers(found[2]), found[3]) if found[2] else np.arange(math.prod(sizes))
        return _along(places.reshape(sizes), [name for name, _ in axes], named)
    return np.arange(n_devices)[None]


def crosses(groups: np.ndarray, node: Sequence[int]) -> bool:
    """Say whether any group has devices of two nodes; `node` has that of each place."""
    of = np.asarray(node)[groups]
    return bool((of != of[:, :1]).any())


def _turned(dims: Sequence[int], order: str | None) -> np.ndarray:
    numbers = np.arange(math.prod(dims)).reshape(dims)
    return numbers.transpose(integers(order)) if order else numbers


def _along(places: np.ndarray, names: Sequence[str], along: Sequence[tuple[str, str, str]]) -> np.ndarray:
    """Return the groups along some axes, or along parts of axes: (name, size before the part, size of the part)."""
    split, chosen = [], []
    for name, size in zip(names, places.shape, strict=True):
        part = next((one for one in along if one[0] == name), None)
        if part is None:
            pieces, marks = [size], [False]
        elif not part[1]:
            pieces, marks = [size], [True]
        else:
            before, own = int(part[1]), int(part[2])
            pieces, marks = [before, own, size // (before * own)], [False, True, False]
        split += pieces
        chosen += marks
    inside = [axis for axis, is_chosen in enumerate(chosen) if is_chosen]
    outside = [axis for axis in range(len(split)) if axis not in inside]
    size = math.prod(split[axis] for axis in inside)
    return places.reshape(split).transpose(outside + inside).reshape(-1, size)
