"""Small pictures for the page, as data URIs: images of a store, and the pixel values of a pair."""

import base64
import dataclasses
import io

import numpy as np
from PIL import Image

from memjax.audit.report.display import Picture

_LARGEST = 256  # pixels along an edge: sharp at the size of the page, and the page stays small
_JPEG_QUALITY = 92
_BINS = 96
_POINT_COLOUR = (58, 134, 186)  # reads on white and on dark paper


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tile:
    """An inline image with its caption; `alt` says the same to those who cannot see it."""

    uri: str
    width: int
    height: int
    caption: str
    alt: str


def picture_tile(picture: Picture, *, caption: str, alt: str) -> Tile:
    """Encode a picture with square pixels, as JPEG."""
    image = Image.fromarray(picture.pixels)
    width, height = image.width, image.height * picture.aspect
    scale = min(1.0, _LARGEST / max(width, height))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    if size != image.size:
        image = image.resize(size, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return Tile(uri=uri(buffer.getvalue(), "image/jpeg"), width=size[0], height=size[1], caption=caption, alt=alt)


def scatter_tile(x: np.ndarray, y: np.ndarray, *, caption: str, alt: str) -> Tile:
    """Draw how often each pair of pixel values occurs: x to the right, y up, the denser the more opaque."""
    density, _, _ = np.histogram2d(y.astype(np.float64), x.astype(np.float64), _BINS)
    shade = np.log1p(density[::-1])
    pixels = np.empty((_BINS, _BINS, 4), np.uint8)
    pixels[..., :3] = _POINT_COLOUR
    pixels[..., 3] = np.where(shade > 0, 70 + 185 * shade / max(1.0, float(shade.max())), 0).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return Tile(uri=uri(buffer.getvalue(), "image/png"), width=_BINS, height=_BINS, caption=caption, alt=alt)


def uri(content: bytes, mime: str) -> str:
    """Return bytes as a data URI."""
    return f"data:{mime};base64,{base64.b64encode(content).decode('ascii')}"
