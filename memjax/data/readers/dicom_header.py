"""What a DICOM file says besides its pixels: whether it is an image, of whom, and where each of its frames lies.

pydicom parses; here its answers become plain numbers or a `BadFile`. Names in CamelCase are the standard's keywords.
"""

import dataclasses
import logging
import math
import re
import warnings
from pathlib import Path
from typing import Any

from pydicom import config, dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from memjax.data.readers.base import BadFile

_PREFIX_AT = 128
_PREFIX = b"DICM"
_ENDING = ".dcm"  # files of this ending are DICOM even without the prefix

_SHOWN = 200  # letters
_MAX_FRAMES = 2**16  # more is a damaged header

# As `warnings.filterwarnings` writes it: any category, any text, from pydicom's own modules.
_WARNINGS = ("ignore", None, Warning, re.compile(r"pydicom(\.|$)"), 0)

# Values against the standard's rules (a patient's weight of 17 digits) are everyday, and nothing to warn of.
config.settings.reading_validation_mode = config.IGNORE
logging.getLogger("pydicom").setLevel(logging.CRITICAL)


@dataclasses.dataclass(frozen=True)
class Frame:
    """Where one frame lies (patient coordinates LPS, mm) and what its stored values stand for; None = not said.

    `spacing_mm` is between rows and between columns, `thickness_mm` from slice to slice; a value is
    `slope * stored + intercept`.
    """

    position: tuple[float, ...] | None  # [3], the centre of the first voxel
    orientation: tuple[float, ...] | None  # [6], the directions in which columns and rows count
    spacing_mm: tuple[float, ...] | None  # [2]
    thickness_mm: float | None
    slope: float
    intercept: float


def is_dicom(path: Path) -> bool:
    """Say whether a file is DICOM by its prefix, or by its ending where it has none; a DICOMDIR is not."""
    if path.name.upper() == "DICOMDIR":
        return False
    try:
        with path.open("rb") as file:
            file.seek(_PREFIX_AT)
            return file.read(len(_PREFIX)) == _PREFIX or path.name.lower().endswith(_ENDING)
    except OSError:
        return path.name.lower().endswith(_ENDING)


def read_dataset(path: Path, *, pixels: bool, tags: list[str] | None = None) -> Dataset:
    """Read a file, with or without its pixels; `tags` limits it to some keywords (several times faster).

    Raises:
      BadFile: the file cannot be opened, or is no DICOM.
    """
    quieten()
    try:
        dataset = dcmread(path, force=True, stop_before_pixels=not pixels, specific_tags=tags)
    except OSError as error:
        raise BadFile(f"cannot be read ({error.strerror or error}); make it readable") from None
    except Exception as error:  # pydicom raises whatever a damaged file makes it stumble over
        raise BadFile(f"is no readable DICOM file ({one_line(error)}); export it again") from None
    if not text(dataset, "SOPClassUID"):
        raise BadFile("is no readable DICOM file (it does not say what it holds); export it again")
    if not text(dataset.file_meta, "TransferSyntaxUID"):
        dataset.file_meta.TransferSyntaxUID = _guessed_syntax(dataset)
    return dataset


def quieten() -> None:
    """Keep pydicom's warnings from the user's terminal; what matters in them becomes a `BadFile`.

    Not `warnings.catch_warnings`, which is not safe in threads. Called before every use, because others (pytest) reset
    the filters.
    """
    if _WARNINGS not in warnings.filters:
        warnings.filterwarnings("ignore", module=_WARNINGS[3].pattern)


def text(dataset: Dataset, keyword: str) -> str:
    """Return an element as text without padding; "" where it is absent or empty."""
    value = _get(dataset, keyword)
    return "" if value is None else str(value).strip(" \0")


def number(dataset: Dataset, keyword: str, default: int) -> int:
    """Return a whole number, or `default` where it is absent or empty."""
    found = numbers(dataset, keyword, 1)
    return default if found is None else int(found[0])


