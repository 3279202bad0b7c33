"""From an image store to training batches: global batch k is a function of (seed, k) alone.

The order of operations is: shuffle all images, repeat, cut into global batches, take this host's rows, load, augment.
Hosts slice the batch, not the data: were the images dealt out first, each host would shuffle its own part, and batch k
would depend on how many hosts there are. So a run that goes on with other hosts, workers or devices sees what it would
have seen, and its data position is its step.
"""

import atexit
import contextlib
import functools
import math
import multiprocessing
import os
import signal
import threading
import weakref
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from functools import cached_property

import grain
import numpy as np
from jaxtyping import Int

from memjax.data.augment import Augmentation
from memjax.data.order import record_rng, records, view_rng
from memjax.data.pairs import Pairs
from memjax.data.store import Store
from memjax.data.views import Views
from memjax.errors import UserError

Batch = dict[str, np.ndarray]

_ENDLESS = 1 << 62  # steps
_MOST_THREADS = 16  # that load batches, one each; as many as there are cores, but two or more
_LEAST_AHEAD, _AHEAD_BYTES = 4, 2 << 30  # batches that threads load or keep ready: these, then up to so many bytes
_AHEAD_OF_WORKER = 2  # batches that each worker process keeps ready
_PART = 1 << 18  # numbers that are loaded at a time: they stay in the cache
# Not through shared memory: containers often have 64 MiB, and what still lies there at the end is warned of, or stays.
_THROUGH_PIPES = grain.experimental.DatasetOptions(min_shm_size=1 << 62)

_open: weakref.WeakSet[Generator[Batch, None, None]] = weakref.WeakSet()


@dataclass(frozen=True, kw_only=True, eq=False)
class Pipeline:
    """The batches of a run.

    Args:
      store: the images.
      batch_size: of the global batch, over all hosts.
      seed: of order and augmentation, the same on all hosts.
      augmentation: None: none.
      with_labels: whether batches have `label`, the place of each item's label in `classes`.
      workers: processes that load and augment; 0: threads of this one. The batches are the same. grain starts them only
        once absl's flags are parsed: outside of launchers call `absl.flags.FLAGS.mark_as_parsed()` before.
      threads: that load batches where there are no workers; 0: by the cores, see `n_threads`.
      ids: train on these items only, each once; None: on all.
      views: how a second image, that of the same patient, differs from the first; None: batches have no second image.
      pair: which it is a view of: "image", the same one, as it is in the store; "patient", another one of the patient's
        among `ids`, where there is any.

    Raises:
      UserError: there are fewer images than a batch has, views have nothing to differ by, all images are one patient's,
        or another value does not fit the store.
    """

    store: Store
    batch_size: int
    seed: int
    augmentation: Augmentation | None = None
    with_labels: bool = False
    workers: int = 0
    threads: int = 0
    ids: Int[np.ndarray, "n"] | None = None
    views: Views | None = None
    pair: str = "image"

    def __post_init__(self):
        for name, least in (("batch_size", 1), ("seed", 0), ("workers", 0), ("threads", 0)):
            if getattr(self, name) < least:
                raise UserError(f"{name}={getattr(self, name)} is too small; give {least} or more.")
        ids, path = self._ids, self.store.path
        if len(np.unique(ids)) < len(ids) or (len(ids) and not 0 <= ids.min() <= ids.max() < len(self.store)):
            raise UserError(f"ids must name images of {path}, 0 to {len(self.store) - 1}, each once; mend the list.")
        if len(ids) < self.batch_size:
            raise UserError(
                f"batch_size={self.batch_size}, but {path} has only {len(ids)} images to train on; use a batch of at "
                f"most {len(ids)}, or more images."
            )
        if self.with_labels and (bare := [i for i in ids.tolist() if not self.store.items[i].label]):
            raise UserError(
                f"{len(bare)} of {len(ids)} images have no label (the first: {self.store.name(bare[0])}); set "
                "with_labels to False, or prepare a store with labels."
            )
        if self.augmentation:
            self.augmentation.check(self.store.manifest.shape[:-1])
        if self.views:
            self._pairs.check()

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The names of the labels of the whole store, sorted, whatever part of it is trained on."""
        return tuple(sorted({item.label for item in self.store.items} - {""}))

    def ids_at(self, step: int) -> Int[np.ndarray, "b"]:
        """Return the ids of global batch `step`: int64 [batch_size]."""
        start = step * self.batch_size
        return self._ids[records(start, start + self.batch_size, n=len(self._ids), seed=self.seed)]

    def batches(
        self, first_step: int = 0, rows: Int[np.ndarray, "rows"] | slice = slice(None)
    ) -> Generator[Batch, None, None]:
        """Give this host's rows of global batch `first_step` and of all after it; close it to end threads and workers.

        Args:
          first_step: any step costs the same.
          rows: of the global batch, those that this host's devices hold; default: all.

        Returns:
          batches of `image` float32 [b, *space, c] in [-1, 1], `id` int32 [b], with labels `label` int32 [b], and with
          views `view`, like `image`, and `patient` int32 [b], the place of the patient among the store's; -1: unknown.
        """
        own = np.arange(self.batch_size)[rows]
        load = functools.partial(self._load, rows=own)
        steps = grain.MapDataset.range(first_step, _ENDLESS).map(load)
        if self.workers:
            dataset = grain.experimental.WithOptionsIterDataset(
                steps.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)), _THROUGH_PIPES
            ).mp_prefetch(grain.multiprocessing.MultiprocessingOptions(self.workers, _AHEAD_OF_WORKER), _begin_worker)
        else:
            batch_bytes = 4 * len(own) * math.prod(self.store.manifest.shape)
            threads, ahead = n_threads(batch_bytes, self.threads)
            dataset = steps.to_iter_dataset(grain.ReadOptions(threads, ahead))
        found = _until_closed(dataset)
        _open.add(found)
        return found

    def _load(self, step: int, rows: np.ndarray) -> Batch:
        ids = self.ids_at(step)[rows]
        images = np.empty((len(ids), *self.store.manifest.shape), np.float32)
        size = max(1, _PART // math.prod(images.shape[1:]))
        for start in range(0, len(ids), size):
            part = slice(start, start + size)
            self.store.unit_range(ids[part], out=images[part])
            self._augment(images[part], step * self.batch_size + rows[part])
        batch = {"image": images, "id": ids.astype(np.int32)}
        if self.with_labels:
            batch["label"] = self._labels[ids]
        if self.views:
            numbers = step * self.batch_size + rows
            batch |= self._pairs.of(ids, [view_rng(int(number), seed=self.seed) for number in numbers])
        return batch

    def _augment(self, images: np.ndarray, numbers: np.ndarray) -> None:
        """Vary images in place, if they are to be; `numbers` are those of their records."""
        if self.augmentation and self.augmentation.enabled:
            labels = self.store.manifest.label_channels
            for image, number in zip(images, numbers, strict=True):
                image[...] = self.augmentation(image, record_rng(int(number), seed=self.seed), labels)

    @cached_property
    def _pairs(self) -> Pairs:
        assert self.views
        return Pairs(self.store, self._ids, self.views, self.pair)

    @cached_property
    def _ids(self) -> np.ndarray:
        return np.arange(len(self.store)) if self.ids is None else self.ids

    @cached_property
    def _labels(self) -> np.ndarray:
        """The place of each item's label in `classes`, int32 [len(store)]; -1 for none."""
        places = {name: place for place, name in enumerate(self.classes)}
        return np.array([places.get(item.label, -1) for item in self.store.items], np.int32)


