"""Read images from .npy and .npz files: one array of many images, or a folder of arrays that are one image each.

How a shape is read is told in `array_axes`, which arrays of an .npz count in `npz_keys`, how number types are kept in
`dtypes`. With `--layout=slices` volumes are cut along their first axis of space (an array has no anatomical planes,
so `--plane` does not apply). An .npz is decompressed once and kept in memory; a .npy is memory-mapped.
"""

import dataclasses
import threading
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from memjax.data.readers.array_axes import ArrayAxes, array_axes, counts_items
from memjax.data.readers.array_files import ArrayHeader, npy_header, npz_headers, open_npy, read_npz, refuse_objects
from memjax.data.readers.base import ROW_COLUMN, BadFile, Image, ReadOptions, Scan, Spec, Unit
from memjax.data.readers.colour import GREY
from memjax.data.readers.dtypes import is_finite, raw_dtype, to_raw
from memjax.data.readers.files import find_images, looks_like_mask, unit_name
from memjax.data.readers.folders import folder_labels, folder_split, split_word
from memjax.data.readers.npz_keys import COMPANIONS, companion, image_keys, key_split, passed_over

ENDINGS = (".npy", ".npz")

_RUN_BYTES = 64 << 20  # what is read in one go, and lost to a power cut
_KEPT = 2  # large arrays kept decompressed: while one thread ends an array, another has begun the next
_LARGE_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Array:
    """One array of images: where it is, what surrounds it in its .npz, and what the sources of its items begin with."""

    file: Path
    key: str
    header: ArrayHeader
    beside: Mapping[str, ArrayHeader]
    axes: ArrayAxes
    source: str
    mark: str  # "#" or "/": what stands between `source` and an item's index

    def runs(self) -> list[tuple[int, int]]:
        """Return the (first, stop) rows of each run: what is read in one go."""
        rows = self.header.shape[0]
        step = max(1, _RUN_BYTES * rows // self.header.size_bytes)
        return [(start, min(start + step, rows)) for start in range(0, rows, step)]

    def item_source(self, row: int) -> str:
        """Return the source of one row."""
        return f"{self.source}{self.mark}{row}" if self.axes.has_items else self.source


class Arrays:
    """The reader of array files; see `memjax.data.readers.base.Reader` for what its methods promise."""

    def __init__(self, root: Path, options: ReadOptions):
        self._root = root
        self._options = options
        self._lock = threading.Lock()
        self._described: dict[Path, dict[str, _Array]] = {}
        self._kept: dict[tuple[Path, str], np.ndarray] = {}

    def scan(self) -> Scan:
        """Find the arrays: a unit is a run of an array's rows, or a whole file that is one image."""
        files, masks = self._files
        left_out = list(masks)
        units = []
        for file, label in zip(files, folder_labels([self._name(file) for file in files]), strict=True):
            try:
                arrays = self._arrays(file)
            except BadFile:  # `probe` will say it of this unit
                units.append(Unit(name=self._name(file), files=(file,)))
                continue
            units += [unit for array in arrays for unit in self._units(array, label)]
            if file.suffix.lower() == ".npz":
                reasons = passed_over(arrays[0].beside, [array.key for array in arrays])
                left_out += [{"source": f"{self._name(file)}#{key}", "reason": why} for key, why in reasons.items()]
        return Scan(units=units, left_out=left_out)

    def probe(self, unit: Unit) -> Spec:
        """Tell the shape of a unit's images from the array's header."""
        array = self._array(unit)
        axes, is_cut = array.axes, self._is_cut(array)
        items = 1 if unit.rows is None else unit.rows[1] - unit.rows[0]
        channels = self._channel_names(array)
        return Spec(
            space=axes.space[1:] if is_cut else axes.space,
            channels=channels,
            dtype=raw_dtype(array.header.dtype),
            axes=ROW_COLUMN if is_cut else axes.names,
            label_channels=tuple(i for i, name in enumerate(channels) if looks_like_mask(name)),
            count=items * axes.space[0] if is_cut else items,
        )

    def read(self, unit: Unit) -> list[Image]:
        """Read a unit's rows, with what the arrays beside them tell of each."""
        array = self._array(unit)
        values = self._values(array)
        start, stop = unit.rows or (0, 1)
        block = to_raw(np.array(values[start:stop] if unit.rows else values[None]))  # a copy: the file may change
        _check_finite(block, unit)
        told = self._told(array, start, stop) if unit.rows else [{}]
        images = [
            Image(image=array.axes.channels_last(item), source=array.item_source(row), **about)
            for row, item, about in zip(range(start, stop), block, told, strict=True)
        ]
        if not self._is_cut(array):
            return images
        mark = "/" if unit.rows else "#"
        return [piece for image in images for piece in _slices(image, mark)]

    @cached_property
    def _files(self) -> tuple[list[Path], list[dict[str, str]]]:
        """The files of images, and the masks that are left out."""
        return find_images(self._root, ENDINGS, with_masks=self._options.with_masks)

    def _arrays(self, file: Path) -> list[_Array]:
        """Return the arrays of images in a file."""
        name = self._name(file)
        if file.suffix.lower() == ".npy":
            return [self._describe(file, "", {"": npy_header(file)}, name, "#")]
        beside = npz_headers(file)
        keys = image_keys(beside, with_masks=self._options.with_masks)
        if len(keys) == 1:
            return [self._describe(file, keys[0], beside, name, "#")]
        return [self._describe(file, key, beside, f"{name}#{key}", "/") for key in keys]

    def _describe(self, file: Path, key: str, beside: Mapping[str, ArrayHeader], source: str, mark: str) -> _Array:
        header = beside[key]
        refuse_objects(header)
        raw_dtype(header.dtype)
        has_items = self._has_items(key, beside)
        axes = array_axes(header.shape, has_items=has_items, layout=self._options.layout)
        return _Array(file=file, key=key, header=header, beside=beside, axes=axes, source=source, mark=mark)

    def _has_items(self, key: str, beside: Mapping[str, ArrayHeader]) -> bool:
        """Say whether the first axis counts items: as the user says, else if the array stands alone or is told of."""
        if self._options.array_axis != "auto":
            return self._options.array_axis == "items"
        is_told = any(companion(beside, key, about) for about in COMPANIONS)
        if len(self._files[0]) == 1 or key_split(key) or is_told:
            return counts_items(beside[key].shape, self._options.layout)
        return False

    def _units(self, array: _Array, label: str) -> list[Unit]:
        split = key_split(array.key) or folder_split(array.source)
        whole = Unit(name=array.source, files=(array.file,), split=split, label=label, key=array.key)
        if not array.axes.has_items:
            return [whole]
        return [
            dataclasses.replace(whole, name=f"{array.source}[{start}:{stop}]", rows=(start, stop))
            for start, stop in array.runs()
        ]

    def _array(self, unit: Unit) -> _Array:
        """Return the array that a unit is of; raises the `BadFile` for which `scan` could not describe it."""
        with self._lock:
            if unit.files[0] not in self._described:
                self._described[unit.files[0]] = {array.key: array for array in self._arrays(unit.files[0])}
            return self._described[unit.files[0]][unit.key]

    def _is_cut(self, array: _Array) -> bool:
        return array.axes.is_volume and self._options.layout in ("images", "slices")

    def _channel_names(self, array: _Array) -> tuple[str, ...]:
        """Return the names in an array `channels` beside the images, else numbers."""
        count = array.axes.channels
        header = array.beside.get("channels")
        if header is not None and header.shape == (count,) and header.dtype.kind == "U":
            return tuple(str(name) for name in self._load(array.file, "channels"))
        return GREY if count == 1 else tuple(str(number) for number in range(count))

    def _values(self, array: _Array) -> np.ndarray:
        if not array.key:
            return open_npy(array.file)
        return self._load(array.file, array.key) if array.axes.has_items else read_npz(array.file, array.key)

    def _load(self, file: Path, key: str) -> np.ndarray:
        """Return an array of an .npz, decompressed once; the least recently used of many large ones is let go."""
        with self._lock:
            values = self._kept.pop((file, key), None)
            values = read_npz(file, key) if values is None else values
            self._kept[file, key] = values
            large = [place for place, kept in self._kept.items() if kept.nbytes > _LARGE_BYTES]
            for place in large[:-_KEPT]:
                del self._kept[place]
            return values

    def _told(self, array: _Array, start: int, stop: int) -> list[dict[str, Any]]:
        """Return what the arrays beside the images tell of each row, as keywords of `Image`."""
        columns: dict[str, list[Any]] = {}
        for field in COMPANIONS:
            key = companion(array.beside, array.key, field)
            if key is not None:
                columns[field] = [_MEANING[field](_text(value)) for value in self._load(array.file, key)[start:stop]]
        return [{field: values[row] for field, values in columns.items()} for row in range(stop - start)]

    def _name(self, file: Path) -> str:
        return unit_name(file, self._root)


def _slices(volume: Image, mark: str) -> list[Image]:
    """Cut a volume along its first axis; each slice keeps what is known of the volume."""
    return [
        dataclasses.replace(volume, image=values, source=f"{volume.source}{mark}{z}", slice=z)
        for z, values in enumerate(volume.image)
    ]


def _check_finite(block: np.ndarray, unit: Unit) -> None:
    if is_finite(block):
        return
    row = next(row for row, values in enumerate(block) if not is_finite(values))
    raise BadFile(f"holds NaN or Inf values{f' in row {unit.rows[0] + row}' if unit.rows else ''}")


def _text(value: Any) -> str:
    """Return a companion's value as text; several values (MedMNIST's multi-labels) are joined by `;`."""
    parts = [part.decode("utf-8", "replace") if isinstance(part, bytes) else part for part in np.ravel(value).tolist()]
    return ";".join(str(part) for part in parts)


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise BadFile(f"numbers a slice {text!r}; its `slice` array must hold whole numbers") from None


_MEANING = {"patient": str, "slice": _whole, "label": str, "split": lambda text: split_word(text) or text}
