"""Layers whose weights all learn at the same rate: equalized learning rate, and the activation that goes with it.

Karras et al., 2018 (arXiv 1710.10196, section 4.1): weights are standard normal, and divided by the root of their
number of inputs where they are used. Adam moves every weight by as much whatever its gradient's scale, so the scale
must not be in the weight.
"""

import math
from typing import Any, Literal

import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

from memjax.nn.conv import conv
from memjax.nn.fir import FIR, conv_down, conv_up, downsample, upsample

_SLOPE = 0.2  # of the activation below zero


class EqualDense(nn.Module):
    """A matrix and a bias; with x of unit second moment so is the result at initialization.

    A learning-rate multiplier makes weights and bias larger by its inverse, and what is computed with them smaller by
    it: the same result, which moves so much more slowly.
    """

    features: int
    lr_multiplier: float = 1.0
    use_bias: bool = True
    bias_init: float = 0.0
    dtype: Any = None  # of the computation; None: that of x

    @nn.compact
    def __call__(self, x: Float[Array, "*b c"]) -> Float[Array, "*b d"]:
        """Return x times the matrix, plus the bias."""
        dtype = x.dtype if self.dtype is None else self.dtype
        shape, scale = (x.shape[-1], self.features), self.lr_multiplier
        kernel = self.param("kernel", nn.initializers.normal(1 / scale), shape, jnp.float32)
        y = x.astype(dtype) @ (kernel * (scale / math.sqrt(x.shape[-1]))).astype(dtype)
        if self.use_bias:
            init = nn.initializers.constant(self.bias_init / scale)
            y += (self.param("bias", init, (self.features,), jnp.float32) * scale).astype(dtype)
        return y


class EqualConv(nn.Module):
    """A convolution and a bias, at the same, twice or half the resolution.

    A kernel size other than three and a change of resolution go together only in a kernel size of one.
    """

    features: int
    kernel_size: int = 3
    resample: Literal["up", "down"] | None = None
    taps: tuple[float, ...] = FIR
    use_bias: bool = True
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        """Return x convolved, plus the bias."""
        dtype = x.dtype if self.dtype is None else self.dtype
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.normal(1), shape, jnp.float32)
        y = resampling_conv(
            x.astype(dtype), (kernel / math.sqrt(math.prod(shape[:3]))).astype(dtype), self.resample, self.taps
        )
        if self.use_bias:
            y += self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32).astype(dtype)
        return y


def resampling_conv(
    x: Float[Array, "b h w c"],
    kernel: Float[Array, "k k c d"],
    resample: Literal["up", "down"] | None,
    taps: tuple[float, ...],
) -> Float[Array, "b h2 w2 d"]:
    """Return x convolved, at the same, twice or half the resolution."""
    if resample is None:
        return conv(x, kernel)
    if len(kernel) == 1:  # it commutes with the filter: go where there are fewer positions
        return upsample(conv(x, kernel), taps) if resample == "up" else conv(downsample(x, taps), kernel)
    return (conv_up if resample == "up" else conv_down)(x, kernel, taps)


def leaky_relu(
    x: Float[Array, "*shape"], gain: float = math.sqrt(2), clamp: float | None = None
) -> Float[Array, "*shape"]:
    """Return max(x, 0.2 x) times a gain that keeps the second moment (1.04 times), clamped to -clamp .. clamp."""
    y = jnp.maximum(x, _SLOPE * x) * gain
    return y if clamp is None else lax.clamp(jnp.asarray(-clamp, y.dtype), y, jnp.asarray(clamp, y.dtype))


def unit_moment(x: Float[Array, "*b c"]) -> Float[Array, "*b c"]:
    """Return x divided by the root of its mean square over the last axis."""
    return x * lax.rsqrt(jnp.mean(jnp.square(x), -1, keepdims=True) + 1e-8)