def n_threads(batch_bytes: int, threads: int = 0) -> tuple[int, int]:
    """Return how many threads load batches of this size, one each, and how many batches they load or keep ready.

    Without more being asked for, as many threads as this process has cores, from 2 to 16, but no more than have their
    batches in 2 GiB.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    fitting = max(_LEAST_AHEAD, _AHEAD_BYTES // max(batch_bytes, 1))
    threads = threads or min(max(cores, 2), _MOST_THREADS, fitting)
    return threads, max(_LEAST_AHEAD, min(threads + 2, fitting))


def held_out_batches(
    store: Store, ids: Int[np.ndarray, "n"], batch_size: int, views: Views | None = None
) -> Iterator[Batch]:
    """Give these images once, in this order; the last batch is filled up with its last image.

    Yields:
      `image` float32 [batch_size, *space, c] in [-1, 1], `id` int32, `mask` bool: False where it is filled up, and with
      views `view` and `patient`, as in `Pipeline.batches`; an image's view depends on its id alone.
    """
    pairs = Pairs(store, ids, views) if views else None
    for start in range(0, len(ids), batch_size):
        own = ids[start : start + batch_size]
        place = np.arange(batch_size)
        at = np.minimum(place, len(own) - 1)
        batch = {"image": store.unit_range(own)[at], "id": own[at].astype(np.int32), "mask": place < len(own)}
        if pairs:
            told = pairs.of(own, [view_rng(int(id_), seed=0) for id_ in own])
            batch |= {name: values[at] for name, values in told.items()}
        yield batch


def _until_closed(dataset: grain.IterDataset) -> Generator[Batch, None, None]:
    with contextlib.closing(iter(dataset)) as found:
        yield from found


@atexit.register
def _close_open() -> None:
    """Close what was forgotten, while there are still modules: later, grain tells of its own end in tracebacks."""
    for found in list(_open):
        found.close()


def _begin_worker(index: int, count: int) -> None:
    """Let a worker end with its parent, and only then.

    A signal to the whole job must not take the data from a run that is about to save, or to be profiled; a parent that
    was killed tells nobody.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
