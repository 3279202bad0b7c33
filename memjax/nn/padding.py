"""What goes around an image before it is convolved: zeros, or its border once more."""

import functools
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax
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
    return _repeated(x, tuple(around)) if edge else jnp.pad(x, ((0, 0), *around, (0, 0)))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _repeated(x: Array, around: tuple[tuple[int, int], ...]) -> Array:
    return jnp.pad(x, ((0, 0), *around, (0, 0)), mode="edge")


def _forward(x: Array, around: tuple[tuple[int, int], ...]) -> tuple[Array, None]:
    return _repeated(x, around), None


def _backward(around: tuple[tuple[int, int], ...], _: None, dy: Array) -> tuple[Array]:
    # The copies are added to the border in place, then all are cropped at once: several times faster on processors.
    for axis, (before, after) in enumerate(around, 1):
        n = dy.shape[axis]
        for first, last, to in ((0, before + 1, before), (n - after - 1, n, n - after - 1)):
            if last - first > 1:
                border = lax.slice_in_dim(dy, first, last, axis=axis).sum(axis, keepdims=True)
                dy = lax.dynamic_update_slice_in_dim(dy, border, to, axis)
    inside = (slice(a, n - b) for n, (a, b) in zip(dy.shape[1:], around, strict=False))
    return (dy[(slice(None), *inside)],)


_repeated.defvjp(_forward, _backward)
