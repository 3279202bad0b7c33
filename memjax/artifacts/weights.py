"""Weights for use: the averaged parameters in float32, by name, in one safetensors file that any framework reads.

The file's header says which step they are of, what they are weights of (`about`), and the digest of their values;
reading checks all of it. There is no optimizer in it: to go on training there are checkpoints.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from memjax import __version__
from memjax.digest import array_digest, joint_digest, settings_digest
from memjax.errors import UserError
from memjax.trees import Tree, from_named, named_leaves
from memjax.whole import whole_file

_FORMAT = "memjax weights 1"
_SHOWN = 3  # leaves that an error names


def write_weights(folder: Path, step: int, tree: Tree, about: Mapping[str, Any]) -> Path:
    """Write the weights after `step` steps and return their file; every process calls this, the first one writes.

    Args:
      folder: for the file `step_00001000.safetensors`.
      step: how many steps were done.
      tree: of arrays, wherever they live; sharded ones are gathered leaf by leaf.
      about: JSON-like, what is needed to use them.

    Raises:
      UserError: the disk is full.
    """
    path = folder / f"step_{step:08d}.safetensors"
    leaves = {name: _gathered(leaf) for name, leaf in named_leaves(tree).items()}
    if jax.process_index() == 0:
        header = {
            "format": _FORMAT,
            "version": __version__,
            "step": str(step),
            "about": json.dumps(dict(about), default=str),
            "digest": _digest(leaves),
        }
        header["seal"] = settings_digest(header)
        with whole_file(path) as partial:
            save_file(leaves, partial, metadata=header)
    return path


def read_weights(path: Path, *, step: int | None = None) -> tuple[dict[str, np.ndarray], dict[str, Any], str]:
    """Return leaves by name, what was written about them (and their "step"), and the digest of their values.

    Args:
      path: a file, or a folder of them.
      step: which of a folder; None: the newest.

    Raises:
      UserError: there are none, or they are damaged, or not ours.
    """
    file = _chosen(path, step) if path.is_dir() else path
    if not file.exists():
        raise UserError(f"{file} does not exist; give a file of weights that `launch.train` wrote.")
    try:
        with safe_open(file, framework="numpy") as opened:
            header = opened.metadata() or {}
            if header.get("format") != _FORMAT:
                raise UserError(f"{file} holds no weights of this program; give a file that `launch.train` wrote.")
            leaves = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  # is no dictionary
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{file} cannot be read ({error}); it is cut off or no file of weights: take those of another step."
        ) from None
    seal = header.pop("seal", "")
    if seal != settings_digest(header) or header["digest"] != _digest(leaves):
        raise UserError(f"{file} is damaged: it is not what was written; take the weights of another step.")
    return leaves, json.loads(header["about"]) | {"step": int(header["step"])}, header["digest"]


def into(template: Tree, leaves: Mapping[str, np.ndarray]) -> Tree:
    """Return a tree like `template` (its leaves may be abstract) of these leaves.

    Raises:
      UserError: they are those of another model.
    """
    wanted = named_leaves(template)
    wrong = [f"{name} is missing" for name in wanted if name not in leaves]
    wrong += [f"{name} is one too many" for name in leaves if name not in wanted]
    wrong += [
        f"{name} is {tuple(leaves[name].shape)}, not {tuple(leaf.shape)}"
        for name, leaf in wanted.items()
        if name in leaves and tuple(leaves[name].shape) != tuple(leaf.shape)
    ]
    if wrong:
        more = f", and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise UserError(
            f"the weights are of another model: {', '.join(wrong[:_SHOWN])}{more}; use the config and the channels "
            "they were trained with."
        )
    return from_named(template, dict(leaves))


def written_steps(folder: Path) -> dict[int, Path]:
    """Return the files of weights in a folder by their steps, ascending."""
    return {int(file.stem.removeprefix("step_")): file for file in sorted(folder.glob("step_*.safetensors"))}


def _chosen(folder: Path, step: int | None) -> Path:
    files = written_steps(folder)
    if not files:
        raise UserError(f"{folder} holds no weights yet; train until the first are written, or give another run.")
    if step is not None and step not in files:
        raise UserError(f"{folder} holds no weights of step {step}; give one of {', '.join(map(str, files))}.")
    return files[max(files) if step is None else step]


def _gathered(leaf: Any) -> np.ndarray:
    """Return the whole of a leaf as float32, also where other processes hold parts of it."""
    if isinstance(leaf, jax.Array) and not (leaf.is_fully_addressable or leaf.is_fully_replicated):
        leaf = multihost_utils.process_allgather(leaf, tiled=True)
    return np.asarray(leaf).astype(np.float32, order="C")  # `ascontiguousarray` would make vectors of scalars


def _digest(leaves: Mapping[str, np.ndarray]) -> str:
    return joint_digest(f"{array_digest(leaves[name])} {name}" for name in sorted(leaves))
