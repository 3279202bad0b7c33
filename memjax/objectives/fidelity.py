"""How near a reconstruction is to its image: peak signal-to-noise ratio, structural similarity.

SSIM after Wang et al. 2004 (IEEE TIP 13(4), eq. 13) with equal weights: windows of 7 along each axis, all of those that
lie within the image, K1 = 0.01 and K2 = 0.03. Images are in [-1, 1], so their range is 2.
"""

import math

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

_WINDOW = 7  # positions along an axis, fewer where an axis is shorter
_K1, _K2 = 0.01, 0.03


def psnr(x: Float[Array, "b *space c"], y: Float[Array, "b *space c"], *, data_range: float = 2.0) -> Float[Array, "b"]:
    """Return decibels, 10 log10(range^2 / mean squared difference); infinity where both are the same."""
    difference = x.astype(jnp.float32) - y.astype(jnp.float32)
    error = jnp.mean(jnp.square(difference), tuple(range(1, x.ndim)))
    return 10 * jnp.log10(data_range**2 / error)


def ssim(x: Float[Array, "b *space c"], y: Float[Array, "b *space c"], *, data_range: float = 2.0) -> Float[Array, "b"]:
    """Return the mean over windows and channels, 1 for the same image; of pictures or volumes.

    Variances and covariances are those of samples (divided by one less than a window's positions).
    """
    window = [min(_WINDOW, n) for n in x.shape[1:-1]]
    positions = math.prod(window)
    unbiased = positions / max(positions - 1, 1)
    x, y = x.astype(jnp.float32), y.astype(jnp.float32)
    mean_x, mean_y, xx, yy, xy = (_averaged(part, window) for part in (x, y, x * x, y * y, x * y))
    var_x, var_y = unbiased * (xx - mean_x * mean_x), unbiased * (yy - mean_y * mean_y)
    both = unbiased * (xy - mean_x * mean_y)
    c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
    of_window = (2 * mean_x * mean_y + c1) * (2 * both + c2)
    of_window /= (mean_x * mean_x + mean_y * mean_y + c1) * (var_x + var_y + c2)
    return jnp.mean(of_window, tuple(range(1, x.ndim)))


def _averaged(x: Float[Array, "b *space c"], window: list[int]) -> Float[Array, "b *places c"]:
    """Return the mean over each window within the image: axis by axis, since 3 x 7 sums are fewer than 7^3."""
    for axis, length in enumerate(window, 1):
        lengths = [length if i == axis else 1 for i in range(x.ndim)]
        x = lax.reduce_window(x, 0.0, lax.add, lengths, (1,) * x.ndim, "valid") / length
    return x
