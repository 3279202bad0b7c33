"""Read NIfTI files (.nii, .nii.gz, versions 1 and 2): one file, one volume, brought to RAS.

Voxels keep their numbers (see `dtypes`), unless the header scales them (`scl_slope`, `scl_inter`): then they become
float32. RGB24 voxels become three channels. A file of one slice is a volume of depth 1, or with
`layout=slices` one slice. A header with neither qform nor sform leaves left and right open; nibabel's default then
applies: the first axis grows towards the patient's left, as in ANALYZE files.
"""

import dataclasses
import gzip
import io
import logging
import struct
import zlib
from pathlib import Path
from typing import cast

import numpy as np
from nibabel.arrayproxy import ArrayProxy
from nibabel.filebasedimages import ImageFileError
from nibabel.nifti1 import Nifti1Image
from nibabel.nifti2 import Nifti2Image
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from memjax.data.readers import colour
from memjax.data.readers.base import RAS, BadFile, Image, ReadOptions, Scan, Spec, Unit
from memjax.data.readers.dtypes import raw_dtype, to_raw
from memjax.data.readers.files import find_files, looks_like_mask, unit_name
from memjax.data.readers.folders import folder_split
from memjax.data.readers.ras import Grid, cut_slices, slice_spec
from memjax.errors import UserError

ENDINGS = (".nii", ".nii.gz")

_GZIP = b"\x1f\x8b"
_NIFTI2_START = (struct.pack("<i", 540), struct.pack(">i", 540))  # the header's length, in either byte order
_MM = {"mm": 1.0, "unknown": 1.0, "meter": 1000.0, "micron": 0.001}
_RGB = ("R", "G", "B")
_HEADER_ERRORS = (
    ImageFileError,
    HeaderDataError,
    WrapStructError,
    ValueError,
    TypeError,
    OverflowError,
    struct.error,
)

# nibabel prints what it mends in a header (a zero qfac, a negative pixdim): nothing that a user has to act upon.
logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)


class Nifti:
    """The reader of folders of NIfTI files at any depth, the Medical Segmentation Decathlon's among them."""

    def __init__(self, root: Path, options: ReadOptions):
        self.root = root
        self.options = options

    def scan(self) -> Scan:
        """Find the files; masks (`labelsTr`, `*_seg`) are left out and listed unless asked for."""
        if self.options.layout == "images":
            raise UserError("NIfTI files are volumes, not pictures; give --layout=slices or --layout=volumes.")
        units, left_out = [], []
        reason = "its name says that it is a mask (read with --with_masks)"
        for path in find_files(self.root, ENDINGS):
            name = unit_name(path, self.root)
            if looks_like_mask(name) and path != self.root and not self.options.with_masks:
                left_out.append({"source": name, "reason": reason})
            else:
                units.append(Unit(name=name, files=(path,), split=folder_split(name)))
        if not units and left_out:
            raise UserError(f"{self.root} holds {len(left_out)} masks and no image; give --with_masks to read masks.")
        if not units:
            raise UserError(f"{self.root} holds no NIfTI file (.nii, .nii.gz); give the folder that does.")
        return Scan(units=units, left_out=left_out)

    def probe(self, unit: Unit) -> Spec:
        """Tell a file's shape, type and spacing from its header."""
        header = read_header(unit.files[0])
        spec = Spec(
            space=header.grid.ras_shape,
            channels=colour.RGB if self._is_rgb(header) else colour.GREY,
            dtype=header.dtype,
            axes=RAS,
            spacing_mm=header.grid.ras_spacing_mm,
        )
        return slice_spec(spec, self.options.plane) if self.options.layout == "slices" else spec

    def read(self, unit: Unit) -> list[Image]:
        """Read a file as one volume, or as all its slices."""
        header, volume = read_volume(unit.files[0])
        volume = colour.to_rgb(volume) if self._is_rgb(header) else colour.to_grey(volume)[0]
        if self.options.layout == "slices":
            return cut_slices(volume, self.options.plane)
        return [Image(image=np.ascontiguousarray(volume))]

    def _is_rgb(self, header: "Header") -> bool:
        """Whether a file is read as three channels: as it is, unless the user chose."""
        return header.is_rgb if self.options.colour == "auto" else self.options.colour == "rgb"


@dataclasses.dataclass(frozen=True)
class Header:
    """What a NIfTI header says of the voxels that follow it."""

    grid: Grid
    stored: np.dtype
    offset: int  # bytes from the (uncompressed) file's start to the first voxel
    slope: float
    intercept: float

    @property
    def is_rgb(self) -> bool:
        """Whether voxels are red, green, blue."""
        return self.stored.names == _RGB

    @property
    def is_scaled(self) -> bool:
        """Whether the voxels stand for other numbers than they are."""
        return (self.slope, self.intercept) != (1.0, 0.0)

    @property
    def dtype(self) -> np.dtype:
        """The type of the voxels once read."""
        if self.is_rgb:
            return np.dtype(np.uint8)
        return np.dtype(np.float32) if self.is_scaled else raw_dtype(self.stored)


