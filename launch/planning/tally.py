"""What one run of a compiled program does on one device: products, bytes to and from memory, and collectives.

Loops count as often as they run, which XLA's own cost analysis does not do. Of the branches of a condition the heavier
one counts, or its share where the caller knows how often it is taken. Products are multiplications and additions of
matrix products and convolutions that meet no padding; the rest is bound by memory, and counts as bytes alone: what an
instruction reads and writes, of slices only the slice, nothing inside fusions, and nothing that stays on the chip.
"""

import dataclasses
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from launch.planning.groups import crosses, groups_of
from launch.planning.hlo import Array, Computation, Instruction, Module, operand_shapes
from launch.planning.products import product_of

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")

# What moves nothing of its own: names for what is there, and calls, whose insides count.
_FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "add-dependency", "domain"} | {
    *("partition-id", "replica-id", "opt-barrier", "while", "conditional", "call", "async-start", "async-update")
}


class Collective(NamedTuple):
    """One kind of exchange among devices: of what size, in groups of how many, within a node or beyond."""

    kind: str
    size_bytes: int  # what one device puts in
    group: int
    is_between_nodes: bool

    @property
    def sent_bytes(self) -> float:
        """What one device sends at least: the ring, which no algorithm beats without the network's own arithmetic."""
        others = self.group - 1
        return {
            "all-reduce": 2 * others / self.group,
            "all-gather": float(others),
            "reduce-scatter": others / self.group,
            "all-to-all": others / self.group,
            "collective-permute": 1.0,
        }[self.kind] * self.size_bytes


@dataclasses.dataclass
class Tally:
    """Sums over a program, for one device."""

    flops: dict[str, float] = dataclasses.field(default_factory=lambda: defaultdict(float))  # by kind of product
    moved_bytes: float = 0.0
    collectives: dict[Collective, float] = dataclasses.field(default_factory=lambda: defaultdict(float))  # how often
    unknown_loops: int = 0  # loops that were counted once

    def add(self, other: "Tally", times: float = 1.0) -> None:
        """Add another, so many times."""
        for kind, flops in other.flops.items():
            self.flops[kind] += flops * times
        for what, count in other.collectives.items():
            self.collectives[what] += count * times
        self.moved_bytes += other.moved_bytes * times
        self.unknown_loops += other.unknown_loops


def tally(module: Module, node: Sequence[int], shares: Sequence[float] = ()) -> Tally:
    """Return what a program does on one device.

    Args:
      module: the program, compiled for a mesh.
      node: which node each device of the mesh is in, in the mesh's order.
      shares: how often the first branch that does something of each condition in the entry is taken, in order; if they
        are not as many as the conditions, the heavier branch always is.
    """
    conditions = [one for one in module.computations[module.entry].values() if one.opcode == "conditional"]
    share = dict(zip((one.name for one in conditions), shares, strict=True)) if len(conditions) == len(shares) else {}
    return _Walk(module, node, share).of(module.entry, counts_bytes=True)


class _Walk:
    def __init__(self, module: Module, node: Sequence[int], share: dict[str, float]):
        self._module = module
        self._node = node
        self._share = share
        self._known: dict[tuple[str, bool], Tally] = {}

    def of(self, name: str, *, counts_bytes: bool) -> Tally:
        """Return the tally of one computation."""
        if (name, counts_bytes) not in self._known:
            total = Tally()
            computation = self._module.computations[name]
            for one in computation.values():
                self._add(total, name, computation, one, counts_bytes)
            self._known[name, counts_bytes] = total
        return self._known[name, counts_bytes]

    def _add(self, total: Tally, name: str, computation: Computation, one: Instruction, counts_bytes: bool) -> None:
        if one.opcode == "while":
            trips = self._trips(one)
            total.unknown_loops += trips is None
            for part in one.called("body", "condition"):
                total.add(self.of(part, counts_bytes=counts_bytes), trips or 1)
        elif one.opcode == "conditional":
            parts = one.called("branch_computations", "true_computation", "false_computation")
            branches = [self.of(part, counts_bytes=counts_bytes) for part in parts]
            heavier = max(branches, key=lambda branch: (branch.moved_bytes, sum(branch.flops.values())))
            total.add(heavier, self._share.get(one.name, 1.0))
        elif one.opcode in ("call", "fusion", "async-start"):
            for part in one.called("to_apply", "calls"):
                total.add(self.of(part, counts_bytes=counts_bytes and one.opcode != "fusion"))
        if product := product_of(computation, one):
            total.flops[product.kind] += product.flops
        kind = one.opcode.removesuffix("-start")
        if kind in COLLECTIVES and not _goes_on(computation, one):
            total.collectives[self._collective(kind, name, computation, one)] += 1
        if counts_bytes:
            total.moved_bytes += moved(self._module, computation, one)

    def _collective(self, kind: str, name: str, computation: Computation, one: Instruction) -> Collective:
        if kind == "all-reduce" and name.startswith("all-reduce-scatter"):
            kind = "reduce-scatter"  # how TPUs write it: one fusion of a sum and a slice
        groups = groups_of(one.rest, len(self._node))
        size = sum(array.size_bytes for shapes in operand_shapes(computation, one) for array in shapes)
        return Collective(kind, size, groups.shape[1], crosses(groups, self._node))

    def _trips(self, one: Instruction) -> int | None:
        """Return how often a loop runs, if the text says so: itself, or by the number that it counts up to."""
        if known := re.search(r'"known_trip_count":\{"n":"(\d+)"\}', one.rest):
            return int(known[1])
        parts = [part for name in one.called("condition") for part in self._module.computations[name].values()]
        found = {int(part.inside) for part in parts if part.opcode == "constant" and part.inside.isdecimal()}
        return found.pop() if len(found) == 1 else None


