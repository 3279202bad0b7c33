"""How processors convolve where Winograd's filtering does not apply: volumes by slices, single channels by patches.

A convolution of volumes is a sum over the taps of its first axis, each of which convolves slices as images. With one
channel on a side it is one product of matrices: each tap's copy of the image is a row. The kernel's gradient is written
out, and so quick wherever it is computed. Measured in BUILD_NOTES.
"""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from memjax.nn.padding import padded

_LAYOUT = ("NHWC", "HWIO", "NHWC")

_Around = tuple[tuple[int, int], ...]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve(
    x: Float[Array, "b *space c"], kernel: Float[Array, "*taps c d"], around: _Around
) -> Float[Array, "b *new d"]:
    """Return x convolved in two or three spatial axes, with zeros around it: fewer than the kernel has taps."""
    if 1 in kernel.shape[-2:]:
        x = padded(x, around)
        return _of_one(x, kernel) if kernel.shape[-2] == 1 else _to_one(x, kernel)
    if x.ndim == 4:
        return lax.conv_general_dilated(x, kernel, (1, 1), around, dimension_numbers=_LAYOUT)
    parts = zip(_slices(padded(x, (around[0], (0, 0), (0, 0))), len(kernel)), kernel, strict=True)
    y: Array = functools.reduce(jnp.add, (convolve(part, tap, around[1:]) for part, tap in parts))
    return y.reshape(len(x), -1, *y.shape[1:])


def _forward(x: Array, kernel: Array, around: _Around) -> tuple[Array, tuple[Array, Array]]:
    return convolve(x, kernel, around), (x, kernel)


def _backward(around: _Around, saved: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    x, kernel = saved
    back = jnp.swapaxes(jnp.flip(kernel, range(kernel.ndim - 2)), -1, -2)
    return convolve(dy, back, _around_gradient(kernel, around)), _gradient(x, kernel, around, dy)


convolve.defvjp(_forward, _backward)


def kernel_gradient(x: Float[Array, "b h w c"], dy: Float[Array, "b h2 w2 d"], *, pad: int) -> Float[Array, "k k2 c d"]:
    """Return the gradient of the kernel with which x, `pad` zeros around it, was convolved; for processors.

    A convolution in which images and channels change places, and they do so outright: the layouts that would spare it
    are a hundred times slower wherever XLA for processors does not change them itself, in `lax.cond` and in loops.
    """
    swapped = jnp.transpose(x, (3, 1, 2, 0)), jnp.transpose(dy, (1, 2, 0, 3))
    y = lax.conv_general_dilated(*swapped, (1, 1), [(pad, pad)] * 2, dimension_numbers=_LAYOUT)
    return jnp.transpose(y, (1, 2, 0, 3))


def _gradient(x: Array, kernel: Array, around: _Around, dy: Array) -> Array:
    """Return the gradient of the kernel of `convolve`."""
    taps, (c, d) = kernel.shape[:-2], kernel.shape[-2:]
    if d == 1:
        product = _patches(padded(dy, _around_gradient(kernel, around)), taps) @ x.reshape(-1, c)
        return jnp.flip(product.reshape(*taps, c, 1), range(len(taps)))
    # Padded beforehand: where dy is the kernel and its zeros reach far, XLA for processors may take 70 times as long.
    x = padded(x, around)
    if c == 1:
        return (_patches(x, taps) @ dy.reshape(-1, d)).reshape(kernel.shape)
    if x.ndim == 4:
        return kernel_gradient(x, dy, pad=0)
    flat = dy.reshape(-1, *dy.shape[2:])
    return jnp.stack([kernel_gradient(part, flat, pad=0) for part in _slices(x, taps[0])])


def _slices(x: Array, taps: int) -> list[Array]:
    """Return for each tap along the first axis the slices that it sees, `[b * slices, h, w, c]`."""
    count = x.shape[1] - taps + 1
    return [x[:, tap : tap + count].reshape(-1, *x.shape[2:]) for tap in range(taps)]


def _around_gradient(kernel: Array, around: _Around) -> _Around:
    """Return how many zeros go around the result's gradient, for that of x."""
    return tuple((k - 1 - a, k - 1 - b) for k, (a, b) in zip(kernel.shape[:-2], around, strict=True))


def _of_one(x: Array, kernel: Array) -> Array:
    taps = kernel.shape[:-2]
    y = kernel.reshape(-1, kernel.shape[-1]).T @ _patches(x, taps)
    y = lax.optimization_barrier(y).T  # half the time of the product with both transposed, which XLA would make of it
    return y.reshape(len(x), *(n - k + 1 for n, k in zip(x.shape[1:-1], taps, strict=True)), -1)


def _to_one(x: Array, kernel: Array) -> Array:
    taps = kernel.shape[:-2]
    products = kernel.reshape(-1, kernel.shape[-2]) @ x.reshape(-1, x.shape[-1]).T
    products = lax.optimization_barrier(products).reshape(-1, *x.shape[:-1])
    return sum(_seen(list(products), taps), start=jnp.zeros((), x.dtype))[..., None]


def _patches(x: Array, taps: tuple[int, ...]) -> Array:
    """Return what each tap sees of x `[b, *space, 1]`, a row each: `[taps, b * positions]`."""
    return jnp.stack(_seen([x[..., 0]] * math.prod(taps), taps)).reshape(math.prod(taps), -1)


def _seen(images: Sequence[Array], taps: tuple[int, ...]) -> list[Array]:
    """Return for each tap the part of its image `[b, *space]` that it sees."""
    inside = [n - k + 1 for n, k in zip(images[0].shape[1:], taps, strict=True)]
    return [
        image[(slice(None), *(slice(t, t + n) for t, n in zip(tap, inside, strict=True)))]
        for tap, image in zip(np.ndindex(*taps), images, strict=True)
    ]
