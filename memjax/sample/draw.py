"""Seed ids in, an image store out: for any model, resumable, every image a function of its seed id alone.

Several processes draw every so many-th image each, into parts of their own, and the first one puts the parts together:
to the bytes that one process would have written.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from memjax.data.labels import labels_of
from memjax.data.manifest import Manifest
from memjax.data.store import NewItem, Store, StoreWriter, is_store
from memjax.data.store_parts import Parts
from memjax.errors import UserError
from memjax.team import ALONE, Team, wait_to_see

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
    team: Team = ALONE,
    progress: Callable[[int], object] = lambda images: None,
) -> Store:
    """Draw the images of seed ids into a store of the training set's form.

    An interrupted call, repeated, draws what is missing, by as many processes as there are then; a finished one,
    repeated, draws nothing.

    Args:
      draw: (seed ids, label numbers or None) -> images in [-1, 1], for exactly `batch_size` of them.
      seed_ids: distinct.
      out: the store to write.
      like: the training set's manifest: axes, channels, spacing.
      labels: names of the classes that the model tells apart, in its order; empty: none.
      label_share: how often each occurs; the label of an image follows from its seed id.
      settings: all that decides an image but its seed id: digest of the weights, sampler.
      batch_size: images drawn at a time; the last batch is filled up, and the surplus thrown away.
      team: the processes that draw; all call this alike, and see `out`.
      progress: called with the number of images since the last call: those of `own_share`.

    Raises:
      UserError: the place is taken by something else, or the disk is full; or the processes do not see one `out`.
    """
    told = {**settings, "seed_ids": _ranges(seed_ids)}
    as_bytes = like.dtype == "uint8"
    form: dict[str, Any] = {"shape": like.shape, "dtype": "uint8" if as_bytes else "float32", "settings": told}
    parts = Parts(out, **form)
    if team.follow(is_store(out)):
        store = _seen(out)
        if store.manifest.preparation != told:
            raise UserError(f"{out} holds other images; remove it or choose another --out.")
        if team.index == 0:
            parts.remove()  # of a call that was killed just before
        progress(len(own_share(seed_ids, team)))
        return store

    def drawn(ids: Sequence[int]) -> list[NewItem]:
        filled_up = np.resize(np.array(ids), batch_size)
        label = labels_of(filled_up, label_share)
        images = draw(filled_up, label)
        items = []
        for i, id_ in enumerate(ids):
            image = np.clip(images[i], -1, 1)  # samplers that do not clip leave them
            image = np.rint((image + 1) * 127.5).astype(np.uint8) if as_bytes else image
            items.append(
                NewItem(
                    image=image,
                    source=_source(id_),
                    label="" if label is None else str(labels[label[i]]),
                    value_range=(0.0, 255.0) if as_bytes else (-1.0, 1.0),
                )
            )
        return items

    def add(writer: StoreWriter, ids: Sequence[int], done: Callable[[int], object]) -> None:
        missing = [id_ for id_ in ids if _source(id_) not in writer.done]
        done(len(ids) - len(missing))
        for start in range(0, len(missing), batch_size):
            part = missing[start : start + batch_size]
            items = {id_: parts.take(_source(id_)) for id_ in part}
            left = [id_ for id_, item in items.items() if item is None]
            items |= dict(zip(left, drawn(left) if left else [], strict=True))
            for id_ in part:
                item = items[id_]
                assert item is not None
                writer.add(_source(id_), [item])
            done(len(part))

    before = parts.look()
    if team.count > 1:
        own = own_share(seed_ids, team)
        left = [id_ for id_ in own if _source(id_) not in before]
        progress(len(own) - len(left))
        with parts.writer(team.index) as writer:
            add(writer, left, progress)
        counts = team.meet(len(writer.items))
        if team.index == 0:
            parts.wait_for(counts)
            parts.look()
    if team.index == 0:
        with StoreWriter(out, **form) as writer:
            add(writer, seed_ids, progress if team.count == 1 else lambda images: None)
            writer.finish(
                dataclasses.replace(
                    like,
                    patient_ids="none",
                    source_format="samples",
                    preparation=told,
                    left_out=(),
                    notes=(),
                    digest="",
                ),
            )
        parts.remove()
    team.meet()
    return _seen(out)


def own_share(seed_ids: Sequence[int], team: Team) -> Sequence[int]:
    """Return the seed ids whose images this process draws."""
    return seed_ids[team.index :: team.count]


def _seen(out: Path) -> Store:
    """Return a store that another process may have finished just now."""
    return wait_to_see(lambda: Store.open(out) if is_store(out) else None, f"process 0 has finished {out}")


def _source(seed_id: int) -> str:
    return f"seed_{seed_id:08d}"


def _ranges(seed_ids: Sequence[int]) -> str:
    """Say which ids these are, `0:1000` for a row of them."""
    ids = list(seed_ids)
    if ids == list(range(ids[0], ids[-1] + 1)):
        return f"{ids[0]}:{ids[-1] + 1}"
    return ",".join(map(str, ids))
