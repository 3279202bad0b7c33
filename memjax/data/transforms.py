"""Bring images of any size to one shape: resample, crop, cut around a point, pad with the background.

Images are [*space, channels]. Resampling is separable: Pillow's antialiased bilinear filter along one axis after the
other, so that pictures and volumes take the same path; label channels take the nearest neighbour. Integer images stay
integer (rounded, and clipped to the range they had).
"""

from typing import Literal

import numpy as np
from PIL import Image as Pillow

from memjax.errors import UserError

Fit = Literal["stretch", "crop", "pad", "centre"]
FITS: tuple[Fit, ...] = ("stretch", "crop", "pad", "centre")


def scale(image: np.ndarray, size: tuple[int, ...], how: Fit, label_channels: tuple[int, ...] = ()) -> np.ndarray:
    """Return the image resampled on its way to spatial shape `size`; `crop_or_pad` does the rest.

    Args:
      image: [*space, channels].
      size: one length per spatial axis.
      how: `stretch` resamples each axis by itself; `crop` resamples by one factor until the frame is filled, and the
        rest will be cut; `pad` resamples by one factor until the whole image is inside, and the frame will be filled
        up; `centre` does not resample: each axis will be cut or filled up around the centre.
      label_channels: channels whose values are labels, resampled by nearest neighbour.
    """
    space = image.shape[:-1]
    if space == size or how == "centre":
        return image
    if how == "stretch":
        return resize(image, size, label_channels)
    ratios = [wanted / length for wanted, length in zip(size, space, strict=True)]
    factor = max(ratios) if how == "crop" else min(ratios)
    return resize(image, tuple(max(1, round(length * factor)) for length in space), label_channels)


def resize(image: np.ndarray, size: tuple[int, ...], label_channels: tuple[int, ...] = ()) -> np.ndarray:
    """Resample to spatial shape `size`; the dtype stays."""
    if image.shape[:-1] == size:
        return image
    if image.dtype == np.uint8 and len(size) == 2 and image.shape[-1] in (1, 3) and not label_channels:
        return _resize_picture(image, size)
    labels = [c in label_channels for c in range(image.shape[-1])]
    smooth = image.astype(np.float32)
    for axis, length in enumerate(size):
        smooth = _resize_axis(smooth, axis, length)
    if np.issubdtype(image.dtype, np.integer):
        smooth = np.clip(np.rint(smooth), image.min(), image.max())
    smooth = smooth.astype(image.dtype)
    if any(labels):
        nearest = image
        for axis, length in enumerate(size):
            places = ((np.arange(length) + 0.5) * image.shape[axis] / length).astype(np.intp)
            nearest = nearest.take(places, axis)
        smooth[..., labels] = nearest[..., labels]
    return smooth


def _resize_picture(image: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Take Pillow's own 8-bit path, several times faster than the float one."""
    picture = Pillow.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    resized = np.asarray(picture.resize((size[1], size[0]), Pillow.Resampling.BILINEAR))
    return resized.reshape(*size, image.shape[-1])


def _resize_axis(image: np.ndarray, axis: int, length: int) -> np.ndarray:
    """Resample one axis of a float32 array: as the height of one tall picture."""
    if image.shape[axis] == length:
        return image
    moved = np.moveaxis(image, axis, 0)
    flat = np.ascontiguousarray(moved).reshape(moved.shape[0], -1)
    resized = Pillow.fromarray(flat).resize((flat.shape[1], length), Pillow.Resampling.BILINEAR)
    return np.moveaxis(np.asarray(resized).reshape(length, *moved.shape[1:]), 0, axis)


def crop_or_pad(image: np.ndarray, size: tuple[int, ...], fill: np.ndarray | None = None) -> np.ndarray:
    """Cut or fill up each spatial axis around the centre, filling up with `fill` [channels], or with the background."""
    space = image.shape[:-1]
    if space == size:
        return image
    cut = tuple(
        slice(max(0, length - wanted) // 2, max(0, length - wanted) // 2 + min(length, wanted))
        for length, wanted in zip(space, size, strict=True)
    )
    before = tuple(max(0, wanted - length) // 2 for length, wanted in zip(space, size, strict=True))
    return fill_up(image[cut], size, before, background(image) if fill is None else fill)


def cut_around(image: np.ndarray, centre: tuple[int, ...], size: tuple[int, ...]) -> tuple[np.ndarray, tuple[int, ...]]:
    """Return what the image holds of the box of this size whose index `size // 2` is the voxel `centre`.

    Also return how many voxels of the box lie before the image on each axis, for `fill_up`.
    """
    first = [middle - wanted // 2 for middle, wanted in zip(centre, size, strict=True)]
    inside = tuple(slice(max(0, start), start + wanted) for start, wanted in zip(first, size, strict=True))
    return image[inside], tuple(max(0, -start) for start in first)


def fill_up(
    image: np.ndarray, size: tuple[int, ...], before: tuple[int, ...], fill: np.ndarray | None = None
) -> np.ndarray:
    """Return an image of spatial shape `size` that holds this one from index `before` on; around it `fill` [channels].

    Without `fill` it is the background of the image.
    """
    if image.shape[:-1] == size:
        return image
    result = np.empty((*size, image.shape[-1]), image.dtype)
    result[...] = background(image) if fill is None else fill
    inside = tuple(slice(start, start + length) for start, length in zip(before, image.shape[:-1], strict=True))
    result[inside] = image
    return result


def background(image: np.ndarray) -> np.ndarray:
    """Return each channel's background value: [channels], of the image's dtype.

    That is the border's own value if most of the border has one (black around a brain, white around a scanned film),
    else the smallest value of the image.
    """
    channels = image.shape[-1]
    border = np.concatenate(
        [np.take(image, [0, -1], axis).reshape(-1, channels) for axis in range(image.ndim - 1)], axis=0
    )
    middle = np.sort(border, axis=0)[len(border) // 2]
    smallest = image.reshape(-1, channels).min(0)
    span = image.reshape(-1, channels).max(0).astype(np.float64) - smallest
    same = (np.abs(border.astype(np.float64) - middle) <= 0.01 * span).mean(0) > 0.5
    return np.where(same, middle, smallest).astype(image.dtype)


def spaced_size(space: tuple[int, ...], spacing_mm: tuple[float, ...], wanted_mm: tuple[float, ...]) -> tuple[int, ...]:
    """Return the spatial shape that gives an image of this spacing the wanted spacing."""
    if len(wanted_mm) != len(space):
        raise UserError(f"--spacing_mm has {len(wanted_mm)} numbers, the images have {len(space)} spatial axes.")
    return tuple(
        max(1, round(length * have / want)) for length, have, want in zip(space, spacing_mm, wanted_mm, strict=True)
    )
