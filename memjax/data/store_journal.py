"""What an unfinished store holds: its images as far as its journal, and the file of pixels itself, tell of them.

    STORE.partial/key            a digest of all that decides the images
    STORE.partial/images.npy     room for the header, then the images one after the other
    STORE.partial/journal.jsonl  a line a unit: its name, why it was left out, its rows

Whoever writes makes pixels last before the journal tells of them; what a kill left behind that is not counted.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from memjax import __version__
from memjax.data.manifest import Item
from memjax.digest import settings_digest

HEADER_BYTES = 256  # room for the .npy header of any n, so that n can be written last
FILES = ("key", "images.npy", "journal.jsonl", "items.csv", "manifest.json")

Unit = tuple[str, str, list[Item]]  # its name, why it was left out ("": it was not), rows


@dataclasses.dataclass(frozen=True)
class Unfinished:
    """The units of an unfinished store whose images are all there, and how many bytes of the journal tell of them."""

    folder: Path
    units: Sequence[Unit]
    journal_bytes: int

    @classmethod
    def read(cls, folder: Path, *, shape: tuple[int, ...], dtype: np.dtype, settings: Any) -> "Unfinished | None":
        """Return what a writer of these settings left in a folder; None: nothing, or it had others."""
        try:
            if (folder / "key").read_text(encoding="ascii") != key_of(settings, shape, dtype):
                return None
            lines = (folder / "journal.jsonl").read_bytes().splitlines(keepends=True)
            size = (folder / "images.npy").stat().st_size
        except (OSError, ValueError):
            return None
        units: list[Unit] = []
        end, whole = HEADER_BYTES, 0
        for line in lines:
            unit = _unit(line)
            if unit is None:
                break
            end += len(unit[2]) * int(np.prod(shape)) * dtype.itemsize
            if end > size:
                break
            units.append(unit)
            whole += len(line)
        return cls(folder, units, whole)

    def image(self, number: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray | None:
        """Read the image of a row; None if the file has become shorter."""
        count = int(np.prod(shape))
        offset = HEADER_BYTES + number * count * dtype.itemsize
        flat = np.fromfile(self.folder / "images.npy", dtype, count, offset=offset)
        return flat.reshape(shape) if flat.size == count else None


def key_of(settings: Any, shape: tuple[int, ...], dtype: np.dtype) -> str:
    """Return the digest of all that decides the images of a store."""
    return settings_digest([settings, shape, dtype.str, __version__])


def journal_line(unit: str, left_out: str, rows: Sequence[Item]) -> str:
    """Return the line that tells of a unit."""
    return json.dumps({"unit": unit, "left_out": left_out, "items": [vars(item) for item in rows]}) + "\n"


def _unit(line: bytes) -> Unit | None:
    """Read a line of the journal; None if it was cut off or damaged."""
    if not line.endswith(b"\n"):
        return None
    try:
        entry = json.loads(line)
        return entry["unit"], entry["left_out"], [Item(**row) for row in entry["items"]]
    except (ValueError, TypeError, KeyError):
        return None
