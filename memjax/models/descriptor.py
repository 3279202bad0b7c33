"""A network that describes an image by few numbers, near for copies however they were turned, and far for strangers.

`encoder` is the one of Dar et al. (arXiv 2307.01148): the autoencoder's encoder, down to 4 x 4 x 4 x 8, and two dense
layers to 32 numbers; that of their follow-up (arXiv 2402.01054) is the same with a dropout of half before the last.
How many features the first dense layer has is told by the follow-up's code only: 128. `residual` is a residual network
(He et al., 2016, arXiv 1512.03385, with blocks as in the autoencoder) to 128 numbers; the follow-up's for radiographs
is a ResNet-50 whose weights were trained on ImageNet, and those do not ship with the code.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Key

from memjax.build import build
from memjax.errors import UserError
from memjax.models.autoencoder import Block, Encoder
from memjax.nn.conv import Conv
from memjax.nn.norm import GroupNorm
from memjax.nn.padding import padded
from memjax.nn.residual import drop
from memjax.trees import Tree

_EPSILON = 1e-6  # of the norms, as in the autoencoder


class EncoderNet(nn.Module):
    """The autoencoder's encoder to a small grid of features, then dense layers."""

    features: int
    strides: Sequence[Sequence[int]]  # by stage, of each axis
    grid: Sequence[int]  # positions along each axis that the dense layers see
    channels: int  # of the grid
    hidden: int
    size: int
    dropout: float
    groups: int
    remat: bool
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b *space c"], dropout_key: Key[Array, ""] | None = None) -> Float[Array, "b d"]:
        """Return the descriptors, float32; there is dropout only with a key."""
        x = filled_up(x, self.strides)
        h = Encoder(self.features, self.strides, self.channels, self.groups, self.remat, self.dtype, name="encoder")(x)
        h = nn.Dense(self.hidden, name="hidden")(pooled(h, self.grid).reshape(len(x), -1))
        h = drop(jax.nn.relu(h), self.dropout, dropout_key)
        return nn.Dense(self.size, name="out")(h)


class ResidualNet(nn.Module):
    """Halve the axes and double the features level by level, with residual blocks at each; then the mean over space."""

    width: int  # features of the first level
    blocks: Sequence[int]  # of each level
    strides: Sequence[Sequence[int]]  # by level, of each axis
    size: int
    dropout: float
    groups: int
    remat: bool
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b *space c"], dropout_key: Key[Array, ""] | None = None) -> Float[Array, "b d"]:
        """Return the descriptors, float32; there is dropout only with a key."""
        block = nn.remat(Block) if self.remat else Block
        y = filled_up(x, self.strides)
        for level, (count, strides) in enumerate(zip(self.blocks, self.strides, strict=True)):
            y = Conv(
                self.width * 2**level, 4, strides, padding="same", edge=True, dtype=self.dtype, name=f"down_{level}"
            )(y)
            for i in range(count):
                y = block(self.groups, self.dtype, name=f"block_{level}_{i}")(y)
        y = GroupNorm(self.groups, _EPSILON, silu=True, dtype=self.dtype, name="norm")(y)
        y = jnp.mean(y.astype(jnp.float32), tuple(range(1, y.ndim - 1)))
        return nn.Dense(self.size, name="out")(drop(y, self.dropout, dropout_key))


@dataclasses.dataclass(frozen=True)
class Descriptor:
    """Images of `shape` [*space, channels] and their descriptors of `size` numbers. Make with `descriptor`."""

    shape: tuple[int, ...]
    size: int
    network: EncoderNet | ResidualNet

    def init(self, key: Key[Array, ""]) -> Tree:
        """Return the first parameters."""
        return self.network.init(key, jnp.zeros((1, *self.shape)))["params"]

    def apply(
        self, params: Tree, x: Float[Array, "b *space c"], dropout_key: Key[Array, ""] | None = None
    ) -> Float[Array, "b d"]:
        """Return the descriptors of images in [-1, 1]: float32, of any length; an image's is its own, in any batch.

        With a key there is dropout, as in training.
        """
        desc = self.network.apply({"params": params}, x, dropout_key=dropout_key)
        assert isinstance(desc, jax.Array)  # parameters only: nothing mutable comes back
        return desc

    @property
    def has_dropout(self) -> bool:
        """Whether training wants a key."""
        return self.network.dropout > 0


def descriptor(shape: tuple[int, ...], *, model: Mapping[str, Any]) -> Descriptor:
    """Return the network that a config's block `model` describes, for images of this shape [*space, channels].

    Raises:
      UserError: there is no such network, it has no such keys, or a value is out of range.
    """
    name = model.get("network", "encoder")
    if name not in _NETWORKS:
        raise UserError(f"config.model.network={name!r} does not exist; choose from {', '.join(_NETWORKS)}.")
    block = {key: value for key, value in model.items() if key != "network"}
    return build(_NETWORKS[name], block, "model", shape=shape)


