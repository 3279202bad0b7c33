"""Parts of a store as stores of their own: who is trained on in a study, and how often.

Everything here is decided by whole patients and by permutations, so that parts nest: of two training sets of one seed
the larger contains the smaller, and no training set meets the patients that are set aside.
"""

import dataclasses
import itertools
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int

from memjax.data.manifest import Item
from memjax.data.split import permutation
from memjax.data.store import NewItem, Store, StoreWriter
from memjax.digest import array_digest
from memjax.errors import UserError

_BLOCK_BYTES = 32 << 20  # read and written in one go


def write_subset(
    path: Path,
    store: Store,
    ids: Int[np.ndarray, " n"],
    *,
    split: str,
    copies: Int[np.ndarray, " n"] | None = None,
) -> Store:
    """Write some images of a store as a store of its own; an interrupted call, repeated, goes on.

    Images keep all that is known of them but their id and their split. One that is there several times stands there in
    a row, its sources numbered: `name`, `name~2`, `name~3`.

    Args:
      path: the folder to write.
      store: the images.
      ids: which of them, in this order, each once.
      split: the split that all of them will be in.
      copies: how often each is there, 1 or more; None: once.

    Raises:
      UserError: no images, an image that is not the one that was prepared, a full disk, or `path` is taken.
    """
    if not len(ids):
        raise UserError(f"no image of {store.path} is left for {path.name}; choose other numbers of images.")
    times = np.ones(len(ids), np.int64) if copies is None else copies
    assert len(np.unique(ids)) == len(ids) == len(times), "each image once"
    assert times.min() >= 1, times.min()
    chosen = [store.items[id_] for id_ in ids.tolist()]
    sources = _sources([item.source for item in chosen], times.tolist())
    settings = [store.manifest.digest, split, [dataclasses.astuple(item) for item in chosen], times.tolist()]
    shape, dtype = store.manifest.shape, store.manifest.dtype
    step = max(1, _BLOCK_BYTES // max(1, int(np.prod(shape)) * np.dtype(dtype).itemsize))
    with StoreWriter(path, shape=shape, dtype=dtype, settings=settings) as writer:
        for start in range(0, len(ids), step):
            if str(start) in writer.done:
                continue
            some = slice(start, start + step)
            new = []
            for item, image, names in zip(chosen[some], store.gather(ids[some]), sources[some], strict=True):
                if array_digest(image) != item.sha256:
                    raise UserError(f"{store.name(item.id)} is not the one that was prepared; prepare the store again.")
                new += [_new(item, image, name, split) for name in names]
            writer.add(str(start), new)
        part = f"{len(ids)} of the {len(store)} images of the store {store.manifest.digest[:16]}"
        again = int((times > 1).sum())
        note = part + (f", {again} of them more than once" if again else "")
        return writer.finish(dataclasses.replace(store.manifest, notes=(*store.manifest.notes, note)))


def split_patients(
    items: Sequence[Item], ids: Int[np.ndarray, " n"], *, heldout: float | int, unseen: float | int, seed: int
) -> tuple[Int[np.ndarray, " t"], Int[np.ndarray, " h"], Int[np.ndarray, " u"]]:
    """Return the ids to train on, to hold out, and of patients who are neither, each ascending.

    The patients held out are the last of the seed's permutation, the unseen ones those before them; so whom a study
    holds out does not depend on whether it leaves patients unseen. An image whose patient nobody knows is a patient of
    its own.

    Args:
      items: of the store.
      ids: the images to split.
      heldout: how many patients: a number, or a share of all below 1; 0: none.
      unseen: the same.
      seed: of the permutation.

    Raises:
      UserError: a number that is none, or nobody would be left to train on.
    """
    owners: dict[str, list[int]] = defaultdict(list)
    for id_ in ids.tolist():
        owners[_owner(items[id_])].append(id_)
    order = permutation(owners, seed)
    n = len(order)
    n_heldout, n_unseen = _count("heldout_patients", heldout, n), _count("unseen_patients", unseen, n)
    if (n_train := n - n_heldout - n_unseen) < 1:
        raise UserError(
            f"heldout_patients={heldout:g} and unseen_patients={unseen:g} take {n_heldout + n_unseen} of {n} patients, "
            "and leave none to train on; give less."
        )

    def of(patients: Sequence[str]) -> np.ndarray:
        return np.sort(np.array([id_ for patient in patients for id_ in owners[patient]], np.int64))

    return of(order[:n_train]), of(order[n_train + n_unseen :]), of(order[n_train : n_train + n_unseen])


def thinned_ids(items: Sequence[Item], ids: Int[np.ndarray, " n"], every: int) -> Int[np.ndarray, " m"]:
    """Return the ids, ascending, of only every so-manieth slice of each volume, counted among those given.

    A volume is what a patient's slices of one file (or array) were cut from; an image that is no slice stays.

    Args:
      items: of the store.
      ids: the images to thin out.
      every: 1: all; 4: the first of a volume, the fifth, the ninth…

    Raises:
      UserError: `every` is below 1, or none of the images is a slice.
    """
    if every < 1:
        raise UserError(f"thinning={every} is no number of slices; give 1 (all) or more.")
    if every == 1 or not len(ids):
        return np.sort(ids)
    volumes: dict[tuple[str, str], list[Item]] = defaultdict(list)
    kept = []
    for item in (items[id_] for id_ in ids.tolist()):
        if item.slice is None:
            kept.append(item.id)
        else:
            volumes[item.patient, item.source.rpartition("#")[0]].append(item)
    if not volumes:
        raise UserError(f"thinning={every} leaves out slices of volumes, but these images are no slices; give 1.")
    for slices in volumes.values():
        kept += [item.id for item in sorted(slices, key=lambda item: (item.slice, item.id))[::every]]
    return np.sort(np.array(kept, np.int64))


def repeated(ids: Int[np.ndarray, " n"], *, share: float, times: int, seed: int) -> Int[np.ndarray, " n"]:
    """Return how often each image is in the training set: a share of them `times` times, the others once.

    The repeated ones are the first of a permutation of these images.

    Args:
      ids: the images.
      share: of them to repeat, 0 to 1; rounded to whole images, and to one at least.
      times: how often each of these is there.
      seed: of the permutation.

    Raises:
      UserError: a share outside of 0 to 1, or less than one time.
    """
    if not 0 <= share <= 1 or times < 1:
        raise UserError(
            f"duplicates={times} of a share of {share:g} make no training set; give 1 or more, and a share of 0 to 1."
        )
    copies = np.ones(len(ids), np.int64)
    count = max(1, round(share * len(ids))) if share else 0
    place = {f"repeated {id_}": i for i, id_ in enumerate(ids.tolist())}  # another order than that of a set's prefix
    for name in permutation(place, seed)[:count]:
        copies[place[name]] = times
    return copies


def _new(item: Item, image: np.ndarray, source: str, split: str) -> NewItem:
    return NewItem(
        image=image,
        source=source,
        patient=item.patient,
        slice=item.slice,
        split=split,
        label=item.label,
        value_range=(item.low, item.high),
        sha256=item.sha256,
    )


def _sources(names: Sequence[str], times: Sequence[int]) -> list[list[str]]:
    """Return the sources of each image, as many as it has copies; a number that is taken is passed over."""
    taken = set(names)
    numbered = []
    for name, count in zip(names, times, strict=True):
        further = (f"{name}~{number}" for number in itertools.count(2))
        free = list(itertools.islice((source for source in further if source not in taken), count - 1))
        taken.update(free)
        numbered.append([name, *free])
    return numbered


def _owner(item: Item) -> str:
    return item.patient or f"image {item.id}"


def _count(name: str, asked: float | int, patients: int) -> int:
    """Return how many patients a number, or a share of all below 1, asks for."""
    if not asked >= 0 or (asked >= 1 and not float(asked).is_integer()):
        raise UserError(f"{name}={asked:g} is neither a share below 1 nor a whole number of patients; mend it.")
    count = round(asked * patients) if asked < 1 else int(asked)
    if asked and not count:
        raise UserError(f"{name}={asked:g} of {patients} patients is none of them; give a number, or a larger share.")
    return count
