"""A store that several processes write: each adds images to a part of its own, and one puts the parts together.

    STORE.parts/3.partial   what process 3 has written: an unfinished store, which stays one

So every file has one writer: hosts that write into one file of a network file system can undo each other's bytes. Parts
outlive the processes that wrote them: whoever goes on, with as many or with fewer, takes what is there.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from memjax.data.manifest import Item
from memjax.data.store import NewItem, StoreWriter, check_free
from memjax.data.store_journal import FILES, Unfinished
from memjax.digest import array_digest
from memjax.team import wait_to_see


class Parts:
    """The unfinished parts of one store, by units of one image each.

    `shape`, `dtype` and `settings` are those of the store's own `StoreWriter`; what has others is no part of it.
    """

    def __init__(self, path: Path, *, shape: tuple[int, ...], dtype: str, settings: Any):
        self.folder = path.with_name(path.name + ".parts")
        self._path = path
        self._beginning = path.with_name(path.name + ".partial")
        self._form: dict[str, Any] = {"shape": shape, "settings": settings}
        self._dtype = np.dtype(dtype)
        self._found: dict[str, tuple[Unfinished, Item]] = {}

    def writer(self, index: int) -> StoreWriter:
        """Return what writes a process's part.

        Raises:
          UserError: the place of the store is taken.
        """
        check_free(self._path)
        return StoreWriter(self.folder / str(index), dtype=str(self._dtype), **self._form)

    def look(self) -> set[str]:
        """Look what there is by now, the beginning of the store itself included; return the units."""
        found = [self._read(folder) for folder in (self._beginning, *self._folders())]
        self._found = {unit: (part, rows[0]) for part in found if part for unit, _, rows in part.units if rows}
        return set(self._found)

    def wait_for(self, counts: list[int]) -> None:
        """Wait until the parts are to be seen here as the processes, in order, left them: with so many images.

        Raises:
          UserError: they do not appear.
        """
        for index, count in enumerate(counts):
            folder = self.folder / f"{index}.partial"

            def look(folder: Path = folder, count: int = count) -> bool | None:
                part = self._read(folder)
                return count == 0 or (part is not None and len(part.units) >= count) or None

            wait_to_see(look, f"process {index} has written {count} images into {folder}")

    def take(self, unit: str) -> NewItem | None:
        """Return an image that was there when `look` was called; None: it was not, or is not what was written."""
        if unit not in self._found:
            return None
        part, item = self._found[unit]
        with contextlib.suppress(OSError):
            image = part.image(item.id, self._form["shape"], self._dtype)
            if image is not None and array_digest(image) == item.sha256:
                return NewItem(
                    image=image,
                    source=item.source,
                    patient=item.patient,
                    slice=item.slice,
                    split=item.split,
                    label=item.label,
                    value_range=(item.low, item.high),
                    sha256=item.sha256,
                )
        return None

    def remove(self) -> None:
        """Remove the parts (and nothing else), now that the store is whole."""
        for folder in self._folders():
            for name in FILES:
                (folder / name).unlink(missing_ok=True)
            _remove_if_empty(folder)
        _remove_if_empty(self.folder)

    def _read(self, folder: Path) -> Unfinished | None:
        return Unfinished.read(folder, dtype=self._dtype, **self._form)

    def _folders(self) -> Iterator[Path]:
        return (folder for folder in sorted(self.folder.glob("*.partial")) if folder.stem.isdecimal())


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not there, or somebody put something into it
        folder.rmdir()