def _encoder(
    *,
    shape: tuple[int, ...],
    features: int = 16,
    grid: int = 4,
    downsample: Sequence[int] | None = None,
    channels: int = 8,
    hidden: int = 128,
    size: int = 32,
    dropout: float = 0.0,
    groups: int = 32,
    remat: bool = False,
    dtype: str = "float32",
) -> Descriptor:
    """Make an `EncoderNet`.

    Args:
      shape: of an image.
      features: at full resolution; doubled by each stage.
      grid: positions along each axis that the dense layers see.
      downsample: by how much each axis shrinks, powers of two; None: as often by two as `grid` positions are left. What
        is left beyond these is averaged. Lengths that are no multiple are filled up with the border.
      channels: of the grid.
      hidden: features of the first dense layer.
      size: numbers of a descriptor.
      dropout: share of the hidden features that are dropped in training.
      groups: of group norm; as many as features at most.
      remat: compute blocks again in the backward pass.
      dtype: of the convolutions; parameters, dense layers and descriptors are float32.
    """
    _check(shape, dropout, features=features, grid=grid, channels=channels, hidden=hidden, size=size)
    space = shape[:-1]
    if downsample is None:
        downsample = [_halved(length, grid) for length in space]
    if len(downsample) != len(space) or any(factor < 1 or factor & (factor - 1) for factor in downsample):
        raise UserError(
            f"config.model.downsample={tuple(downsample)} must be {len(space)} powers of two, one for each axis of the "
            f"images ({' x '.join(map(str, space))})."
        )
    strides = tuple(
        tuple(2 if factor >> (stage + 1) else 1 for factor in downsample)
        for stage in range(int(math.log2(max(downsample))))
    )
    network = EncoderNet(
        features, strides, (grid,) * len(space), channels, hidden, size, dropout, groups, remat, jnp.dtype(dtype)
    )
    return Descriptor(shape, size, network)


def _residual(
    *,
    shape: tuple[int, ...],
    width: int = 32,
    blocks: Sequence[int] = (0, 2, 2, 2, 2),
    grid: int = 4,
    size: int = 128,
    dropout: float = 0.0,
    groups: int = 32,
    remat: bool = False,
    dtype: str = "float32",
) -> Descriptor:
    """Make a `ResidualNet`.

    Args:
      shape: of an image.
      width: features of the first level, which has half the resolution; doubled by each level.
      blocks: residual blocks of each level.
      grid: positions along an axis that are not halved any more.
      size: numbers of a descriptor.
      dropout: share of the last features that are dropped in training.
      groups: of group norm; as many as features at most.
      remat: compute blocks again in the backward pass.
      dtype: of the convolutions; parameters, the last layer and descriptors are float32.
    """
    _check(shape, dropout, width=width, grid=grid, size=size)
    if not blocks or min(blocks) < 0:
        raise UserError(f"config.model.blocks={tuple(blocks)} must be counts of blocks, one for each level.")
    space = shape[:-1]
    strides = tuple(
        tuple(2 if length >= 2 ** (level + 1) * grid else 1 for length in space) for level in range(len(blocks))
    )
    return Descriptor(shape, size, ResidualNet(width, blocks, strides, size, dropout, groups, remat, jnp.dtype(dtype)))


_NETWORKS = {"encoder": _encoder, "residual": _residual}


def filled_up(x: Float[Array, "b *space c"], strides: Sequence[Sequence[int]]) -> Float[Array, "b *more c"]:
    """Return x with its border repeated at the end of each axis that is no multiple of all its strides."""
    factors = np.prod(np.array(strides, int).reshape(-1, x.ndim - 2), axis=0)
    lacking = [(0, int(-n % factor)) for n, factor in zip(x.shape[1:-1], factors, strict=True)]
    return padded(x, lacking, edge=True)


def pooled(x: Float[Array, "b *space c"], grid: Sequence[int]) -> Float[Array, "b *grid c"]:
    """Return means over windows of equal length, overlapping where an axis is no multiple, so that `grid` is left."""
    for axis, (n, of_n) in enumerate(zip(x.shape[1:-1], grid, strict=True), 1):
        if n != of_n:
            share = np.zeros((of_n, n), np.float32)
            for i in range(of_n):
                first, end = i * n // of_n, -(-(i + 1) * n // of_n)
                share[i, first:end] = 1 / (end - first)
            x = jnp.moveaxis(jnp.tensordot(x, share, (axis, 1)), -1, axis)
    return x


def _halved(length: int, least: int) -> int:
    """Return the largest power of two by which an axis may shrink and keep `least` positions; 1 if there is none."""
    return 2 ** max(0, int(math.log2(max(length // least, 1))))


def _check(shape: tuple[int, ...], dropout: float, **counts: int) -> None:
    if len(shape) not in (3, 4):
        raise UserError(f"descriptors are of pictures or volumes, not of images of shape {shape}.")
    for name, value in counts.items():
        if value < 1:
            raise UserError(f"config.model.{name}={value} must be 1 or more.")
    if not 0 <= dropout < 1:
        raise UserError(f"config.model.dropout={dropout} must be from 0 to below 1.")
