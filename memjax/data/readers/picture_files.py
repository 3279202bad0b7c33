"""Decode one picture file (PNG, JPEG, TIFF, BMP) without losing bits, and tell its shape from its header.

The first bytes decide the format, not the name. Pillow reads the headers, and decodes what nothing else does better:
16-bit PNG goes through libpng (Pillow reduces 16-bit colour to 8), usual JPEG through libjpeg-turbo straight into an
array (the same values as Pillow's, in two thirds of its time), TIFF through tifffile. Alpha is dropped, palettes and
CMYK become RGB, 1-bit becomes 0 and 255, and the orientation that a camera or scanner noted is applied.
"""

import dataclasses
import io
from pathlib import Path

import imagecodecs
import numpy as np
from PIL import Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from memjax.data.readers import tiff_pages
from memjax.data.readers.base import BadFile
from memjax.data.readers.damage import as_bad_file
from memjax.data.readers.dtypes import raw_dtype, to_raw

ENDINGS = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp")

_PLUGINS = {b"\x89PNG\r\n\x1a\n": PngImageFile, b"\xff\xd8\xff": JpegImageFile, b"BM": BmpImageFile}
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_MAX_PIXELS = 2**27  # a larger page is a decompression bomb, or no image that fits a model: 11,585 x 11,585
_GREY_MODES = ("1", "L", "LA", "La")
_ORIENTATION = 0x0112  # the tag's number in EXIF and TIFF
_TURNED = (5, 6, 7, 8)  # orientations in which rows are columns
_END_OF_JPEG = b"\xff\xd9"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Header:
    """What a picture file will decode to: `pages` arrays [rows, columns, channels] of `dtype`."""

    rows: int
    columns: int
    channels: int  # 1 or 3
    dtype: np.dtype
    pages: int = 1


def read_header(path: Path) -> Header:
    """Tell what a file decodes to, without decoding it.

    Raises:
      BadFile: the file is missing, empty, damaged, too large, or of no kind that is read.
    """
    with as_bad_file(), path.open("rb") as file:
        if _is_tiff(file):
            with tiff_pages.opened(file) as pages:
                first = pages[0]
                rows, columns, channels = tiff_pages.page_shape(first)
                _check_size(rows, columns)
                if tiff_pages.orientation(first) in _TURNED:
                    rows, columns = columns, rows
                dtype = raw_dtype(tiff_pages.page_dtype(first))
                return Header(rows=rows, columns=columns, channels=channels, dtype=dtype, pages=len(pages))
        image = _open_picture(file)
        columns, rows = image.size
        if _exif_orientation(image) in _TURNED:
            rows, columns = columns, rows
        deep = _deep_channels(image, file)
        channels = deep or (1 if image.mode in _GREY_MODES else 3)
        return Header(rows=rows, columns=columns, channels=channels, dtype=np.dtype(np.uint16 if deep else np.uint8))


def read_pages(path: Path) -> list[np.ndarray]:
    """Decode a file: one array [rows, columns, 1 or 3] a page, in one of the store's types.

    Raises:
      BadFile: as `read_header`, or the pixels are damaged or cut off.
    """
    with as_bad_file(), path.open("rb") as file:
        if _is_tiff(file):
            with tiff_pages.opened(file) as pages:
                return [_tiff_page(page) for page in pages]
        return [_decode_picture(file.read())]


def upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """Turn [rows, columns, channels] as its EXIF orientation (1 to 8) says that it is to be seen."""
    if orientation in _TURNED:
        image = image.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return image


def _decode_picture(data: bytes) -> np.ndarray:
    file = io.BytesIO(data)  # read in one go: each call to the system lets another thread have the interpreter
    image = _open_picture(file)
    orientation = _exif_orientation(image)
    if _is_usual_jpeg(image):
        array = np.atleast_3d(_decode_jpeg(data, pixels=file.tell()))
    elif deep := _deep_channels(image, file):
        array = np.atleast_3d(imagecodecs.png_decode(data))[..., :deep]
    else:
        image.load()
        image.info.pop("transparency", None)  # or Pillow warns of it
        mode = "L" if image.mode in _GREY_MODES else "RGB"
        array = np.atleast_3d(np.asarray(image if image.mode == mode else image.convert(mode)))
    return upright(array, orientation)


def _is_usual_jpeg(image: Image.Image) -> bool:
    """Say whether this is a grey or RGB JPEG that is not progressive: of those, only Pillow notices a broken scan."""
    return isinstance(image, JpegImageFile) and image.mode in ("L", "RGB") and "progressive" not in image.info


def _decode_jpeg(data: bytes, *, pixels: int) -> np.ndarray:
    """Decode a usual JPEG whose pixels begin at byte `pixels`: [rows, columns] or [rows, columns, 3]."""
    # libjpeg fills up with grey what was cut off. The marker cannot be among the pixels: there, 0xFF is followed by 0.
    if data.find(_END_OF_JPEG, pixels) < 0:
        raise BadFile("is damaged or cut off (a JPEG without its end)")
    return imagecodecs.jpeg8_decode(data)


def _tiff_page(page: tiff_pages.TiffPage) -> np.ndarray:
    _check_size(*tiff_pages.page_shape(page)[:2])
    return upright(to_raw(tiff_pages.decode_page(page)), tiff_pages.orientation(page))


def _open_picture(file: io.BufferedIOBase) -> ImageFile.ImageFile:
    """Read a picture's header by the plugin of its first bytes (`Image.open` would try, and warn of, more formats)."""
    head = file.read(8)
    file.seek(0)
    for magic, plugin in _PLUGINS.items():
        if head.startswith(magic):
            image = plugin(file)
            _check_size(image.height, image.width)
            if getattr(image, "n_frames", 1) > 1:
                raise BadFile("is an animation; save its frames as pictures of their own")
            return image
    raise BadFile("is not a PNG, JPEG, TIFF or BMP picture, whatever its name says")


def _is_tiff(file: io.BufferedIOBase) -> bool:
    head = file.read(4)
    file.seek(0)
    if not head:
        raise BadFile("is empty (0 bytes)")
    return head in _TIFF


def _deep_channels(image: Image.Image, file: io.BufferedIOBase) -> int:
    """Return the channels (1 or 3) of a 16-bit PNG; 0 for every other file.

    Bytes 24 and 25 of a PNG are the bits per sample and the kind: 0 grey, 2 RGB, 4 and 6 the same with alpha.
    """
    if not isinstance(image, PngImageFile):
        return 0
    place = file.tell()
    file.seek(24)
    bits, kind = file.read(2)
    file.seek(place)  # Pillow reads on from there
    return 0 if bits != 16 else 1 if kind in (0, 4) else 3


def _exif_orientation(image: Image.Image) -> int:
    """Return the orientation noted before the pixels (the PNG plugin's own `getexif` would decode them all first)."""
    return Image.Image.getexif(image).get(_ORIENTATION, 1)


def _check_size(rows: int, columns: int) -> None:
    if not 0 < rows * columns <= _MAX_PIXELS:
        raise BadFile(f"says that it has {rows} x {columns} pixels; at most {_MAX_PIXELS} are read")
