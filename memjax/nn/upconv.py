"""How a transposed convolution makes images larger: by the stride exactly, with the border repeated first."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

from memjax.nn import phases, slices
from memjax.nn.conv import LAYOUT
from memjax.nn.once import once
from memjax.nn.padding import padded, pads


def upconv(
    x: Float[Array, "b *space c"], kernel: Float[Array, "*taps c d"], *, strides: int | Sequence[int]
) -> Float[Array, "b *larger d"]:
    """Repeat the border of x, convolve transposed, and crop taps - 1 positions on every side.

    As the decoder of Khader et al. 2023 (Sci Rep 13:7303) does, as released: taps - stride positions of border for each
    axis, the larger half before. Lengths come out times the stride.

    Args:
      x: images in two or three spatial axes.
      kernel: before cropping, `kernel[tap]` takes position i of x, border included, to position i * stride + tap: the
        axes of PyTorch's weight are (c, d, *taps).
      strides: along each axis one, with any number of taps, or two, with four.
    """
    axes, taps = x.ndim - 2, kernel.shape[:-2]
    stride = (strides,) * axes if isinstance(strides, int) else tuple(strides)
    assert all(s == 1 or (k, s) == (4, 2) for k, s in zip(taps, stride, strict=True)), "lengths would not be exact"
    x = padded(x, pads(taps, stride, "same"), edge=True)
    how = {"strides": stride}
    return lax.platform_dependent(
        x, kernel, cpu=functools.partial(_by_phases, **how), default=functools.partial(_plain, **how)
    )


class UpConv(nn.Module):
    """A transposed convolution with its kernel `[*kernel_size, c, features]` and bias, both float32: `upconv`."""

    features: int
    kernel_size: int | Sequence[int] = 4
    strides: int | Sequence[int] = 2
    use_bias: bool = True
    kernel_init: Callable[..., Any] = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
    dtype: Any = None  # of the computation; None: that of x

    @nn.compact
    def __call__(self, x: Float[Array, "b *space c"]) -> Float[Array, "b *larger d"]:
        """Return x at a higher resolution, plus the bias."""
        axes = x.ndim - 2
        taps = (self.kernel_size,) * axes if isinstance(self.kernel_size, int) else tuple(self.kernel_size)
        dtype = x.dtype if self.dtype is None else self.dtype
        kernel = self.param("kernel", self.kernel_init, (*taps, x.shape[-1], self.features), jnp.float32)
        y = upconv(x.astype(dtype), kernel.astype(dtype), strides=self.strides)
        if self.use_bias:
            y += self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32).astype(dtype)
        return once(y)


def _plain(x: Array, kernel: Array, strides: Sequence[int]) -> Array:
    axes = x.ndim - 2
    flipped = jnp.flip(kernel, range(axes))
    return lax.conv_general_dilated(
        x, flipped, (1,) * axes, [(0, 0)] * axes, lhs_dilation=strides, dimension_numbers=LAYOUT[axes]
    )


def _by_phases(x: Array, kernel: Array, strides: Sequence[int]) -> Array:
    y = phases.positions(slices.convolve(x, phases.up(kernel, strides), ((0, 0),) * len(strides)), strides)
    inside = (slice(s - 1, n - s + 1) for n, s in zip(y.shape[1:-1], strides, strict=True))
    return y[(slice(None), *inside)]
