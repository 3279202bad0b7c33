"""Read folders of pictures: PNG, JPEG, TIFF and BMP, nested as they come, grey and colour mixed.

Folders named for a split (`train`, `val`, `test`) give the split, the folder a picture lies in gives its label. The
pages of one TIFF are the slices of a volume, and so, with `--layout=volumes`, are the pictures of one folder. Whether
the set is grey or coloured is decided once for all its files (`Pictures.is_coloured`).
"""

import threading
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np

from memjax.data.readers import colour
from memjax.data.readers.base import ROW_COLUMN, BadFile, Image, ReadOptions, Scan, Spec, Unit
from memjax.data.readers.dtypes import is_finite
from memjax.data.readers.files import find_images, unit_name
from memjax.data.readers.folders import folder_labels, folder_split
from memjax.data.readers.picture_files import ENDINGS, Header, read_header, read_pages

VOLUME_AXES = ("row", "column", "slice")

_HEADERS_LOOKED_AT = 1024  # finds the few colour files of a mostly grey set (Kermany's: 1 in 20) within 0.2 s
_FILES_LOOKED_INTO = 32

_T = TypeVar("_T")


class Pictures:
    """The reader of picture files; see `memjax.data.readers.base.Reader` for what its methods promise."""

    def __init__(self, root: Path, options: ReadOptions):
        self._root = root
        self._options = options
        self._lock = threading.Lock()
        self._coloured: bool | None = None if options.colour == "auto" else options.colour == "rgb"

    def scan(self) -> Scan:
        """Find the pictures, and the masks among them, which are passed over unless `with_masks`."""
        images, left_out = self._files
        groups = self._volumes(images) if self._options.layout == "volumes" else {self._name(f): [f] for f in images}
        places = [name.removesuffix("/*") for name in groups]  # of a stacked folder, its own parents count
        units = [
            Unit(name=name, files=tuple(files), split=folder_split(name), label=label)
            for (name, files), label in zip(groups.items(), folder_labels(places), strict=True)
        ]
        return Scan(units=units, left_out=left_out)

    def is_coloured(self) -> bool:
        """Say whether the images get three channels.

        With `colour="auto"` this is so if, in an evenly spread sample of up to 32 multi-channel files, one is really
        coloured (see `colour.to_grey`). Decided at the first call, for good.
        """
        with self._lock:
            if self._coloured is None:
                self._coloured = _any_coloured(self._files[0])
            return self._coloured

    def probe(self, unit: Unit) -> Spec:
        """Tell the shape of a unit's images from its files' headers."""
        headers = _each_file(unit, read_header)
        first = headers[0]
        _check_same([(header.rows, header.columns, header.dtype) for header in headers])
        pages = sum(header.pages for header in headers)
        space, axes = (first.rows, first.columns), ROW_COLUMN
        if is_volume := self._is_volume(pages):
            space, axes = (*space, pages), VOLUME_AXES
        return Spec(
            space=space,
            channels=colour.RGB if self.is_coloured() else colour.GREY,
            dtype=first.dtype,
            axes=axes,
            count=1 if is_volume else pages,
        )

    def read(self, unit: Unit) -> list[Image]:
        """Decode a unit: one image, or one a page where the pages are not a volume."""
        pages = [page for pages in _each_file(unit, self._read_file) for page in pages]
        if self._is_volume(len(pages)):
            _check_same([(*page.shape[:2], page.dtype) for page in pages])
            return [Image(image=np.stack(pages, axis=2))]
        if len(pages) == 1:
            return [Image(image=pages[0])]
        return [Image(image=page, suffix=f"#{z}", slice=z) for z, page in enumerate(pages)]

    def _read_file(self, file: Path) -> list[np.ndarray]:
        pages = read_pages(file)
        if not all(is_finite(page) for page in pages):
            raise BadFile("holds NaN or Inf values")
        return [colour.to_rgb(page) if self.is_coloured() else self._grey(page) for page in pages]

    def _grey(self, page: np.ndarray) -> np.ndarray:
        grey, was_coloured = colour.to_grey(page)
        if was_coloured and self._options.colour == "auto":
            raise BadFile(
                "is coloured, in a set whose sampled files are all grey; give --colour=rgb to keep the colours "
                "or --colour=grey to drop them"
            )
        return grey

    def _is_volume(self, pages: int) -> bool:
        return self._options.layout == "volumes" or (self._options.layout == "auto" and pages > 1)

    def _volumes(self, files: Sequence[Path]) -> dict[str, list[Path]]:
        """Group pictures by folder under the name `FOLDER/*`; a file of several pages is a volume of its own."""
        groups: dict[str, list[Path]] = {}
        for file in files:
            name = self._name(file)
            if not _has_pages(file):
                folder = name.rpartition("/")[0]
                name = f"{folder}/*" if folder else "*"
            groups.setdefault(name, []).append(file)
        return groups

    @cached_property
    def _files(self) -> tuple[list[Path], list[dict[str, str]]]:
        """The pictures, and the masks that are left out."""
        return find_images(self._root, ENDINGS, with_masks=self._options.with_masks)

    def _name(self, file: Path) -> str:
        return unit_name(file, self._root)


def _any_coloured(files: Sequence[Path]) -> bool:
    headers = [(file, _header(file)) for file in _spread(files, _HEADERS_LOOKED_AT)]
    candidates = [file for file, header in headers if header is not None and header.channels > 1]
    return any(_looks_coloured(file) for file in _spread(candidates, _FILES_LOOKED_INTO))


def _looks_coloured(file: Path) -> bool:
    try:
        return any(is_finite(page) and colour.to_grey(page)[1] for page in read_pages(file))
    except BadFile:
        return False  # said when it is the file's turn


def _has_pages(file: Path) -> bool:
    header = _header(file) if file.suffix.lower() in (".tif", ".tiff") else None
    return header is not None and header.pages > 1


def _header(file: Path) -> Header | None:
    try:
        return read_header(file)
    except BadFile:
        return None  # said when it is the file's turn


def _spread(files: Sequence[Path], count: int) -> list[Path]:
    """Return up to `count` of the files, evenly spaced from the first to the last."""
    places = np.linspace(0, len(files) - 1, min(count, len(files))).round().astype(int)
    return [files[place] for place in places]


def _each_file(unit: Unit, read: Callable[[Path], _T]) -> list[_T]:
    """Apply `read` to a unit's files; where there are several, a `BadFile` names the one."""
    results = []
    for file in unit.files:
        try:
            results.append(read(file))
        except BadFile as error:
            raise error if len(unit.files) == 1 else BadFile(f"{file.name} {error}") from None
    return results


def _check_same(kinds: Sequence[tuple[int, int, np.dtype]]) -> None:
    """Check that the slices of one volume agree in (rows, columns, type)."""
    for z, (rows, columns, dtype) in enumerate(kinds):
        if kinds[0] != (rows, columns, dtype):
            raise BadFile(
                f"has slices that differ: the first is {kinds[0][0]} x {kinds[0][1]} {kinds[0][2]}, "
                f"number {z} is {rows} x {columns} {dtype}"
            )
