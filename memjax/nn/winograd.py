"""How a convolution with three taps along each axis does half of its multiplications, or a quarter in three axes.

Winograd's minimal filtering along the first spatial axis, and in volumes along the second: Lavin and Gray, 2016 (arXiv
1509.09308), F(4, 3). Four rows of the result are six products of combined rows, instead of twelve of plain ones. Rows
are contiguous, so combining them costs little, and XLA convolves along the axis that remains. Rounding grows to about
1e-5 of the largest number in float32 (1e-6 without).
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

# y = A^T ((G k) * (B^T x)): a filter k of 3 taps, 6 neighbouring rows x, 4 rows of the result y.
ROWS, TAPS, _TILE = 4, 3, 6
_BT = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
)
_G = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]], np.float32) / 24
_AT = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])


def convolve(x: Float[Array, "b n *rest c"], kernel: Float[Array, "*taps c d"]) -> Float[Array, "b n *rest d"]:
    """Return x convolved with a kernel of three taps along each axis, with zeros around."""
    b, n, *rest, _ = x.shape
    kernels = jnp.einsum("ui,i...->u...", _G, kernel)
    if len(rest) == 1:
        products = [_along(rows, kernels[u]) for u, rows in enumerate(_combined(x))]
    else:
        products = lax.map(lambda pair: convolve(*pair), (jnp.stack(_combined(x)), kernels))
    products = [product.reshape(b, -(-n // ROWS), -1) for product in products]
    y = jnp.stack([_sum(_AT[i], products) for i in range(ROWS)], 2)
    return y.reshape(b, -1, *rest, kernel.shape[-1])[:, :n]


def kernel_gradient(x: Float[Array, "b n *rest c"], dy: Float[Array, "b n *rest d"]) -> Float[Array, "*taps c d"]:
    """Return the gradient of the kernel, given that of the result."""
    pairs = _combined(x), _spread(dy)
    if x.ndim == 4:
        products = jnp.stack([_line_kernel(*pair) for pair in zip(*pairs, strict=True)])
    else:
        products = lax.map(lambda pair: kernel_gradient(*pair), tuple(map(jnp.stack, pairs)))
    return jnp.einsum("ui,u...->i...", _G, products)


def _along(x: Array, kernel: Array) -> Array:
    return lax.conv_general_dilated(x, kernel, (1,), [(1, 1)], dimension_numbers=("NHC", "HIO", "NHC"))


def _line_kernel(x: Array, dy: Array) -> Array:
    """Return the gradient `[3, c, d]` of a kernel along a line as one product: x `[b, n, c]`, dy `[b, n, d]`.

    The side with fewer channels is laid out three times, shifted; XLA's own form transposes both.
    """
    (b, n, c), d = x.shape, dy.shape[-1]
    if c < d:
        return jnp.swapaxes(jnp.flip(_line_kernel(dy, x), 0), 1, 2)
    padded = jnp.pad(lax.optimization_barrier(dy), ((0, 0), (1, 1), (0, 0)))
    shifted = jnp.concatenate([padded[:, 2 - tap : 2 - tap + n] for tap in range(TAPS)], -1)
    product = x.reshape(b * n, c).T @ shifted.reshape(b * n, TAPS * d)
    return jnp.swapaxes(product.reshape(c, TAPS, d), 0, 1)


def _combined(x: Array) -> list[Array]:
    """Return B^T x: six arrays `[b * groups, *rest, c]`, where a group is four rows of the result."""
    tile = _rows(x, range(_TILE))
    return [_sum(_BT[u], tile).reshape(-1, *x.shape[2:]) for u in range(_TILE)]


def _spread(dy: Array) -> list[Array]:
    """Return A dy: six arrays like those of `_combined`."""
    tile = _rows(dy, range(1, 1 + ROWS))
    return [_sum(_AT[:, u], tile).reshape(-1, *dy.shape[2:]) for u in range(_TILE)]


def _rows(x: Array, which: Sequence[int]) -> list[Array]:
    """Return some rows of every group's six, `[b, groups, rest * c]`, of which the first and last are its neighbours'.

    Always padded, and in the same way: XLA keeps what it pads, but would compute anything else again for each use.
    """
    b, n = x.shape[:2]
    groups = -(-n // ROWS)
    rows = jnp.pad(x.reshape(b, n, -1), ((0, 0), (1, ROWS * groups + 1 - n), (0, 0)))
    return [lax.slice_in_dim(rows, i, i + ROWS * (groups - 1) + 1, ROWS, 1) for i in which]


def _sum(weights: np.ndarray, parts: Sequence[Array]) -> Array:
    """Return the weighted sum, without those of weight zero."""
    terms = [
        part if weight == 1 else float(weight) * part for weight, part in zip(weights, parts, strict=True) if weight
    ]
    return sum(terms[1:], start=terms[0])
