"""How often each training image was seen: in a study of memorization, a measured variable.

Nothing is counted while training. The order of the images is a function of the seed, so what a run has seen after any
number of steps can be computed, at any time and without the images.
"""

import csv
from pathlib import Path

import numpy as np
from jaxtyping import Int

from memjax.data.order import records
from memjax.data.store import Store
from memjax.whole import whole_file


def exposures(
    n: int, *, batch_size: int, seed: int, steps: int, ids: Int[np.ndarray, "m"] | None = None
) -> Int[np.ndarray, "n"]:
    """Return how often each image was seen in the first `steps` global batches: int64.

    Args:
      n: images in the store.
      batch_size: as the pipeline's.
      seed: as the pipeline's.
      steps: batches that were trained on.
      ids: as the pipeline's, in the same order; None: all.
    """
    ids = np.arange(n) if ids is None else ids
    epochs, rest = divmod(steps * batch_size, len(ids))
    last = records(epochs * len(ids), epochs * len(ids) + rest, n=len(ids), seed=seed)
    counts = np.zeros(n, np.int64)
    counts[ids] = epochs + np.bincount(last, minlength=len(ids))  # a whole epoch shows each once
    return counts


def write_exposures(path: Path, store: Store, counts: Int[np.ndarray, "n"]) -> None:
    """Write `id, source, patient, exposures` of every image of the store as csv; the file appears when whole."""
    with (
        whole_file(path) as partial,
        partial.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        table = csv.writer(file)
        table.writerow(["id", "source", "patient", "exposures"])
        for item, count in zip(store.items, counts, strict=True):
            table.writerow([item.id, item.source, item.patient, int(count)])
