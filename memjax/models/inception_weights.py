"""InceptionV3's weights, from a file that is given: memjax comes with none and never downloads any.

The public file is `weights-inception-2015-12-05-6726825d.pth` of torch-fidelity, which pytorch-fid calls
`pt_inception-2015-12-05-6726825d.pth`: 96 MB, TensorFlow's weights of 2015-12-05 in PyTorch's names. It is read without
PyTorch, and so are .safetensors and .npz files with arrays of the same names. Nothing in any of them is executed.
"""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import load_file

from memjax.data.readers.array_files import npz_headers, read_npz
from memjax.data.readers.base import BadFile
from memjax.data.readers.damage import as_bad_file
from memjax.data.readers.torch_files import is_torch_file, read_torch
from memjax.digest import file_digest
from memjax.errors import UserError
from memjax.models.inception import SIDE, InceptionV3
from memjax.trees import Tree, from_named, named_leaves

PUBLIC = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"  # the public file's SHA-256

WANTED = (
    "InceptionV3 needs trained weights, and memjax comes with none: give the public file of torch-fidelity or "
    "pytorch-fid, weights-inception-2015-12-05-6726825d.pth, as --weights, or take --features=random, which needs no "
    "weights and says so."
)

_EPSILON = 1e-3  # of the batch normalisation
_SHOWN = 3  # arrays that an error names


@dataclasses.dataclass(frozen=True, kw_only=True)
class Weights:
    """Parameters of `InceptionV3`, and where they come from."""

    params: Tree
    digest: str  # SHA-256 of the file
    is_public: bool  # the file is the one that everybody uses, byte for byte


def read_weights(path: Path) -> Weights:
    """Return the weights in a file.

    Its arrays are `NAME.conv.weight` [d, c, rows, columns] of each convolution, `NAME.bn.weight`, `bias`,
    `running_mean` and `running_var` [d] of its normalisation, and `fc.weight` [1008, 2048] and `fc.bias`; others are
    passed over.

    Raises:
      UserError: it is missing or damaged, has more in it than arrays, or is of another network.
    """
    try:
        arrays = _read(path)
        digest = file_digest(path)
    except BadFile as error:
        raise UserError(f"{path} {error}. {WANTED}") from None
    _check(path, arrays, wanted_shapes())
    template = _template()
    leaves = {}
    for name in named_leaves(template):
        layer, part = name.rsplit("/", 1)
        if layer == "fc":
            leaves[name] = arrays["fc.weight"].T if part == "kernel" else arrays["fc.bias"]
        elif part == "kernel":
            leaves[name], leaves[f"{layer}/bias"] = _folded(layer.replace("/", "."), arrays)
    params = from_named(template, {name: np.ascontiguousarray(x, np.float32) for name, x in leaves.items()})
    return Weights(params=params, digest=digest, is_public=digest == PUBLIC)


def wanted_shapes() -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of the arrays that a file needs."""
    found: dict[str, tuple[int, ...]] = {}
    for name, leaf in named_leaves(_template()).items():
        layer, part = name.rsplit("/", 1)
        layer = layer.replace("/", ".")
        if layer == "fc":
            found |= {"fc.weight": leaf.shape[::-1]} if part == "kernel" else {"fc.bias": leaf.shape}
        elif part == "kernel":
            rows, columns, c, d = leaf.shape
            found[f"{layer}.conv.weight"] = (d, c, rows, columns)
            found |= {f"{layer}.bn.{of}": (d,) for of in ("weight", "bias", "running_mean", "running_var")}
    return found


@functools.cache
def _template() -> Tree:
    """Return the network's parameters, abstract."""
    return jax.eval_shape(InceptionV3().init, jax.random.key(0), jnp.zeros((1, SIDE, SIDE, 3)))["params"]


def _read(path: Path) -> dict[str, np.ndarray]:
    if is_torch_file(path):
        return read_torch(path)
    if path.suffix == ".npz":
        headers = npz_headers(path)
        return {name: read_npz(path, name) for name, header in headers.items() if not header.dtype.hasobject}
    if path.suffix == ".safetensors":
        with as_bad_file():
            return load_file(path)
    raise BadFile("is no file of weights (.pth, .safetensors or .npz)")


def _check(path: Path, arrays: Mapping[str, np.ndarray], wanted: Mapping[str, tuple[int, ...]]) -> None:
    """Raise `UserError` unless these are the weights of this network."""
    wrong = [
        f"{name} is {list(arrays[name].shape)} {arrays[name].dtype}, not {list(shape)} of floats"
        for name, shape in wanted.items()
        if name in arrays and (arrays[name].shape != shape or arrays[name].dtype.kind != "f")
    ]
    wrong += [f"{name} is missing" for name in wanted if name not in arrays]
    if wrong:
        more = f", and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise UserError(
            f"{path} is not the InceptionV3 of 2015-12-05: {', '.join(wrong[:_SHOWN])}{more} (torchvision's own is "
            f"another network). {WANTED}"
        )
    for name in wanted:
        if not np.isfinite(arrays[name]).all():
            raise UserError(f"{name} in {path} has values that are not finite; take the file anew.")
        if name.endswith("running_var") and (arrays[name] < 0).any():
            raise UserError(f"{name} in {path} has negative values, and it is a variance; take the file anew.")


def _folded(layer: str, arrays: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return a convolution's kernel [rows, columns, c, d] and bias [d] with its normalisation in them."""
    gain, shift, mean, variance = (
        arrays[f"{layer}.bn.{part}"].astype(np.float64) for part in ("weight", "bias", "running_mean", "running_var")
    )
    scale = gain / np.sqrt(variance + _EPSILON)
    kernel = arrays[f"{layer}.conv.weight"].transpose(2, 3, 1, 0) * scale  # rounded once, at the end
    return kernel, shift - mean * scale
