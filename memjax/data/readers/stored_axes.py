"""Where a point that is told in a file's own voxels, or in mm, lies in the image that its reader makes of the file.

Readers turn volumes: NIfTI and DICOM to RAS, MRNet's slices to the end. Who annotates a file sees it as it is stored:

    format         a file's own indices, from 0
    nifti, brats   (i, j, k): the axes of the array on disk, as nibabel and ITK count them
    dicom          (column, row, slice); slices count along the normal of their plane, as in ITK and 3D Slicer
    array          the axes of space in the array's order, for example (depth, row, column)
    mrnet          (slice, row, column), as in the .npy file
    images         (row, column, page)

mm are those of the scanner in RAS: growing to the patient's right, front and top, as NIfTI affines count them. (DICOM's
own are LPS: the first two numbers change their sign.)
"""

import dataclasses
import gzip
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from nibabel.orientations import io_orientation

from memjax.data.readers.base import BadFile, Reader, Spec, Unit
from memjax.data.readers.brats import Brats
from memjax.data.readers.dicom import Dicom
from memjax.data.readers.dicom_header import frames, number, read_dataset
from memjax.data.readers.dicom_stack import stack_frames
from memjax.data.readers.mrnet import MRNet
from memjax.data.readers.nifti import Nifti
from memjax.data.readers.nifti import read_header as read_nifti_header
from memjax.data.readers.ras import Grid

_NIFTI2_START = (struct.pack("<i", 540), struct.pack(">i", 540))


@dataclasses.dataclass(frozen=True, eq=False)
class StoredAxes:
    """How a volume is stored: the image's axis n is the file's axis `order[n]`, backwards where `is_flipped[n]`.

    `shape` [3] is the file's. `affine` [4, 4] takes the file's (i, j, k, 1) to mm in RAS; None where the file does not
    say where it lies.
    """

    shape: tuple[int, ...]
    order: tuple[int, ...] = (0, 1, 2)
    is_flipped: tuple[bool, ...] = (False, False, False)
    affine: np.ndarray | None = None

    def index_of_mm(self, mm: Sequence[float]) -> tuple[float, ...]:
        """Return the file's (fractional) indices of a place in mm; raises `BadFile` if it does not say where it is."""
        if self.affine is None:
            raise BadFile("does not say where it lies in mm; give its points in voxels, with --centres_in=voxel")
        return tuple(float(at) for at in np.linalg.solve(self.affine, [*mm, 1.0])[:3])

    def holds(self, index: Sequence[float]) -> bool:
        """Say whether the voxel nearest to these indices of the file is one of its voxels."""
        return all(-0.5 <= at < length - 0.5 for at, length in zip(index, self.shape, strict=True))

    def in_image(self, index: Sequence[float]) -> tuple[float, ...]:
        """Return the indices in the image of indices in the file."""
        return tuple(
            self.shape[axis] - 1 - index[axis] if flipped else index[axis]
            for axis, flipped in zip(self.order, self.is_flipped, strict=True)
        )


def stored_axes(reader: Reader, unit: Unit, spec: Spec) -> StoredAxes:
    """Return how a unit that is one volume is stored, from its headers; `spec` is what the reader's `probe` said.

    Raises:
      BadFile: as `probe`.
    """
    if isinstance(reader, Nifti | Brats):
        grid = read_nifti_header(unit.files[0]).grid
        return _of_grid(grid, says_where=_says_where(unit.files[0]))
    if isinstance(reader, Dicom):
        headers = [read_dataset(path, pixels=False) for path in unit.files]
        its_frames = [frame for header in headers for frame in frames(header)]
        stack = stack_frames(its_frames, number(headers[0], "Rows", 0), number(headers[0], "Columns", 0))
        is_placed = all(frame.position is not None for frame in its_frames) and stack.spacing_mm is not None
        return _of_grid(stack.grid, says_where=is_placed)
    if isinstance(reader, MRNet):
        rows, columns, slices = spec.space
        return StoredAxes(shape=(slices, rows, columns), order=(1, 2, 0))
    return StoredAxes(shape=spec.space)


def _of_grid(grid: Grid, *, says_where: bool) -> StoredAxes:
    """Return how a grid's array becomes `grid.to_ras` of it."""
    towards = io_orientation(grid.affine)  # of each stored axis: its RAS axis, and -1 if it runs backwards
    order = np.argsort(towards[:, 0])
    return StoredAxes(
        shape=grid.shape,
        order=tuple(int(axis) for axis in order),
        is_flipped=tuple(bool(towards[axis, 1] < 0) for axis in order),
        affine=grid.affine if says_where else None,
    )


def _says_where(path: Path) -> bool:
    """Say whether a NIfTI header has a qform or an sform: without, programs put its voxels where they like."""
    with path.open("rb") as file:
        is_gzip = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        head = (gzip.GzipFile(fileobj=file) if is_gzip else file).read(352)
    return any(head[344:352] if head[:4] in _NIFTI2_START else head[252:256])  # both codes, 0 if unset
