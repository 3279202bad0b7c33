"""How far apart two sets of images are as wholes: the Fréchet distance of Gaussians fitted to their features.

Heusel et al., 2017 (arXiv 1706.08500), equation 6, there in features of InceptionV3. Here features are the leading
principal components of the training images themselves: enough to see a generator's images come nearer to real ones
while it trains, and no measure of detail. It cannot see copying: training images themselves have distance 0.
"""

import numpy as np
from jaxtyping import Float


def principal_axes(images: Float[np.ndarray, "n d"], k: int) -> tuple[Float[np.ndarray, "d"], Float[np.ndarray, "d m"]]:
    """Return the mean of flat images and the k directions (fewer, if there are fewer images) of largest variance."""
    mean = images.mean(0)
    _, _, rows = np.linalg.svd(images - mean, full_matrices=False)
    return mean, rows[:k].T


def frechet_distance(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"]) -> float:
    """Return |mean difference|^2 + tr(A + B - 2 (A B)^(1/2)) of the features' covariances A and B.

    Biased upwards by few images: compare only distances of equally many.
    """
    a, b = (np.atleast_2d(np.cov(features, rowvar=False)) for features in (x, y))
    mean = float(np.square(x.mean(0) - y.mean(0)).sum())
    values, axes = np.linalg.eigh(a)
    root = axes * np.sqrt(np.maximum(values, 0)) @ axes.T
    # (A B)^(1/2) has the trace of (A^(1/2) B A^(1/2))^(1/2), which is symmetric and may be singular.
    overlap = float(np.sqrt(np.maximum(np.linalg.eigvalsh(root @ b @ root), 0)).sum())
    return max(mean + float(np.trace(a) + np.trace(b)) - 2 * overlap, 0.0)
