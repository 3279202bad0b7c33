"""How a stride becomes channels: positions at the same place of every block of neighbours are channels of the block.

A convolution with a stride is one without on the blocks, where the stride divides the kernel's length. Its transpose
makes blocks.
"""

import math
from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


def blocks(
    x: Float[Array, "b *space c"], strides: Sequence[int], around: Sequence[tuple[int, int]]
) -> tuple[Float[Array, "b *fewer c2"], tuple[tuple[int, int], ...]]:
    """Return blocks of positions as one position each, and how many blocks of zeros go around them.

    Zeros around x that do not fill a block are in the first and last one; at the end only whole blocks count.
    """
    if math.prod(strides) == 1:
        return x, tuple(around)
    ends, left = [], []
    for n, s, (before, after) in zip(x.shape[1:-1], strides, around, strict=True):
        first, rest = divmod(before, s)
        last = (before + n + after) // s
        here = min(-(-(rest + n) // s), last - first)
        ends.append((rest, here * s - rest - n, 0))
        left.append((first, last - first - here))
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *ends, (0, 0, 0)])
    counts = [n // s for n, s in zip(x.shape[1:-1], strides, strict=True)]
    x = _apart(x, 1, strides)
    return x.reshape(len(x), *counts, -1), tuple(left)


def positions(x: Float[Array, "b *space c2"], strides: Sequence[int]) -> Float[Array, "b *more c"]:
    """Return blocks as positions again."""
    if math.prod(strides) == 1:
        return x
    axes, (b, *space, _) = len(strides), x.shape
    x = x.reshape(b, *space, *strides, -1)
    x = jnp.transpose(x, (0, *(axis for i in range(1, axes + 1) for axis in (i, i + axes)), 2 * axes + 1))
    return x.reshape(b, *(n * s for n, s in zip(space, strides, strict=True)), -1)


def down(kernel: Float[Array, "*taps c d"], strides: Sequence[int]) -> Float[Array, "*fewer c2 d"]:
    """Return the kernel that does to blocks what this one, with strides, does to positions."""
    k = _apart(kernel, 0, strides)
    return k.reshape(*k.shape[: len(strides)], -1, k.shape[-1])


def up(kernel: Float[Array, "*taps c d"], strides: Sequence[int]) -> Float[Array, "*fewer c d2"]:
    """Return the kernel with which the transposed convolution is one without strides that makes blocks.

    Where that kernel lies inside x, the first block begins stride - 1 positions before the first that is whole.
    """
    k = jnp.flip(_apart(kernel, 0, strides), range(len(strides)))
    k = jnp.moveaxis(k, -2, len(strides))
    return k.reshape(*k.shape[: len(strides) + 1], -1)


def _apart(x: Array, first: int, strides: Sequence[int]) -> Array:
    """Return every axis from the first on as blocks and, after all of them, as places within a block."""
    axes = len(strides)
    pairs = [(x.shape[first + i] // s, s) for i, s in enumerate(strides)]
    x = x.reshape(*x.shape[:first], *(n for pair in pairs for n in pair), *x.shape[first + axes :])
    order = [*range(first), *range(first, first + 2 * axes, 2), *range(first + 1, first + 2 * axes, 2)]
    return jnp.transpose(x, (*order, *range(first + 2 * axes, x.ndim)))
