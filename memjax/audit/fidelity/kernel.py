"""KID: how far apart two sets of images are as wholes, without assuming that their features are Gaussian.

The squared maximum mean discrepancy under a cubic kernel (Bińkowski et al. 2018, arXiv 1801.01401, section 4):

    k(x, y) = (x . y / d + 1)^3
    MMD^2   = mean of k over pairs of x + mean of k over pairs of y - 2 (mean of k over pairs of one x and one y),

where an image makes no pair with itself. So it is unbiased: of two sets from the same source it is 0 on average,
however few they are, and now and then below 0. The spread over random subsets says how far it can be trusted.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class KernelDistance(NamedTuple):
    """The kernel distance of two sets, over subsets of them."""

    mean: float
    deviation: float  # standard deviation over the subsets


def kernel_distance(
    x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"], *, seed: int, subsets: int = 100, subset_size: int = 1000
) -> KernelDistance:
    """Return the mean and the standard deviation of the kernel distance (KID) over random subsets of both sets.

    Args:
      x: features of one set.
      y: features of the other.
      seed: of the subsets.
      subsets: their number.
      subset_size: images drawn from each set without replacement, but at most half of the smaller set, since subsets
        that are the whole set do not differ.

    Raises:
      ValueError: a set has fewer than 4 images.
    """
    if min(len(x), len(y)) < 4:
        raise ValueError(f"the kernel distance takes 4 images of each set; there are {len(x)} and {len(y)}")
    size = min(subset_size, len(x) // 2, len(y) // 2)
    rng = np.random.default_rng(seed)
    found = [
        squared_discrepancy(*(part[rng.choice(len(part), size, replace=False)] for part in (x, y)))
        for _ in range(subsets)
    ]
    return KernelDistance(float(np.mean(found)), float(np.std(found)))


def squared_discrepancy(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"]) -> float:
    """Return the unbiased estimate of the squared discrepancy of two sets of two images or more.

    Products are in the features' own precision, means in float64.
    """
    return _of_pairs_within(x) + _of_pairs_within(y) - 2 * float(_kernel(x, y).mean(dtype=np.float64))


def _of_pairs_within(x: np.ndarray) -> float:
    """Return the mean over pairs of different images."""
    kernel = _kernel(x, x)
    np.fill_diagonal(kernel, 0)
    return float(kernel.sum(dtype=np.float64)) / (len(x) * (len(x) - 1))


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x @ y.T / x.shape[1] + 1) ** 3
