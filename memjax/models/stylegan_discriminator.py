"""The discriminator: one logit an image, higher for more real, with a class where there are any."""

import math
from typing import Literal

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from memjax.errors import UserError
from memjax.models.stylegan_mapping import Mapping, check_label
from memjax.models.stylegan_sides import FIRST, check_architecture, precision, sides, width
from memjax.nn.equalized import EqualConv, EqualDense, leaky_relu
from memjax.nn.fir import FIR, downsample


class Discriminator(nn.Module):
    """From the image down to 4 x 4, two convolutions a resolution, then two dense layers.

    StyleGAN2 (arXiv 1912.04958) goes past them with residual connections, or feeds the image in at each resolution
    (`skip`); StyleGAN (1812.04948) is `plain`. A class is judged by the inner product of what the image says and what
    the class maps to (2006.06676).
    """

    resolution: int  # of the images: a power of two, 16 to 1024
    channels: int  # of the images
    base: int = 32768  # features at one resolution have base / side channels,
    max_channels: int = 512  # but no more than this
    architecture: str = "residual"  # "skip", "plain"
    group: int = 4  # consecutive images that minibatch standard deviation compares; 1: none
    group_channels: int = 1
    taps: tuple[float, ...] = FIR
    low_precision: int = 0  # how many of the highest resolutions are computed in `dtype`; the rest is float32
    dtype: str = "float32"
    clamp: float | None = None  # of features, to protect low precision; 256 in 2006.06676
    depth: int = 8  # of the mapping of classes
    n_classes: int | None = None

    @nn.compact
    def __call__(self, images: Float[Array, "b h w c"], label: Int[Array, "b"] | None = None) -> Float[Array, "b"]:
        """Return the logits, float32.

        Raises:
          UserError: the images or their number do not fit the network (see the message), or labels and classes do not.
        """
        self._check(images.shape)
        check_label(label, self.n_classes)

        def conv(
            x: Array, name: str, features: int, kernel_size: int = 3, resample: Literal["down"] | None = None
        ) -> Array:
            x = EqualConv(features, kernel_size, resample, self.taps, name=name)(x)
            return leaky_relu(x, clamp=self.clamp)

        def channels(side: int) -> int:
            return width(side, self.base, self.max_channels)

        x, rgb = None, images
        for side in reversed(sides(self.resolution)):
            dtype = precision(side, self.resolution, self.low_precision, self.dtype)
            x = x if x is None else x.astype(dtype)
            if x is None or self.architecture == "skip":
                seen = conv(rgb.astype(dtype), f"rgb_{side}", channels(side), kernel_size=1)
                x = seen if x is None else x + seen
            if side == FIRST:
                break
            before = x
            x = conv(x, f"conv_{side}_0", channels(side))
            x = conv(x, f"conv_{side}_1", channels(side // 2), resample="down")
            if self.architecture == "residual":
                past = EqualConv(x.shape[-1], 1, "down", self.taps, use_bias=False, name=f"past_{side}")(before)
                x = (x + past) * math.sqrt(0.5)
            if self.architecture == "skip":
                rgb = downsample(rgb, self.taps)
        assert x is not None and x.dtype == jnp.float32

        if self.group > 1:
            x = jnp.concatenate([x, minibatch_std(x, self.group, self.group_channels)], -1)
        x = conv(x, f"conv_{FIRST}", channels(FIRST)).reshape(len(x), -1)
        x = leaky_relu(EqualDense(channels(FIRST), name="dense")(x))
        if self.n_classes is None:
            return EqualDense(1, name="out")(x)[:, 0]
        x = EqualDense(channels(FIRST), name="out")(x)
        of_class = Mapping(0, channels(FIRST), self.depth, n_classes=self.n_classes, name="mapping")(None, label)
        return jnp.sum(x * of_class, -1) / math.sqrt(channels(FIRST))

    def _check(self, shape: tuple[int, ...]) -> None:
        """Raise `UserError` if this network is not for images of this shape `[b, h, w, c]`."""
        check_architecture(self.architecture)
        b, *image = shape
        if image != [self.resolution, self.resolution, self.channels]:
            raise UserError(
                f"images of {' x '.join(map(str, image))}, the discriminator is for "
                f"{self.resolution} x {self.resolution} x {self.channels}; make them the same."
            )
        if b % self.group:
            near = [n * self.group for n in (b // self.group, b // self.group + 1) if n]
            raise UserError(
                f"a batch of {b} images does not divide into groups of {self.group} (minibatch standard deviation); "
                f"give {' or '.join(map(str, near))} images, or set group to {math.gcd(b, self.group)}."
            )


def minibatch_std(x: Float[Array, "b h w c"], group: int, group_channels: int = 1) -> Float[Array, "b h w f"]:
    """Return how much features differ within each group of consecutive images: arXiv 1710.10196, section 3.

    The standard deviation over the images of a group, averaged over positions and over c / f channels: one number for
    each group and map. Consecutive, so that groups lie on one device however the batch is split.
    """
    b, h, w, c = x.shape
    parts = x.reshape(b // group, group, h, w, group_channels, c // group_channels)
    variance = jnp.mean(jnp.square(parts - jnp.mean(parts, 1, keepdims=True)), 1)
    std = jnp.mean(jnp.sqrt(variance + 1e-8), (1, 2, 4))  # [groups, f]
    return jnp.broadcast_to(jnp.repeat(std, group, 0)[:, None, None], (b, h, w, group_channels))