def _goes_on(computation: Computation, one: Instruction) -> bool:
    """Say whether this is an exchange that TPUs began elsewhere: its text stands where it begins, goes on and ends."""
    is_part = "async_collective_fusion_config" in one.rest
    return is_part and not any("AsyncCollectiveStart" in other.rest for other in computation.values())


def moved(module: Module, computation: Computation, one: Instruction) -> int:
    """Return the bytes that an instruction reads from main memory and writes to it."""
    if one.opcode in _FREE or one.opcode.endswith("-done") or "AllocateBuffer" in one.rest:
        return 0
    read = operand_shapes(computation, one)
    if one.opcode == "fusion":
        fused = module.computations[one.called("calls")[0]]
        return _read_by_fusion(fused) + _written_by_fusion(fused, one)
    if one.opcode in ("dynamic-slice", "slice", "gather"):
        return 2 * _held(one.shapes)
    if one.opcode == "dynamic-update-slice":
        return 2 * _held(read[1])
    if one.opcode == "scatter":
        return 3 * _held(read[-1])
    has_workspace = one.opcode.endswith("-start") or 'custom_call_target="__cu' in one.rest
    given = one.shapes[:1] if has_workspace else one.shapes
    return sum(map(_held, read)) + _held(given)


def _read_by_fusion(fused: Computation) -> int:
    """Return what a fusion reads: its parameters, of those that are only sliced the slices."""
    total = 0
    for parameter in fused.values():
        if parameter.opcode == "parameter":
            whole, parts = _held(parameter.shapes), _sliced(fused, parameter, parameter.shapes)
            total += whole if parts is None else min(parts, whole)
    return total


def _sliced(fused: Computation, of: Instruction, held: Sequence[Array]) -> int | None:
    """Return what is read of something, under other names, too, if it is but sliced or updated in place; else None."""
    total = 0
    users = [one for one in fused.values() if of.name in one.operands]
    for one in users:
        is_first = one.operands[0] == of.name
        if one.opcode == "bitcast":
            parts = _sliced(fused, one, held)
        elif one.opcode in ("dynamic-slice", "slice", "gather") and is_first:
            parts = _like(one.shapes, held)
        else:
            parts = 0 if one.opcode == "dynamic-update-slice" and is_first else None
        if parts is None:
            return None
        total += parts
    return total if users else None


def _written_by_fusion(fused: Computation, fusion: Instruction) -> int:
    """Return what a fusion writes: its results, of one that is updated in place the update."""
    root = next(one for one in fused.values() if one.is_root)
    while root.opcode in ("bitcast", "copy", "convert") and root.operands[0] in fused:
        root = fused[root.operands[0]]
    if root.opcode == "dynamic-update-slice":
        return _like(fused[root.operands[1]].shapes, fusion.shapes)
    return _held(fusion.shapes)


def _like(shapes: Sequence[Array], held: Sequence[Array]) -> int:
    """Return the bytes of arrays that lie where others lie."""
    return 0 if held[0].space else sum(array.size_bytes for array in shapes)


def _held(shapes: Sequence[Array]) -> int:
    return sum(array.held_bytes for array in shapes)
