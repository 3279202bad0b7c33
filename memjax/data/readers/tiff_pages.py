"""The pages of a TIFF file: how many, their shape, and their pixels as grey or RGB, every strip of them there."""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import numpy as np
from PIL import Image
from tifffile import COMPRESSION, PHOTOMETRIC, TiffFile, TiffPage

from memjax.data.readers.base import BadFile

__all__ = ["TiffPage", "decode_page", "opened", "orientation", "page_dtype", "page_shape"]

logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what it only logs, `opened` checks and says in one sentence

_GREY = (PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.MINISWHITE)


@contextlib.contextmanager
def opened(file: BinaryIO) -> Iterator[Sequence[TiffPage]]:
    """Open a TIFF and give its pages, at least one, all of one shape and type.

    Raises:
      BadFile: the chain of pages is broken, or the pages differ.
    """
    with TiffFile(file) as tiff:
        pages = [page for page in tiff.pages if isinstance(page, TiffPage)]
        _check_chain(tiff, len(pages))
        kinds = {(page_shape(page), page_dtype(page)) for page in pages}
        if len(kinds) > 1:
            raise BadFile(f"has {len(pages)} pages of {len(kinds)} different shapes or types; save them as files")
        yield pages


def page_shape(page: TiffPage) -> tuple[int, int, int]:
    """Return (rows, columns, channels), channels 1 or 3, before any orientation is applied."""
    planes, depth, rows, columns, samples = page.shaped
    samples *= planes
    if depth != 1:
        raise BadFile(f"holds a page of depth {depth}; save the volume as one page a slice")
    if _is_grey(page, samples):
        return rows, columns, 1
    if _is_colour(page, samples):
        return rows, columns, 3
    colour = getattr(page.photometric, "name", page.photometric)
    raise BadFile(f"is a TIFF of {samples} x {page.dtype} in {colour} colour; save it as grey or RGB, or as .npy")


def page_dtype(page: TiffPage) -> np.dtype:
    """Return the type that `decode_page` gives."""
    if page.photometric == PHOTOMETRIC.PALETTE:
        return np.dtype(np.uint8)
    if page.dtype is None:
        raise BadFile(f"holds {page.bitspersample}-bit samples of an unknown type")
    return page.dtype


def orientation(page: TiffPage) -> int:
    """Return the page's orientation tag, 1 (upright) where there is none."""
    return int(page.tags.valueof("Orientation", default=1))


def decode_page(page: TiffPage) -> np.ndarray:
    """Decode one page: [rows, columns, 1 or 3], grey with 0 as black, alpha dropped."""
    if 0 in page.databytecounts or len(page.databytecounts) < int(np.prod(page.chunked)):
        raise BadFile("lacks some of its pixels (an empty strip or tile)")
    rows, columns, channels = page_shape(page)
    array = page.asarray(squeeze=False, maxworkers=1)[:, 0]  # [planes, rows, columns, samples]
    array = np.moveaxis(array, 0, 2).reshape(rows, columns, -1)
    if page.photometric == PHOTOMETRIC.PALETTE:
        return _through_palette(array[..., 0], page)
    if page.photometric == PHOTOMETRIC.SEPARATED:
        return np.asarray(Image.fromarray(np.ascontiguousarray(array), "CMYK").convert("RGB"))
    array = array[..., :channels]
    return _inverted(array, page.bitspersample) if page.photometric == PHOTOMETRIC.MINISWHITE else array


def _is_grey(page: TiffPage, samples: int) -> bool:
    return page.photometric in _GREY and (samples == 1 or (samples == 2 and bool(page.extrasamples)))


def _is_colour(page: TiffPage, samples: int) -> bool:
    """Say whether `decode_page` knows the way to RGB; the JPEG decoder undoes YCbCr, nothing else does."""
    match page.photometric:
        case PHOTOMETRIC.RGB:
            return samples in (3, 4)
        case PHOTOMETRIC.YCBCR:
            return samples == 3 and page.compression == COMPRESSION.JPEG
        case PHOTOMETRIC.PALETTE:
            return samples == 1
        case PHOTOMETRIC.SEPARATED:
            return samples == 4 and page.dtype == np.uint8
    return False


def _through_palette(indices: np.ndarray, page: TiffPage) -> np.ndarray:
    if page.colormap is None:
        raise BadFile("is a palette TIFF without its palette")
    return (page.colormap.T >> 8).astype(np.uint8)[indices]


def _inverted(array: np.ndarray, bits: int) -> np.ndarray:
    """Make 0 black in an array whose 0 is white; for signed and float values there is no white to count from."""
    if array.dtype.kind == "b":
        return ~array
    return np.array(2**bits - 1, array.dtype) - array if array.dtype.kind == "u" else -array


def _check_chain(tiff: TiffFile, pages: int) -> None:
    """Check that the list of pages ends as it should: tifffile stops at a broken link and keeps what it has."""
    end = tiff.pages.next_page_offset
    size = tiff.tiff.offsetsize
    tiff.filehandle.seek(end or 0)
    if pages == 0 or end is None or tiff.filehandle.read(size) != b"\0" * size:
        raise BadFile(f"is damaged or cut off (its list of pages breaks after page {pages})")
    images = (tiff.imagej_metadata or {}).get("images", pages)
    if images != pages:
        raise BadFile(f"is an ImageJ stack of {images} images of which {pages} can be read; save it again")
