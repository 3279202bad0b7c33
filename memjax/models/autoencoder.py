"""The autoencoder that latent diffusion works in: the 3-D VQ-GAN of Khader et al., or the same with a KL bottleneck.

Khader et al., 2023 (Sci Rep 13:7303), whose networks Dar et al. (arXiv 2307.01148) took; van den Oord et al., 2017
(arXiv 1711.00937) for the codes; Rombach et al., 2022 (arXiv 2112.10752) for the Gaussian. What ran, not what their
settings say: 16 features at full resolution, doubled at each halving; borders are repeated, not filled with zeros.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Key

from memjax.build import build
from memjax.errors import UserError
from memjax.nn.conv import Conv
from memjax.nn.norm import GroupNorm
from memjax.nn.upconv import UpConv
from memjax.objectives import quantize
from memjax.trees import Tree

BOTTLENECKS = ("vq", "kl")

_EPSILON = 1e-6  # of the norms
_MOST_LOG_VARIANCE = 20.0  # of the Gaussian, either way: Rombach et al.'s code


class Block(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))), as many features as x has."""

    groups: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b *space c"]) -> Float[Array, "b *space c"]:
        """Return x with what the block adds."""
        y = x
        for name in ("in", "out"):
            y = GroupNorm(self.groups, _EPSILON, silu=True, dtype=self.dtype, name=f"norm_{name}")(y)
            y = Conv(x.shape[-1], padding="same", edge=True, dtype=self.dtype, name=f"conv_{name}")(y)
        return x + y


class Encoder(nn.Module):
    """Halve each axis as often as it is to be, doubling the features; then one linear map to the latent's channels."""

    features: int
    strides: Sequence[Sequence[int]]  # by stage, of each axis
    channels: int  # of what comes out
    groups: int
    remat: bool
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b *space c"]) -> Float[Array, "b *small d"]:
        """Return the latent, before any bottleneck, float32."""
        block = nn.remat(Block) if self.remat else Block
        y = Conv(self.features, padding="same", edge=True, dtype=self.dtype, name="stem")(x)
        for i, strides in enumerate(self.strides):
            y = Conv(
                self.features * 2 ** (i + 1), 4, strides, padding="same", edge=True, dtype=self.dtype, name=f"down_{i}"
            )(y)
            y = block(self.groups, self.dtype, name=f"block_{i}")(y)
        y = GroupNorm(self.groups, _EPSILON, silu=True, dtype=self.dtype, name="norm")(y)
        return Conv(self.channels, 1, dtype=self.dtype, name="out")(y).astype(jnp.float32)


class Decoder(nn.Module):
    """From a latent to an image: the encoder's stages backwards, with two blocks each."""

    features: int
    strides: Sequence[Sequence[int]]  # by stage of the encoder
    channels: int  # of the images
    groups: int
    remat: bool
    dtype: Any

    @nn.compact
    def __call__(self, h: Float[Array, "b *small d"]) -> Float[Array, "b *space c"]:
        """Return the image, float32, about [-1, 1]: nothing limits it."""
        block = nn.remat(Block) if self.remat else Block
        stages = len(self.strides)
        y = Conv(self.features * 2**stages, 1, dtype=self.dtype, name="in")(h)
        y = GroupNorm(self.groups, _EPSILON, silu=True, dtype=self.dtype, name="norm")(y)
        for i, strides in reversed(list(enumerate(self.strides))):
            y = UpConv(self.features * 2 ** (i + 1), 4, strides, dtype=self.dtype, name=f"up_{i}")(y)
            for j in range(2):
                y = block(self.groups, self.dtype, name=f"block_{i}_{j}")(y)
        return Conv(self.channels, padding="same", edge=True, dtype=self.dtype, name="out")(y).astype(jnp.float32)


