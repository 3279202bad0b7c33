"""An image of a store as the pictures a person looks at: upright, windowed, 8 bit, grey or colour.

Volumes become their three central planes. Planes of the body are shown in the radiological convention: the patient's
right is on the viewer's left, the front (axial) or the head (coronal, sagittal) is up, and a sagittal plane looks to
the viewer's left. Pictures with rows and columns are shown as they are.
"""

import dataclasses

import numpy as np

from memjax.data.manifest import Manifest
from memjax.data.readers.base import PLANES, RAS, ROW_COLUMN
from memjax.data.readers.colour import RGB

_TAILS = (0.5, 99.5)  # percentiles shown as black and white: a few extreme pixels must not darken the whole image


@dataclasses.dataclass(frozen=True, kw_only=True)
class Picture:
    """One picture: uint8 [rows, columns] or [rows, columns, 3]; `aspect` is a pixel's height over its width."""

    plane: str  # "axial", "coronal", "sagittal"; "across depth" where the body's axes are unknown; "" for pictures
    pixels: np.ndarray
    aspect: float = 1.0


def pictures(image: np.ndarray, manifest: Manifest) -> list[Picture]:
    """Return what to look at of one stored image [*space, channels]: one picture, or three planes of a volume."""
    values = shown_channels(image, manifest)
    is_colour = values.ndim == image.ndim
    shown = values if is_colour and values.dtype == np.uint8 else windowed(values)
    if manifest.axes == ROW_COLUMN:
        return [Picture(plane="", pixels=shown, aspect=_aspect(manifest, row=0, column=1))]
    if not manifest.is_volume:
        (missing,) = set(RAS) - set(manifest.axes)
        plane = _plane_across(RAS.index(missing))
        return [Picture(plane=plane, pixels=upright(shown), aspect=_aspect(manifest, row=1, column=0))]
    if manifest.axes != RAS:
        return _planes_as_stored(shown, manifest)
    found = []
    for axis in (PLANES["axial"], PLANES["coronal"], PLANES["sagittal"]):
        column, row = (other for other in range(3) if other != axis)
        centre = np.take(shown, shown.shape[axis] // 2, axis)
        aspect = _aspect(manifest, row=row, column=column)
        found.append(Picture(plane=_plane_across(axis), pixels=upright(centre), aspect=aspect))
    return found


def _planes_as_stored(shown: np.ndarray, manifest: Manifest) -> list[Picture]:
    """Cut a volume whose place in the body is unknown across each axis, first across the one between its pictures."""
    found = []
    for axis in sorted(range(3), key=lambda axis: manifest.axes[axis] in ROW_COLUMN):
        row, column = (other for other in range(3) if other != axis)
        centre = np.take(shown, shown.shape[axis] // 2, axis)
        aspect = _aspect(manifest, row=row, column=column)
        found.append(Picture(plane=f"across {manifest.axes[axis]}", pixels=centre, aspect=aspect))
    return found


def upright(plane: np.ndarray) -> np.ndarray:
    """Turn a plane [first, second, …] with axes in the order R, A, S the way radiologists hang it: [row, column, …]."""
    return plane[::-1, ::-1].swapaxes(0, 1)


def shown_channels(image: np.ndarray, manifest: Manifest) -> np.ndarray:
    """Return the colours [*space, 3] of a colour image, else its first channel that is not a label [*space]."""
    if manifest.channels == RGB:
        return image
    contrasts = [c for c in range(image.shape[-1]) if c not in manifest.label_channels]
    return image[..., contrasts[0] if contrasts else 0]


def windowed(values: np.ndarray) -> np.ndarray:
    """Map values to uint8 between robust percentiles; a constant image becomes mid-grey."""
    low, high = np.percentile(values, _TAILS)
    if high <= low:
        low, high = float(values.min()), float(values.max())
    if high <= low:
        return np.full(values.shape, 128, np.uint8)
    return np.rint(np.clip((values.astype(np.float32) - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def _plane_across(axis: int) -> str:
    return next(name for name, across in PLANES.items() if across == axis)


def _aspect(manifest: Manifest, *, row: int, column: int) -> float:
    """Return the distance between rows over the distance between columns; 1 where the spacing is not known."""
    spacing = manifest.spacing_mm
    if spacing is None or len(spacing) != len(manifest.axes) or min(spacing) <= 0:
        return 1.0
    return float(spacing[row] / spacing[column])
