"""Find the DICOM images of a folder, and group the files that belong together: the slices of one series.

Only a few elements of every header are read. Files that cannot be read are groups of their own, so that reading them
says what is wrong.
"""

import dataclasses
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import UID, RTDoseStorage, SegmentationStorage

from memjax.data.readers.base import BadFile, ReadOptions
from memjax.data.readers.dicom_header import frame_count, frames, is_dicom, number, one_line, read_dataset, text
from memjax.data.readers.dicom_pixels import is_coloured
from memjax.data.readers.files import find_files, looks_like_mask, unit_name

_PROJECTIONS = ("CR", "DX", "IO", "MG", "PX", "RG")  # modalities without depth, whatever positions they note
_NO_UID = re.compile(r"[^0-9A-Za-z.]")  # goes into names
_LOOKED_AT = [
    "SOPClassUID",
    "SeriesInstanceUID",
    "PatientID",
    "Modality",
    "Rows",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "NumberOfFrames",
    "ImagePositionPatient",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
]


@dataclasses.dataclass(frozen=True)
class Group:
    """The files of one unit: a picture, or the slices of one volume."""

    files: tuple[Path, ...]
    patient: str
    is_picture: bool
    is_coloured: bool


@dataclasses.dataclass(frozen=True)
class _File:
    """What one file's header says of where it belongs."""

    path: Path
    name: str
    series: str = ""  # "" = to no series that could be a volume
    patient: str = ""
    has_place: bool = True  # it lies somewhere in the patient
    is_coloured: bool = False


def group_files(root: Path, options: ReadOptions) -> tuple[dict[str, Group], list[dict[str, str]]]:
    """Return the groups below `root` by unit name, in the order of their first files, and what is left out."""
    series: dict[str, list[_File]] = {}
    left_out = []
    for path in find_files(root, ("",)):
        if path.name.upper() == "DICOMDIR":
            continue
        name = unit_name(path, root)
        found = _look_at(path, name, options, is_named=path == root)
        if isinstance(found, str):
            left_out.append({"source": name, "reason": found})
        else:
            series.setdefault(f"series {found.series}" if found.series else f"file {name}", []).append(found)
    members: list[Sequence[_File]] = []
    for files in series.values():
        members += [files] if any(file.has_place for file in files) else [[file] for file in files]
    groups = {name: _group(files, options) for name, files in zip(_unit_names(members), members, strict=True)}
    if options.layout in ("slices", "volumes"):
        flat = [name for name, group in groups.items() if group.is_picture]
        reason = "is a picture without a position in the patient, so no part of a volume"
        left_out += [{"source": name, "reason": reason} for name in flat if groups.pop(name)]
    return groups, left_out


def _look_at(path: Path, name: str, options: ReadOptions, *, is_named: bool) -> _File | str:
    """Return what a file is, or why it is left out; one that the user named himself is no mask."""
    if not is_dicom(path):
        return "is no DICOM file"
    if looks_like_mask(name) and not is_named and not options.with_masks:
        return "its name says that it is a mask (read with --with_masks)"
    try:
        header = read_dataset(path, pixels=False, tags=_LOOKED_AT)
        kind = UID(text(header, "SOPClassUID"))
        if kind == SegmentationStorage and not options.with_masks:
            return "is a segmentation (read with --with_masks)"
        is_image = "Image" in kind.name or number(header, "Rows", 0) > 0  # an image without rows is a damaged one
        if kind == RTDoseStorage or not is_image:
            return f"holds no image ({one_line(kind.name)})"
        return _describe(path, name, header, options)
    except BadFile:
        return _File(path, name)


def _describe(path: Path, name: str, header: Dataset, options: ReadOptions) -> _File:
    has_depth = frame_count(header) > 1
    is_projection = text(header, "Modality") in _PROJECTIONS
    is_alone = has_depth or is_projection or options.layout == "images"
    return _File(
        path,
        name,
        series="" if is_alone else _NO_UID.sub("_", text(header, "SeriesInstanceUID")),
        patient=text(header, "PatientID"),
        has_place=has_depth or (not is_projection and frames(header)[0].position is not None),
        is_coloured=is_coloured(header),
    )


def _group(files: Sequence[_File], options: ReadOptions) -> Group:
    return Group(
        files=tuple(file.path for file in files),
        patient=files[0].patient,
        is_picture=options.layout == "images" or not any(file.has_place for file in files),
        is_coloured=any(file.is_coloured for file in files),
    )


def _unit_names(groups: Sequence[Sequence[_File]]) -> list[str]:
    """Name a file by its path, a series by its folder and its UID: the last part of it, or all where that is taken."""
    short = [files[0].name if len(files) == 1 else _series_name(files[0], last_part=True) for files in groups]
    taken = Counter(short)
    return [
        name if taken[name] == 1 or len(files) == 1 else _series_name(files[0], last_part=False)
        for name, files in zip(short, groups, strict=True)
    ]


def _series_name(first: _File, *, last_part: bool) -> str:
    folder, slash, _ = first.name.rpartition("/")
    return folder + slash + (first.series.rpartition(".")[2] if last_part else first.series)
