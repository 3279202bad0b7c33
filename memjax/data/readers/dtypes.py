"""How raw values of any number type become one of the store's four: uint8, uint16, int16 and float32.

The type alone decides, never the values, so that all files of a set agree: booleans become uint8 0 and 255, int8
becomes int16, every wider integer and every float becomes float32 (exact for whole numbers up to 2^24).
"""

import numpy as np

from memjax.data.readers.base import BadFile


def raw_dtype(dtype: np.dtype) -> np.dtype:
    """Return the store's type for a file's type, in native byte order.

    Raises:
      BadFile: the type holds no numbers (text, records, dates) or complex ones.
    """
    if dtype.kind == "b":
        return np.dtype(np.uint8)
    if dtype.kind not in "iuf":
        raise BadFile(f"holds values of type {dtype}, which is no image; save it as integers or floats")
    for kept in (np.uint8, np.uint16, np.int16):
        if dtype.kind != "f" and np.can_cast(dtype, kept):
            return np.dtype(kept)
    return np.dtype(np.float32)


def to_raw(array: np.ndarray) -> np.ndarray:
    """Return the values in the store's type (see `raw_dtype`); no copy if they are in it already."""
    if array.dtype.kind == "b":
        return array.astype(np.uint8) * np.uint8(255)
    with np.errstate(over="ignore"):  # float64 beyond float32 becomes Inf, which `is_finite` finds
        return array.astype(raw_dtype(array.dtype), copy=False)


def is_finite(array: np.ndarray) -> bool:
    """Say whether no value is NaN or Inf."""
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())
