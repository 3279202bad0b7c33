"""Seed ids in, an image store out: for any model, resumable, every image a function of its seed id alone."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from memjax.data.labels import labels_of
from memjax.data.manifest import Manifest
from memjax.data.store import NewItem, Store, StoreWriter, is_store
from memjax.errors import UserError

Draw = Callable[[np.ndarray, np.ndarray | None], np.ndarray]  # (seed ids, label numbers) -> images


def draw_store(
    draw: Draw,
    seed_ids: Sequence[int],
    out: Path,
    *,
    like: Manifest,
    labels: Sequence[str],
    label_share: Sequence[float],
    settings: Mapping[str, Any],
    batch_size: int,
    progress: Callable[[int], object] = lambda images: None,
) -> Store:
    """Draw the images of seed ids into a store of the training set's form.

    An interrupted call, repeated, draws what is missing; a finished one, repeated, draws nothing.

    Args:
      draw: (seed ids, label numbers or None) -> images in [-1, 1], for exactly `batch_size` of them.
      seed_ids: distinct.
      out: the store to write.
      like: the training set's manifest: axes, channels, spacing.
      labels: names of the classes that the model tells apart, in its order; empty: none.
      label_share: how often each occurs; the label of an image follows from its seed id.
      settings: all that decides an image but its seed id: digest of the weights, sampler.
      batch_size: images drawn at a time; the last batch is filled up, and the surplus thrown away.
      progress: called with the number of images written since the last call.

    Raises:
      UserError: the place is taken by something else, or the disk is full.
    """
    told = {**settings, "seed_ids": _ranges(seed_ids)}
    if is_store(out):
        store = Store.open(out)
        if store.manifest.preparation != told:
            raise UserError(f"{out} holds other images; remove it or choose another --out.")
        progress(len(store))
        return store
    as_bytes = like.dtype == "uint8"
    with StoreWriter(out, shape=like.shape, dtype="uint8" if as_bytes else "float32", settings=told) as writer:
        missing = [id_ for id_ in seed_ids if _source(id_) not in writer.done]
        progress(len(seed_ids) - len(missing))
        for start in range(0, len(missing), batch_size):
            part = missing[start : start + batch_size]
            ids = np.resize(np.array(part), batch_size)
            label = labels_of(ids, label_share)
            images = draw(ids, label)
            for i, id_ in enumerate(part):
                image = np.clip(images[i], -1, 1)  # samplers that do not clip leave them
                image = np.rint((image + 1) * 127.5).astype(np.uint8) if as_bytes else image
                item = NewItem(
                    image=image,
                    source=_source(id_),
                    label="" if label is None else str(labels[label[i]]),
                    value_range=(0.0, 255.0) if as_bytes else (-1.0, 1.0),
                )
                writer.add(_source(id_), [item])
            progress(len(part))
        return writer.finish(
            dataclasses.replace(
                like, patient_ids="none", source_format="samples", preparation=told, left_out=(), notes=(), digest=""
            ),
        )


def _source(seed_id: int) -> str:
    return f"seed_{seed_id:08d}"


def _ranges(seed_ids: Sequence[int]) -> str:
    """Say which ids these are, `0:1000` for a row of them."""
    ids = list(seed_ids)
    if ids == list(range(ids[0], ids[-1] + 1)):
        return f"{ids[0]}:{ids[-1] + 1}"
    return ",".join(map(str, ids))
