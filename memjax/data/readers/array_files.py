"""Open .npy and .npz files: headers, arrays, and a clear word on damage. Nothing inside a file is ever executed."""

import dataclasses
import io
import math
import zipfile
from pathlib import Path

import numpy as np

from memjax.data.readers.base import BadFile
from memjax.data.readers.damage import as_bad_file

_MAGIC = np.lib.format.MAGIC_PREFIX
_PICKLED = "contains pickled Python objects, which can run code; save it as plain arrays (no dtype=object)"
_HEAD_BYTES = 12 + 10_000  # the fixed part, and NumPy's bound on the header it parses


@dataclasses.dataclass(frozen=True, kw_only=True)
class ArrayHeader:
    """What an array file says of itself before its values begin, at byte `offset`."""

    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int

    @property
    def size_bytes(self) -> int:
        """The whole file's size, if it is whole."""
        return self.offset + math.prod(self.shape) * self.dtype.itemsize


def npy_header(path: Path) -> ArrayHeader:
    """Read a .npy file's header and check that its size fits.

    Raises:
      BadFile: it is no .npy file, holds pickled objects, or is cut off.
    """
    with as_bad_file(), path.open("rb") as file:
        header = _read_header(file.read(_HEAD_BYTES))
        refuse_objects(header)
        _check_size(header, path.stat().st_size)
        return header


def open_npy(path: Path) -> np.ndarray:
    """Memory-map a .npy file, read-only.

    Raises:
      BadFile: as `npy_header`.
    """
    npy_header(path)
    with as_bad_file():
        return np.load(path, mmap_mode="r", allow_pickle=False)


def npz_headers(path: Path) -> dict[str, ArrayHeader]:
    """Read the headers of an .npz file's arrays, by name, in the file's order; what is no array is passed over.

    Arrays of pickled objects are told with their dtype, `object`; see `refuse_objects`.

    Raises:
      BadFile: it is no .npz file, or is damaged.
    """
    with as_bad_file(), path.open("rb") as file:
        _check_not_pickled(file.read(_HEAD_BYTES))
        headers = {}
        with zipfile.ZipFile(file) as archive:
            for info in archive.infolist():
                if info.filename.endswith(".npy"):
                    with archive.open(info) as member:
                        header = _read_header(member.read(_HEAD_BYTES))
                    if not header.dtype.hasobject:
                        _check_size(header, info.file_size)
                    headers[info.filename.removesuffix(".npy")] = header
        return headers


def read_npz(path: Path, key: str) -> np.ndarray:
    """Read one array of an .npz file into memory; the archive's checksum is verified.

    Raises:
      BadFile: as `npz_headers`, or the array is damaged or pickled.
    """
    with as_bad_file(), zipfile.ZipFile(path) as archive:
        with archive.open(f"{key}.npy") as member:
            header = _read_header(member.read(_HEAD_BYTES))
        refuse_objects(header)
        _check_size(header, archive.getinfo(f"{key}.npy").file_size)  # before memory is taken for what it says
        with archive.open(f"{key}.npy") as member:
            return np.lib.format.read_array(member, allow_pickle=False)


def refuse_objects(header: ArrayHeader) -> None:
    """Raise `BadFile` for an array of pickled objects."""
    if header.dtype.hasobject:
        raise BadFile(_PICKLED)


def _read_header(head: bytes) -> ArrayHeader:
    _check_not_pickled(head)
    file = io.BytesIO(head)
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise BadFile(f"is of .npy version {version[0]}.{version[1]} (records with named fields?); save plain numbers")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return ArrayHeader(shape=shape, dtype=dtype, offset=file.tell())


def _check_not_pickled(head: bytes) -> None:
    """Tell a pickle (what `np.save` of objects or `torch.save` leaves under any name) from a merely damaged file."""
    if not head:
        raise BadFile("is empty (0 bytes)")
    if head[0] == 0x80:  # the first byte of every pickle since protocol 2
        raise BadFile(_PICKLED)
    if not head.startswith((_MAGIC, b"PK")):
        raise BadFile("is not a NumPy file, whatever its name says")


def _check_size(header: ArrayHeader, size_bytes: int) -> None:
    if size_bytes != header.size_bytes:
        raise BadFile(
            f"is damaged or cut off: {list(header.shape)} {header.dtype} needs {header.size_bytes} bytes, "
            f"it has {size_bytes}"
        )
