"""Precision, recall, density, coverage: whether synthetic images lie where real ones do, and reach all such places.

Where images of a set lie is taken to be the union of balls around them, each as large as the distance to the image's
k-th nearest other one. With B(x) the ball of a training image x, and B(y) that of a synthetic image y:

    precision  share of y that lie in some B(x)                                 Kynkäänniemi et al. 2019, equation 2
    recall     share of x that lie in some B(y)                                 (arXiv 1904.06991)
    density    mean over y of the number of B(x) that y lies in, over k         Naeem et al. 2020, equations 3 and 4
    coverage   share of x whose B(x) has some y                                 (arXiv 2002.09797)

Density may exceed 1. One outlier's large ball raises precision and recall; density and coverage mind outliers less.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

_BLOCK = 1 << 22  # distances held at once
# A squared distance is rounded by a small part of the squared norms that it is a difference of, and differently in
# another block. Balls are larger by more than that: what lies on the edge, as a copy of the neighbour does, is inside.
_ROUNDING = 1e-12


class Neighbourhoods(NamedTuple):
    """Where synthetic images lie among training images, and the other way round."""

    precision: float
    recall: float
    density: float
    coverage: float


def neighbourhoods(
    train: Float[np.ndarray, "n d"], synthetic: Float[np.ndarray, "m d"], *, k: int = 5
) -> Neighbourhoods:
    """Return precision, recall, density and coverage; exact, block by block: never all distances at once.

    All depend on the numbers of images: compare only scores of equally many.

    Args:
      train: features of the training images.
      synthetic: features of the synthetic ones.
      k: which neighbour's distance a ball has. 5 is customary for density and coverage, 3 for precision and recall.

    Raises:
      ValueError: a set has no more than k images.
    """
    if min(len(train), len(synthetic)) <= k:
        raise ValueError(f"balls to the {k}-th neighbour take {k + 1} images; there are {len(train)}, {len(synthetic)}")
    centre = train.mean(0, dtype=np.float64)  # small numbers round less
    x, y = train - centre, synthetic - centre
    of_train, of_synthetic = _squared_radii(x, k), _squared_radii(y, k)
    is_reached, is_covered = np.zeros(len(x), bool), np.zeros(len(x), bool)
    balls = np.zeros(len(y), np.int64)
    for start, stop in _blocks(len(x), len(y)):
        distance = _squared(x[start:stop], y)
        in_ball = distance <= of_train[start:stop, None]
        balls += in_ball.sum(0)
        is_covered[start:stop] = in_ball.any(1)
        is_reached[start:stop] = (distance <= of_synthetic).any(1)
    return Neighbourhoods(
        precision=float((balls > 0).mean()),
        recall=float(is_reached.mean()),
        density=float(balls.mean() / k),
        coverage=float(is_covered.mean()),
    )


def _squared_radii(x: np.ndarray, k: int) -> np.ndarray:
    """Return each image's squared distance to its k-th nearest other one, and a trifle: float64 [n]."""
    radii = np.zeros(len(x))
    for start, stop in _blocks(len(x), len(x)):
        distance = _squared(x[start:stop], x)
        distance[np.arange(stop - start), np.arange(start, stop)] = np.inf
        radii[start:stop] = np.partition(distance, k - 1, axis=1)[:, k - 1]
    return radii + _ROUNDING * np.square(x).sum(1).max()


def _squared(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return squared distances, float64 [n, m]."""
    return np.square(x).sum(1)[:, None] + np.square(y).sum(1) - 2 * (x @ y.T)


def _blocks(n: int, m: int) -> list[tuple[int, int]]:
    """Return which of n rows are compared with all of m at once."""
    rows = max(1, _BLOCK // m)
    return [(start, min(start + rows, n)) for start in range(0, n, rows)]
