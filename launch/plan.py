"""Say what a config would cost on machines that are not here: does it fit, how long a step takes at least, and why.

    python -m launch.plan --config=configs/NAME.py[:variant] --topology=v5e:4x4[,h100:8,…] [--shape=256,256,5]
    python -m launch.plan --config=… --topology=h100:8 --search            # the largest batch, and what makes it fit
    python -m launch.plan --config=… --topology=v5e:4x4,h100:8 --growth --plot=growth.svg     # from 1 to 256 devices

Programs are compiled ahead of time: the training step, drawing a batch, a block of the audit. Nothing runs, and no
device is needed, but compilers are: pip install -e '.[plan]' for TPUs, '.[plan-gpu]' for GPUs (5.5 GB); `cpu:8` needs
neither. See docs/plan.md. Compiling takes minutes a program, less with --quick; what --cache=DIR knows is not compiled
again.
Exit status: 0 told; 2 something is wrong with what was given, or training does not fit on one of the topologies.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags
from ml_collections import config_flags

from launch import boot
from memjax.errors import UserError
from memjax.orientation import SYMMETRIES

if TYPE_CHECKING:
    from launch.planning.costs import Cost
    from launch.planning.planner import Planner
    from launch.planning.topologies import Topology

_ALL = ("train", "draw", "audit")

_CONFIG = config_flags.DEFINE_config_file("config", None, "What is planned: configs/NAME.py[:variant].")
_TOPOLOGY = flags.DEFINE_multi_string("topology", [], "Where: v5e:4x4, h100:8, h100:2x8, cpu:8 …; a list, or repeated.")
_SHAPE = flags.DEFINE_string("shape", None, "Of an image, 256,256,5; default: of the config's dataset.")
_DATA = flags.DEFINE_string("data", None, "An image store whose images have this shape.")
_PROGRAMS = flags.DEFINE_list("programs", list(_ALL), f"What is compiled: {', '.join(_ALL)}.")
_OUT = flags.DEFINE_string("out", None, "Write everything to this file, as JSON.")
_CACHE = flags.DEFINE_string("cache", None, "A folder of what was compiled before, kept from run to run.")
_QUICK = flags.DEFINE_bool(
    "quick", False, "Compile with the least effort: sooner told, and somewhat more of everything."
)
_SEARCH = flags.DEFINE_bool("search", False, "Find the largest batch that fits, and settings that make it fit.")
_GROWTH = flags.DEFINE_bool("growth", False, "Go through all sizes of the topologies' machines.")
_MOST = flags.DEFINE_integer("most", 256, "--growth: up to so many devices.", lower_bound=1)
_PLOT = flags.DEFINE_string("plot", None, "--growth: draw it to this file, .svg or .png.")
_DRAWN = flags.DEFINE_integer("drawn", 64, "draw: images at a time, over all devices.", lower_bound=1)
_QUERIES = flags.DEFINE_integer("queries", 10_000, "audit: synthetic images.", lower_bound=1)
_GALLERY = flags.DEFINE_integer("gallery", 10_000, "audit: training images.", lower_bound=1)
_SYMMETRY = flags.DEFINE_enum("symmetry", "none", list(SYMMETRIES), "audit: under which orientations.")


def main() -> None:
    """Tell what it costs."""
    from launch.planning import topologies

    config = boot.config(_CONFIG, "configs/ddpm.py:brats20")
    chosen, out, plot = _chosen(), boot.place_if_given(_OUT), boot.place_if_given(_PLOT)
    shape, dtype = _images(config)
    for topology in chosen:
        topologies.check_installed(topology)
    more = [one for topology in chosen for one in topologies.family(topology.machine) if one.n_devices <= _MOST.value]
    topologies.set_environment([*chosen, *more] if _GROWTH.value else chosen)

    from launch.planning import tell  # with JAX, which reads its environment but once
    from launch.planning.planner import Planner, as_json
    from memjax.whole import whole_file

    planner = Planner(config, shape, quick=_QUICK.value, remembered=boot.place_if_given(_CACHE), tell=boot.say)
    print(f"{_name()}, images of {' x '.join(map(str, shape))}\n", flush=True)
    found: dict[str, Any] = {"config": config, "shape": shape, "topologies": {}}
    refused: list[str] = []
    costs: list[Cost] = []
    for topology in chosen:
        programs = _costs(planner, topology, dtype)
        costs += programs.values()
        about = {"programs": {name: as_json(cost) for name, cost in programs.items()}}
        if "train" in programs and (_SEARCH.value or not programs["train"].fits):
            about["search"], sentence = planner.searched(topology, programs["train"], is_whole=_SEARCH.value)
            refused += [sentence] if sentence else []
        found["topologies"][str(topology)] = about
    title = _name().removeprefix("configs/")
    print(tell.told_together(title, costs), end="\n\n", flush=True)
    if _GROWTH.value:
        found["growth"] = _growth(planner, config, chosen, plot, title)
    if out:
        with whole_file(out) as partial:
            partial.write_text(json.dumps(found, indent=1), encoding="utf-8")
    if refused:
        raise UserError(" ".join(refused))


def _chosen() -> "list[Topology]":
    """Return the topologies that are asked for, and check the other flags."""
    from launch.planning import topologies

    chosen = [topologies.parse(text) for texts in _TOPOLOGY.value for text in texts.split(",")]
    if not chosen:
        raise UserError(f"--topology is missing; there are {topologies.listed()}.")
    if strange := [name for name in _PROGRAMS.value if name not in _ALL]:
        raise UserError(f"--programs={strange[0]} does not exist; choose from {', '.join(_ALL)}.")
    if _PLOT.value and not _GROWTH.value:
        raise UserError("--plot draws what --growth finds; give both.")
    if _PLOT.value and not _PLOT.value.endswith((".svg", ".png")):
        raise UserError(f"--plot={_PLOT.value} must end with .svg or .png.")
    return chosen


def _name() -> str:
    return config_flags.get_config_filename(flags.FLAGS[_CONFIG.name])


def _costs(planner: "Planner", topology: "Topology", dtype: str) -> "dict[str, Cost]":
    """Tell what programs cost on a topology, and return it by name."""
    from launch.planning import tell

    audit = {"queries": _QUERIES.value, "gallery": _GALLERY.value, "dtype": dtype, "symmetry": _SYMMETRY.value}
    make = {
        "train": lambda: planner.train(topology, {}),
        "draw": lambda: planner.draw(topology, _DRAWN.value),
        "audit": lambda: planner.audit(topology, **audit),
    }
    costs = {}
    for name in _PROGRAMS.value:
        costs[name] = make[name]()
        print(tell.told(costs[name]), end="\n\n", flush=True)
    return costs


def _growth(
    planner: "Planner", config: Mapping[str, Any], chosen: "Sequence[Topology]", plot: Path | None, title: str
) -> dict[str, Any]:
    """Tell how the cost of training grows on each machine, and draw it; return it as plain values."""
    from launch.planning import tell
    from launch.planning.growth import grown, write_plot
    from launch.planning.planner import growth_as_json

    rows = {}
    for machine in dict.fromkeys(topology.machine for topology in chosen):
        rows[machine] = grown(config, machine, _MOST.value, planner.train)
        print(tell.told_growth(rows[machine]), end="\n\n", flush=True)
    if plot:
        write_plot(rows, plot, title)
    return {machine: growth_as_json(several) for machine, several in rows.items()}


def _images(config: Mapping[str, Any]) -> tuple[tuple[int, ...], str]:
    """Return the shape of an image and the type of its numbers on disk."""
    from launch.planning.shapes import image_shape, shape_of

    if _SHAPE.value and _DATA.value:
        raise UserError("give either --shape or --data, whose images have a shape of their own.")
    if _DATA.value:
        from memjax.data.store import Store

        manifest = Store.open(Path(_DATA.value)).manifest
        return tuple(manifest.shape), manifest.dtype
    shape = shape_of(_SHAPE.value) if _SHAPE.value else image_shape(_name(), config)
    return shape, "uint8" if len(shape) == 3 else "float32"


if __name__ == "__main__":
    boot.run(main)
