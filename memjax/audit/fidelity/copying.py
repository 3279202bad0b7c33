r"""Two scores that look for copying by distances in features: the data-copying test C_T, and AuthPct.

Both are of a whole set. They say that copies may be there, not which images they are, nor whose: the audit does.
"""

import math
import warnings

import numpy as np
from jaxtyping import Float
from scipy.cluster.vq import kmeans2, vq
from scipy.stats import mannwhitneyu

from memjax.audit.fidelity.features import principal_components
from memjax.audit.fidelity.nearest import distinct, nearest

_LEAST = 20  # synthetic images in a cell that counts
_RESTARTS, _ITERATIONS = 5, 30  # of k-means


def c_t(
    train: Float[np.ndarray, "n d"],
    test: Float[np.ndarray, "h d"],
    synthetic: Float[np.ndarray, "s d"],
    *,
    seed: int,
    cells: int = 3,
    components: int = 64,
) -> float:
    r"""Return the data-copying test: far below 0 copying, about 0 as it should be, far above 0 underfitting.

    Meehan et al. 2020 (arXiv 2004.05675), section 3: in each cell of feature space, how often a synthetic image is
    farther from its nearest training image than an unseen real one is from its own (U, ties half), as a z-score

        Z = (U - (s h / 2 - 1/2)) / sqrt(s h (s + h + 1) / 12),

    s and h the cell's synthetic and unseen images; C_T is the mean of Z over cells, weighted by h. Cells are those of
    k-means on the training images, in their leading principal components. The variance is that without ties, as
    published: with many ties the score is somewhat too near 0. Being a z-score it grows with the number of images;
    where nothing is wrong it lies within about 2 of 0.

    Args:
      train: features of the training images.
      test: features of real images of patients who are not in the training set.
      synthetic: features of the synthetic images.
      seed: of k-means.
      cells: how many; fewer if there are fewer different training images.
      components: of the principal components; all features if there are no more.

    Returns:
      The score; nan if there is no cell with 20 synthetic images, a training image and an unseen one, or if there are
      more features than components and none of them varies.
    """
    if train.shape[1] > components:
        mean, axes = principal_components(train, components)
        if not axes.size:
            return math.nan
        train, test, synthetic = ((features - mean) @ axes for features in (train, test, synthetic))
    centres = _centres(train, cells, seed)
    of_train, of_test, of_synthetic = (vq(features, centres)[0] for features in (train, test, synthetic))
    weights, scores = [], []
    for cell in range(len(centres)):
        known, unseen, made = train[of_train == cell], test[of_test == cell], synthetic[of_synthetic == cell]
        if len(made) < _LEAST or not len(known) or not len(unseen):
            continue
        weights.append(len(unseen))
        scores.append(_z(nearest(made, known)[0], nearest(unseen, known)[0]))
    return float(np.average(scores, weights=weights)) if weights else math.nan


def auth_pct(train: Float[np.ndarray, "n d"], synthetic: Float[np.ndarray, "s d"]) -> float:
    """Return how many percent of the synthetic images are authentic: 0 if all are copies, 100 if none is near.

    Alaa et al. 2022 (arXiv 2102.08921), section 4: a synthetic image is authentic if it is farther from its nearest
    training image than that one is from its own nearest other training image. Of new images of the same kind about
    half are, in features of many dimensions; a third in one dimension, three eighths in two.

    Training images with the same features count as one. Were they each other's nearest, at distance 0, whatever is
    near them would be authentic, and a set with every image twice could be copied without being noticed. Duplicates
    that differ slightly still hide copies of themselves: take them out of the training set first.

    Args:
      train: features of the training images.
      synthetic: features of the synthetic images.

    Returns:
      Percent, 0 to 100; nan if there are fewer than two different training images.
    """
    known = distinct(train)
    if len(known) < 2:
        return math.nan
    distance, place = nearest(synthetic, known)
    asked, where = np.unique(place, return_inverse=True)
    between, _ = nearest(known[asked], known, own=asked)
    return 100 * float(np.mean(distance > between[where]))


def _centres(features: Float[np.ndarray, "n d"], cells: int, seed: int) -> Float[np.ndarray, "k d"]:
    """Return the centres of the best of several runs of k-means."""
    cells = min(cells, len(distinct(features)))
    rng = np.random.default_rng(seed)
    with warnings.catch_warnings():  # a cell that lost its images does not count
        warnings.filterwarnings("ignore", "One of the clusters is empty")
        runs = [kmeans2(features, cells, _ITERATIONS, minit="++", rng=rng)[0] for _ in range(_RESTARTS)]
    return min(runs, key=lambda centres: float(np.square(vq(features, centres)[1]).sum()))


def _z(made: Float[np.ndarray, "s"], unseen: Float[np.ndarray, "h"]) -> float:
    """Return the z-score of Mann and Whitney's U of two samples: positive if the first is the larger."""
    s, h = len(made), len(unseen)
    u = float(mannwhitneyu(made, unseen, method="asymptotic").statistic)
    return (u - (s * h / 2 - 0.5)) / math.sqrt(s * h * (s + h + 1) / 12)
