"""The resolutions that both networks of a StyleGAN go through: which, how joined, how wide, how precise."""

import math

import jax.numpy as jnp

from memjax.errors import UserError

FIRST = 4  # side of the generator's constant, and of what the discriminator decides on
_SMALLEST, _LARGEST = 16, 1024


def sides(resolution: int) -> list[int]:
    """Return 4, 8, ... up to the side of the images.

    Raises:
      UserError: it is not a power of two from 16 to 1024.
    """
    n = resolution.bit_length() - 1
    if not _SMALLEST <= resolution <= _LARGEST or resolution != 1 << n:
        near = [side for side in (1 << n, 2 << n) if _SMALLEST <= side <= _LARGEST]
        near = near or [_SMALLEST if resolution < _SMALLEST else _LARGEST]
        raise UserError(
            f"images of {resolution} x {resolution}: StyleGAN doubles from 4 to a power of two, {_SMALLEST} to "
            f"{_LARGEST}; prepare them at {' or '.join(map(str, near))}."
        )
    return [FIRST << k for k in range(n - 1)]


def width(side: int, base: int, max_channels: int) -> int:
    """Return the channels of the features at one resolution: `base` over the side, with an upper limit."""
    return min(base // side, max_channels)


def precision(side: int, resolution: int, low_precision: int, dtype: str) -> jnp.dtype:
    """Return what features at one resolution are computed in: `dtype` at the highest ones, but never at 4."""
    is_low = side > FIRST and math.log2(resolution / side) < low_precision
    return jnp.dtype(dtype if is_low else "float32")


def check_architecture(architecture: str) -> None:
    """Raise `UserError` unless it is a way in which resolutions are joined: see each network's docstring."""
    if architecture not in ("skip", "residual", "plain"):
        raise UserError(f"architecture={architecture!r} is not known; give skip, residual or plain.")
