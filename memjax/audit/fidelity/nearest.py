"""The nearest other features: Euclidean distances of whole sets, a block at a time."""

import hashlib

import numpy as np
from jaxtyping import Float, Int

_BLOCK_BYTES = 64 << 20  # of one block of distances


def nearest(
    query: Float[np.ndarray, "n d"], gallery: Float[np.ndarray, "m d"], *, own: Int[np.ndarray, "n"] | None = None
) -> tuple[Float[np.ndarray, "n"], Int[np.ndarray, "n"]]:
    """Return the distance from each query to its nearest row of the gallery, and that row's place.

    Rows are ranked by products in their own precision; the distance to the one found is then taken from the difference,
    in float64, so that equal rows are at 0 exactly.

    Args:
      query: one feature vector a row.
      gallery: likewise; at least one row, or two with `own`.
      own: for each query a row of the gallery that does not count: where queries are rows of the gallery themselves.
    """
    middle = gallery.mean(0)  # products of centred rows lose least to rounding
    rows = np.ascontiguousarray(gallery - middle)
    half = np.square(rows).sum(1) / 2
    place = np.empty(len(query), np.int64)
    distance = np.empty(len(query))
    step = max(1, _BLOCK_BYTES // (rows.itemsize * len(rows)))
    for start in range(0, len(query), step):
        part = slice(start, min(start + step, len(query)))
        far = half - (query[part] - middle).astype(rows.dtype) @ rows.T  # half the squared distance, less |query|^2 / 2
        if own is not None:
            far[np.arange(len(far)), own[part]] = np.inf
        place[part] = far.argmin(1)
        difference = query[part].astype(np.float64) - gallery[place[part]]
        distance[part] = np.sqrt(np.square(difference).sum(1))
    return distance, place


def distinct(features: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "m d"]:
    """Return the rows that differ, the first of each kind, in their order."""
    first: dict[bytes, int] = {}
    for place, row in enumerate(features):
        digest = hashlib.blake2b((row + 0.0).tobytes(), digest_size=16).digest()  # + 0.0: no -0.0
        first.setdefault(digest, place)
    return features[list(first.values())]
