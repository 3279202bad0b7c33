"""How the cost of training grows from 1 to 256 devices: rows of a table, and their plot.

The batch is the config's own, or the next larger one that divides, as long as every device has an image of it; from
then on it grows with the devices, one image each. So the first part of a curve says how far a recipe can be sped up,
and the second what more devices bring.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from launch.planning.costs import Cost
from launch.planning.machines import GIB
from launch.planning.search import Setting
from launch.planning.topologies import Topology, family
from memjax.errors import UserError
from memjax.whole import whole_file

Row = tuple[Topology, Cost | str]  # what it costs there, or why it cannot be


def grown(config: Mapping[str, Any], machine: str, most: int, cost: Callable[[Topology, Setting], Cost]) -> list[Row]:
    """Return the rows of one machine, up to so many devices.

    Args:
      config: as plain values.
      machine: a key of MACHINES.
      most: devices.
      cost: compiles the training step for a topology, with changes of the config.
    """
    rows: list[Row] = []
    for topology in family(machine):
        if topology.n_devices > most:
            break
        n, parts = topology.n_devices, config.get("microbatches") or 1
        setting: dict[str, Any] = {"fsdp": math.gcd(config["fsdp"], n)}
        images = config["batch_size"]
        while parts > 1 and images < n * parts:
            parts //= 2
        if "microbatches" in config:
            setting["microbatches"] = parts
        setting["batch_size"] = -(-images // (n * parts)) * n * parts
        try:
            rows.append((topology, cost(topology, setting)))
        except UserError as error:
            rows.append((topology, str(error)))
    return rows


def speed(cost: Cost) -> float:
    """Return the images a second that the bound allows; NaN for a program that does not fit."""
    return cost.images / cost.bound.seconds if cost.fits and cost.bound else math.nan


def write_plot(rows: Mapping[str, Sequence[Row]], place: Path, title: str) -> None:
    """Draw images a second and memory against devices, a line a machine; the file's name ends with .svg or .png."""
    from memjax.audit.report.chart_parts import DASHES, MARGINS, WIDTH
    from memjax.audit.report.theme import LIGHT, encoded, new_figure, style
    from memjax.study.palette import numbered

    left, right, bottom, top = MARGINS
    with style(LIGHT):
        figure, grid = new_figure((WIDTH, 4.6), rows=2, margins=(left, right + 0.6, bottom, top), gaps=(0.0, 0.45))
        fast, held = grid[:, 0]
        most, largest = 1, 0.0
        for number, (machine, several) in enumerate(rows.items()):
            known = [(topology.n_devices, cost) for topology, cost in several if isinstance(cost, Cost)]
            if not known:
                continue
            look = numbered(number)
            colour = look.colour
            line: dict[str, Any] = {"color": colour, "linewidth": 1.8, "marker": look.marker, "markersize": 4}
            n, speeds = [devices for devices, _ in known], [speed(cost) for _, cost in known]
            fast.plot(n, speeds, **line)
            told = [(devices, one) for devices, one in zip(n, speeds, strict=True) if not math.isnan(one)]
            if told:  # dashed: every device as fast as the first
                ideal = [told[0][1] * devices / told[0][0] for devices in n]
                fast.plot(n, ideal, color=colour, linewidth=1.0, linestyle=DASHES)
                fast.annotate(machine, told[-1], (7, 0), textcoords="offset points", color=colour, va="center")
            need, have = [(cost.need_bytes or math.nan) / GIB for _, cost in known], known[0][1].have_bytes / GIB
            held.plot(n, need, **line)
            held.axhline(have, color=colour, linewidth=1.0, linestyle=DASHES)
            most, largest = max(most, *n), max(largest, have)
        ticks = [1 << power for power in range(0, 9, 2) if 1 << power <= most]
        for axes in (fast, held):
            axes.set_xscale("log", base=2)
            axes.set_xticks(ticks, [str(tick) for tick in ticks])
            axes.set_xlim(0.9, 1.1 * most)
        fast.set_yscale("log")
        fast.yaxis.set_major_formatter("{x:,g}")
        held.set_ylim(0, 1.1 * largest)
        for axes in (fast, held):
            axes.minorticks_off()
        fast.text(0.02, 0.98, title, transform=fast.transAxes, va="top", color=LIGHT.muted, parse_math=False)
        fast.set_title("Images a second at most (dashed: in proportion)")
        held.set_title("GiB on one device (dashed: what it has)")
        held.set_xlabel("devices")
        with whole_file(place) as partial:
            partial.write_bytes(encoded(figure, place.suffix.removeprefix(".")))
