"""What a program costs on a topology: bytes on one device by kind, work, traffic, and the bound that follows."""

import dataclasses
import hashlib
import json
import math
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from launch.planning.hlo import read_module
from launch.planning.machines import GIB, Machine
from launch.planning.programs import Program
from launch.planning.tally import Collective, tally
from launch.planning.topologies import Topology
from memjax.whole import whole_file

_FORMAT = 3  # of what is remembered; another number forgets it
# XLA's first level of optimizing, and the least effort within it.
_QUICK = {"optimization_level": 19, "exec_time_optimization_effort": -1.0}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one run of a program: everything of one device, but for `images`. What is not known is None.

    A program that the compiler refuses, as it does not fit, has no work; and bytes only as far as the compiler tells.
    """

    program: str
    topology: str
    images: int
    unit: str
    memory: Mapping[str, int]  # bytes by kind
    need_bytes: int | None  # all together
    flops: Mapping[str, float] | None  # by kind of product
    moved_bytes: float | None
    collectives: Sequence[tuple[Collective, float]] | None  # and how often
    unknown_loops: int
    compile_s: float
    is_quick: bool  # compiled with the least effort

    @property
    def where(self) -> Topology:
        """The topology itself."""
        return Topology(*self.topology.split(":"))

    @property
    def have_bytes(self) -> int:
        """What the device has."""
        return self.where.of.memory_bytes

    @property
    def fits(self) -> bool:
        """Whether the device has so much memory."""
        return self.need_bytes is not None and self.need_bytes <= self.have_bytes

    @property
    def bound(self) -> "Bound | None":
        """The least time it takes; None for a program that was refused."""
        if self.flops is None or self.moved_bytes is None or self.collectives is None:
            return None
        return bound(self.where.of, self.flops, self.moved_bytes, self.collectives)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bound:
    """Least times in seconds: of products, of memory, of the network; they may overlap, so the longest is the bound."""

    compute_s: float
    memory_s: float
    network_s: float

    @property
    def seconds(self) -> float:
        """Of a run."""
        return max(self.compute_s, self.memory_s, self.network_s)

    @property
    def serial_s(self) -> float:
        """Of a run in which nothing overlaps."""
        return self.compute_s + self.memory_s + self.network_s

    @property
    def binds(self) -> str:
        """Which of the three it is."""
        times = {"compute": self.compute_s, "memory": self.memory_s, "network": self.network_s}
        return max(times, key=lambda name: times[name])

    @property
    def utilisation(self) -> float:
        """The share of the peak at which products can run at most."""
        return self.compute_s / self.seconds if self.seconds else math.nan


def bound(
    machine: Machine,
    flops: Mapping[str, float],
    moved_bytes: float,
    collectives: Sequence[tuple[Collective, float]],
) -> Bound:
    """Return the roofline (Williams, Waterman & Patterson 2009) of one device's work."""
    sent = {False: 0.0, True: 0.0}
    for what, times in collectives:
        sent[what.is_between_nodes] += what.sent_bytes * times
    return Bound(
        compute_s=sum(number / machine.flops[kind] for kind, number in flops.items()),
        memory_s=moved_bytes / machine.memory_bytes_s,
        network_s=sent[False] / machine.link_bytes_s + sent[True] / machine.between_bytes_s,
    )


def cost_of(program: Program, topology: Topology, *, quick: bool = False, remembered: Path | None = None) -> Cost:
    """Compile a program and return its cost; compiled once for each folder `remembered`.

    Args:
      program: lowered for the topology's devices.
      topology: what they are.
      quick: compile with the least effort, for a program that holds and moves somewhat more.
      remembered: a folder of costs that are known already; None: none are.
    """
    place = None
    if remembered is not None:
        versions = (_FORMAT, jax.__version__, str(topology), program.shares, quick)
        text = repr(versions) + program.lowered.as_text()
        place = remembered / f"{program.name}-{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"
        if place.is_file():
            return from_json(json.loads(place.read_text(encoding="utf-8")))
    cost = _compiled(program, topology, quick)
    if place is not None:
        with whole_file(place) as partial:
            partial.write_text(json.dumps(to_json(cost)), encoding="utf-8")
    return cost


def _compiled(program: Program, topology: Topology, quick: bool) -> Cost:
    start = time.perf_counter()
    about = {
        "program": program.name,
        "topology": str(topology),
        "images": program.images,
        "unit": program.unit,
        "is_quick": quick,
    }
    try:
        compiled = program.lowered.compile(_QUICK if quick else None)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        need = told_need(str(error))
        return Cost(
            **about,
            memory=dict(program.held),
            need_bytes=None if need is None else max(need, topology.of.memory_bytes + 1),
            flops=None,
            moved_bytes=None,
            collectives=None,
            unknown_loops=0,
            compile_s=time.perf_counter() - start,
        )
    compile_s = time.perf_counter() - start
    stats, text = compiled.memory_analysis(), compiled.as_text()
    assert stats is not None and text is not None  # all three compilers tell
    memory = dict(program.held)
    memory["padding"] = max(0, stats.argument_size_in_bytes - sum(memory.values()))
    memory["results"] = stats.output_size_in_bytes - stats.alias_size_in_bytes
    memory["temporaries"] = stats.temp_size_in_bytes
    memory["code"] = stats.generated_code_size_in_bytes
    is_cluster = topology.of.platform == "cuda" and program.hosts  # elsewhere all devices have the same links
    found = tally(read_module(text), program.hosts if is_cluster else [0] * topology.n_devices, program.shares)
    return Cost(
        **about,
        memory=memory,
        need_bytes=sum(memory.values()),
        flops=dict(found.flops),
        moved_bytes=found.moved_bytes,
        collectives=sorted(found.collectives.items(), key=lambda one: -one[0].sent_bytes * one[1]),
        unknown_loops=found.unknown_loops,
        compile_s=compile_s,
    )


def told_need(text: str) -> int | None:
    """Return the bytes that a program would need, as the TPU's compiler tells when it refuses it."""
    found = re.search(r"Used ([\d.]+)([KMGT]?) of|temporaries \(([\d.]+)([KMGT]?)\)", text)
    if not found:
        return None
    number, unit = found[1] or found[3], (found[2] or found[4]) or ""
    return int(float(number) * GIB * 1024.0 ** ({"": -3, "K": -2, "M": -1, "G": 0, "T": 1}[unit]))


def to_json(cost: Cost) -> dict[str, Any]:
    """Return a cost as plain values."""
    told = dataclasses.asdict(cost)
    if cost.collectives is not None:
        told["collectives"] = [{**what._asdict(), "times": times} for what, times in cost.collectives]
    return told


def from_json(told: Mapping[str, Any]) -> Cost:
    """Return the cost that `to_json` wrote."""
    found = told["collectives"]
    if found is not None:
        found = [(Collective(**{key: one[key] for key in Collective._fields}), one["times"]) for one in found]
    return Cost(**{**told, "collectives": found})
