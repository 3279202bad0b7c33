"""What two sets of images are compared in: few numbers of each image, and how sure a classifier is of its class."""

import dataclasses
from collections.abc import Callable

import numpy as np
import scipy.linalg
from jaxtyping import Float, Float32

Images = Float32[np.ndarray, "n *space c"]
Vectors = Float[np.ndarray, "n d"]
Probabilities = Float[np.ndarray, "n k"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Features:
    """A way to see images; each image's numbers are its own, whatever else is in its batch.

    Attributes:
      title: for people, with what it was trained on: "InceptionV3 (the public weights)", "random convolutions".
      embed: images in [-1, 1] to vectors; any number of images.
      probabilities: those vectors to the probabilities of classes, which sum to 1; None: it does not classify.
      components: compare so many principal components of all sets' vectors, at most; None: all numbers.
      digest: of all that decides the vectors.
    """

    title: str
    embed: Callable[[Images], Vectors]
    probabilities: Callable[[Vectors], Probabilities] | None = None
    components: int | None = None
    digest: str


def principal_components(
    vectors: Float[np.ndarray, "n d"], at_most: int
) -> tuple[Float[np.ndarray, "d"], Float[np.ndarray, "d k"]]:
    """Return the mean of vectors and the directions of largest variance, in descending order.

    Directions without variance are left out; there are n - 1 or d at most. Found from the smaller of the two products
    of the vectors with themselves, n x n or d x d, in float64, and no more of them than are asked for: of 5216 x 2048
    numbers 64 take a tenth of the time of a singular value decomposition.
    """
    n, d = vectors.shape
    mean = vectors.mean(0, dtype=np.float64)
    x = vectors - mean
    is_wide = n < d
    size = min(n, d)
    variances, axes = scipy.linalg.eigh(
        x @ x.T if is_wide else x.T @ x, subset_by_index=(size - min(at_most, size), size - 1)
    )
    kept = variances[::-1] > max(variances[-1], 0) * 1e-12 * max(n, d)
    axes = axes[:, ::-1][:, kept]
    if is_wide:
        axes = x.T @ axes
        axes /= np.linalg.norm(axes, axis=0)
    return mean.astype(np.float32), axes.astype(np.float32)
