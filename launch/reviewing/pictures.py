"""A stored image as the page takes it: one PNG that holds every slice, and the words that say how to look at it.

The slices are those of the display's own frame [slice, row, column], turned so that all three planes of a volume of the
body come out in the radiological convention (as in the report), whichever the page cuts.
"""

import dataclasses
import io
import math
from typing import Any

import numpy as np
from PIL import Image

from memjax.audit.report.display import upright, windowed
from memjax.audit.report.turns import in_words
from memjax.data.manifest import Manifest
from memjax.data.readers.base import RAS, ROW_COLUMN
from memjax.data.readers.colour import RGB
from memjax.data.store import Store
from memjax.digest import array_digest
from memjax.errors import UserError
from memjax.orientation import Orientation

_PLANES_OF_BODY = ("axial", "coronal", "sagittal")  # across the slices, the rows and the columns of the frame
_QUICK = 1  # zlib's level: the PNG goes no further than this machine


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plane:
    """How the page cuts the frame across one of its axes: a picture of `rows` times `columns`, `slices` times."""

    name: str  # "" for pictures
    slices: int
    rows: int
    columns: int
    aspect: float  # a pixel's height over its width


def image_of(store: Store, id: int) -> np.ndarray:  # noqa: A002  (the field's own word)
    """Return one stored image [*space, channels].

    Raises:
      UserError: it is another one than was prepared.
    """
    image = store.gather(np.array([id]))[0]
    if array_digest(image) != store.items[id].sha256:
        raise UserError(f"{store.name(id)} is not the one that was prepared; prepare the store again.")
    return image


def frame(image: np.ndarray, manifest: Manifest, channel: int | None) -> np.ndarray:
    """Return uint8 [slice, row, column] of one channel, or [slice, row, column, 3] of a colour image (channel None).

    Args:
      image: [*space, channels], raw values.
      manifest: of its store.
      channel: which one.
    """
    values = image if channel is None else image[..., channel]
    shown = values if channel is None and values.dtype == np.uint8 else windowed(values)
    if manifest.axes == ROW_COLUMN:
        return shown[None]
    if not manifest.is_volume:
        return upright(shown)[None]
    order, reverse = _volume_frame(manifest)
    shown = shown.transpose(*order, *range(3, shown.ndim))
    return shown[::-1, ::-1, ::-1] if reverse else shown


def planes(manifest: Manifest) -> list[Plane]:
    """Return the one plane of pictures, or the three of volumes, across the axes of the frame in order."""
    space, spacing = manifest.shape[:-1], _spacing(manifest)
    if not manifest.is_volume:
        (rows, columns), (height, width) = space, spacing
        if manifest.axes != ROW_COLUMN:  # upright swaps them
            (columns, rows), (width, height) = space, spacing
        return [Plane(name="", slices=1, rows=rows, columns=columns, aspect=height / width)]
    order, _ = _volume_frame(manifest)
    names = _PLANES_OF_BODY if manifest.axes == RAS else [f"across {manifest.axes[axis]}" for axis in order]
    size, step = [space[axis] for axis in order], [spacing[axis] for axis in order]
    found = []
    for across, name in enumerate(names):
        row, column = (axis for axis in range(3) if axis != across)
        found.append(
            Plane(
                name=name,
                slices=size[across],
                rows=size[row],
                columns=size[column],
                aspect=step[row] / step[column],
            )
        )
    return found


def channels(manifest: Manifest) -> list[dict[str, Any]]:
    """Return what of an image can be looked at: `channel` and `name`, contrasts before labels."""
    if manifest.channels == RGB:
        return [{"channel": None, "name": "colour"}]
    order = sorted(range(len(manifest.channels)), key=lambda channel: channel in manifest.label_channels)
    return [{"channel": channel, "name": manifest.channels[channel]} for channel in order]


def orientation_words(orientation: Orientation, manifest: Manifest) -> str:
    """Say what an orientation does to the picture; "" if nothing."""
    return "" if orientation.name == "identity" else in_words(orientation.name, manifest.axes)


def png(slices: np.ndarray) -> bytes:
    """Return a PNG of all slices [n, rows, columns(, 3)] uint8, row by row in a grid of `grid_columns(n)` columns."""
    n, rows, columns = slices.shape[:3]
    across = grid_columns(n)
    down = math.ceil(n / across)
    sheet = np.zeros((down * across, *slices.shape[1:]), np.uint8)
    sheet[:n] = slices
    rest = slices.shape[3:]
    sheet = sheet.reshape(down, across, rows, columns, *rest).swapaxes(1, 2)
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(sheet).reshape(down * rows, across * columns, *rest)).save(
        file, "PNG", compress_level=_QUICK
    )
    return file.getvalue()


def grid_columns(n: int) -> int:
    """Return how many slices stand beside each other, so that no side of the sheet is too long for a browser."""
    return math.ceil(math.sqrt(n))


def _volume_frame(manifest: Manifest) -> tuple[tuple[int, ...], bool]:
    """Return which stored axes are slice, row and column, and whether they are all reversed."""
    if manifest.axes == RAS:
        return (2, 1, 0), True  # head, front and the patient's right come first
    # Where the body's axes are unknown, the axis between pictures comes first; the others are as they are stored.
    return tuple(sorted(range(3), key=lambda axis: manifest.axes[axis] in ROW_COLUMN)), False


def _spacing(manifest: Manifest) -> tuple[float, ...]:
    """Return the distance between pixels along each axis; ones where it is not known."""
    spacing = manifest.spacing_mm
    if spacing is None or len(spacing) != len(manifest.axes) or min(spacing) <= 0:
        return (1.0,) * len(manifest.axes)
    return tuple(spacing)
