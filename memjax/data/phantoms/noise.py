"""Smooth random fields that are the same function of place at every sampling, so that a size changes no patient."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy import ndimage

from memjax.data.phantoms.geometry import Grid, unit_centres

# Mean over a cell of the sum of squared cubic B-spline weights: 151 / 315. It makes the fields' variance about one.
_WEIGHT_POWER = 151 / 315


def smooth_noise(rng: np.random.Generator, size: Sequence[int], cells: int | Sequence[int]) -> np.ndarray:
    """Draw a smooth field of mean 0 and variance about 1 with `cells` cells along each axis: float32 [*size].

    White noise on a coarse lattice, interpolated with cubic B-splines: what is drawn depends on `cells` only, `size`
    says where it is sampled.
    """
    cells = _per_axis(cells, len(size))
    field = rng.standard_normal([count + 3 for count in cells], dtype=np.float32)
    for axis, (n, count) in enumerate(zip(size, cells, strict=True)):
        field = np.moveaxis(np.tensordot(_spline_weights(n, count), field, axes=(1, axis)), 0, axis)
    return field / np.float32(_WEIGHT_POWER ** (len(size) / 2))


def smooth_noise_at(rng: np.random.Generator, points: Grid, cells: int | Sequence[int]) -> np.ndarray:
    """Draw the same kind of field, sampled at any points of [-1, 1] per axis; beyond, it repeats."""
    cells = _per_axis(cells, len(points))
    lattice = rng.standard_normal(cells, dtype=np.float32)
    places = np.stack(
        np.broadcast_arrays(*[(p + 1) * np.float32(count / 2) for p, count in zip(points, cells, strict=True)])
    )
    field = ndimage.map_coordinates(lattice, places, order=3, mode="grid-wrap", prefilter=False)
    return field / np.float32(_WEIGHT_POWER ** (len(points) / 2))


@lru_cache(maxsize=256)
def _spline_weights(n: int, cells: int) -> np.ndarray:
    """Return the cubic B-spline weights of cells + 3 lattice points at n places: float32 [n, cells + 3]."""
    place = (unit_centres(n) + 1) * (cells / 2) + 1
    apart = np.abs(place[:, None] - np.arange(cells + 3))
    near = 2 / 3 - apart**2 + apart**3 / 2
    far = np.maximum(2 - apart, 0) ** 3 / 6
    return np.where(apart < 1, near, far).astype(np.float32)


def _per_axis(cells: int | Sequence[int], count: int) -> tuple[int, ...]:
    return (cells,) * count if isinstance(cells, int) else tuple(cells)
