"""How a convolution with three taps along each axis does half of its multiplications, or a quarter in three axes.

Winograd's minimal filtering along the first spatial axis, and in volumes along the second: Lavin and Gray, 2016 (arXiv
1509.09308), F(4, 3). Four rows of the result are six products of combined rows, instead of twelve of plain ones. Rows
are contiguous, so combining them costs little, and XLA convolves along the axis that remains. Rounding grows to about
1e-5 of the largest number in float32 (1e-6 without).
"""

from collections.abc import Sequence

import jax
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
        products = [_along(rows, kernels[u], 1) for u, rows in enumerate(_combined(x))]
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


@jax.custom_vjp
def convolve_edge(x: Float[Array, "b n *rest c"], kernel: Float[Array, "*taps c d"]) -> Float[Array, "b n *rest d"]:
    """Return x convolved with a kernel of three taps along each axis, with its border repeated around."""
    return _inside(_widened(x), kernel)


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return convolve_edge(x, kernel), (x, kernel)


def _backward(saved: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    x, kernel = saved
    dx, of_kernel = _transposed(_widened(x), kernel, dy)
    # What went to the border's copies belongs to the border.
    line = dx[..., 1:2, :] + dx[..., :1, :], dx[..., 2:-2, :], dx[..., -2:-1, :] + dx[..., -1:, :]
    return (jnp.concatenate(line, -2) if dx.shape[-2] > 3 else dx.sum(-2, keepdims=True)), of_kernel


convolve_edge.defvjp(_forward, _backward)


def _widened(x: Array) -> Array:
    """Return x with its border repeated along its last axis only."""
    return lax.optimization_barrier(jnp.pad(x, (*((0, 0),) * (x.ndim - 2), (1, 1), (0, 0)), mode="edge"))


def _inside(x: Array, kernel: Array) -> Array:
    """Return `convolve_edge` of what was widened to x."""
    b, n, *rest, _ = x.shape
    kernels = jnp.einsum("ui,i...->u...", _G, kernel)
    if len(rest) == 1:
        products = [_along(rows, kernels[u], 0) for u, rows in enumerate(_combined_edge(x))]
    else:
        products = lax.map(lambda pair: _inside(*pair), (jnp.stack(_combined_edge(x)), kernels))
    products = [product.reshape(b, -(-n // ROWS), -1) for product in products]
    y = jnp.stack([_sum(_AT[i], products) for i in range(ROWS)], 2)
    return y.reshape(b, -1, *rest[:-1], rest[-1] - TAPS + 1, kernel.shape[-1])[:, :n]


def _transposed(x: Array, kernel: Array, dy: Array) -> tuple[Array, Array]:
    """Return the gradients in both arguments of `_inside`, given that of its result.

    By the transposes of all three matrices, so that no row of the border is computed to be thrown away.
    """
    kernels = jnp.einsum("ui,i...->u...", _G, kernel)
    parts = _combined_edge(x), kernels, _spread(dy)
    if x.ndim == 4:
        pairs = [(_back_along(rows, k), _line_kernel_inside(of_x, rows)) for of_x, k, rows in zip(*parts, strict=True)]
        products, of_kernels = zip(*pairs, strict=True)
    else:
        products, of_kernels = lax.map(
            lambda part: _transposed(*part), (jnp.stack(parts[0]), kernels, jnp.stack(parts[2]))
        )
    return _gathered(list(products), x.shape), jnp.einsum("ui,u...->i...", _G, jnp.stack(of_kernels))


def _combined_edge(x: Array) -> list[Array]:
    """Return what `_combined` does, but with the first and last row repeated where it has zeros."""
    b, n = x.shape[:2]
    groups = -(-n // ROWS)
    rows = jnp.pad(x.reshape(b, n, -1), ((0, 0), (1, ROWS * groups + 1 - n), (0, 0)), mode="edge")
    rows = lax.optimization_barrier(rows)
    tile = [lax.slice_in_dim(rows, i, i + ROWS * (groups - 1) + 1, ROWS, 1) for i in range(_TILE)]
    return [_sum(_BT[u], tile).reshape(-1, *x.shape[2:]) for u in range(_TILE)]


def _gathered(products: list[Array], shape: tuple[int, ...]) -> Array:
    """Return the transpose of `_combined_edge`: rows of `shape`, the border's with what went to its copies."""
    b, n = shape[:2]
    parts = [lax.optimization_barrier(product).reshape(b, -(-n // ROWS), -1) for product in products]
    r = [_sum(_BT[:, i], parts) for i in range(_TILE)]
    # A group's last two rows are the first two of the next one's, and what went beyond the border belongs to it.
    first = r[1] + jnp.concatenate([r[0][:, :1], r[5][:, :-1]], 1)
    last = r[4] + jnp.concatenate([r[0][:, 1:], r[5][:, -1:]], 1)
    y = jnp.stack([first, r[2], r[3], last], 2).reshape(b, -1, *shape[2:])
    return y if y.shape[1] == n else jnp.concatenate([y[:, : n - 1], y[:, n - 1 : n] + y[:, n : n + 1]], 1)


def _along(x: Array, kernel: Array, pad: int) -> Array:
    return lax.conv_general_dilated(x, kernel, (1,), [(pad, pad)], dimension_numbers=("NHC", "HIO", "NHC"))


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


def _back_along(dy: Array, kernel: Array) -> Array:
    return _along(dy, jnp.swapaxes(jnp.flip(kernel, 0), 1, 2), TAPS - 1)


def _line_kernel_inside(x: Array, dy: Array) -> Array:
    """Return the gradient `[3, c, d]` of a kernel that lies inside x `[b, n + 2, c]`, given dy `[b, n, d]`."""
    (b, n, d), c = dy.shape, x.shape[-1]
    if c < d:
        shifted = jnp.concatenate([x[:, tap : tap + n] for tap in range(TAPS)], -1)
        return (shifted.reshape(b * n, TAPS * c).T @ dy.reshape(b * n, d)).reshape(TAPS, c, d)
    padded = jnp.pad(lax.optimization_barrier(dy), ((0, 0), (TAPS - 1, TAPS - 1), (0, 0)))
    shifted = jnp.concatenate([padded[:, 2 - tap : 4 - tap + n] for tap in range(TAPS)], -1)
    product = x.reshape(-1, c).T @ shifted.reshape(-1, TAPS * d)
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
