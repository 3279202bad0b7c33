"""IS: whether a classifier is sure of each image, and finds many classes in all of them.

exp(mean over images of KL(p(class | image), p(class))), from 1 (all images alike to the classifier) to the number of
classes (Salimans et al. 2016, arXiv 1606.03498, section 4). It sees no real image at all: a generator that returns
training images, or one for each class, has a high score. The classes are those of photographs (ImageNet) if the
classifier is InceptionV3, which says little about medical images.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import rel_entr


class InceptionScore(NamedTuple):
    """The inception score, over parts of the set."""

    mean: float
    deviation: float  # standard deviation over the parts


def inception_score(probabilities: Float[np.ndarray, "n k"], *, splits: int = 10) -> InceptionScore:
    """Return the mean and the standard deviation of the score over consecutive parts of the set.

    Args:
      probabilities: each image's class probabilities, rows that sum to 1, in random order.
      splits: number of parts. A part of few images scores too low: it cannot show all classes. 10 parts of 5000 images
        are customary.

    Raises:
      ValueError: fewer images than parts.
    """
    n = len(probabilities)
    if not 1 <= splits <= n:
        raise ValueError(f"{n} images cannot be cut into {splits} parts")
    scores = [_score(part) for part in np.array_split(probabilities.astype(np.float64), splits)]
    return InceptionScore(float(np.mean(scores)), float(np.std(scores)))


def _score(probabilities: np.ndarray) -> float:
    divergence = rel_entr(probabilities, probabilities.mean(0)).sum(1)
    return float(np.exp(divergence.mean()))
