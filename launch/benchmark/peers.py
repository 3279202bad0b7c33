"""What the audit's users would pick otherwise: exact search with other libraries, the orientations one by one.

Every peer gets the same uint8 images, normalises them in float32, turns the queries, and returns the ten best gallery
images of each query, (score, id). The peers named "both ways" also find the ten best queries of each gallery image.
"""

import functools
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from memjax.orientation import Symmetry

    Lists = tuple[np.ndarray, np.ndarray]
    Search = Callable[[np.ndarray], Lists]

K = 10


def run(name: str, query: "np.ndarray", gallery: "np.ndarray", symmetry: "Symmetry") -> "Lists":
    """Search with the peer of this name: the best orientation counts."""
    import numpy as np

    from memjax.orientation import orientations

    y = unit(gallery)
    search = _PEERS[name](y)
    best: Lists | None = None
    for g in orientations(query.shape[1:-1], symmetry):
        score, ids = search(unit(g.inverse.apply(query, leading=1)))
        if best is None:
            best = score, ids
            continue
        both = np.concatenate([best[0], score], axis=1), np.concatenate([best[1], ids], axis=1)
        best = _distinct(*both)
    assert best is not None
    return best


def unit(images: "np.ndarray") -> "np.ndarray":
    """Return zero-mean unit vectors, float32 [n, D]."""
    import numpy as np

    x = images.reshape(len(images), -1).astype(np.float32)
    x -= x.mean(1, keepdims=True)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x


def _distinct(score: "np.ndarray", ids: "np.ndarray") -> "Lists":
    """Return the K best of lists that hold an id up to twice."""
    import numpy as np

    order = np.argsort(-score, axis=1, kind="stable")
    score, ids = np.take_along_axis(score, order, 1), np.take_along_axis(ids, order, 1)
    again = (ids[:, :, None] == ids[:, None, :]) & np.tri(ids.shape[1], k=-1, dtype=bool)
    score = np.where(again.any(2), -np.inf, score)
    order = np.argsort(-score, axis=1, kind="stable")[:, :K]
    return np.take_along_axis(score, order, 1), np.take_along_axis(ids, order, 1)


def _faiss(y: "np.ndarray") -> "Search":
    logging.getLogger("faiss").setLevel(logging.WARNING)  # how it was compiled is no news
    import faiss

    return lambda x: faiss.knn(x, y, K, metric=faiss.METRIC_INNER_PRODUCT)


def _torch(y: "np.ndarray", *, both: bool = False) -> "Search":
    """Return blocks of the product, the best of each block, then the best of those; `both`: and of the columns."""
    import torch

    gallery = torch.from_numpy(y)

    def search(x: "np.ndarray") -> "Lists":
        queries, scores, ids = torch.from_numpy(x), [], []
        for start in range(0, len(gallery), 2048):
            block = queries @ gallery[start : start + 2048].T
            if both:
                block.topk(min(K, len(queries)), dim=0)
            best = block.topk(min(K, block.shape[1]))
            scores.append(best.values)
            ids.append(best.indices + start)
        best = torch.cat(scores, 1).topk(K)
        return best.values.numpy(), torch.cat(ids, 1).gather(1, best.indices).numpy()

    return search


def _sklearn(y: "np.ndarray") -> "Search":
    from sklearn.neighbors import NearestNeighbors

    fitted = NearestNeighbors(n_neighbors=K, algorithm="brute", metric="cosine").fit(y)

    def search(x: "np.ndarray") -> "Lists":
        distance, ids = fitted.kneighbors(x)
        return 1 - distance, ids

    return search


def _numpy(y: "np.ndarray") -> "Search":
    import numpy as np

    def search(x: "np.ndarray") -> "Lists":
        scores = x @ y.T
        chosen = np.argpartition(-scores, K, axis=1)[:, :K]
        score = np.take_along_axis(scores, chosen, 1)
        order = np.argsort(-score, axis=1)
        return np.take_along_axis(score, order, 1), np.take_along_axis(chosen, order, 1)

    return search


_PEERS = {
    "faiss": _faiss,
    "torch": _torch,
    "torch both ways": functools.partial(_torch, both=True),
    "sklearn": _sklearn,
    "numpy": _numpy,
}
