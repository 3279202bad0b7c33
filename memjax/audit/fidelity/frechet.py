"""How far apart two sets of images are as wholes: the Fréchet distance of Gaussians fitted to their features.

Heusel et al. 2017 (arXiv 1706.08500), equation 6, there in features of InceptionV3 (FID):

    |mean difference|^2 + tr(A + B - 2 (A B)^(1/2))  of the features' covariances A and B.

It cannot see copying: training images themselves have distance 0. And it is too large for few images: covariances of n
images are off by an amount that shrinks like 1/n, and all of it counts as distance. So only distances of equally many
images compare, and `fid_infinity` extrapolates to infinitely many (Chong & Forsyth 2020, arXiv 1911.07023).
"""

import numpy as np
from jaxtyping import Float

_SIZES = 15  # subsets that the line is fitted to, as in the paper
_SMALLEST = 0.25  # of the images: the smallest subset


def principal_axes(images: Float[np.ndarray, "n d"], k: int) -> tuple[Float[np.ndarray, "d"], Float[np.ndarray, "d m"]]:
    """Return the mean of flat images and the k directions (fewer, if there are fewer images) of largest variance."""
    mean = images.mean(0)
    _, _, rows = np.linalg.svd(images - mean, full_matrices=False)
    return mean, rows[:k].T


def frechet_distance(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"]) -> float:
    """Return the Fréchet distance of two sets of two images or more, computed in float64.

    Biased upwards by few images: compare only distances of equally many.
    """
    return _Gaussian(x).distance(y)


def fid_infinity(train: Float[np.ndarray, "n d"], synthetic: Float[np.ndarray, "m d"], *, seed: int) -> float:
    """Return the Fréchet distance to the training images, extrapolated to infinitely many synthetic ones.

    The distances of random subsets of the synthetic images, of 15 sizes from a quarter to all of them, lie on a line in
    1 / size; its intercept is the result, which may lie a little below 0. The training images are taken as they are:
    what they themselves lack for being few remains, so that a generator that draws from them has 0.

    Args:
      train: features of the training images.
      synthetic: features of the synthetic ones. The line is one only where they are more than the features vary in
        directions: from fewer synthetic images than features the result is still too large.
      seed: of the subsets.

    Raises:
      ValueError: fewer than 16 synthetic images.
    """
    n = len(synthetic)
    if n * _SMALLEST < 4:
        raise ValueError(f"{n} synthetic images are too few to see how the distance depends on their number")
    rng, gaussian = np.random.default_rng(seed), _Gaussian(train)
    sizes = np.unique(np.linspace(n * _SMALLEST, n, _SIZES).astype(int))
    distances = [gaussian.distance(synthetic[rng.permutation(n)[:size]]) for size in sizes]
    _, intercept = np.polyfit(1 / sizes, distances, 1)
    return float(intercept)


def distance_of_halves(images: Float[np.ndarray, "n d"], *, seed: int) -> float:
    """Return the Fréchet distance of two random halves of a set: what it is for being few, since 0 would be true."""
    order = np.random.default_rng(seed).permutation(len(images))
    half = len(images) // 2
    return frechet_distance(images[order[:half]], images[order[half : 2 * half]])


class _Gaussian:
    """Mean and covariance of a set, the latter as A = F F^T.

    (A B)^(1/2) has the trace of (F^T B F)^(1/2): the sum of the singular values of F^T G with B = G G^T. So no root of
    a matrix is taken whose eigenvalues are rounded to below 0, and a set and itself have distance 0, singular or not.
    """

    def __init__(self, features: np.ndarray):
        if len(features) < 2:
            raise ValueError(f"a covariance takes 2 images; there are {len(features)}")
        features = features.astype(np.float64)
        n, d = features.shape
        self.mean = features.mean(0)
        centred = (features - self.mean) / np.sqrt(n - 1)
        self.variance = float(np.square(centred).sum())
        self.factor = centred.T  # [d, n]
        if n > d:
            values, axes = np.linalg.eigh(centred.T @ centred)
            self.factor = axes * np.sqrt(np.maximum(values, 0))  # [d, d]

    def distance(self, features: np.ndarray) -> float:
        """Return the distance to a set."""
        other = _Gaussian(features)
        overlap = float(np.linalg.svd(self.factor.T @ other.factor, compute_uv=False).sum())
        mean = float(np.square(self.mean - other.mean).sum())
        return max(mean + self.variance + other.variance - 2 * overlap, 0.0)
