"""How images are resampled through a small filter, alone or together with a convolution.

StyleGAN2 (arXiv 1912.04958, appendix B) doubles and halves its feature maps through the filter `FIR` along both axes,
which keeps what the coarser grid cannot show from turning up as something else. Every function here is linear in x and
in the kernel, and differentiable any number of times.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from memjax.nn import shifts

FIR = (1.0, 3.0, 3.0, 1.0)

_Line = tuple[float, ...]
_Padding = tuple[tuple[int, int], ...]

_LAYOUT = ("NHWC", "HWIO", "NHWC")


def upfirdn(
    x: Float[Array, "b h w c"],
    taps: Sequence[float],
    *,
    up: int = 1,
    down: int = 1,
    padding: tuple[int, int] = (0, 0),
    gain: float = 1.0,
) -> Float[Array, "b h2 w2 c"]:
    """Put up - 1 zeros after every position, pad, filter, and keep every down-th position, along both axes.

    As `scipy.signal.upfirdn` does, less the ends at which the filter hangs over the padded image.

    Args:
      x: any number of channels, each filtered alone.
      taps: normalised to a sum of one; no fewer than `up` and `down`.
      up: one plus the zeros after every position.
      down: of how many positions one is kept.
      padding: zeros before and after; negative ones crop.
      gain: of both axes together.
    """
    assert len(taps) >= max(up, down)
    return _resampled(x, _line(taps, gain), up, down, (padding, padding), x.shape[1:3])


def blur(x: Float[Array, "b h w c"], taps: Sequence[float] = FIR) -> Float[Array, "b h w c"]:
    """Return x filtered."""
    n = len(taps)
    return upfirdn(x, taps, padding=(n // 2, (n - 1) // 2))


def upsample(x: Float[Array, "b h w c"], taps: Sequence[float] = FIR) -> Float[Array, "b h2 w2 c"]:
    """Return x at twice the resolution."""
    p = len(taps) - 2
    return upfirdn(x, taps, up=2, padding=((p + 1) // 2 + 1, p // 2), gain=4.0)


def downsample(x: Float[Array, "b h w c"], taps: Sequence[float] = FIR) -> Float[Array, "b h2 w2 c"]:
    """Return x at half the resolution; lengths must be even."""
    p = len(taps) - 2
    return upfirdn(x, taps, down=2, padding=((p + 1) // 2, p // 2))


def conv_up(
    x: Float[Array, "b h w c"], kernel: Float[Array, "3 3 c d"], taps: Sequence[float] = FIR
) -> Float[Array, "b h2 w2 d"]:
    """Return x at twice the resolution, convolved: zeros put in between, convolution, filter.

    Away from the border the same as the convolution of `upsample(x)`.
    """
    # The transpose of going down, with the filter and the kernel the other way round.
    return _up(x, jnp.swapaxes(jnp.flip(kernel, (0, 1)), 2, 3), _line(taps, 4.0)[::-1], len(taps) // 2)


def conv_down(
    x: Float[Array, "b h w c"], kernel: Float[Array, "3 3 c d"], taps: Sequence[float] = FIR
) -> Float[Array, "b h2 w2 d"]:
    """Return x filtered, then convolved with a stride of two; lengths must be even."""
    return _down(x, kernel, _line(taps), (len(taps) + 1) // 2)


def _line(taps: Sequence[float], gain: float = 1.0) -> _Line:
    """Return what a window of each axis is multiplied by."""
    return tuple(math.sqrt(gain) * tap / sum(taps) for tap in reversed(taps))


# The gradient is the transpose, which is such a resampling again: so it is as fast, and so is its own gradient.
@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3, 4, 5))
def _resampled(x: Array, line: _Line, up: int, down: int, padding: _Padding, space: tuple[int, ...]) -> Array:
    """Return x, of height and width `space`, multiplied by the line where it lies, along one axis after the other."""
    return _by_platform(shifts.resample, _plain, x, line=line, up=up, down=down, padding=padding)


def _resampled_forward(
    x: Array, line: _Line, up: int, down: int, padding: _Padding, space: tuple[int, ...]
) -> tuple[Array, None]:
    return _resampled(x, line, up, down, padding, space), None


def _resampled_backward(
    line: _Line, up: int, down: int, padding: _Padding, space: tuple[int, ...], _: None, dy: Array
) -> tuple[Array]:
    from_ = dy.shape[1:3]
    back = [(len(line) - 1 - p, n * up - m * down + p) for (p, _), n, m in zip(padding, space, from_, strict=True)]
    return (_resampled(dy, line[::-1], down, up, tuple(back), from_),)


_resampled.defvjp(_resampled_forward, _resampled_backward)


# All three are gradients of one number, the sum of y * down(x, kernel), which is linear in x, in y and in the kernel:
# so each is the gradient of the others. `before` is how many zeros the filter puts before x.
@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _down(x: Array, kernel: Array, line: _Line, before: int) -> Array:
    return _by_platform(shifts.down, _plain_down, x, kernel, line=line, before=before)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _up(y: Array, kernel: Array, line: _Line, before: int) -> Array:
    return _by_platform(shifts.up, _plain_up, y, kernel, line=line, before=before)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _kernel_gradient(x: Array, y: Array, line: _Line, before: int) -> Array:
    return _by_platform(shifts.kernel_gradient, _plain_kernel_gradient, x, y, line=line, before=before)


_down.defvjp(
    lambda x, kernel, *how: (_down(x, kernel, *how), (x, kernel)),
    lambda line, n, saved, y: (_up(y, saved[1], line, n), _kernel_gradient(saved[0], y, line, n)),
)
_up.defvjp(
    lambda y, kernel, *how: (_up(y, kernel, *how), (y, kernel)),
    lambda line, n, saved, x: (_down(x, saved[1], line, n), _kernel_gradient(x, saved[0], line, n)),
)
_kernel_gradient.defvjp(
    lambda x, y, *how: (_kernel_gradient(x, y, *how), (x, y)),
    lambda line, n, saved, kernel: (_up(saved[1], kernel, line, n), _down(saved[0], kernel, line, n)),
)


def _by_platform(processor: Callable[..., Array], plain: Callable[..., Array], *arrays: Array, **how: Any) -> Array:
    return lax.platform_dependent(
        *arrays, cpu=functools.partial(processor, **how), default=functools.partial(plain, **how)
    )


def _plain(x: Array, line: _Line, up: int, down: int, padding: _Padding) -> Array:
    c = x.shape[-1]
    kernel = jnp.asarray(np.outer(line, line), x.dtype)[:, :, None, None]
    # Padded beforehand: XLA for processors is wrong where a convolution crops one end and pads the other.
    ends = [(0, 0, 0), *((before, after + up - 1, up - 1) for before, after in padding), (0, 0, 0)]
    return lax.conv_general_dilated(
        lax.pad(x, jnp.zeros((), x.dtype), ends),
        jnp.broadcast_to(kernel, (*kernel.shape[:3], c)),
        (down, down),
        "VALID",
        dimension_numbers=_LAYOUT,
        feature_group_count=c,
    )


def _plain_down(x: Array, kernel: Array, line: _Line, before: int) -> Array:
    filtered = _plain(x, line, 1, 1, ((before, len(line) - before),) * 2)  # one position more than x has
    return lax.conv_general_dilated(filtered, kernel, (2, 2), "VALID", dimension_numbers=_LAYOUT)


def _plain_up(y: Array, kernel: Array, line: _Line, before: int) -> Array:
    back = jnp.swapaxes(jnp.flip(kernel, (0, 1)), 2, 3)
    wide = lax.conv_general_dilated(y, back, (1, 1), [(2, 2)] * 2, (2, 2), dimension_numbers=_LAYOUT)
    return _plain(wide, line[::-1], 1, 1, ((len(line) - 1 - before, before - 1),) * 2)


def _plain_kernel_gradient(x: Array, y: Array, line: _Line, before: int) -> Array:
    filtered = _plain(x, line, 1, 1, ((before, len(line) - before),) * 2)
    layout = ("CHWN", "IHWO", "HWNC")
    return lax.conv_general_dilated(filtered, y, (1, 1), "VALID", rhs_dilation=(2, 2), dimension_numbers=layout)
