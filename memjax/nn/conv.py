"""How a convolution is computed: one function and one layer, two or three spatial axes, channels last.

On GPUs and TPUs XLA's own convolution is the best there is. On processors it does every multiplication, in three axes
at a seventh of the speed: there three taps along each axis go by Winograd's filtering, strides become channels, and
other volumes go by slices. Measured in BUILD_NOTES.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

from memjax.nn import phases, slices, winograd
from memjax.nn.once import once
from memjax.nn.padding import Padding, padded, pads
from memjax.nn.slices import kernel_gradient

LAYOUT = {2: ("NHWC", "HWIO", "NHWC"), 3: ("NDHWC", "DHWIO", "NDHWC")}

_FEWEST = 24  # channels on either side: with fewer, in two axes, combining rows takes longer than it saves
_NARROW = 2  # positions along one of the last two axes: XLA convolves so few at a fiftieth of its speed

_Around = tuple[tuple[int, int], ...]


def conv(
    x: Float[Array, "b *space c"],
    kernel: Float[Array, "*taps c d"],
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding = None,
    edge: bool = False,
) -> Float[Array, "b *strided d"]:
    """Convolve, with zeros around the image or with its border repeated; differentiable in reverse mode, any times.

    Args:
      x: images in two or three spatial axes.
      kernel: its taps are not flipped: y[i] is the sum of x[i * stride + tap - before] @ kernel[tap].
      strides: along each axis.
      padding: how many positions go around, before and after each axis. None: (k - 1) // 2 on both sides of an axis
        with k taps, so that with odd k a length n comes out as ceil(n / stride). "same": k - stride in all, the larger
        half before, so that n comes out as n / stride where the stride divides it, for any k.
      edge: the border is repeated, in place of zeros.
    """
    axes, taps = x.ndim - 2, kernel.shape[:-2]
    stride = (strides,) * axes if isinstance(strides, int) else tuple(strides)
    around = pads(taps, stride, padding)
    unit = math.prod(stride) == 1
    if unit and math.prod(taps) == 1 and not any(map(any, around)):
        return _pointwise(x, kernel)
    if axes == 3 and (taps[0], stride[0], around[0]) == (1, 1, (0, 0)):
        images = x.reshape(-1, *x.shape[2:])
        y = conv(images, kernel[0], strides=stride[1:], padding=around[1:], edge=edge)
        return y.reshape(*x.shape[:2], *y.shape[1:])

    three = unit and set(taps) == {winograd.TAPS} and set(around) == {(1, 1)} and x.dtype == jnp.float32
    narrow = unit and min(x.shape[-3:-1]) <= _NARROW
    if three and not edge and not narrow and (axes == 2 or x.shape[1] > 1):
        return _three_taps(x, kernel)
    how = {"stride": stride, "around": around, "edge": edge}
    if narrow:
        on_processors = functools.partial(_by_product, around=around, edge=edge)
    elif three and edge and min(kernel.shape[-2:]) > 1 and _is_filtered(x, kernel):
        on_processors = winograd.convolve_edge
    elif all(k % s == 0 for k, s in zip(taps, stride, strict=True)):
        on_processors = functools.partial(_by_blocks, **how)
    elif axes == 3:
        on_processors = functools.partial(_by_slices, **how)
    else:
        return _plain(x, kernel, **how)
    return lax.platform_dependent(x, kernel, cpu=on_processors, default=functools.partial(_plain, **how))


class Conv(nn.Module):
    """A convolution with its kernel `[*kernel_size, c, features]` and bias, both float32."""

    features: int
    kernel_size: int | Sequence[int] = 3
    strides: int | Sequence[int] = 1
    padding: Padding = None  # as of `conv`: None, "same", or two numbers for each axis
    edge: bool = False  # the border is repeated around the image, in place of zeros
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
        y = conv(x.astype(dtype), kernel.astype(dtype), strides=self.strides, padding=self.padding, edge=self.edge)
        if self.use_bias:
            y += self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32).astype(dtype)
        return once(y)


def _plain(
    x: Array, kernel: Array, stride: Sequence[int] | None = None, around: _Around | None = None, edge: bool = False
) -> Array:
    axes = x.ndim - 2
    around = pads(kernel.shape[:-2], (1,) * axes, None) if around is None else around
    if edge:
        x, around = padded(x, around, edge=True), ((0, 0),) * axes
    return lax.conv_general_dilated(x, kernel, stride or (1,) * axes, around, dimension_numbers=LAYOUT[axes])


def _pointwise(x: Array, kernel: Array) -> Array:
    # Flat: with more axes XLA would transpose all of x for the kernel's gradient.
    return (x.reshape(-1, x.shape[-1]) @ kernel.reshape(kernel.shape[-2:])).reshape(*x.shape[:-1], -1)


def _by_product(x: Array, kernel: Array, around: _Around, edge: bool) -> Array:
    """Convolve as one matrix product, with what all taps see side by side."""
    x, taps = padded(x, around, edge=edge), kernel.shape[:-2]
    lengths = [n - k + 1 for n, k in zip(x.shape[1:-1], taps, strict=True)]
    seen = [
        x[(slice(None), *(slice(i, i + n) for i, n in zip(tap, lengths, strict=True)))]
        for tap in itertools.product(*map(range, taps))
    ]
    return _pointwise(jnp.concatenate(seen, -1), kernel.reshape(-1, kernel.shape[-1]))


def _by_blocks(x: Array, kernel: Array, stride: Sequence[int], around: _Around, edge: bool) -> Array:
    """Convolve without strides, on blocks of positions."""
    if edge or any(max(pair) >= k for pair, k in zip(around, kernel.shape, strict=False)):
        x, around = padded(x, around, edge=edge), ((0, 0),) * len(stride)
    x, around = phases.blocks(x, stride, around)
    return slices.convolve(x, phases.down(kernel, stride), around)


def _by_slices(x: Array, kernel: Array, stride: Sequence[int], around: _Around, edge: bool) -> Array:
    """Convolve a volume as a sum over the taps of its first axis, each of which convolves slices as images."""
    if edge:
        x, around = padded(x, around, edge=True), ((0, 0),) * 3
    b, n, *image, c = x.shape
    taps, (step, *rest) = kernel.shape[0], stride
    out = (n + sum(around[0]) - taps) // step + 1
    x = jnp.pad(x, ((0, 0), around[0], (0, 0), (0, 0), (0, 0)))
    parts = [lax.slice_in_dim(x, i, i + step * (out - 1) + 1, step, 1).reshape(-1, *image, c) for i in range(taps)]
    y = sum(_plain(part, tap, rest, around[1:]) for part, tap in zip(parts, kernel, strict=True))
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
