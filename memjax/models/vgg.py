"""The network that sees how different images look: VGG16 up to its last convolution, with LPIPS's weights or without.

Simonyan and Zisserman 2015 (arXiv 1409.1556), configuration D. memjax comes with no trained weights. Whoever has
torchvision's and LPIPS's (Zhang et al. 2018) writes them into a file once, elsewhere, and names it:

    import lpips, numpy, torchvision
    vgg = torchvision.models.vgg16(weights="IMAGENET1K_V1").state_dict()
    layers = lpips.LPIPS(net="vgg").state_dict()
    arrays = {name: x for name, x in vgg.items() if name.startswith("features.")}
    arrays |= {f"lin{i}.model.1.weight": layers[f"lin{i}.model.1.weight"] for i in range(5)}
    numpy.savez("lpips_vgg.npz", **{name: x.numpy() for name, x in arrays.items()})

Without them there is the same network, narrower, with random weights, under a name that says so.
"""

import itertools
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from memjax.data.readers.array_files import npz_headers, read_npz
from memjax.data.readers.base import BadFile
from memjax.errors import UserError
from memjax.nn.conv import conv
from memjax.objectives.perceptual import COLOURS, Perceptual
from memjax.trees import Tree

KINDS = ("lpips", "random", "none")
SMALLEST = 16  # pixels of a side: halved four times, one is left

_STAGES = (2, 2, 3, 3, 3)  # convolutions at each resolution; the last one's features count
_MULTIPLES = (1, 2, 4, 8, 8)  # channels of a stage, times the first one's


def features(network: Sequence[Tree], x: Float[Array, "b h w 3"]) -> list[Float[Array, "b ..."]]:
    """Return the features of each resolution, finest first, after the activation: conv1_2, 2_2, 3_3, 4_3, 5_3.

    Args:
      network: {"kernel": [3, 3, c, d], "bias": [d]} of each convolution.
      x: images as the weights expect them, 16 pixels or more a side.
    """
    layers, found = iter(network), []
    for stage, n_convolutions in enumerate(_STAGES):
        if stage:
            x = _halved(x)
        for layer in itertools.islice(layers, n_convolutions):
            x = jax.nn.relu(conv(x, jnp.asarray(layer["kernel"], x.dtype)) + jnp.asarray(layer["bias"], x.dtype))
        found.append(x)
    return found


def make_perceptual(kind: str, file: str | None = None, *, width: int = 16) -> Perceptual | None:
    """Return the perceptual distance of this kind.

    Args:
      kind: "lpips", trained weights from `file`; "random", untrained ones, always the same, all channels counting
        alike; "none".
      file: see the module.
      width: channels of the first stage, for "random"; VGG16 itself has 64.

    Raises:
      UserError: there is no such kind, or the file is missing, damaged or of something else.
    """
    if kind not in KINDS:
        raise UserError(f"config.perceptual.kind={kind!r} does not exist; choose from {', '.join(KINDS)}.")
    if kind != "lpips" and file:
        raise UserError(
            f"config.perceptual.file={file!r} is for config.perceptual.kind lpips, not {kind}; leave one away."
        )
    if kind == "none":
        return None
    if kind == "random":
        return Perceptual(params=random_params(width), features=features, smallest=SMALLEST)
    if not file:
        raise UserError(
            "config.perceptual.kind lpips needs trained weights, and memjax comes with none: name their .npz in "
            "config.perceptual.file (the docstring of memjax/models/vgg.py says how to make it), or choose random, "
            "or none with config.loss.perceptual=0."
        )
    return Perceptual(params=read_params(Path(file)), features=features, smallest=SMALLEST)


def random_params(width: int) -> Tree:
    """Return parameters of a VGG16 of this width: kernels after He et al. 2015 (arXiv 1502.01852), from seed 0."""
    if width < 1:
        raise UserError(f"config.perceptual.width={width} must be 1 or more.")
    rng = np.random.default_rng(0)
    widths = [width * multiple for multiple in _MULTIPLES]
    network, before = [], COLOURS
    for channels, n_convolutions in zip(widths, _STAGES, strict=True):
        for _ in range(n_convolutions):
            kernel = rng.standard_normal((3, 3, before, channels)) * (2 / (9 * before)) ** 0.5
            network.append({"kernel": np.float32(kernel), "bias": np.zeros(channels, np.float32)})
            before = channels
    return {"network": network, "weights": [np.full(channels, 1 / channels, np.float32) for channels in widths]}


def read_params(path: Path) -> Tree:
    """Return the parameters in a file, whatever its widths are.

    Its arrays are torchvision's `features.N.weight` [d, c, 3, 3] and `features.N.bias` [d] of the 13 convolutions,
    and LPIPS's `linN.model.1.weight` [1, c, 1, 1] of the 5 layers that count; others are passed over.

    Raises:
      UserError: it is missing or damaged, or an array is missing, of another shape, not finite, or negative.
    """
    try:
        names = npz_headers(path)
        missing = [name for name in _names() if name not in names]
        if missing:
            raise UserError(
                f"{path} has no array {missing[0]} ({len(missing)} of {len(_names())} are missing); make it as the "
                "docstring of memjax/models/vgg.py says."
            )
        arrays = {name: read_npz(path, name) for name in _names()}
    except BadFile as error:
        raise UserError(f"{path} {error}; config.perceptual.file must be an .npz of LPIPS's weights.") from None

    def checked(name: str, shape: tuple[int | None, ...]) -> np.ndarray:
        array = arrays[name]
        fits = array.ndim == len(shape) and all(b in (None, a) for a, b in zip(array.shape, shape, strict=True))
        if not fits or array.dtype.kind != "f":
            wanted = ", ".join("any" if n is None else str(n) for n in shape)
            raise UserError(f"{name} in {path} is {list(array.shape)} {array.dtype}, not [{wanted}] float: wrong file?")
        if not np.isfinite(array).all():
            raise UserError(f"{name} in {path} has values that are not finite; write the file again.")
        return array.astype(np.float32)

    network, weights, before, places = [], [], COLOURS, iter(_places())
    for stage, n_convolutions in enumerate(_STAGES):
        for place in itertools.islice(places, n_convolutions):
            kernel = checked(f"features.{place}.weight", (None, before, 3, 3))
            before = len(kernel)
            bias = checked(f"features.{place}.bias", (before,))
            network.append({"kernel": np.ascontiguousarray(kernel.transpose(2, 3, 1, 0)), "bias": bias})
        weight = checked(f"lin{stage}.model.1.weight", (1, before, 1, 1)).ravel()
        if (weight < 0).any():
            raise UserError(f"lin{stage}.model.1.weight in {path} has negative values, LPIPS's has none: wrong file?")
        weights.append(weight)
    return {"network": network, "weights": weights}


def _places() -> list[int]:
    """Return where torchvision's `features` have convolutions: each is followed by a ReLU, each stage by a pooling."""
    places, at = [], 0
    for n_convolutions in _STAGES:
        places += [at + 2 * i for i in range(n_convolutions)]
        at += 2 * n_convolutions + 1
    return places


def _names() -> list[str]:
    of_network = [f"features.{place}.{part}" for place in _places() for part in ("weight", "bias")]
    return of_network + [f"lin{i}.model.1.weight" for i in range(len(_STAGES))]


def _halved(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    """Return the maximum of each 2 x 2 pixels; an odd last row or column is left out."""
    b, h, w, c = x.shape
    return jnp.max(x[:, : h // 2 * 2, : w // 2 * 2].reshape(b, h // 2, 2, w // 2, 2, c), (2, 4))
