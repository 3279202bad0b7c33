"""How a convolution is computed: one function and one layer, two or three spatial axes, channels last.

On GPUs and TPUs XLA's own convolution is the best there is. On processors it does every multiplication, in three axes
at a seventh of the speed: there three taps along each axis go by Winograd's filtering, and other volumes by slices.
Measured in BUILD_NOTES.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

from memjax.nn import winograd
from memjax.nn.once import once

_LAYOUT = {2: ("NHWC", "HWIO", "NHWC"), 3: ("NDHWC", "DHWIO", "NDHWC")}

_FEWEST = 24  # channels on either side: with fewer, in two axes, combining rows takes longer than it saves


def conv(
    x: Float[Array, "b *space c"], kernel: Float[Array, "*taps c d"], *, strides: int | Sequence[int] = 1
) -> Float[Array, "b *strided d"]:
    """Convolve with zeros around the image, (k - 1) // 2 of them on both sides of an axis with k taps.

    With odd k an axis of length n comes out as ceil(n / stride). Differentiable in reverse mode, any number of times.
    """
    axes, taps = x.ndim - 2, kernel.shape[:-2]
    stride = (strides,) * axes if isinstance(strides, int) else tuple(strides)
    plain = functools.partial(_plain, stride=stride)
    if math.prod(stride) == 1:
        if math.prod(taps) == 1:
            return _pointwise(x, kernel)
        if set(taps) == {winograd.TAPS} and x.dtype == jnp.float32 and (axes == 2 or x.shape[1] > 1):
            return _three_taps(x, kernel)
    if axes == 3:
        return lax.platform_dependent(x, kernel, cpu=functools.partial(_by_slices, stride=stride), default=plain)
    return plain(x, kernel)


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
        return once(y)


def _plain(x: Array, kernel: Array, stride: Sequence[int] | None = None) -> Array:
    axes = x.ndim - 2
    padding = [((k - 1) // 2, (k - 1) // 2) for k in kernel.shape[:-2]]
    return lax.conv_general_dilated(x, kernel, stride or (1,) * axes, padding, dimension_numbers=_LAYOUT[axes])


def _pointwise(x: Array, kernel: Array) -> Array:
    # Flat: with more axes XLA would transpose all of x for the kernel's gradient.
    return (x.reshape(-1, x.shape[-1]) @ kernel.reshape(kernel.shape[-2:])).reshape(*x.shape[:-1], -1)


def _by_slices(x: Array, kernel: Array, stride: Sequence[int]) -> Array:
    """Convolve a volume as a sum over the taps of its first axis, each of which convolves slices as images."""
    b, n, *image, c = x.shape
    taps, (step, *rest) = kernel.shape[0], stride
    pad = (taps - 1) // 2
    out = (n + 2 * pad - taps) // step + 1
    x = jnp.pad(x, ((0, 0), (pad, pad), (0, 0), (0, 0), (0, 0)))
    slices = [lax.slice_in_dim(x, i, i + step * (out - 1) + 1, step, 1).reshape(-1, *image, c) for i in range(taps)]
    y = sum(_plain(part, tap, rest) for part, tap in zip(slices, kernel, strict=True))
    return jnp.asarray(y).reshape(b, out, *jnp.shape(y)[1:])


@jax.custom_vjp
def _three_taps(x: Array, kernel: Array) -> Array:
    # By the platform that is compiled for, which need not be the one that compiles.
    return lax.platform_dependent(x, kernel, cpu=_on_processors, default=_plain)


def _on_processors(x: Array, kernel: Array) -> Array:
    return winograd.convolve(x, kernel) if _is_filtered(x, kernel) else _plain(x, kernel)


def _is_filtered(x: Array, kernel: Array) -> bool:
    """Say whether Winograd's filtering saves time."""
    return x.ndim == 5 or (x.shape[1] >= winograd.ROWS and min(kernel.shape[-2:]) >= _FEWEST)


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _three_taps(x, kernel), (x, kernel)


def _backward(saved: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    return lax.platform_dependent(*saved, dy, cpu=_gradients_on_processors, default=_plain_gradients)


_three_taps.defvjp(_forward, _backward)


def _plain_gradients(x: Array, kernel: Array, dy: Array) -> tuple[Array, Array]:
    return jax.vjp(_plain, x, kernel)[1](dy)


def _gradients_on_processors(x: Array, kernel: Array, dy: Array) -> tuple[Array, Array]:
    back = jnp.swapaxes(jnp.flip(kernel, range(kernel.ndim - 2)), -1, -2)
    of_kernel = winograd.kernel_gradient(x, dy) if _is_filtered(x, kernel) else kernel_gradient(x, dy, pad=1)
    return _three_taps(dy, back), of_kernel


def kernel_gradient(x: Float[Array, "b h w c"], dy: Float[Array, "b h2 w2 d"], *, pad: int) -> Float[Array, "k k2 c d"]:
    """Return the gradient of the kernel with which x, `pad` zeros around it, was convolved; for processors.

    A convolution in which images and channels change places, and they do so outright: the layouts that would spare it
    are a hundred times slower wherever XLA for processors does not change them itself, in `lax.cond` and in loops.
    """
    swapped = jnp.transpose(x, (3, 1, 2, 0)), jnp.transpose(dy, (1, 2, 0, 3))
    y = lax.conv_general_dilated(*swapped, (1, 1), [(pad, pad)] * 2, dimension_numbers=_LAYOUT[2])
    return jnp.transpose(y, (1, 2, 0, 3))
