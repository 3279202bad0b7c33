"""How images are resampled through a small filter, alone or together with a convolution.

StyleGAN2 (arXiv 1912.04958, appendix B) doubles and halves its feature maps through the filter `FIR` along both axes,
which keeps what the coarser grid cannot show from turning up as something else. Every function here is linear in x and
in the kernel, and differentiable any number of times.
"""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

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
      taps: normalised to a sum of one.
      up: one plus the zeros after every position.
      down: of how many positions one is kept.
      padding: zeros before and after; negative ones crop.
      gain: of both axes together.
    """
    line = tuple(math.sqrt(gain) * tap / sum(taps) for tap in reversed(taps))
    return _resampled(x, line, up, down, (padding, padding), x.shape[1:3])


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
    p = len(taps) - 2
    y = _doubled(x, jnp.swapaxes(jnp.flip(kernel, (0, 1)), 2, 3))
    return upfirdn(y, taps, padding=((p - 1) // 2 + 1, (p - 2) // 2 + 1), gain=4.0)


def conv_down(
    x: Float[Array, "b h w c"], kernel: Float[Array, "3 3 c d"], taps: Sequence[float] = FIR
) -> Float[Array, "b h2 w2 d"]:
    """Return x filtered, then convolved with a stride of two; lengths must be even."""
    p = len(taps)  # of the filter's overhang and the kernel's
    return _halved(upfirdn(x, taps, padding=((p + 1) // 2, p // 2)), kernel)


# A strided convolution and its transpose, each the other's gradient: left to itself XLA for processors takes forty
# times as long for the kernel's gradient where zeros are put in between.
@jax.custom_vjp
def _halved(x: Array, kernel: Array) -> Array:
    return lax.conv_general_dilated(x, kernel, (2, 2), "VALID", dimension_numbers=_LAYOUT)


@jax.custom_vjp
def _doubled(y: Array, kernel: Array) -> Array:
    back = jnp.swapaxes(jnp.flip(kernel, (0, 1)), 2, 3)
    return lax.conv_general_dilated(
        y, back, (1, 1), [(2, 2)] * 2, lhs_dilation=(2, 2), dimension_numbers=_LAYOUT
    )  # an odd length, 2 h + 1


def _kernel_gradient(x: Array, y: Array) -> Array:
    return lax.conv_general_dilated(
        x, y, (1, 1), "VALID", rhs_dilation=(2, 2), dimension_numbers=("CHWN", "IHWO", "HWNC")
    )


_halved.defvjp(
    lambda x, kernel: (_halved(x, kernel), (x, kernel)),
    lambda saved, dy: (_doubled(dy, saved[1]), _kernel_gradient(saved[0], dy)),
)
_doubled.defvjp(
    lambda y, kernel: (_doubled(y, kernel), (y, kernel)),
    lambda saved, dx: (_halved(dx, saved[1]), _kernel_gradient(dx, saved[0])),
)


# The gradient is the transpose, which is such a resampling again: so it is as fast, and so is its own gradient.
@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3, 4, 5))
def _resampled(x: Array, line: _Line, up: int, down: int, padding: _Padding, space: tuple[int, ...]) -> Array:
    """Return x, of height and width `space`, multiplied by the line where it lies, along one axis after the other."""
    by_taps, plain = (
        functools.partial(form, line=line, up=up, down=down, padding=padding) for form in (_by_taps, _plain)
    )
    return lax.platform_dependent(x, cpu=by_taps, default=plain)


def _forward(
    x: Array, line: _Line, up: int, down: int, padding: _Padding, space: tuple[int, ...]
) -> tuple[Array, None]:
    return _resampled(x, line, up, down, padding, space), None


def _backward(
    line: _Line, up: int, down: int, padding: _Padding, space: tuple[int, ...], _: None, dy: Array
) -> tuple[Array]:
    from_ = dy.shape[1:3]
    back = [(len(line) - 1 - p, n * up - m * down + p) for (p, _), n, m in zip(padding, space, from_, strict=True)]
    return (_resampled(dy, line[::-1], down, up, tuple(back), from_),)


_resampled.defvjp(_forward, _backward)


def _plain(x: Array, line: _Line, up: int, down: int, padding: _Padding) -> Array:
    c = x.shape[-1]
    kernel = jnp.asarray(np.outer(line, line), x.dtype)[:, :, None, None]
    # Padded beforehand: a convolution that crops is computed wrongly on processors.
    ends = [(0, 0, 0), *((before, after + up - 1, up - 1) for before, after in padding), (0, 0, 0)]
    return lax.conv_general_dilated(
        lax.pad(x, jnp.zeros((), x.dtype), ends),
        jnp.broadcast_to(kernel, (*kernel.shape[:3], c)),
        (down, down),
        "VALID",
        dimension_numbers=_LAYOUT,
        feature_group_count=c,
    )


def _by_taps(x: Array, line: _Line, up: int, down: int, padding: _Padding) -> Array:
    """Add shifted copies: XLA for processors takes a hundred times as long to convolve each channel alone."""
    for axis in (2, 1):  # in this order, as columns are the slower to put in between one another, and now are fewer
        x = lax.optimization_barrier(_along(x, axis, line, up, down, padding[axis - 1]))
    return x


def _along(x: Array, axis: int, line: _Line, up: int, down: int, padding: tuple[int, int]) -> Array:
    """Return x resampled along one axis; each of `up` phases of the result sees only every up-th tap."""
    (before, after), n = padding, x.shape[axis]
    length = n * up + before + after - len(line) + 1  # before going down
    count = -(-length // up)  # of each phase
    first, last = -(before // up), (up + len(line) - 2 - before) // up  # how far the copies are shifted
    ends = [(-first, count + last - n, 0) if i == axis else (0, 0, 0) for i in range(x.ndim)]
    x = lax.pad(x, jnp.zeros((), x.dtype), ends)

    phases = []
    for phase in range(up):
        shifts = [(tap, (phase + i - before) // up) for i, tap in enumerate(line) if (phase + i - before) % up == 0]
        starts = [(tap, shift - first) for tap, shift in shifts]
        step = down if up == 1 else 1
        phases.append(sum(tap * lax.slice_in_dim(x, at, at + count, step, axis) for tap, at in starts))
    if up == 1:
        return phases[0]
    shape = (*x.shape[:axis], up * count, *x.shape[axis + 1 :])
    return lax.slice_in_dim(jnp.stack(phases, axis + 1).reshape(shape), 0, length, down, axis)
