"""The image store: one folder that holds any set of images of one shape, with all that is known of each.

    STORE/manifest.json   the set: shape, dtype, axes, channels, preparation, digest
    STORE/items.csv       one row an image: id, source, patient, slice, split, label, intensity map, sha256
    STORE/images.npy      [n, *space, channels], raw dtype

A store is written into `STORE.partial` and renamed when whole, so a name without `.partial` is always complete. The
writer appends unit by unit (a unit is whatever its caller reads in one go) and journals each, so that a killed
writer, opened again with the same settings, goes on after its last whole unit. One process at a time holds the folder.
"""

import dataclasses
import fcntl
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from memjax import __version__
from memjax.data.manifest import (
    FORMAT,
    Item,
    Manifest,
    check_items,
    content_digest,
    intensity_range,
    read_items,
    read_manifest,
    write_items,
    write_manifest,
)
from memjax.data.store_journal import FILES, HEADER_BYTES, Unfinished, journal_line, key_of
from memjax.digest import array_digest
from memjax.errors import UserError
from memjax.whole import is_disk_full

_SYNC_S = 2.0  # at most this much work is lost to a power cut or a kill


class Store:
    """A finished image store, read-only. `len(store)` images; see `manifest` and `items`."""

    def __init__(self, path: Path, manifest: Manifest, items: Sequence[Item]):
        self.path = path
        self.manifest = manifest
        self.items = items
        # The raw values that stand for -1 and +1 in each image: float32 [n, 2].
        self.ranges = np.array([(item.low, item.high) for item in items], np.float32).reshape(-1, 2)
        self._opened = self._stamp()

    @classmethod
    def open(cls, path: Path | str) -> "Store":
        """Open a store and check everything that needs no pass over the pixels (for that, see `verify`).

        Raises:
          UserError: the store is incomplete, damaged, or its parts do not fit together.
        """
        path = Path(path)
        manifest = read_manifest(path)
        items = read_items(path)
        if len(items) != manifest.n:
            raise UserError(
                f"{path}: manifest.json says {manifest.n} images, items.csv has {len(items)}; prepare it again."
            )
        store = cls(path, manifest, items)
        shape = (manifest.n, *manifest.shape)
        if store.images.shape != shape or store.images.dtype != manifest.dtype:
            raise UserError(
                f"{path}/images.npy holds {store.images.dtype} {store.images.shape}, "
                f"manifest.json says {manifest.dtype} {shape}; prepare the store again."
            )
        return store

    def __len__(self) -> int:
        return self.manifest.n

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the memory map: pickled for another process it would be a copy of all images."""
        return {name: value for name, value in vars(self).items() if name != "images"}

    @cached_property
    def images(self) -> np.ndarray:
        """All images, memory-mapped: [n, *space, channels], raw values. For passes over all of them use `block`."""
        path = self.path / "images.npy"
        try:
            return np.lib.format.open_memmap(path, mode="r")  # refuses pickled objects, and what is no .npy
        except (OSError, ValueError) as error:
            raise UserError(f"{path} cannot be read ({error}); prepare the store again.") from None

    def block(self, start: int, stop: int) -> np.ndarray:
        """Read images start:stop into fresh memory, so that a long pass does not keep the file resident."""
        stop = min(stop, len(self))
        count = int(np.prod(self.manifest.shape)) * (stop - start)
        offset = self.images.offset + start * self.images.strides[0]  # type: ignore[attr-defined]  # np.memmap
        flat = np.fromfile(self.path / "images.npy", self.images.dtype, count, offset=offset)
        if flat.size != count:
            raise UserError(f"{self.path}/images.npy ends before image {stop}; it changed while it was read.")
        return flat.reshape(stop - start, *self.manifest.shape)

    def gather(self, ids: np.ndarray) -> np.ndarray:
        """Read the images of these ids: [len(ids), *space, channels], raw values.

        Into fresh memory, like `block`: pages touched through the memory map would count as held.
        """
        found = np.empty((len(ids), *self.manifest.shape), self.images.dtype)
        offset, size = self.images.offset, self.images.strides[0]  # type: ignore[attr-defined]  # np.memmap
        with (self.path / "images.npy").open("rb", buffering=0) as file:
            for place, id_ in zip(found, ids, strict=True):
                assert 0 <= id_ < len(self), id_
                file.seek(offset + int(id_) * size)
                if file.readinto(place.reshape(-1).view(np.uint8)) != size:
                    raise UserError(f"{self.path}/images.npy ends before image {id_}; it changed while it was read.")
        return found

    def unit_range(self, ids: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Return the images of these ids as float32 in [-1, 1], by each item's own intensity map.

        Latents may lie beyond: what their scale maps to [-1, 1] is the codebook, or a standard deviation. They are
        written into `out`, if it is given. All is done in place: with fresh memory for each operation large images
        took four times as long.
        """
        raw = self.gather(ids)
        scaled = np.empty(raw.shape, np.float32) if out is None else out
        scaled[...] = raw
        low, high = self.ranges[ids].T.reshape(2, len(ids), *(1,) * (raw.ndim - 1))
        scaled -= low
        scaled /= np.where(high > low, high - low, 1)
        scaled *= 2
        scaled -= 1
        return scaled if self.manifest.latent else np.clip(scaled, -1, 1, out=scaled)

    def name(self, id_: int) -> str:
        """Say which image this is, for messages."""
        return f"image {id_} of {self.path} ({self.items[id_].source!r})"

    def check_unchanged(self) -> None:
        """Look whether the pixel file is the one that was opened; if it was touched, compare every digest.

        Raises:
          UserError: an image is not the one that was prepared.
        """
        if (stamp := self._stamp()) != self._opened:
            self.verify()
            self._opened = stamp

    def _stamp(self) -> tuple[int, int, int]:
        path = self.path / "images.npy"
        try:
            found = path.stat()
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}); prepare the store again.") from None
        return found.st_size, found.st_mtime_ns, found.st_ino

    def verify(self, workers: int = 2) -> None:
        """Read every image and compare its digest with `items.csv`.

        Raises:
          UserError: an image is not the one that was prepared.
        """
        size = max(1, (8 << 20) // max(1, int(np.prod(self.manifest.shape)) * self.images.dtype.itemsize))

        def changed(start: int) -> list[int]:
            block = self.block(start, start + size)
            return [start + i for i, image in enumerate(block) if array_digest(image) != self.items[start + i].sha256]

        with ThreadPoolExecutor(workers) as pool:
            bad = [i for ids in pool.map(changed, range(0, len(self), size)) for i in ids]
        if bad:
            raise UserError(
                f"{self.path}: {len(bad)} of {len(self)} images are not the ones that were prepared "
                f"(the first: id {bad[0]}, {self.items[bad[0]].source!r}); prepare the store again."
            )


def is_store(path: Path) -> bool:
    """Say whether a folder is meant to be an image store, even one that lost a file; opening it tells what is wrong.

    Other programs write a `manifest.json`, too.
    """
    if (path / "items.csv").is_file() and (path / "images.npy").is_file():
        return True
    try:
        return f'"format": "{FORMAT}"' in (path / "manifest.json").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


def check_free(path: Path) -> None:
    """Raise `UserError` if there is something where a store is to be."""
    if os.path.lexists(path):
        raise UserError(f"{path} exists already; remove it or choose another --out.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class NewItem:
    """One image on its way into a store; `sha256` (its `array_digest`) and `value_range` are computed if not given."""

    image: np.ndarray
    source: str
    patient: str = ""
    slice: int | None = None
    split: str = ""
    label: str = ""
    value_range: tuple[float, float] | None = None
    sha256: str = ""


class StoreWriter:
    """Write a store unit by unit; `with StoreWriter(...) as writer:` then `add` each unit, then `finish`.

    `settings` is everything that decides the images. A `.partial` left by an interrupted writer with the same settings
    is continued. With other settings it is begun anew.

    `done` names the units already in it (and why one was left out, else ""), `imageless` those that gave no image, and
    `items` are the rows so far.

    Raises:
      UserError: the place is taken, another process is writing there, or the disk is full.
    """

    def __init__(self, path: Path, *, shape: tuple[int, ...], dtype: str, settings: Any):
        self.path = path
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self.folder = path.with_name(path.name + ".partial")
        self.done: dict[str, str] = {}
        self.imageless: list[str] = []
        self.items: list[Item] = []
        self._settings = settings
        self._item_bytes = int(np.prod(shape)) * self.dtype.itemsize
        self._pending: list[str] = []
        self._synced = time.monotonic()

    def __enter__(self) -> "StoreWriter":
        with ExitStack() as files:
            self._take_folder(files)
            if not self._resume():
                self._begin()
            self._images = files.enter_context((self.folder / "images.npy").open("r+b"))
            self._images.truncate(HEADER_BYTES + len(self.items) * self._item_bytes)
            self._images.seek(0, os.SEEK_END)
            self._journal = files.enter_context((self.folder / "journal.jsonl").open("a", encoding="ascii"))
            self._files = files.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with self._files:
                self._flush()  # whatever happened: what is whole is kept
        except OSError as problem:
            error = error or problem
        if is_disk_full(error):
            raise UserError(
                f"the disk of {self.path.absolute().parent} is full after {len(self.items)} images; "
                "make room and run the same command again: it goes on from there."
            ) from None
        if error is not None and kind is None:
            raise error

    def add(self, unit: str, images: Sequence[NewItem], *, left_out: str = "") -> None:
        """Append one unit's images; or note why it has none."""
        assert unit not in self.done, unit
        rows = []
        for new in images:
            assert new.image.shape == self.shape and new.image.dtype == self.dtype, (new.image.shape, new.image.dtype)
            low, high = new.value_range or intensity_range(new.image)
            item = Item(
                id=len(self.items),
                source=new.source,
                patient=new.patient,
                slice=new.slice,
                split=new.split,
                label=new.label,
                low=low,
                high=high,
                sha256=new.sha256 or array_digest(new.image),
            )
            self._images.write(np.ascontiguousarray(new.image).data)
            self.items.append(item)
            rows.append(item)
        self._note_done(unit, rows, left_out)
        self._pending.append(journal_line(unit, left_out, rows))
        if time.monotonic() - self._synced > _SYNC_S:
            self._flush()

    def finish(self, manifest: Manifest, items: Sequence[Item] | None = None) -> Store:
        """Complete the store and give it its name.

        `manifest` lacks only what the writer knows (n, shape, dtype, digest). `items` replaces the rows, to assign
        splits once all patients are known; images and their order stay.
        """
        items = self.items if items is None else items
        assert len(items) == len(self.items)
        check_items(items)
        manifest = dataclasses.replace(
            manifest, n=len(items), shape=self.shape, dtype=str(self.dtype), made_by=f"memjax {__version__}"
        )
        manifest = dataclasses.replace(manifest, digest=content_digest(manifest, items))
        self._flush()
        self._images.seek(0)
        self._images.write(_npy_header(self.dtype, (len(items), *self.shape)))
        self._images.flush()
        os.fsync(self._images.fileno())
        write_items(self.folder, items)
        write_manifest(self.folder, manifest)
        for name in ("items.csv", "manifest.json"):
            with (self.folder / name).open("r+b") as file:
                os.fsync(file.fileno())
        for name in ("key", "journal.jsonl"):
            (self.folder / name).unlink()
        self.folder.rename(self.path)
        return Store(self.path, manifest, items)

    def _flush(self) -> None:
        """Make the images last before the journal says that they are there."""
        self._images.flush()
        if not self._pending:
            return
        os.fsync(self._images.fileno())
        self._journal.write("".join(self._pending))
        self._journal.flush()
        self._pending.clear()
        self._synced = time.monotonic()

    def _take_folder(self, files: ExitStack) -> None:
        """Make the folder, and hold it as long as `files` is open: two writers at once would mix their images."""
        check_free(self.path)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise UserError(f"{error.filename} is no folder, so {self.path} cannot be made; choose another.") from None
        handle = os.open(self.folder, os.O_RDONLY)
        files.callback(os.close, handle)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another process is writing {self.folder}; let it end, or choose another --out.") from None
        except OSError:
            return  # a file system without locks

    def _begin(self) -> None:
        """Empty the folder of an older writer's files (of nothing else) and lay out our own."""
        strangers = sorted(path.name for path in self.folder.iterdir() if path.name not in FILES)
        if strangers:
            raise UserError(
                f"{self.folder} holds {strangers[0]!r}, which no unfinished store has; move it away or choose another "
                "--out."
            )
        for name in FILES:
            (self.folder / name).unlink(missing_ok=True)
        (self.folder / "images.npy").write_bytes(b"\0" * HEADER_BYTES)
        (self.folder / "key").write_text(key_of(self._settings, self.shape, self.dtype), encoding="ascii")

    def _resume(self) -> bool:
        """Take up the units of an earlier writer; False if there is none, or it had other settings."""
        found = Unfinished.read(self.folder, shape=self.shape, dtype=self.dtype, settings=self._settings)
        if found is None:
            return False
        for unit, left_out, rows in found.units:
            self.items += rows
            self._note_done(unit, rows, left_out)
        os.truncate(self.folder / "journal.jsonl", found.journal_bytes)
        return True

    def _note_done(self, unit: str, rows: Sequence[Item], left_out: str) -> None:
        self.done[unit] = left_out
        if not rows and not left_out:
            self.imageless.append(unit)


def _npy_header(dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    """Return a version-1 .npy header padded to `HEADER_BYTES` (the format allows any number of blanks)."""
    text = repr({"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape})
    prefix = b"\x93NUMPY\x01\x00"
    length = HEADER_BYTES - len(prefix) - 2
    return prefix + length.to_bytes(2, "little") + (text.ljust(length - 1) + "\n").encode("latin1")
