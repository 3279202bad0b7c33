"""What goes around an image before it is convolved: zeros, or its border once more."""

from collections.abc import Sequence
from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

Padding = Literal["same"] | Sequence[tuple[int, int]] | None


def pads(taps: Sequence[int], strides: Sequence[int], padding: Padding) -> tuple[tuple[int, int], ...]:
    """Return how many positions go before and after each axis.

    Args:
      taps: of the kernel along each axis.
      strides: along each axis, no longer than its taps where the padding is "same".
      padding: None for (taps - 1) // 2 on both sides; "same" for taps - stride in all, the larger half before, with
        which a length that the stride divides comes out divided by it; or the two numbers for each axis.
    """
    if padding is None:
        return tuple(((k - 1) // 2, (k - 1) // 2) for k in taps)
    if padding == "same":
        assert all(k >= s for k, s in zip(taps, strides, strict=True)), "a stride is longer than the kernel"
        return tuple(((k - s + 1) // 2, (k - s) // 2) for k, s in zip(taps, strides, strict=True))
    assert len(padding) == len(taps), "padding needs a pair for each axis"
    return tuple((before, after) for before, after in padding)


def padded(
    x: Float[Array, "b *space c"], around: Sequence[tuple[int, int]], *, edge: bool = False
) -> Float[Array, "b *wider c"]:
    """Return x with zeros around it, or with its border repeated."""
    if not any(map(any, around)):
        return x
    return jnp.pad(x, ((0, 0), *around, (0, 0)), mode="edge" if edge else "constant")
