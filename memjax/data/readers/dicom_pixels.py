"""Decode a DICOM file's pixels to the values they stand for: rescaled, MONOCHROME1 turned over, colour as RGB.

Values stay integers (uint8, int16 or uint16) where slope and intercept are whole numbers and every value that the
header's BitsStored allows fits; otherwise they are float32. The header alone decides, never the pixels.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut
from pydicom.pixels.utils import pixel_array

from memjax.data.readers import dicom_codecs
from memjax.data.readers.base import BadFile
from memjax.data.readers.dicom_header import Frame, number, numbers, one_line, quieten, text
from memjax.data.readers.dtypes import is_finite

_PALETTE = "PALETTE COLOR"


def is_coloured(header: Dataset) -> bool:
    """Say whether a file decodes to three channels."""
    return number(header, "SamplesPerPixel", 1) > 1 or text(header, "PhotometricInterpretation") == _PALETTE


def value_dtype(headers: Iterable[tuple[Dataset, Sequence[Frame]]]) -> np.dtype:
    """Return the smallest type of the image store that holds every value the headers allow, all files together."""
    lows, highs = [], []
    for header, frames in headers:
        ends = np.array(_stored_range(header), dtype=float)
        if text(header, "PhotometricInterpretation") == _PALETTE:
            entry = numbers(header, "RedPaletteColorLookupTableDescriptor", 3)
            ends = np.array([0.0, 255.0 if entry and entry[2] == 8 else 65535.0])
        scales = {(1.0, 0.0)} if is_coloured(header) else {(frame.slope, frame.intercept) for frame in frames}
        for slope, intercept in scales:
            if not (slope.is_integer() and intercept.is_integer()):
                return np.dtype(np.float32)
            values = slope * ends + intercept
            lows.append(values.min())
            highs.append(values.max())
    for dtype in (np.uint8, np.int16, np.uint16):
        if np.iinfo(dtype).min <= min(lows) and max(highs) <= np.iinfo(dtype).max:
            return np.dtype(dtype)
    return np.dtype(np.float32)


def decode(dataset: Dataset, frames: Sequence[Frame], dtype: np.dtype) -> np.ndarray:
    """Return a file's values [frames, rows, columns, 1 or 3] as `dtype`.

    MONOCHROME1 (small values are bright) is turned over within the range that BitsStored allows: 4095 - v for twelve
    unsigned bits.

    Raises:
      BadFile: the pixels are missing, cut off, damaged, in a transfer syntax that cannot be decoded, NaN or infinite.
    """
    stored = _stored(dataset)
    shape = (len(frames), number(dataset, "Rows", 0), number(dataset, "Columns", 0), 3 if is_coloured(dataset) else 1)
    if stored.size != np.prod(shape, dtype=object):
        raise BadFile(f"has pixels of shape {stored.shape}, and a header that says {shape}; export it again")
    stored = stored.reshape(shape)
    if is_coloured(dataset):
        return stored.astype(dtype, copy=False)
    values = np.empty(shape, dtype)
    for index, frame in enumerate(frames):
        values[index] = _rescaled(_upright(stored[index], dataset), frame, dtype)
    if not is_finite(values):
        raise BadFile("holds NaN or infinite pixels; repair it or leave it out")
    return values


def _stored(dataset: Dataset) -> np.ndarray:
    """Let pydicom decode, colour as RGB."""
    if not any(keyword in dataset for keyword in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise BadFile("has no pixels, or is cut off before their end; copy or export it again")
    quieten()
    syntax = dataset.file_meta.TransferSyntaxUID
    plugin = dicom_codecs.NAME if syntax in dicom_codecs.SYNTAXES else ""
    try:
        stored = pixel_array(dataset, allow_excess_frames=False, decoding_plugin=plugin)
        is_palette = text(dataset, "PhotometricInterpretation") == _PALETTE
        return apply_color_lut(stored, dataset)[..., :3] if is_palette else stored
    except Exception as error:  # pydicom and its codecs raise whatever damaged pixels make them stumble over
        raise BadFile(
            f"has pixels ({one_line(syntax.name)}) that cannot be decoded ({one_line(error)}); "
            "copy it again, or export it uncompressed"
        ) from None


def _upright(stored: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Return stored values [rows, columns, 1] in which large ones are bright, with room to calculate."""
    if stored.dtype.kind == "f":
        return stored
    low, high = _stored_range(dataset)
    least, greatest = stored.min(), stored.max()
    if least < low or greatest > high:  # pydicom clears the bits beyond BitsStored, but not in all compressed syntaxes
        raise BadFile(
            f"holds values from {least} to {greatest}, beyond its BitsStored: {low} to {high}; export it again"
        )
    wide = stored.astype(np.int64)
    return low + high - wide if text(dataset, "PhotometricInterpretation") == "MONOCHROME1" else wide


def _rescaled(stored: np.ndarray, frame: Frame, dtype: np.dtype) -> np.ndarray:
    """Return the values that stored ones stand for."""
    if dtype.kind == "f":
        with np.errstate(over="ignore"):  # found later as infinite
            return (stored * frame.slope + frame.intercept).astype(dtype)
    return stored * int(frame.slope) + int(frame.intercept)


def _stored_range(header: Dataset) -> tuple[int, int]:
    """Return the least and the greatest stored value that a header allows."""
    bits = number(header, "BitsStored", number(header, "BitsAllocated", 16))
    if not 1 <= bits <= 64:
        raise BadFile(f"has BitsStored = {bits}; expected 1 to 64")
    if number(header, "PixelRepresentation", 0) == 1:
        return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    return 0, 2**bits - 1
