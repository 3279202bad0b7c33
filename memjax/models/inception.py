"""The InceptionV3 that Fréchet distances and Inception Scores are made with, for inference alone.

Szegedy et al. 2016 (arXiv 1512.00567), as TensorFlow's graph of 2015-12-05 has it, which Heusel et al. 2017 (arXiv
1706.08500) and all after them compared images with. It is not torchvision's: 1008 classes, averages over what lies
inside the image alone, a maximum in the pooling branch of the last block, and images brought to 299 x 299 as TensorFlow
1 did, without centring pixels. Batch normalisation is folded into kernels and biases. Its weights come from a file
(`inception_weights`).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from memjax.errors import UserError
from memjax.nn.conv import Conv
from memjax.trees import Tree

SIDE = 299  # pixels of what the network sees
CLASSES = 1008
_VALID = ((0, 0), (0, 0))


class Layer(NamedTuple):
    """A convolution with bias, and the activation after it."""

    name: str
    features: int
    taps: tuple[int, int] = (1, 1)
    stride: int = 1
    is_padded: bool = True  # with zeros, so that without a stride nothing is lost


class Pool(NamedTuple):
    """The mean of what lies inside the image, or the maximum, of each 3 x 3 positions."""

    kind: str
    stride: int = 1  # 2: without padding


Branch = Sequence[Layer | Pool | tuple[Layer, Layer]]  # two layers: side by side, of the same input


class Mixed(nn.Module):
    """Several ways through the same image, side by side."""

    branches: Sequence[Branch]

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 d"]:
        """Return the features of all branches."""
        return jnp.concatenate([_through(branch, x) for branch in self.branches], -1)


class Classifier(nn.Module):
    """The last layer: from features to classes."""

    @nn.compact
    def __call__(self, x: Float[Array, "n d"]) -> tuple[Float[Array, "n k"], Float[Array, "n k"]]:
        """Return the logits without their bias, and with it."""
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (x.shape[-1], CLASSES), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), (CLASSES,), jnp.float32)
        unbiased = x @ kernel
        return unbiased, unbiased + bias


class InceptionV3(nn.Module):
    """The network, without what comes before it (`resized`)."""

    @nn.compact
    def __call__(self, x: Float[Array, "n 299 299 3"]) -> dict[str, Float[Array, "n d"]]:
        """Return features, averaged over the image, and logits, by the names of torch-fidelity.

        Args:
          x: as `resized` gives it.

        Returns:
          "64", "192", "768" and "2048": features at four depths, the last for Fréchet distances; "logits_unbiased":
          for Inception Scores; "logits".
        """
        found = {}
        for depth, branch in _STEM.items():
            x = _through(branch, x)
            found[depth] = x.mean((1, 2))
        for name, branches in _BLOCKS.items():
            x = Mixed(branches, name=name)(x)
            if name in _DEPTHS:
                found[_DEPTHS[name]] = x.mean((1, 2))
        found["logits_unbiased"], found["logits"] = Classifier(name="fc")(found["2048"])
        return found


def apply(params: Tree, images: Float[Array, "n h w c"]) -> dict[str, Float[Array, "n d"]]:
    """Return what the network sees in images of any size.

    Args:
      params: of `InceptionV3`.
      images: values 0 to 255, whole numbers as in an 8-bit file; grey or three channels.

    Raises:
      UserError: they have another number of channels, or are volumes.
    """
    with jax.default_matmul_precision("highest"):  # accelerators would round factors to 8 or 10 bits
        found = InceptionV3().apply({"params": params}, resized(images))
    assert isinstance(found, dict)  # parameters only: nothing mutable comes back
    return found


def resized(images: Float[Array, "n *space c"]) -> Float[Array, "n 299 299 3"]:
    """Return images of values 0 to 255 as the network takes them: -1 to 1, 299 x 299, three channels.

    Raises:
      UserError: as `apply`.
    """
    check(images.shape[1:])
    rows, columns = (jnp.asarray(_weights(n)) for n in images.shape[1:3])
    x = jnp.einsum("yh,xw,nhwc->nyxc", rows, columns, images.astype(jnp.float32), precision="highest")
    return jnp.broadcast_to((x - 128) / 128, (len(images), SIDE, SIDE, 3))


def check(shape: Sequence[int]) -> None:
    """Raise `UserError` for images [*space, channels] that the network cannot look at."""
    if len(shape) != 3 or shape[-1] not in (1, 3):
        what = f"{shape[-1]} channels" if len(shape) == 3 else "volumes"
        raise UserError(
            f"InceptionV3 knows pictures of one or three channels, and these are {what} "
            f"({' x '.join(map(str, shape))}); take --features=random, pixels or descriptor."
        )


def _weights(n: int) -> np.ndarray:
    """Return the shares [299, n] of the n given positions in each of 299: of the two beside i * n / 299."""
    at = np.arange(SIDE, dtype=np.float32) * np.float32(n / SIDE)
    low = at.astype(np.int64)
    weights = np.zeros((SIDE, n), np.float32)
    np.add.at(weights, (np.arange(SIDE), low), 1 - (at - low))
    np.add.at(weights, (np.arange(SIDE), np.minimum(low + 1, n - 1)), at - low)
    return weights


def _through(branch: Branch, x: Array) -> Array:
    for step in branch:
        if isinstance(step, Pool):
            x = _pooled(step, x)
        elif isinstance(step, Layer):
            x = _layer(step, x)
        else:
            x = jnp.concatenate([_layer(layer, x) for layer in step], -1)
    return x


def _layer(layer: Layer, x: Array) -> Array:
    padding = None if layer.is_padded else _VALID
    return nn.relu(Conv(layer.features, layer.taps, layer.stride, padding=padding, name=layer.name)(x))


def _pooled(pool: Pool, x: Array) -> Array:
    padding = "SAME" if pool.stride == 1 else "VALID"
    strides = (pool.stride, pool.stride)
    if pool.kind == "max":
        return nn.max_pool(x, (3, 3), strides, padding)
    return nn.avg_pool(x, (3, 3), strides, padding, count_include_pad=False)


def _block_a(pooled: int) -> Sequence[Branch]:
    return (
        (Layer("branch1x1", 64),),
        (Layer("branch5x5_1", 48), Layer("branch5x5_2", 64, (5, 5))),
        (
            Layer("branch3x3dbl_1", 64),
            Layer("branch3x3dbl_2", 96, (3, 3)),
            Layer("branch3x3dbl_3", 96, (3, 3)),
        ),
        (Pool("mean"), Layer("branch_pool", pooled)),
    )


def _block_c(narrow: int) -> Sequence[Branch]:
    return (
        (Layer("branch1x1", 192),),
        (
            Layer("branch7x7_1", narrow),
            Layer("branch7x7_2", narrow, (1, 7)),
            Layer("branch7x7_3", 192, (7, 1)),
        ),
        (
            Layer("branch7x7dbl_1", narrow),
            Layer("branch7x7dbl_2", narrow, (7, 1)),
            Layer("branch7x7dbl_3", narrow, (1, 7)),
            Layer("branch7x7dbl_4", narrow, (7, 1)),
            Layer("branch7x7dbl_5", 192, (1, 7)),
        ),
        (Pool("mean"), Layer("branch_pool", 192)),
    )


def _block_e(pool: str) -> Sequence[Branch]:
    return (
        (Layer("branch1x1", 320),),
        (
            Layer("branch3x3_1", 384),
            (Layer("branch3x3_2a", 384, (1, 3)), Layer("branch3x3_2b", 384, (3, 1))),
        ),
        (
            Layer("branch3x3dbl_1", 448),
            Layer("branch3x3dbl_2", 384, (3, 3)),
            (Layer("branch3x3dbl_3a", 384, (1, 3)), Layer("branch3x3dbl_3b", 384, (3, 1))),
        ),
        (Pool(pool), Layer("branch_pool", 192)),
    )


_BLOCK_B: Sequence[Branch] = (
    (Layer("branch3x3", 384, (3, 3), 2, False),),
    (
        Layer("branch3x3dbl_1", 64),
        Layer("branch3x3dbl_2", 96, (3, 3)),
        Layer("branch3x3dbl_3", 96, (3, 3), 2, False),
    ),
    (Pool("max", 2),),
)
_BLOCK_D: Sequence[Branch] = (
    (Layer("branch3x3_1", 192), Layer("branch3x3_2", 320, (3, 3), 2, False)),
    (
        Layer("branch7x7x3_1", 192),
        Layer("branch7x7x3_2", 192, (1, 7)),
        Layer("branch7x7x3_3", 192, (7, 1)),
        Layer("branch7x7x3_4", 192, (3, 3), 2, False),
    ),
    (Pool("max", 2),),
)

_STEM: Mapping[str, Branch] = {
    "64": (
        Layer("Conv2d_1a_3x3", 32, (3, 3), 2, False),
        Layer("Conv2d_2a_3x3", 32, (3, 3), 1, False),
        Layer("Conv2d_2b_3x3", 64, (3, 3)),
        Pool("max", 2),
    ),
    "192": (
        Layer("Conv2d_3b_1x1", 80),
        Layer("Conv2d_4a_3x3", 192, (3, 3), 1, False),
        Pool("max", 2),
    ),
}
_BLOCKS: Mapping[str, Sequence[Branch]] = {
    "Mixed_5b": _block_a(32),
    "Mixed_5c": _block_a(64),
    "Mixed_5d": _block_a(64),
    "Mixed_6a": _BLOCK_B,
    "Mixed_6b": _block_c(128),
    "Mixed_6c": _block_c(160),
    "Mixed_6d": _block_c(160),
    "Mixed_6e": _block_c(192),
    "Mixed_7a": _BLOCK_D,
    "Mixed_7b": _block_e("mean"),
    "Mixed_7c": _block_e("max"),
}
_DEPTHS = {"Mixed_6e": "768", "Mixed_7c": "2048"}
