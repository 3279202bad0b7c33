"""The U-Net that predicts noise: the networks of DDPM, improved and guided diffusion, for images and volumes."""

import functools
import itertools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int, Key, Num

from memjax.errors import UserError
from memjax.nn.attention import Attention
from memjax.nn.conv import Conv
from memjax.nn.embed import Embedding
from memjax.nn.norm import GroupNorm
from memjax.nn.resample import Down, Up, nearest, pool
from memjax.nn.residual import ResidualBlock


class UNet(nn.Module):
    """Down through the levels, a middle, and up again with all features of the way down at hand.

    DDPM (arXiv 2006.11239) adds the time and has one head; improved diffusion (2102.09672) scales and shifts, with
    four heads; guided diffusion (2105.05233) has heads of 64 channels and resamples inside residual blocks.
    """

    channels: int  # of the images; as many come out, or twice as many
    width: int = 64  # channels of the first level
    mults: Sequence[int] = (1, 2, 2, 2)  # channels of each level, in widths; each has half the resolution of the last
    blocks: int = 2  # at each level on the way down; one more on the way up
    attention: Sequence[int] = (16,)  # lengths of a feature map's longest side at which there is attention
    heads: int = 4
    head_channels: int | None = None  # given: the number of heads follows from it
    groups: int = 32  # of group norm
    scale_shift: bool = True  # False: the time is added
    resample: str = (
        "conv"  # strided and over the nearest; "residual": inside residual blocks; "pool": means and nearest
    )
    keep_axes: Sequence[int] = ()  # spatial axes, from 0, that have full resolution at every level
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
        """Return the prediction for images at time t, in steps; `label=n_classes`, or None, means no class.

        Dropout is drawn from its key; without one there is none.

        Raises:
          UserError: the images do not fit the network (see the message), or there is a label but no classes.
        """
        self._check(xt.shape, label)
        dtype, last, count = jnp.dtype(self.dtype), len(self.mults) - 1, itertools.count()
        block_class = nn.remat(ResidualBlock) if self.remat else ResidualBlock
        attention_class = nn.remat(Attention) if self.remat else Attention
        embedding = Embedding(self.width, 4 * self.width, self.n_classes, name="embedding")(t, label)
        embedding = jax.nn.silu(embedding)  # every block would start with it

        def block(x: Array, name: str, features: int, resample: Callable[..., Array] | None = None) -> Array:
            key = None if dropout_key is None else jax.random.fold_in(dropout_key, next(count))
            return block_class(
                features, self.scale_shift, resample, self.groups, self.dropout, dtype, name=name
            )(x, embedding, key)  # fmt: skip

        def attend(x: Array, name: str) -> Array:
            return attention_class(self.heads, self.head_channels, self.groups, dtype, name=name)(x)

        def move(x: Array, name: str, by_conv: type[Down | Up], plain: Callable[..., Array]) -> Array:
            plain = functools.partial(plain, keep_axes=tuple(self.keep_axes))
            if self.resample == "conv":
                return by_conv(self.keep_axes, dtype, name=name)(x)
            return block(x, name, x.shape[-1], plain) if self.resample == "residual" else plain(x)

        x = Conv(self.width, dtype=dtype, name="stem")(xt)
        skips = [x]
        for level, mult in enumerate(self.mults):
            for i in range(self.blocks):
                x = block(x, f"down_{level}_res_{i}", mult * self.width)
                if max(x.shape[1:-1]) in self.attention:
                    x = attend(x, f"down_{level}_attention_{i}")
                skips.append(x)
            if level < last:
                x = move(x, f"down_{level}_resample", Down, pool)
                skips.append(x)

        x = block(x, "middle_res_0", x.shape[-1])
        x = attend(x, "middle_attention")
        x = block(x, "middle_res_1", x.shape[-1])

        for level, mult in reversed(list(enumerate(self.mults))):
            for i in range(self.blocks + 1):
                x = block(jnp.concatenate([x, skips.pop()], -1), f"up_{level}_res_{i}", mult * self.width)
                if max(x.shape[1:-1]) in self.attention:
                    x = attend(x, f"up_{level}_attention_{i}")
            if level > 0:
                x = move(x, f"up_{level}_resample", Up, nearest)
        assert not skips

        x = GroupNorm(groups=self.groups, silu=True, dtype=dtype, name="norm_out")(x)
        features = self.channels * (2 if self.learned_variance else 1)
        zeros = nn.initializers.zeros_init()  # the first prediction is 0, the mean of the noise: arXiv 2006.11239
        return Conv(features, kernel_init=zeros, dtype=dtype, name="out")(x).astype(jnp.float32)

    def _check(self, shape: tuple[int, ...], label: Array | None) -> None:
        """Raise `UserError` if this network is not for images of this shape `[b, *space, c]`."""
        space, whole = shape[1:-1], 2 ** (len(self.mults) - 1)
        if self.resample not in ("conv", "residual", "pool"):
            raise UserError(f"resample={self.resample!r} is not known; give conv, residual or pool.")
        if shape[-1] != self.channels:
            raise UserError(
                f"images have {shape[-1]} channels, the U-Net channels={self.channels}; make them the same."
            )
        if any(axis not in range(len(space)) for axis in self.keep_axes):
            raise UserError(
                f"keep_axes={tuple(self.keep_axes)}, images have axes 0 to {len(space) - 1}; name some of them."
            )
        for axis, length in enumerate(space):
            if length % whole and axis not in self.keep_axes:
                near = " or ".join(str(n * whole) for n in (length // whole, length // whole + 1) if n)
                raise UserError(
                    f"images of {' x '.join(map(str, space))}: a U-Net of {len(self.mults)} levels halves each axis "
                    f"{len(self.mults) - 1} times, so axis {axis} should be a multiple of {whole}, {near} say; pad or "
                    f"crop the images, use fewer levels, or put {axis} into keep_axes."
                )
        if label is not None and self.n_classes is None:
            raise UserError("there are labels, but the U-Net has n_classes=None; give the number of classes.")
