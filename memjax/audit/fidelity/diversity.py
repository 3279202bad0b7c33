"""MS-SSIM: whether a set's images resemble one another, from the structural similarity of random pairs.

Wang et al. 2003 (Asilomar, "Multiscale structural similarity for image quality assessment", equation 7):

    MS-SSIM(x, y) = l_M^w_M  *  product over scales j = 1..M of cs_j^w_j,

where each scale is half as large as the one before, l compares brightness, cs contrast and structure, both under a
Gaussian window (11 positions, standard deviation 1.5), and w = 0.0448, 0.2856, 0.3001, 0.2363, 0.1333. 1 if all images
are the same; the lower, the more diverse. Khader et al. 2023 take the mean over 1000 pairs of volumes.

Five scales take 176 pixels along each axis. Smaller images are compared at the first scales only, with their weights
divided by the sum; an axis shorter than the window has a window as long as itself. So values of images of different
sizes cannot be compared with one another: compare with the value of real images of the same size.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_WINDOW, _SIGMA = 11, 1.5  # positions along an axis
_C1, _C2 = 0.01**2, 0.03**2  # K1 and K2 of a range of 1
_BLOCK_BYTES = 16 << 20  # one side of the pairs compared at once

Images = np.ndarray | Callable[[np.ndarray], np.ndarray]  # [n, *space, c] in [-1, 1], or what returns those of some ids


class Diversity(NamedTuple):
    """How alike a set's images are."""

    mean: float  # of MS-SSIM, over pairs
    pairs: int
    scales: int  # 5, or fewer for small images


def diversity(images: Images, *, n: int, seed: int, pairs: int = 1000) -> Diversity:
    """Return the mean MS-SSIM over random pairs of different images of a set.

    Args:
      images: [n, *space, c] in [-1, 1]; or a function from ids, int64 [k], 0 to n - 1, to these images.
      n: how many images there are.
      seed: of the pairs.
      pairs: their number; all pairs, if there are fewer.

    Raises:
      ValueError: fewer than two images.
    """
    if n < 2:
        raise ValueError(f"a pair takes two images; there are {n}")
    first, second = random_pairs(n, pairs, seed=seed)
    read = images if callable(images) else lambda ids: images[ids]
    shape = read(first[:1]).shape
    step = min(max(1, _BLOCK_BYTES // (4 * int(np.prod(shape)))), len(first))
    found = np.zeros(len(first))
    for start in range(0, len(first), step):
        block = np.minimum(np.arange(start, start + step), len(first) - 1)  # the last one is filled up
        x, y = (jnp.asarray(read(side[block]), jnp.float32) for side in (first, second))
        stop = min(start + step, len(first))
        found[start:stop] = np.asarray(_compared(x, y))[: stop - start]
    return Diversity(float(found.mean()), len(found), n_scales(shape[1:-1]))


def random_pairs(n: int, pairs: int, *, seed: int) -> tuple[Int[np.ndarray, " p"], Int[np.ndarray, " p"]]:
    """Return so many different pairs of different ids below n, or all pairs; the first id is the smaller."""
    of_all = n * (n - 1) // 2
    number = np.sort(np.random.default_rng(seed).choice(of_all, min(pairs, of_all), replace=False))
    # Pairs (i, j) with i < j are numbered by j, then i: those before j are j (j - 1) / 2.
    second = np.floor((1 + np.sqrt(1 + 8 * number.astype(np.float64))) / 2).astype(np.int64)
    second += (second + 1) * second // 2 <= number  # where the root was rounded
    second -= second * (second - 1) // 2 > number
    return number - second * (second - 1) // 2, second


def n_scales(space: Sequence[int]) -> int:
    """Return at how many scales images of this size are compared: the window must fit into the coarsest."""
    return max([j + 1 for j in range(len(_WEIGHTS)) if min(space) >= _WINDOW << j], default=1)


def ms_ssim(x: Float[Array, "b *space c"], y: Float[Array, "b *space c"]) -> Float[Array, "b"]:
    """Return the multi-scale structural similarity of pairs of images in [-1, 1]: mean over channels, 0 to 1.

    Brightness is compared as numbers from 0 to 1, as it was defined. Contrast and structure that are opposite (below 0
    in the mean over the image) count as 0.
    """
    x, y = (x.astype(jnp.float32) + 1) / 2, (y.astype(jnp.float32) + 1) / 2
    scales = n_scales(x.shape[1:-1])
    weights = np.array(_WEIGHTS[:scales]) / sum(_WEIGHTS[:scales])
    product = jnp.ones(x.shape[:: x.ndim - 1])
    for scale, weight in enumerate(weights, 1):
        brightness, structure = _parts(x, y)
        of_scale = brightness * structure if scale == scales else structure
        product *= jnp.maximum(jnp.mean(of_scale, tuple(range(1, x.ndim - 1))), 0) ** weight
        x, y = (_along_axes(image, _halving) for image in (x, y))
    return product.mean(-1)


_compared = jax.jit(ms_ssim)


def _parts(x: Array, y: Array) -> tuple[Array, Array]:
    """Return l and cs of each window within the images (Wang et al. 2004, equations 6 and 13)."""
    mean_x, mean_y, xx, yy, xy = (_along_axes(part, _windowing) for part in (x, y, x * x, y * y, x * y))
    var_x, var_y, both = xx - mean_x * mean_x, yy - mean_y * mean_y, xy - mean_x * mean_y
    brightness = (2 * mean_x * mean_y + _C1) / (mean_x * mean_x + mean_y * mean_y + _C1)
    return brightness, (2 * both + _C2) / (var_x + var_y + _C2)


def _along_axes(x: Array, matrix: Callable[[int], np.ndarray]) -> Array:
    """Return x [b, *space, c] multiplied along each axis by a matrix for its length: as products, on any device."""
    for axis in range(1, x.ndim - 1):
        of_axis = jnp.tensordot(x, matrix(x.shape[axis]), (axis, 0), precision="highest")
        x = jnp.moveaxis(of_axis, -1, axis)
    return x


@functools.cache
def _windowing(length: int) -> np.ndarray:
    """Return [length, places]: the Gaussian window at each place along an axis."""
    window = min(_WINDOW, length)
    weights = np.exp(-(((np.arange(window) - (window - 1) / 2) / _SIGMA) ** 2) / 2)
    places = np.arange(length - window + 1)
    matrix = np.zeros((length, len(places)), np.float32)
    matrix[places[:, None] + np.arange(window), places[:, None]] = weights / weights.sum()
    return matrix


@functools.cache
def _halving(length: int) -> np.ndarray:
    """Return [length, length // 2]: means of two neighbours; an odd one is left out; an axis of 1 stays."""
    half = max(length // 2, 1)
    matrix = np.zeros((length, half), np.float32)
    pairs = np.arange(half)
    of_pair = min(length, 2)
    matrix[of_pair * pairs[:, None] + np.arange(of_pair), pairs[:, None]] = 1 / of_pair
    return matrix
