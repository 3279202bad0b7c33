"""Orientations in words, as a person sees them in the pictures of a report."""

import numpy as np

from memjax.audit.report.display import upright
from memjax.data.readers.base import RAS, ROW_COLUMN
from memjax.orientation import Orientation, orientations

_SAME = "same orientation"
_PICTURE_WORDS = {
    "identity": _SAME,
    "fliplr": "mirrored left–right",
    "flipud": "mirrored top–bottom",
    "rot180": "turned by 180°",
    "rot90": "turned by 90° to the left",
    "rot270": "turned by 90° to the right",
    "transpose": "mirrored along the falling diagonal",
    "antitranspose": "mirrored along the rising diagonal",
}
_DIRECTIONS = ("left–right", "front–back", "head–foot")  # the axes R, A, S
_PROBE = np.arange(4).reshape(2, 2)  # each of the eight orientations of a square makes another picture of it


def by_name(name: str, n_axes: int) -> Orientation:
    """Return the orientation of this name, for pictures (2 axes) or volumes (3)."""
    return next(found for found in orientations((2,) * n_axes, "all") if found.name == name)


def in_words(name: str, axes: tuple[str, ...]) -> str:
    """Say what an orientation of the stored axes does to the picture that is shown.

    A slice is stored with its axes in the order R, A, S and shown upright, so a reversal of its first axis is seen as
    left–right; a volume's reversals are named by the directions of the body, or by its axes where these are unknown.
    """
    orientation = by_name(name, len(axes))
    if len(axes) == 3:
        return _volume_words(orientation, _DIRECTIONS if axes == RAS else axes)
    if axes == ROW_COLUMN:
        return _PICTURE_WORDS[name]
    seen = upright(orientation.apply(_upright_inverse(_PROBE)))
    return next(
        words for other, words in _PICTURE_WORDS.items() if np.array_equal(by_name(other, 2).apply(_PROBE), seen)
    )


def _upright_inverse(picture: np.ndarray) -> np.ndarray:
    return picture.swapaxes(0, 1)[::-1, ::-1]


def _volume_words(orientation: Orientation, directions: tuple[str, ...]) -> str:
    said = []
    if orientation.axes != (0, 1, 2):
        moved = [
            f"{directions[old]} becomes {directions[new]}" for new, old in enumerate(orientation.axes) if old != new
        ]
        said.append("turned so that " + ", ".join(moved))
    if orientation.flips:
        said.append("mirrored " + " and ".join(directions[axis] for axis in orientation.flips))
    return ", then ".join(said) or _SAME
