"""How images are resampled through a small filter, alone or together with a convolution.

StyleGAN2 (arXiv 1912.04958, appendix B) doubles and halves its feature maps through the filter `FIR` along both axes,
which keeps what the coarser grid cannot show from turning up as something else. Every function here is linear in x and
in the kernel, and differentiable any number of times.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

FIR = (1, 3, 3, 1)

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
    c = x.shape[-1]
    line = np.array(taps, np.float64)[::-1] / sum(taps)
    kernel = jnp.asarray(gain * np.outer(line, line), x.dtype)[:, :, None, None]
    before, after = padding
    return lax.conv_general_dilated(
        x,
        jnp.broadcast_to(kernel, (*kernel.shape[:3], c)),
        (down, down),
        [(before, after + up - 1)] * 2,
        lhs_dilation=(up, up),
        dimension_numbers=_LAYOUT,
        feature_group_count=c,
    )


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
    y = lax.conv_general_dilated(
        x, kernel, (1, 1), [(2, 2)] * 2, lhs_dilation=(2, 2), dimension_numbers=_LAYOUT
    )  # an odd length, 2 h + 1
    return upfirdn(y, taps, padding=((p - 1) // 2 + 1, (p - 2) // 2 + 1), gain=4.0)


def conv_down(
    x: Float[Array, "b h w c"], kernel: Float[Array, "3 3 c d"], taps: Sequence[float] = FIR
) -> Float[Array, "b h2 w2 d"]:
    """Return x filtered, then convolved with a stride of two; lengths must be even."""
    p = len(taps)  # of the filter's overhang and the kernel's
    x = upfirdn(x, taps, padding=((p + 1) // 2, p // 2))
    return lax.conv_general_dilated(x, kernel, (2, 2), "VALID", dimension_numbers=_LAYOUT)
