"""The U-Net of latent diffusion in volumes: convolutions within slices, attention between them, full depth throughout.

Ho et al., 2022 (arXiv 2204.03458) for videos, in the form of its public reimplementation, which Khader et al. (2023,
Sci Rep 13:7303) and Dar et al. (2023, arXiv 2307.01148) took, with slices in the place of frames.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int, Key, Num

from memjax.errors import UserError
from memjax.nn.attention import attend
from memjax.nn.conv import Conv
from memjax.nn.double import Double
from memjax.nn.embed import waves
from memjax.nn.linear_attention import linear_attend
from memjax.nn.norm import GroupNorm
from memjax.nn.positions import DistanceBias
from memjax.nn.residual import drop
from memjax.nn.slice_attention import SliceAttention, along_depth, within_slices

_STEM, _INSIDE, _HALVING, _STRIDES = (1, 7, 7), (1, 3, 3), (1, 4, 4), (1, 2, 2)


class Block(nn.Module):
    """skip(x) + two rounds of silu(norm(conv)), the first of them scaled and shifted by the time."""

    features: int
    groups: int = 8
    dropout: float = 0.0
    dtype: Any = None  # of the computation; None: that of x

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b n h w c"],
        embedding: Float[Array, "b e"] | None = None,
        dropout_key: Key[Array, ""] | None = None,
    ) -> Float[Array, "b n h w d"]:
        """Return the block's features; `embedding` is past its activation, there is dropout only with a key."""
        y, told = Conv(self.features, _INSIDE, dtype=self.dtype, name="conv_in")(x), ()
        if embedding is not None:
            both = nn.Dense(2 * self.features, dtype=self.dtype, name="embedding")(embedding)
            told = jnp.split(both, 2, axis=-1)
        y = GroupNorm(self.groups, silu=True, dtype=self.dtype, name="norm_in")(y, *told)
        y = drop(y, self.dropout, dropout_key)
        y = Conv(self.features, _INSIDE, dtype=self.dtype, name="conv_out")(y)
        y = GroupNorm(self.groups, silu=True, dtype=self.dtype, name="norm_out")(y)
        if x.shape[-1] != self.features:
            x = Conv(self.features, kernel_size=1, dtype=self.dtype, name="skip")(x)
        return x + y


