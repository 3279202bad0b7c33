"""The synthesis network: from one style for each layer to images, as StyleGAN2 draws them or as StyleGAN does."""

import itertools
import math
from collections.abc import Sequence
from typing import Any, Literal

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from memjax.errors import UserError
from memjax.models.stylegan_sides import FIRST, check_architecture, precision, sides, width
from memjax.nn.equalized import EqualConv, EqualDense, leaky_relu
from memjax.nn.fir import FIR, upsample
from memjax.nn.modulated import adain, modulated_conv


class Synthesis(nn.Module):
    """From a learned constant of 4 x 4 up to the image, two convolutions a resolution, each with its style and noise.

    StyleGAN2 (arXiv 1912.04958) modulates the kernels and sums images of all resolutions, or features past two
    convolutions; StyleGAN (1812.04948) normalises features, and its grown network is `plain`: one image at the end.
    The constant is standard normal in both, where StyleGAN has ones.
    """

    resolution: int  # of the images: a power of two, 16 to 1024
    channels: int  # of the images
    base: int = 32768  # features at one resolution have base / side channels,
    max_channels: int = 512  # but no more than this
    architecture: str = "skip"  # "residual", "plain"
    style: str = "modulated"  # StyleGAN2; "adain": StyleGAN
    taps: tuple[float, ...] = FIR
    low_precision: int = 0  # how many of the highest resolutions are computed in `dtype`; the rest, and rgb: float32
    dtype: str = "float32"
    clamp: float | None = None  # of features, to protect low precision; 256 in 2006.06676

    @property
    def styles(self) -> int:
        """How many styles an image has: one for each convolution, and one that only the last image is drawn with."""
        return 2 * len(sides(self.resolution))

    @property
    def noise_sides(self) -> list[int]:
        """The side of each layer's noise."""
        twice = [side for side in sides(self.resolution) for _ in range(2)]
        return twice if self.style == "adain" else twice[1:]  # StyleGAN2 has one layer at 4 x 4

    @nn.compact
    def __call__(
        self, ws: Float[Array, "b styles w"], noise: Sequence[Float[Array, "b _side _side 1"]] | None = None
    ) -> Float[Array, "b h w2 c"]:
        """Return the images, float32; without noise, those in the middle of what noise makes of them.

        Raises:
          UserError: there is no such resolution, architecture or style.
        """
        check_architecture(self.architecture)
        if self.style not in ("modulated", "adain"):
            raise UserError(f"style={self.style!r} is not known; give modulated (StyleGAN2) or adain (StyleGAN).")
        assert ws.shape[1] == self.styles, (ws.shape, self.styles)
        number = itertools.count()  # of the layer: of its style and noise

        def layer(x: Array, name: str, resample: Literal["up"] | None = None, kernel_size: int = 3) -> Array:
            i = next(number)
            return StyledConv(
                width(side, self.base, self.max_channels), self.style, kernel_size, resample, self.taps, self.clamp,
                name=name,
            )(x, ws[:, i], None if noise is None else noise[i])  # fmt: skip

        shape = (FIRST, FIRST, width(FIRST, self.base, self.max_channels))
        x = self.param("constant", nn.initializers.normal(1), shape, jnp.float32)
        x, rgb = jnp.broadcast_to(x, (len(ws), *shape)), None
        for k, side in enumerate(sides(self.resolution)):
            x = x.astype(precision(side, self.resolution, self.low_precision, self.dtype))
            before = x
            if side > FIRST:
                x = layer(x, f"conv_{side}_0", "up")
            elif self.style == "adain":
                x = layer(x, f"conv_{side}_0", kernel_size=0)
            x = layer(x, f"conv_{side}_1")
            if self.architecture == "residual" and side > FIRST:
                past = EqualConv(x.shape[-1], 1, "up", self.taps, use_bias=False, name=f"past_{side}")(before)
                x = (x + past) * math.sqrt(0.5)
            if self.architecture == "skip" or side == self.resolution:
                drawn = ToRgb(self.channels, self.style, self.clamp, name=f"rgb_{side}")(x, ws[:, 2 * k + 1])
                rgb = drawn if rgb is None else upsample(rgb, self.taps) + drawn
        assert rgb is not None
        return rgb


class StyledConv(nn.Module):
    """A convolution, noise, the activation, and the style before (modulated) or after them (adain)."""

    features: int
    style: str
    kernel_size: int = 3  # 0: no convolution
    resample: Literal["up"] | None = None
    taps: tuple[float, ...] = FIR
    clamp: float | None = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], w: Float[Array, "b w_dim"], noise: Float[Array, "b h2 w2 1"] | None
    ) -> Float[Array, "b h2 w2 d"]:
        """Return features in the precision of x."""
        if self.style == "modulated":
            style = EqualDense(x.shape[-1], bias_init=1.0, name="affine")(w)
            kernel = _kernel(self, (self.kernel_size, self.kernel_size, x.shape[-1], self.features))
            x = modulated_conv(x, kernel, style, resample=self.resample, taps=self.taps)
        elif self.kernel_size:
            x = EqualConv(self.features, self.kernel_size, self.resample, self.taps, use_bias=False, name="conv")(x)
        # One number a layer in StyleGAN2, one a channel in StyleGAN.
        strength_shape = () if self.style == "modulated" else (self.features,)
        strength = self.param("strength", nn.initializers.zeros_init(), strength_shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32)
        if noise is not None:
            x += (noise * strength).astype(x.dtype)
        x = leaky_relu(x + bias.astype(x.dtype), clamp=self.clamp)
        if self.style == "adain":
            scale, shift = jnp.split(EqualDense(2 * self.features, name="affine")(w), 2, -1)
            x = adain(x, scale, shift)
        return x


class ToRgb(nn.Module):
    """What features look like: a convolution over single positions, modulated but not demodulated in StyleGAN2."""

    channels: int
    style: str
    clamp: float | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], w: Float[Array, "b w_dim"]) -> Float[Array, "b h w channels"]:
        """Return an image, float32."""
        if self.style == "modulated":
            style = EqualDense(x.shape[-1], bias_init=1.0, name="affine")(w)
            y = modulated_conv(x, _kernel(self, (1, 1, x.shape[-1], self.channels)), style, demodulate=False)
        else:
            y = EqualConv(self.channels, 1, use_bias=False, name="conv")(x)
        y = y.astype(jnp.float32) + self.param("bias", nn.initializers.zeros_init(), (self.channels,), jnp.float32)
        return y if self.clamp is None else jnp.clip(y, -self.clamp, self.clamp)


def _kernel(module: nn.Module, shape: tuple[int, ...]) -> Any:
    """Return a standard normal parameter, divided by the root of its number of inputs."""
    return module.param("kernel", nn.initializers.normal(1), shape, jnp.float32) / math.sqrt(math.prod(shape[:-1]))
