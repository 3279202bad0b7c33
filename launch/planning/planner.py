"""One config on many topologies: makes its programs, remembers their costs, and searches."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from launch.planning import tell
from launch.planning.audit_block import audit_program
from launch.planning.costs import Cost, cost_of, to_json
from launch.planning.growth import Row
from launch.planning.programs import Program, draw_program, train_program
from launch.planning.search import Setting, changed, first_fitting, largest_batch, savings, smallest_topology
from launch.planning.topologies import Topology
from memjax.digest import settings_digest
from memjax.orientation import Symmetry


class Planner:
    """Programs of one config for images of one shape.

    Args:
      config: as `configs/` makes them.
      shape: of an image, [*space, channels].
      quick: compile with the least effort.
      remembered: a folder of costs that are known; None: none.
      tell: called with what a person wants to know while it compiles.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        shape: tuple[int, ...],
        *,
        quick: bool,
        remembered: Path | None,
        tell: Callable[[str], object],
    ):
        self._config = config
        self._shape = shape
        self._quick = quick
        self._remembered = remembered
        self._tell = tell
        self._trained: dict[tuple[Topology, str], Cost] = {}  # by what the config became

    def train(self, topology: Topology, setting: Setting) -> Cost:
        """Return what a training step costs, with changes of the config.

        Raises:
          UserError: the batch does not divide, or a block of the config is wrong.
        """
        config = changed(self._config, setting)
        asked = topology, settings_digest(config)
        if asked not in self._trained:
            program = train_program(config, self._shape, topology.devices())
            self._trained[asked] = self._cost(program, topology, setting)
        return self._trained[asked]

    def draw(self, topology: Topology, images: int) -> Cost:
        """Return what drawing a batch of images costs."""
        return self._cost(draw_program(self._config, self._shape, topology.devices(), images), topology)

    def audit(self, topology: Topology, *, queries: int, gallery: int, dtype: str, symmetry: Symmetry) -> Cost:
        """Return what a block of the audit costs on the devices of one process, each of which has its own part."""
        topology = topology.of_one_process
        program = audit_program(
            self._shape,
            topology.devices(),
            memory_bytes=topology.memory_bytes,
            queries=queries,
            gallery=gallery,
            dtype=dtype,
            symmetry=symmetry,
        )
        return self._cost(program, topology)

    def _cost(self, program: Program, topology: Topology, setting: Setting | None = None) -> Cost:
        changes = "".join(f", {key}={value}" for key, value in (setting or {}).items())
        self._tell(f"compiling {program.name} for {topology}{changes} …")
        return cost_of(program, topology, quick=self._quick, remembered=self._remembered)

    def searched(self, topology: Topology, cost: Cost, *, is_whole: bool) -> tuple[dict[str, Any], str]:
        """Find what fits; return it as plain values, and a sentence if nothing does.

        Args:
          topology: where.
          cost: of a training step there.
          is_whole: look for settings and the largest batch, too; else only for the smallest topology that would do.
        """
        found: dict[str, Any] = {}
        best: Setting = {}
        if is_whole:
            tried = first_fitting(savings(self._config, topology), lambda one: self.train(topology, one))
            best, cost = tried[-1]
            if not cost.fits:
                best = {}
            print(tell.told_settings(tried), flush=True)
            found["settings"] = [{"changes": dict(setting), **_short(one)} for setting, one in tried]
            parts = changed(self._config, best).get("microbatches") or 1
            batch, needs = largest_batch(
                lambda size: self.train(topology, {**best, "batch_size": size}).need_bytes,
                have=topology.of.memory_bytes,
                unit=math.lcm(topology.n_devices * parts, _together(self._config)),
                first=self._config["batch_size"],
            )
            print(tell.told_batches(batch, needs), end="\n\n", flush=True)
            found["largest_batch"] = {"batch": batch, "tried": needs}
        if cost.fits:
            return found, ""
        images = self._config["batch_size"] // (self._config.get("microbatches") or 1)
        larger = smallest_topology(cost, topology, images, lambda there: self.train(there, {}))
        whatever = ", whatever is set" if is_whole else " (--search looks for settings)"
        machine = topology.of.called
        told = f"a batch of {self._config['batch_size']} does not fit on {topology}{whatever}; "
        if larger:
            found["smallest_topology"] = {"topology": str(larger[0]), **_short(larger[1])}
            return found, told + f"the smallest {machine} topology on which it fits is {larger[0]}."
        return found, told + f"nor does it on any larger {machine} topology that divides it; choose another machine."


def as_json(cost: Cost) -> dict[str, Any]:
    """Return a cost, and what follows from it, as plain values."""
    return {**to_json(cost), "have_bytes": cost.have_bytes, **_short(cost)}


def growth_as_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return rows of a table as plain values."""
    return [
        {"topology": str(topology), "devices": topology.n_devices}
        | ({"refused": cost} if isinstance(cost, str) else as_json(cost))
        for topology, cost in rows
    ]


def _together(config: Mapping[str, Any]) -> int:
    """Return what a batch is a multiple of, whatever the devices: StyleGAN's discriminator compares groups of it."""
    return config["discriminator"]["group"] if config["task"] == "stylegan2" else 1


def _short(cost: Cost) -> dict[str, Any]:
    """Return what follows from a cost."""
    found = cost.bound
    told: dict[str, Any] = {"need_bytes": cost.need_bytes, "fits": cost.fits, "images": cost.images}
    if found:
        follows = ("seconds", "serial_s", "binds", "utilisation")
        told["bound"] = dataclasses.asdict(found) | {name: getattr(found, name) for name in follows}
    return told