class SliceUNet(nn.Module):
    """Down through the levels, a middle, and up again; what one slice knows of another is by attention along the depth.

    (And by the moments of group norm, which are those of a volume.) At each level linear attention joins the positions
    of a slice, in the middle full attention does. Attention along the depth knows positions: it turns queries and keys,
    and adds a bias by distance that all levels share.
    """

    channels: int  # of the volumes; as many come out, or twice as many
    width: int = 32  # channels of the first level
    mults: Sequence[int] = (1, 2, 4, 8)  # channels of each level, in widths; each has half the resolution of the last
    depth_axis: int = 0  # spatial axis, from 0, that counts the slices
    heads: int = 8
    head_channels: int = 32
    groups: int = 8  # of group norm
    learned_variance: bool = False
    n_classes: int | None = None
    dropout: float = 0.0
    remat: bool = False  # compute the blocks again in the backward pass; XLA undoes it on CPUs, which keep everything
    dtype: str = "float32"  # of the computation; parameters, statistics, softmax and the result are float32

    @nn.compact
    def __call__(
        self,
        xt: Float[Array, "b *space c"],
        t: Num[Array, "b"],
        label: Int[Array, "b"] | None = None,
        *,
        dropout_key: Key[Array, ""] | None = None,
    ) -> Float[Array, "b *space out"]:
        """Return the prediction for volumes at time t, in steps; `label=n_classes`, or None, means no class.

        Dropout is drawn from its key; without one there is none.

        Raises:
          UserError: the volumes do not fit the network (see the message), or there is a label but no classes.
        """
        self._check(xt.shape, label)
        dtype, last, count = jnp.dtype(self.dtype), len(self.mults) - 1, itertools.count()
        block_class = nn.remat(Block) if self.remat else Block
        attention_class = nn.remat(SliceAttention) if self.remat else SliceAttention
        embedding = self._embedding(t, label)
        x = jnp.moveaxis(xt, 1 + self.depth_axis, 1)
        bias = DistanceBias(self.heads, name="distance")(x.shape[1])

        def block(x: Array, name: str, features: int) -> Array:
            key = None if dropout_key is None else jax.random.fold_in(dropout_key, next(count))
            return block_class(features, self.groups, self.dropout, dtype, name=name)(x, embedding, key)

        def attend_inside(x: Array, name: str) -> Array:
            mix = within_slices(linear_attend)
            return attention_class(mix, self.heads, self.head_channels, use_bias=True, dtype=dtype, name=name)(x)

        def attend_depth(x: Array, name: str) -> Array:
            return attention_class(along_depth, self.heads, self.head_channels, dtype=dtype, name=name)(x, bias)

        def level(x: Array, name: str, features: int) -> Array:
            for i in range(2):
                x = block(x, f"{name}_res_{i}", features)
            return attend_depth(attend_inside(x, f"{name}_slice"), f"{name}_depth")

        stem = Conv(self.width, _STEM, dtype=dtype, name="stem")(x)
        x = attend_depth(stem, "stem_depth")
        skips = []
        for i, mult in enumerate(self.mults):
            x = level(x, f"down_{i}", mult * self.width)
            skips.append(x)
            if i < last:
                x = Conv(x.shape[-1], _HALVING, _STRIDES, dtype=dtype, name=f"down_{i}_resample")(x)

        x = block(x, "middle_res_0", x.shape[-1])
        mix = within_slices(attend)
        x = attention_class(mix, self.heads, self.head_channels, dtype=dtype, name="middle_slice")(x)
        x = attend_depth(x, "middle_depth")
        x = block(x, "middle_res_1", x.shape[-1])

        for i in range(last, -1, -1):
            mult = (1, *self.mults)[i]  # of the level that it leads to
            x = level(jnp.concatenate([x, skips.pop()], -1), f"up_{i}", mult * self.width)
            if i > 0:
                x = Double(dtype, name=f"up_{i}_resample")(x)

        x = block_class(self.width, self.groups, dtype=dtype, name="out_res")(jnp.concatenate([x, stem], -1))
        features = self.channels * (2 if self.learned_variance else 1)
        x = Conv(features, kernel_size=1, dtype=dtype, name="out")(x)
        return jnp.moveaxis(x.astype(jnp.float32), 1, 1 + self.depth_axis)

    def _embedding(self, t: Num[Array, "b"], label: Int[Array, "b"] | None) -> Float[Array, "b e"]:
        """Return time and class as a vector, past the activation with which every block would start; float32."""
        y = nn.Dense(4 * self.width, name="time_in")(waves(t, self.width))
        y = nn.Dense(4 * self.width, name="time_out")(jax.nn.gelu(y, approximate=False))
        if self.n_classes is not None:
            label = jnp.full(t.shape, self.n_classes) if label is None else label
            y += nn.Embed(self.n_classes + 1, 4 * self.width, name="label")(label)
        return jax.nn.silu(y)

    def _check(self, shape: tuple[int, ...], label: Array | None) -> None:
        """Raise `UserError` if this network is not for volumes of this shape `[b, *space, c]`."""
        space, whole = shape[1:-1], 2 ** (len(self.mults) - 1)
        check_space(space)
        if self.depth_axis not in range(3):
            raise UserError(f"depth_axis={self.depth_axis}, volumes have axes 0 to 2; name one of them.")
        if shape[-1] != self.channels:
            raise UserError(
                f"volumes have {shape[-1]} channels, the network channels={self.channels}; make them the same."
            )
        for axis, length in enumerate(space):
            if length % whole and axis != self.depth_axis:
                near = " or ".join(str(n * whole) for n in (length // whole, length // whole + 1) if n)
                raise UserError(
                    f"volumes of {_by(space)}: a network of {len(self.mults)} levels halves each slice "
                    f"{len(self.mults) - 1} times, so axis {axis} should be a multiple of {whole}, {near} say; pad or "
                    f"crop the volumes, use fewer levels, or let depth_axis={axis} count the slices."
                )
        if label is not None and self.n_classes is None:
            raise UserError("there are labels, but the network has n_classes=None; give the number of classes.")


def check_space(space: Sequence[int]) -> None:
    """Raise `UserError` unless these are the lengths of a volume's three axes."""
    if len(space) != 3:
        raise UserError(
            f"images of {_by(space)}: the network of slices is for volumes, three axes; choose another one for images."
        )


def _by(space: Sequence[int]) -> str:
    return " x ".join(map(str, space))
