"""The contract between the readers of the field's formats and `prepare`.

A reader finds *units* (what is read in one go: a file, a patient's folder, a DICOM series, a run of rows), tells each
unit's shape from its headers alone, and reads it as one or more *images* at their native size and raw values.
Resizing, the intensity map, splits and writing are `prepare`'s.

What a unit's file has wrong (truncated, not an image, NaN inside, two shapes in one series) is raised as `BadFile`;
`prepare` then stops or leaves the unit out, as its user chose. What is wrong with the request as a whole (an empty
folder, a flag that does not fit) is a `UserError`.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np

ROW_COLUMN = ("row", "column")
RAS = ("R", "A", "S")
PLANES = {"sagittal": 0, "coronal": 1, "axial": 2}  # the RAS axis that a plane is perpendicular to

Layout = Literal["auto", "images", "slices", "volumes"]
Colour = Literal["auto", "grey", "rgb"]


class BadFile(Exception):
    """One file cannot be used; the text says why, without the file's name (the caller knows it)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """What a user may say about how files become images; every reader takes the same options and uses what applies.

    layout: `images` = each picture alone; `volumes` = three spatial axes (pictures of one folder are stacked in natural
      order); `slices` = volumes cut along `plane`; `auto` = as the format is (pictures 2-D, NIfTI and DICOM series 3-D,
      BraTS slices).
    plane: the plane of the slices: `axial`, `coronal`, `sagittal`.
    colour: `grey` = one channel (ITU-R 601 luma), `rgb` = three, `auto` = grey unless some pictures are coloured.
    with_masks: also read files whose names say that they are masks or labels; by default these are left out and named.
    array_axis: what an array file's first axis counts: `items`, or `space` (the file is one image); `auto` decides.
    min_bright: BraTS slices: keep a slice if more than this share of it exceeds 50 of 255 on T1.
    """

    layout: Layout = "auto"
    plane: str = "axial"
    colour: Colour = "auto"
    with_masks: bool = False
    array_axis: Literal["auto", "items", "space"] = "auto"
    min_bright: float = 0.15


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unit:
    """What is read in one go. `name` is unique and relative to the input; `files` are all that reading it touches."""

    name: str
    files: tuple[Path, ...]
    patient: str = ""  # if the format itself says so (a DICOM tag, an array beside the images); else ""
    split: str = ""  # if the source names one (a folder `train`, a key `val_images`, MRNet's seed-26 split)
    label: str = ""
    rows: tuple[int, int] | None = None  # array files: which rows
    key: str = ""  # npz files: which array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scan:
    """All units of an input, in a stable order, and what was passed over (`source`, `reason`)."""

    units: Sequence[Unit]
    left_out: Sequence[dict[str, str]] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spec:
    """What a unit's images will be, told from headers: spatial shape, channels, dtype, spacing, how many (if known).

    `axes` is `ROW_COLUMN` for pictures; `RAS` for volumes; for slices of a volume the two remaining RAS letters.
    """

    space: tuple[int, ...]
    channels: tuple[str, ...]
    dtype: np.dtype
    axes: tuple[str, ...]
    spacing_mm: tuple[float, ...] | None = None
    label_channels: tuple[int, ...] = ()
    count: int | None = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Image:
    """One image at native size: [*space, channels], raw values, channels last, axes as in the unit's `Spec`.

    `suffix` is "" for a file that is one image, else `#index` (arrays) or `#z` (slices): the item's `source` is
    `unit.name + suffix`, unless `source` itself is given (images that were prepared before keep theirs, and their
    `value_range`, the raw values for -1 and +1).
    """

    image: np.ndarray
    suffix: str = ""
    source: str = ""
    value_range: tuple[float, float] | None = None
    slice: int | None = None
    patient: str = ""
    split: str = ""
    label: str = ""


@runtime_checkable
class Reader(Protocol):
    """One format. Construction takes the input path and the options and touches no file."""

    def scan(self) -> Scan:
        """Find the units. Raises UserError if there is none, saying what was looked for."""
        ...

    def probe(self, unit: Unit) -> Spec:
        """Tell a unit's shape from its headers. Raises BadFile."""
        ...

    def read(self, unit: Unit) -> list[Image]:
        """Read a unit whole. May be called from several threads at once. Raises BadFile."""
        ...
