"""A user's table of points in volumes, each the centre of a sub-volume to cut: which file, where in it, which label.

Paper B cuts cubes of 64 voxels around annotated plaques (Dar et al. 2023, section 2.1). The table is a csv of one row a
point:

    file    (or source, filename, image): the volume's path as `prepare` names it, or its name where that is unique
    i,j,k   (or x,y,z): voxels as the file stores them, or mm; see `readers.stored_axes`
    label   may be missing
"""

import csv
import dataclasses
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

from memjax.data.readers.base import Reader, Spec, Unit
from memjax.errors import UserError

CentresIn = Literal["voxel", "mm"]
CENTRES_IN: tuple[CentresIn, ...] = ("voxel", "mm")

_FILE_COLUMNS = ("source", "file", "filename", "image")
_PLACE_COLUMNS = {"voxel": (("i", "j", "k"), ("x", "y", "z")), "mm": (("x", "y", "z"),)}
_POINT = re.compile(r"#point_[0-9]+$")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
    """A row of the table: its `line` (for messages), the volume's name, the point's three coordinates, its label."""

    line: int
    file: str
    at: tuple[float, ...]
    label: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Centre:
    """A point as the volume's image has it: `at` [3] counts voxels from 0 along each axis, between two if not whole."""

    at: tuple[float, ...]
    label: str

    def voxel(self, had: Sequence[int], has: Sequence[int]) -> tuple[int, ...]:
        """Return the voxel in which the point lies once the image of shape `had` is resampled to shape `has`."""
        return tuple(
            min(math.floor((at + 0.5) * new / old), new - 1) for at, old, new in zip(self.at, had, has, strict=True)
        )


def point_source(volume: str, number: int) -> str:
    """Return the source of the sub-volume around a volume's point of this number, from 0 in the table's order."""
    return f"{volume}#point_{number}"


def volume_source(source: str) -> str:
    """Return the source of the volume that a sub-volume was cut from; other sources as they are."""
    return _POINT.sub("", source)


def read_points(path: Path, units: Sequence[Unit], centres_in: CentresIn) -> dict[str, list[Point]]:
    """Read the table and return each unit's points by the unit's name; units without a point are missing.

    Raises:
      UserError: the table cannot be read, lacks a column, has a row that is no point, names one point twice or names
        a file that is not there; a unit is more than one volume.
    """
    if many := next((unit for unit in units if unit.rows), None):
        raise UserError(
            f"--centres needs one file or folder a volume, but {many.name} holds several images; "
            "save each volume as its own file."
        )
    names = _names(units)
    points: dict[str, list[Point]] = {}
    seen: dict[tuple[str, tuple[float, ...]], int] = {}
    for point in _rows(path, centres_in):
        unit = names.get(point.file)
        if unit is None:
            several = sum(PurePosixPath(unit.name).name == point.file for unit in units)
            why = f"{several} volumes have this name; give its relative path" if several else "there is no such volume"
            raise UserError(
                f"{path}, line {point.line}: {point.file!r}: {why} (the first of {len(units)} is {units[0].name!r})."
            )
        first = seen.setdefault((unit, point.at), point.line)
        if first != point.line:
            raise UserError(f"{path}, line {point.line}: the same point of {unit!r} as in line {first}; keep one.")
        points.setdefault(unit, []).append(point)
    if not points:
        raise UserError(f"{path} holds no point; give a row for each.")
    return points


def place(
    points: Sequence[Point], path: Path, centres_in: CentresIn, reader: Reader, unit: Unit, spec: Spec
) -> list[Centre]:
    """Return where a unit's points lie in its image; `path` is the table's, for messages.

    Raises:
      UserError: the unit is no volume, or a point lies outside it.
      BadFile: its headers do not say where it lies, and points are in mm.
    """
    from memjax.data.readers.stored_axes import stored_axes

    if len(spec.axes) != 3:
        raise UserError(
            f"--centres needs volumes, but {unit.name} gives images of two axes ({', '.join(spec.axes)}); "
            "give --layout=volumes if its slices are one."
        )
    stored = stored_axes(reader, unit, spec)
    centres = []
    for point in points:
        index = point.at if centres_in == "voxel" else stored.index_of_mm(point.at)
        if not stored.holds(index):
            told = "" if centres_in == "voxel" else f", voxel {_tuple(index)}"
            raise UserError(
                f"{path}, line {point.line}: the point {_tuple(point.at)}{told} lies outside {unit.name}, which is "
                f"stored as {' x '.join(map(str, stored.shape))} voxels, counted from 0; mend the table, "
                "or see --centres_in."
            )
        centres.append(Centre(at=stored.in_image(index), label=point.label))
    return centres


def _names(units: Sequence[Unit]) -> Mapping[str, str]:
    """Return unit names by all that a row may call them: themselves, and their last part where no other has it."""
    by_name: dict[str, list[str]] = {}
    for unit in units:
        by_name.setdefault(PurePosixPath(unit.name).name, []).append(unit.name)
    unique = {last: names[0] for last, names in by_name.items() if len(names) == 1}
    return {**unique, **{unit.name: unit.name for unit in units}}


def _rows(path: Path, centres_in: CentresIn) -> Iterator[Point]:
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            lines = list(file)
        table = csv.DictReader(lines, delimiter=max(",;\t", key=(lines[0] if lines else "").count))
        rows = [(table.line_num, row) for row in table]
    except (OSError, csv.Error) as error:
        raise UserError(f"--centres={path} cannot be read ({error}); give a csv of files and points.") from None
    names = {name.strip().lower(): name for name in table.fieldnames or ()}
    file_column = next((names[name] for name in _FILE_COLUMNS if name in names), None)
    places = next((of for of in _PLACE_COLUMNS[centres_in] if names.keys() >= set(of)), None)
    if file_column is None or places is None:
        raise UserError(
            f"{path} has the columns {', '.join(names) or '(none)'}; it needs one of {', '.join(_FILE_COLUMNS)}, and "
            f"{' or '.join(','.join(of) for of in _PLACE_COLUMNS[centres_in])} for points in {centres_in}."
        )
    for line, row in rows:
        told = [(row[names[name]] or "").strip() for name in places]
        label = row[names["label"]] if "label" in names else ""
        source = (row[file_column] or "").strip().replace("\\", "/").removeprefix("./")
        yield Point(line=line, file=source, at=_numbers(path, line, source, told), label=(label or "").strip())


def _numbers(path: Path, line: int, source: str, told: Sequence[str]) -> tuple[float, ...]:
    try:
        at = tuple(float(text) for text in told)
    except ValueError:
        at = (math.nan,)
    if not all(math.isfinite(value) for value in at):
        raise UserError(
            f"{path}, line {line}: the point of {source!r} is ({', '.join(told)}); it must be three numbers."
        )
    return at


def _tuple(values: Sequence[float]) -> str:
    return f"({', '.join(f'{value:g}' for value in values)})"
