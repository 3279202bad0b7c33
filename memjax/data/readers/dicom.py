"""Read folders of DICOM files, of any name: series of slices as volumes in RAS, projections as pictures.

    a series of slices with positions     one volume, ordered along their normal
    a file of several frames              one volume, ordered by the frames' own positions where it says them
    any other file (CR, DX, MG, a photo)  one picture [row, column]

With `layout=slices` volumes are cut; with `layout=images` every frame is a picture. The patient is PatientID. What is
no image (reports, plans, doses) and, unless asked for, segmentations are left out and listed. A file of several frames
that does not say where they lie is taken for an axial volume. With `colour=auto` the set is read as RGB if any file of
it is coloured.
"""

from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from memjax.data.readers import colour
from memjax.data.readers.base import RAS, ROW_COLUMN, BadFile, Image, ReadOptions, Scan, Spec, Unit
from memjax.data.readers.dicom_files import Group, group_files
from memjax.data.readers.dicom_header import Frame, frames, is_dicom, number, read_dataset, text
from memjax.data.readers.dicom_pixels import decode, value_dtype
from memjax.data.readers.dicom_stack import Stack, stack_frames
from memjax.data.readers.files import find_files
from memjax.data.readers.folders import folder_split
from memjax.data.readers.ras import cut_slices, slice_spec
from memjax.errors import UserError

_FILES_LOOKED_INTO = 64


def looks_like_dicom(root: Path) -> bool:
    """Say whether one of the first files at or below `root` is DICOM."""
    return any(is_dicom(path) for path in find_files(root, ("",))[:_FILES_LOOKED_INTO])


class Dicom:
    """The reader of DICOM folders; see the module for what becomes what."""

    def __init__(self, root: Path, options: ReadOptions):
        self.root = root
        self.options = options

    def scan(self) -> Scan:
        """Read the headers of all files and group them into series."""
        groups, left_out = self._found
        if not groups:
            reasons = Counter(entry["reason"] for entry in left_out)
            found = "".join(f"; {count} of its files: {reason}" for reason, count in reasons.most_common(1))
            raise UserError(f"{self.root} holds no DICOM image that can be read here{found}.")
        units = [
            Unit(name=name, files=group.files, patient=group.patient, split=folder_split(name))
            for name, group in groups.items()
        ]
        return Scan(units=units, left_out=left_out)

    def probe(self, unit: Unit) -> Spec:
        """Tell a series' shape, type and spacing from its headers."""
        series = _Series(unit)
        channels = colour.RGB if self._is_rgb else colour.GREY
        if self._is_picture(unit):
            return Spec(
                space=(series.rows, series.columns),
                channels=channels,
                dtype=series.dtype,
                axes=ROW_COLUMN,
                spacing_mm=series.frames[0].spacing_mm,
                count=len(series.frames),
            )
        stack = series.stack()
        space = stack.grid.ras_shape
        spec = Spec(space=space, channels=channels, dtype=series.dtype, axes=RAS, spacing_mm=stack.spacing_mm)
        return slice_spec(spec, self.options.plane) if self.options.layout == "slices" else spec

    def read(self, unit: Unit) -> list[Image]:
        """Decode a series as one volume or its slices, or a file as one picture a frame."""
        series = _Series(unit)
        if self._is_picture(unit):
            pictures = [self._recoloured(picture) for picture in series.decoded()]
            if len(pictures) == 1:
                return [Image(image=pictures[0])]
            return [Image(image=picture, suffix=f"#{index}") for index, picture in enumerate(pictures)]
        stack = series.stack()  # before decoding: a series whose slices do not fit ends here
        planes = [self._recoloured(plane) for plane in series.decoded()]
        volume = np.stack([planes[index] for index in stack.order])
        del planes  # a CT series has hundreds of megabytes
        volume = stack.grid.to_ras(volume.transpose(2, 1, 0, 3))
        if self.options.layout == "slices":
            return cut_slices(volume, self.options.plane)
        return [Image(image=np.ascontiguousarray(volume))]

    @cached_property
    def _found(self) -> tuple[dict[str, Group], list[dict[str, str]]]:
        return group_files(self.root, self.options)

    @cached_property
    def _is_rgb(self) -> bool:
        """Whether the images get three channels."""
        if self.options.colour == "auto":
            return any(group.is_coloured for group in self._found[0].values())
        return self.options.colour == "rgb"

    def _is_picture(self, unit: Unit) -> bool:
        return self._found[0][unit.name].is_picture

    def _recoloured(self, image: np.ndarray) -> np.ndarray:
        return colour.to_rgb(image) if self._is_rgb else colour.to_grey(image)[0]


class _Series:
    """The headers of one unit's files, which agree in what one image cannot have twice.

    Raises:
      BadFile: a header cannot be read, or the files differ in patient or shape.
    """

    def __init__(self, unit: Unit):
        self.files = unit.files
        self.headers = [self._read(path, pixels=False) for path in unit.files]
        self.rows, self.columns = self._common_shape()
        self._check_patient()
        self.frames_by_file: list[list[Frame]] = [frames(header) for header in self.headers]

    @property
    def frames(self) -> list[Frame]:
        """All frames, in the order of the files."""
        return [frame for frames in self.frames_by_file for frame in frames]

    @property
    def dtype(self) -> np.dtype:
        """The type of the decoded values, one for all files."""
        return value_dtype(zip(self.headers, self.frames_by_file, strict=True))

    def stack(self) -> Stack:
        """Return how the frames become a volume."""
        return stack_frames(self.frames, self.rows, self.columns)

    def decoded(self) -> Iterator[np.ndarray]:
        """Decode file after file, and give each frame [rows, columns, 1 or 3]."""
        dtype = self.dtype
        for path, its_frames in zip(self.files, self.frames_by_file, strict=True):
            dataset = self._read(path, pixels=True)
            try:
                yield from decode(dataset, its_frames, dtype)
            except BadFile as error:
                raise self._named(path, error) from None

    def _read(self, path: Path, *, pixels: bool) -> Dataset:
        try:
            return read_dataset(path, pixels=pixels)
        except BadFile as error:
            raise self._named(path, error) from None

    def _named(self, path: Path, error: BadFile) -> BadFile:
        """Say which of several files is the bad one."""
        return error if len(self.files) == 1 else BadFile(f"{path.name} {error}")

    def _common_shape(self) -> tuple[int, int]:
        shapes = [(number(header, "Rows", 0), number(header, "Columns", 0)) for header in self.headers]
        if len(set(shapes)) > 1:
            raise BadFile(f"has slices of different shapes, {min(shapes)} and {max(shapes)}; export each by itself")
        if min(shapes[0]) < 1:
            raise BadFile(f"has {shapes[0][0]} rows and {shapes[0][1]} columns; export it again")
        return shapes[0]

    def _check_patient(self) -> None:
        patients = sorted({text(header, "PatientID") for header in self.headers})
        if len(patients) > 1:
            raise BadFile(
                f"has slices of {len(patients)} patients ({patients[0]!r}, {patients[1]!r}) in one series; "
                "give each patient's its own SeriesInstanceUID"
            )