@dataclasses.dataclass(frozen=True)
class Autoencoder:
    """Images of `shape` [*space, channels] and their latents of `latent_shape`. Make with `autoencoder`.

    Parameters are {"encoder", "decoder"}. For use there are weights: with a codebook, these and its "codes".
    """

    shape: tuple[int, ...]
    latent_shape: tuple[int, ...]
    bottleneck: str
    encoder: Encoder
    decoder: Decoder

    def init(self, key: Key[Array, ""]) -> Tree:
        """Return the first parameters."""
        first, second = jax.random.split(key)
        return {
            "encoder": self.encoder.init(first, jnp.zeros((1, *self.shape)))["params"],
            "decoder": self.decoder.init(second, jnp.zeros((1, *self.latent_shape)))["params"],
        }

    def encode(self, params: Tree, x: Float[Array, "b *space c"]) -> Float[Array, "b *small d"]:
        """Return the latent: with a codebook before it is quantised, else the mean of the Gaussian."""
        h = self._encoded(params, x)
        return jnp.split(h, 2, -1)[0] if self.bottleneck == "kl" else h

    def posterior(
        self, params: Tree, x: Float[Array, "b *space c"]
    ) -> tuple[Float[Array, "b *small d"], Float[Array, "b *small d"]]:
        """Return mean and log variance of the Gaussian that an image is encoded as; for the KL bottleneck."""
        mean, log_variance = jnp.split(self._encoded(params, x), 2, -1)
        return mean, jnp.clip(log_variance, -_MOST_LOG_VARIANCE, _MOST_LOG_VARIANCE)

    def decode(self, params: Tree, h: Float[Array, "b *small d"]) -> Float[Array, "b *space c"]:
        """Return images of latents as they come out of the bottleneck; nothing limits them to [-1, 1]."""
        return cast("Array", self.decoder.apply({"params": params["decoder"]}, h))

    def images(self, weights: Tree, h: Float[Array, "b *small d"]) -> Float[Array, "b *space c"]:
        """Return images in [-1, 1] of any latents: quantised first, where there is a codebook."""
        if self.bottleneck == "vq":
            h = weights["codes"][quantize.nearest(h, weights["codes"])]
        return jnp.clip(self.decode(weights, h), -1, 1)

    def _encoded(self, params: Tree, x: Float[Array, "b *space c"]) -> Float[Array, "b *small d"]:
        return cast("Array", self.encoder.apply({"params": params["encoder"]}, x))


def autoencoder(shape: tuple[int, ...], block: Mapping[str, Any]) -> Autoencoder:
    """Return the autoencoder that a config's block `autoencoder` describes, for images of this shape."""
    return build(_made, block, "autoencoder", shape=shape)


def _made(
    *,
    shape: tuple[int, ...],
    downsample: Sequence[int],
    features: int = 16,
    latent_channels: int = 8,
    bottleneck: str = "vq",
    groups: int = 32,
    remat: bool = False,
    dtype: str = "float32",
) -> Autoencoder:
    """Make one.

    Args:
      shape: of an image, [*space, channels].
      downsample: by how much each axis shrinks: powers of two.
      features: at full resolution.
      latent_channels: of a latent.
      bottleneck: `vq`, a codebook, or `kl`, a Gaussian.
      groups: of group norm; as many as channels at most.
      remat: compute blocks again in the backward pass.
      dtype: of the computation; parameters and results are float32.

    Raises:
      UserError: the images do not fit, or a value is out of range.
    """
    space = shape[:-1]
    by = " x ".join(map(str, downsample))
    if len(downsample) != len(space):
        raise UserError(
            f"config.autoencoder.downsample={tuple(downsample)} is for images of {len(downsample)} axes, these have "
            f"{len(space)} ({' x '.join(map(str, space))}); give one factor an axis, or a store of "
            f"{'volumes' if len(downsample) > len(space) else 'pictures'}."
        )
    if bottleneck not in BOTTLENECKS:
        raise UserError(f"config.autoencoder.bottleneck={bottleneck!r} is not known; give vq or kl.")
    if any(factor < 1 or factor & (factor - 1) for factor in downsample) or max(downsample) < 2:
        raise UserError(
            f"config.autoencoder.downsample={tuple(downsample)} must be powers of two, one of them above 1."
        )
    if features < 1 or latent_channels < 1:
        raise UserError(
            f"config.autoencoder.features={features} and latent_channels={latent_channels} must be 1 or more."
        )
    for axis, (length, factor) in enumerate(zip(space, downsample, strict=True)):
        if length < factor or length % factor:
            raise UserError(
                f"images of {' x '.join(map(str, space))} do not shrink by {by}: axis {axis} must be a multiple of "
                f"{factor}; prepare them with another --size, or shrink them less."
            )
    strides = tuple(
        tuple(2 if factor >> (stage + 1) else 1 for factor in downsample)
        for stage in range(int(math.log2(max(downsample))))
    )
    small = tuple(length // factor for length, factor in zip(space, downsample, strict=True))
    both = {"features": features, "strides": strides, "groups": groups, "remat": remat, "dtype": jnp.dtype(dtype)}
    out = latent_channels * (2 if bottleneck == "kl" else 1)
    return Autoencoder(
        shape,
        (*small, latent_channels),
        bottleneck,
        Encoder(channels=out, **both),
        Decoder(channels=shape[-1], **both),
    )
