"""The memorization-informed Fréchet distance: a Fréchet distance made worse where images are nearly training images."""

import numpy as np
from jaxtyping import Float

_BLOCK_BYTES = 64 << 20  # of one block of cosines
_ROUNDING = 1e-7  # of a cosine of float32 features: no mean distance is taken for smaller


def mifid(
    train: Float[np.ndarray, "n d"], synthetic: Float[np.ndarray, "s d"], *, fid: float, epsilon: float = 0.1
) -> float:
    """Return the Fréchet distance, divided by the distance to the training images where that is small.

    Bai et al. 2021 (arXiv 2106.03062), section 3: with M of `cosine_distance`, FID / M if M < epsilon, else FID. The
    threshold was chosen for features of InceptionV3. In features in which all images are alike (such as pixels) real
    images of other patients lie below it, too: compare with those. M is taken for 1e-7 at least, so that exact copies
    have ten million times their FID; of the training set itself, once each, that still is 0.

    Args:
      train: features of the training images, as they come: not centred.
      synthetic: features of the synthetic images.
      fid: their Fréchet distance, 0 or more.
      epsilon: below which distance the set is penalised.

    Returns:
      0 or more.
    """
    distance = max(cosine_distance(train, synthetic), _ROUNDING)
    return fid / distance if distance < epsilon else fid


def cosine_distance(train: Float[np.ndarray, "n d"], synthetic: Float[np.ndarray, "s d"]) -> float:
    """Return M, the mean over synthetic images of the smallest 1 - |cosine| to a training image: from 0 to 1.

    The cosine with features that are all 0 is 0.
    """
    known = _unit(train)
    step = max(1, _BLOCK_BYTES // (known.itemsize * len(known)))
    total = 0.0
    for start in range(0, len(synthetic), step):
        total += float((1 - np.abs(_unit(synthetic[start : start + step]) @ known.T).max(1)).sum(dtype=np.float64))
    return max(total / len(synthetic), 0.0)


def _unit(features: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    length = np.sqrt(np.square(features).sum(1, keepdims=True))
    return features / np.where(length > 0, length, 1)
