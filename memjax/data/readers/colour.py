"""Whether a picture is really coloured or grey saved with three channels, and how it becomes the one or the other."""

import numpy as np

# JPEG's chroma and scanners' tints move a grey picture's channels a few levels apart; dyes and colour maps, far more.
_GREY_SPREAD = 8 / 255

GREY = ("grey",)
RGB = ("red", "green", "blue")


def to_grey(image: np.ndarray) -> tuple[np.ndarray, bool]:
    """Return [rows, columns, 1] of the ITU-R 601 luma of [rows, columns, 1 or 3], and whether it was really coloured.

    It was if the channels of some pixel differ by more than 8/255 of the type's range (floats: of the image's own).
    """
    if image.shape[-1] == 1:
        return image, False
    if _channels_equal(image):
        return image[..., :1].copy(), False
    # In memory order, arithmetic on channels is several times faster than across pixels.
    planes = np.ascontiguousarray(np.moveaxis(image, -1, 0))
    full = np.iinfo(image.dtype).max if image.dtype.kind in "iu" else np.ptp(image)
    return _luma(planes)[..., None], _spread(planes) > _GREY_SPREAD * float(full)


def to_rgb(image: np.ndarray) -> np.ndarray:
    """Return [rows, columns, 3] of [rows, columns, 1 or 3]: grey is repeated."""
    return image if image.shape[-1] == 3 else np.repeat(image, 3, axis=-1)


def _channels_equal(image: np.ndarray) -> bool:
    """Say whether every pixel's three values are the same.

    Neighbours in memory are compared, and the pairs that straddle two pixels ignored: three times as fast as channel
    by channel, whose values do not lie side by side.
    """
    rows = image.reshape(len(image), -1)
    differs = (rows[:, 1:] != rows[:, :-1]).any(axis=0)
    return not (differs[0::3].any() or differs[1::3].any())


def _spread(planes: np.ndarray) -> float:
    """Return the greatest difference between the channels of one pixel."""
    red, green, blue = planes.astype(np.int32) if planes.dtype == np.int16 else planes
    brightest = np.maximum(np.maximum(red, green), blue)
    darkest = np.minimum(np.minimum(red, green), blue)
    return float((brightest - darkest).max())


def _luma(planes: np.ndarray) -> np.ndarray:
    """Return 0.299 R + 0.587 G + 0.114 B, in the image's type; whole numbers are rounded from 16-bit fixed point."""
    red, green, blue = planes if planes.dtype.kind == "f" else planes.astype(np.int64)
    if planes.dtype.kind == "f":
        return 0.299 * red + 0.587 * green + 0.114 * blue
    return ((19595 * red + 38470 * green + 7471 * blue + 32768) >> 16).astype(planes.dtype)