def numbers(dataset: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """Return an element of `count` numbers, None where it is absent or empty.

    Raises:
      BadFile: it has another count, or something else than finite numbers.
    """
    value = _get(dataset, keyword)
    if value is None or value == "":
        return None
    try:
        values = (float(value),) if isinstance(value, str | int | float) else tuple(float(part) for part in value)
    except (TypeError, ValueError):
        values = ()
    if len(values) != count or not all(map(math.isfinite, values)):
        raise BadFile(f"has {keyword} = {one_line(value)}; expected {count} finite numbers")
    return values


def frame_count(dataset: Dataset) -> int:
    """Return how many frames a file has."""
    count = number(dataset, "NumberOfFrames", 1)
    if count > _MAX_FRAMES:
        raise BadFile(f"has NumberOfFrames = {count}; expected at most {_MAX_FRAMES}")
    return max(count, 1)


def frames(dataset: Dataset) -> list[Frame]:
    """Return what a file's header says of each of its frames."""
    count = frame_count(dataset)
    return [_frame(dataset, index, is_alone=count == 1) for index in range(count)]


def one_line(said: object) -> str:
    """Return an error's text or a value as part of a sentence: short, and printable whatever a damaged file holds."""
    words = " ".join(str(said).split()) or type(said).__name__
    return "".join(letter if letter.isprintable() else "?" for letter in words[:_SHOWN]).rstrip(".: ")


def _guessed_syntax(dataset: Dataset) -> UID:
    """Return the uncompressed transfer syntax that pydicom found a file without a meta header to be written in."""
    is_implicit, is_little_endian = dataset.original_encoding
    if not is_little_endian:
        return ExplicitVRBigEndian
    return ImplicitVRLittleEndian if is_implicit else ExplicitVRLittleEndian


def _frame(dataset: Dataset, index: int, *, is_alone: bool) -> Frame:
    """Gather one frame's facts from its functional groups (enhanced files) or from the file's top level."""
    plane = _group(dataset, index, "PlanePositionSequence")
    measures = _group(dataset, index, "PixelMeasuresSequence")
    scale = _group(dataset, index, "PixelValueTransformationSequence")
    has_own_place = is_alone or plane is not dataset  # the top level of a multi-frame file says where the first lies
    slope = numbers(scale, "RescaleSlope", 1)
    intercept = numbers(scale, "RescaleIntercept", 1)
    spacing = numbers(measures, "PixelSpacing", 2) or numbers(measures, "ImagerPixelSpacing", 2)
    between = numbers(measures, "SpacingBetweenSlices", 1) or numbers(measures, "SliceThickness", 1)
    return Frame(
        position=numbers(plane, "ImagePositionPatient", 3) if has_own_place else None,
        orientation=numbers(_group(dataset, index, "PlaneOrientationSequence"), "ImageOrientationPatient", 6),
        spacing_mm=spacing if spacing and min(spacing) > 0 else None,
        thickness_mm=abs(between[0]) or None if between else None,
        slope=slope[0] if slope else 1.0,
        intercept=intercept[0] if intercept else 0.0,
    )


def _group(dataset: Dataset, index: int, keyword: str) -> Dataset:
    """Return a frame's functional group: its own, else the one shared by all frames, else the file's top level."""
    own = _get(dataset, "PerFrameFunctionalGroupsSequence") or []
    shared = _get(dataset, "SharedFunctionalGroupsSequence") or []
    for groups in (*own[index : index + 1], *shared[:1]):
        if group := _get(groups, keyword):
            return group[0]
    return dataset


def _get(dataset: Dataset, keyword: str) -> Any:
    """Return an element's value, None where it is absent or its bytes are no such value."""
    try:
        return dataset.get(keyword)
    except Exception:  # pydicom converts values when asked, and raises whatever a damaged one makes it stumble over
        raise BadFile(f"has a damaged {keyword}; export it again") from None