def read_header(path: Path) -> Header:
    """Read a file's header and no voxel.

    Raises:
      BadFile: the file is not NIfTI, or holds what a volume of grey or RGB voxels cannot be.
    """
    try:
        with path.open("rb") as file:
            is_gzip = file.read(2) == _GZIP
            file.seek(0)
            return _parse_header(gzip.GzipFile(fileobj=file) if is_gzip else file)
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(error) from None


def read_volume(path: Path) -> tuple[Header, np.ndarray]:
    """Read a file whole: its header, and its voxels in RAS [x, y, z, channels] (a view, not contiguous).

    Raises:
      BadFile: as `read_header`; the file is cut off or damaged (a gzip stream is read to its checksum); some voxels
        are NaN or infinite.
    """
    try:
        content = path.read_bytes()
        if content.startswith(_GZIP):
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(error) from None
    header = _parse_header(io.BytesIO(content))
    return header, header.grid.to_ras(_voxels(content, header))


def _parse_header(stream: io.BufferedIOBase) -> Header:
    """Let nibabel read the header, and check what it leaves open."""
    version = Nifti2Image if stream.read(4) in _NIFTI2_START else Nifti1Image
    stream.seek(0)
    try:
        image = version.from_stream(stream)
        scale = _MM[str(image.header.get_xyzt_units()[0])]
    except (*_HEADER_ERRORS, KeyError) as error:
        raise BadFile(f"is no readable NIfTI file ({_first_line(error)}); export it again") from None
    shape = _volume_shape(image.shape)
    proxy = cast(ArrayProxy, image.dataobj)
    if proxy.dtype.kind not in "iuf" and proxy.dtype.names != _RGB:
        kind = image.header.get_value_label("datatype")
        raise BadFile(f"holds voxels of type {kind}; convert it to an integer or floating-point type")
    affine = np.array(image.affine)
    with np.errstate(over="ignore", invalid="ignore"):  # `Grid` finds what is not finite
        affine[:3] *= scale
    return Header(Grid(shape, affine), proxy.dtype, proxy.offset, float(proxy.slope), float(proxy.inter))


def _volume_shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return a header's shape as three axes; axes of length 1 may be missing at the end or be too many."""
    whole = tuple(int(length) for length in shape)
    space = whole + (1,) * (3 - len(whole))
    if any(length > 1 for length in space[3:]):
        raise BadFile(
            f"has {len(whole)} dimensions {whole}: a series of volumes, or vectors; "
            "choose one volume (fslroi, or nibabel's four_to_three) and give that as its own file"
        )
    if min(space) < 1:
        raise BadFile(f"has the shape {whole}, which is no voxel; export it again")
    return space[0], space[1], space[2]


def _voxels(content: bytes, header: Header) -> np.ndarray:
    """Return the voxels as stored in a file's content: [i, j, k, channels] of `header.dtype`."""
    count = int(np.prod(header.grid.shape, dtype=object))
    expected = count * header.stored.itemsize
    available = len(content) - header.offset
    if available < expected:
        raise BadFile(f"is cut off: {max(available, 0)} of {expected} bytes of voxels are there; copy it again")
    stored = np.frombuffer(content, header.stored, count, header.offset)
    if header.is_rgb:
        colours = stored.view(np.uint8).reshape(3, *header.grid.shape, order="F")
        return np.moveaxis(colours, 0, -1)
    voxels = to_raw(stored)
    if header.is_scaled:
        with np.errstate(over="ignore", invalid="ignore"):  # found below as infinite or NaN
            voxels = voxels.astype(np.float32, copy=False) * np.float32(header.slope) + np.float32(header.intercept)
    bad = 0 if voxels.dtype.kind in "ui" else count - int(np.isfinite(voxels).sum())
    if bad:
        raise BadFile(f"holds {bad} NaN or infinite voxels of {count}; repair this volume or leave it out")
    return voxels.reshape(*header.grid.shape, 1, order="F")


def _unreadable(error: Exception) -> BadFile:
    """Say in one sentence what reading the bytes ran into."""
    if isinstance(error, EOFError):
        return BadFile("is cut off: its gzip stream has no end; copy it again")
    if isinstance(error, zlib.error | gzip.BadGzipFile):
        return BadFile(f"is damaged: its gzip stream is not valid ({_first_line(error)}); copy it again")
    return BadFile(f"cannot be read ({getattr(error, 'strerror', None) or error}); make it readable")


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".")
