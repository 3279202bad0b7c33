"""Shapes by signed distance (negative inside), soft edges, and painting with them.

A grid is one coordinate array per axis, in any shapes that broadcast against each other: `grid` returns them open
(as `numpy.ogrid` does), and a warped grid is simply full arrays. Distances come in the grid's own unit.
"""

import itertools
from collections.abc import Sequence

import numpy as np

Grid = Sequence[np.ndarray]
Real = float | int
Vector = Sequence[Real] | np.ndarray

_CENTRE = np.float32(1e-6)  # k0 at the very centre of an ellipsoid, where k0 / k1 would be 0 / 0


def unit_centres(n: int) -> np.ndarray:
    """Return the centres of n equal cells of [-1, 1]: float32 [n]."""
    return ((np.arange(n, dtype=np.float32) + 0.5) * (2 / n) - 1).astype(np.float32)


def grid(size: Sequence[int], field: Vector, centre: Vector | None = None) -> list[np.ndarray]:
    """Return the open grid of voxel centres of a field of view around `centre` (default: the origin)."""
    axes = [unit_centres(n) * np.float32(extent / 2) for n, extent in zip(size, field, strict=True)]
    if centre is not None:
        axes = [axis + np.float32(middle) for axis, middle in zip(axes, centre, strict=True)]
    return list(np.ix_(*axes))


def dot(points: Grid, direction: Vector) -> np.ndarray:
    """Return the inner product of every point with a direction."""
    total = np.zeros(np.broadcast_shapes(*(p.shape for p in points)), np.float32)
    for p, component in zip(points, direction, strict=True):
        total += p * np.float32(component)
    return total


def norm(points: Grid) -> np.ndarray:
    """Return every point's distance from the origin."""
    total = np.zeros(np.broadcast_shapes(*(p.shape for p in points)), np.float32)
    for p in points:
        total += p * p
    return np.sqrt(total, out=total)


def offsets(points: Grid, centre: Vector) -> list[np.ndarray]:
    """Return the points relative to a centre."""
    return [p - np.float32(c) for p, c in zip(points, centre, strict=True)]


def ellipsoid(points: Grid, centre: Vector, radii: Vector) -> np.ndarray:
    """Return the signed distance to an axis-parallel ellipsoid (or ellipse): exact on the surface, first order near it.

    With k0 = |p / r| and k1 = |p / r²| it is k0 (k0 - 1) / k1.
    """
    scaled = [q / np.float32(r) for q, r in zip(offsets(points, centre), radii, strict=True)]
    k0 = np.maximum(norm(scaled), _CENTRE)
    k1 = norm([q / np.float32(r) for q, r in zip(scaled, radii, strict=True)])
    return k0 * (k0 - 1) / np.maximum(k1, _CENTRE / np.float32(min(radii)))


def tube(points: Grid, start: Vector, end: Vector, radius: Real) -> np.ndarray:
    """Return the signed distance to a straight tube with round ends."""
    direction = np.subtract(end, start).astype(np.float32)
    apart = offsets(points, start)
    along = np.clip(dot(apart, direction / np.dot(direction, direction)), 0, 1)
    return norm([q - along * d for q, d in zip(apart, direction, strict=True)]) - np.float32(radius)


def polyline(points: Grid, corners: Sequence[Vector], radius: Real) -> np.ndarray:
    """Return the signed distance to a tube through several corners."""
    parts = [tube(points, start, end, radius) for start, end in itertools.pairwise(corners)]
    return np.minimum.reduce(parts)


def union(first: np.ndarray, second: np.ndarray, blend: Real) -> np.ndarray:
    """Return the union of two shapes with a seam rounded over the distance `blend` (polynomial smooth minimum)."""
    overlap = np.maximum(np.float32(blend) - np.abs(first - second), 0)
    return np.minimum(first, second) - overlap * overlap * np.float32(0.25 / blend)


def soft(distance: np.ndarray, width: Real) -> np.ndarray:
    """Return the share of a voxel inside a shape: 1 within, 0 without, linear over `width` around the surface."""
    return np.clip(np.float32(0.5) - distance * np.float32(1 / width), 0, 1)


def paint(image: np.ndarray, mask: np.ndarray, values: Vector) -> None:
    """Blend values, one a channel, into an image [channels, *space] where a mask [*space] in [0, 1] says so."""
    for channel, value in zip(image, values, strict=True):
        channel += mask * (np.float32(value) - channel)
