"""Pictures for people: many images or volumes in one grid, as PNG."""

import math
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from memjax.whole import whole_file

_GAP = 2  # pixels between two images
_GAP_GREY = 96  # neither the black around anatomy nor white
_RGB = 3


def grid(
    images: Float[np.ndarray, "n *space c"], columns: int | None = None, *, is_rgb: bool = False
) -> UInt8[np.ndarray, "..."]:
    """Return one picture of images in [-1, 1]: [height, width], or [height, width, 3] of colour images.

    Images of one channel, and colour images, fill a square. Of several channels each image is a row, channels side by
    side (paper A, Figure 1). A volume is shown by the middle slices across its three axes. What is not finite is black.

    Args:
      images: [n, *space, c], two or three axes of space.
      columns: images in a row.
      is_rgb: three channels are colours.
    """
    n, n_axes, n_channels = images.shape[0], images.ndim - 2, images.shape[-1]
    assert n > 0 and n_axes in (2, 3), images.shape
    assert not is_rgb or n_channels == _RGB, images.shape
    bytes_ = np.rint(np.clip(np.nan_to_num(images, nan=-1.0), -1, 1) * 127.5 + 127.5).astype(np.uint8)
    parts = bytes_[:, None] if is_rgb else np.moveaxis(bytes_, -1, 1)[..., None]  # [n, parts, *space, 1 or 3]
    cells = [_row([flat for part in image for flat in _flat(part)]) for image in parts]
    if columns is None:
        columns = math.ceil(math.sqrt(n)) if parts.shape[1] == 1 and n_axes == 2 else 1
    rows = [_row(cells[start : start + columns]) for start in range(0, n, columns)]
    width = max(row.shape[1] for row in rows)
    rows = [_padded(row, row.shape[0], width) for row in rows]
    gap = np.full((_GAP, width, rows[0].shape[-1]), _GAP_GREY, np.uint8)
    picture = np.concatenate([part for row in rows for part in (row, gap)][:-1], axis=0)
    return picture if is_rgb else picture[..., 0]


def write_png(path: Path, picture: UInt8[np.ndarray, "..."]) -> None:
    """Write a picture, whole or not at all."""
    with whole_file(path) as partial:
        Image.fromarray(picture).save(partial, format="png")


def write_film(path: Path, pictures: UInt8[np.ndarray, "n h w *rgb"], *, per_second: int = 25) -> None:
    """Write pictures as an animated PNG that starts again at its end, whole or not at all."""
    first, *rest = (Image.fromarray(picture) for picture in pictures)
    with whole_file(path) as partial:
        first.save(partial, format="png", save_all=True, append_images=rest, duration=1000 / per_second, loop=0)


def _flat(image: UInt8[np.ndarray, "*space c"]) -> list[np.ndarray]:
    """Return the image, or the middle slices of the volume across its first, second and third axis."""
    if image.ndim == 3:
        return [image]
    return [np.take(image, image.shape[axis] // 2, axis=axis) for axis in range(3)]


def _row(parts: list[np.ndarray]) -> np.ndarray:
    """Set pictures side by side, tops aligned."""
    height = max(part.shape[0] for part in parts)
    gap = np.full((height, _GAP, parts[0].shape[-1]), _GAP_GREY, np.uint8)
    padded = [_padded(part, height, part.shape[1]) for part in parts]
    return np.concatenate([piece for part in padded for piece in (part, gap)][:-1], axis=1)


def _padded(part: np.ndarray, height: int, width: int) -> np.ndarray:
    more = ((0, height - part.shape[0]), (0, width - part.shape[1]), (0, 0))
    return np.pad(part, more, constant_values=_GAP_GREY)
