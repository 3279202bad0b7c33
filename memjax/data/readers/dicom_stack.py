"""Stack the frames of a DICOM series into a volume: in which order, and on which grid in RAS."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from memjax.data.readers.base import BadFile
from memjax.data.readers.dicom_header import Frame
from memjax.data.readers.ras import Grid

_AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)  # columns count to the left, rows to the back: where a file does not say
_SAME_DIRECTION = 0.01  # directions are written with few digits
_SAME_SPACING = 0.01  # of the spacing
_SAME_POSITION_MM = 1e-3
_EVEN_GAP = 0.1  # of the gap: positions are often rounded to 0.1 mm, a missing slice doubles it
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclasses.dataclass(frozen=True)
class Stack:
    """`order` lists the frames from the first slice to the last; `grid` holds the array [column, row, slice]."""

    order: tuple[int, ...]
    grid: Grid
    spacing_mm: tuple[float, float, float] | None  # in RAS; None unless all three are said


def stack_frames(frames: Sequence[Frame], rows: int, columns: int) -> Stack:
    """Order frames along the normal of their planes by ImagePositionPatient, or as they come if none has a position.

    Raises:
      BadFile: frames differ in orientation or spacing, lie at one position, or leave uneven gaps.
    """
    across, down = _directions(frames)
    normal = np.cross(across, down)
    spacing_mm = _common_spacing(frames)
    order, gap_mm = tuple(range(len(frames))), frames[0].thickness_mm
    origin = np.zeros(3)
    if positions := _positions(frames):
        along = np.array(positions) @ normal
        order = tuple(int(index) for index in np.argsort(along, kind="stable"))
        origin = np.array(positions[order[0]])
        if len(frames) > 1:
            gap_mm = _even_gap(along[list(order)])
    between_rows, between_columns = spacing_mm or (1.0, 1.0)
    affine = np.eye(4)
    affine[:3] = np.column_stack([across * between_columns, down * between_rows, normal * (gap_mm or 1.0), origin])
    grid = Grid((columns, rows, len(frames)), _LPS_TO_RAS @ affine)
    return Stack(order, grid, grid.ras_spacing_mm if spacing_mm and gap_mm else None)


def _directions(frames: Sequence[Frame]) -> tuple[np.ndarray, np.ndarray]:
    """Return the unit vectors in which columns and rows count, common to all frames."""
    vectors = np.array([frame.orientation or _AXIAL for frame in frames])
    if np.abs(vectors - vectors[0]).max() > _SAME_DIRECTION:
        raise BadFile("has slices of several orientations (a localizer?); leave it out, or export each stack by itself")
    across, down = vectors[0].reshape(2, 3)
    lengths = np.linalg.norm(across), np.linalg.norm(down)
    if np.abs(np.subtract(lengths, 1)).max() > _SAME_DIRECTION or abs(across @ down) > _SAME_DIRECTION:
        raise BadFile(f"has ImageOrientationPatient = {frames[0].orientation}; expected two perpendicular unit vectors")
    return across / lengths[0], down / lengths[1]


def _common_spacing(frames: Sequence[Frame]) -> tuple[float, ...] | None:
    """Return the spacing of rows and columns if the frames say one."""
    spacings = [frame.spacing_mm for frame in frames]
    known = [spacing for spacing in spacings if spacing is not None]
    if len(known) < len(spacings):
        return None
    if not np.allclose(known, known[0], rtol=_SAME_SPACING, atol=0):
        raise BadFile(f"has slices of different PixelSpacing, {min(known)} and {max(known)}; export each by itself")
    return known[0]


def _positions(frames: Sequence[Frame]) -> list[tuple[float, ...]]:
    """Return the frames' positions, or none if no frame has one."""
    known = [frame.position for frame in frames if frame.position is not None]
    missing = len(frames) - len(known)
    if known and missing:
        raise BadFile(f"has {missing} of {len(frames)} slices without ImagePositionPatient; export it again")
    return known


def _even_gap(along: np.ndarray) -> float:
    """Return the distance from slice to slice of sorted positions [n] along the normal."""
    gaps = np.diff(along)
    gap = float(np.median(gaps))
    same = int((gaps < _SAME_POSITION_MM).sum())
    if same:
        first = along[int(np.argmin(gaps))]
        raise BadFile(
            f"has slices at positions already taken ({same}; the first at {first:g} mm along the normal): "
            "several phases, echoes or copies in one series; export each by itself"
        )
    worst = int(np.argmax(np.abs(gaps - gap)))
    if abs(gaps[worst] - gap) > _EVEN_GAP * gap:
        raise BadFile(
            f"has a gap of {gaps[worst]:g} mm between slices {worst} and {worst + 1} where {gap:g} mm is usual: "
            "slices are missing or unevenly spaced; export the whole series again"
        )
    return gap
