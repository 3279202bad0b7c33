"""How a convolution is computed: one function and one layer, two or three spatial axes, channels last."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

_LAYOUT = {1: ("NHC", "HIO", "NHC"), 2: ("NHWC", "HWIO", "NHWC"), 3: ("NDHWC", "DHWIO", "NDHWC")}


def conv(
    x: Float[Array, "b *space c"], kernel: Float[Array, "*taps c d"], *, strides: int | Sequence[int] = 1
) -> Float[Array, "b *strided d"]:
    """Convolve with zeros around the image, (k - 1) // 2 of them on both sides of an axis with k taps.

    With odd k an axis of length n comes out as ceil(n / stride).
    """
    axes = x.ndim - 2
    stride = (strides,) * axes if isinstance(strides, int) else tuple(strides)
    padding = [((k - 1) // 2, (k - 1) // 2) for k in kernel.shape[:-2]]
    return lax.conv_general_dilated(x, kernel, stride, padding, dimension_numbers=_LAYOUT[axes])


class Conv(nn.Module):
    """A convolution with its kernel `[*kernel_size, c, features]` and bias, both float32."""

    features: int
    kernel_size: int | Sequence[int] = 3
    strides: int | Sequence[int] = 1
    use_bias: bool = True
    kernel_init: Callable[..., Any] = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
    dtype: Any = None  # of the computation; None: that of x

    @nn.compact
    def __call__(self, x: Float[Array, "b *space c"]) -> Float[Array, "b *strided d"]:
        """Return x convolved, plus the bias."""
        axes = x.ndim - 2
        taps = (self.kernel_size,) * axes if isinstance(self.kernel_size, int) else tuple(self.kernel_size)
        dtype = x.dtype if self.dtype is None else self.dtype
        kernel = self.param("kernel", self.kernel_init, (*taps, x.shape[-1], self.features), jnp.float32)
        y = conv(x.astype(dtype), kernel.astype(dtype), strides=self.strides)
        if self.use_bias:
            y += self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32).astype(dtype)
        return y
