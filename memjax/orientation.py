"""Flips and quarter turns of images: the orientations under which a copy is still a copy.

An orientation permutes the spatial axes and then reverses some. All that keep an image's shape form a group of 2^a * p
elements: flips of every axis, and permutations of axes of equal length (8 for a square, 48 for a cube).
"""

import dataclasses
import itertools
from typing import Literal, TypeVar

Symmetry = Literal["none", "flips", "all"]
SYMMETRIES: tuple[Symmetry, ...] = ("none", "flips", "all")

Array = TypeVar("Array")  # numpy or JAX: only transpose and slicing are used

# In two dimensions these are numpy's own words: np.rot90 turns counter-clockwise.
_NAMES_2D = {
    ((0, 1), ()): "identity",
    ((0, 1), (0,)): "flipud",
    ((0, 1), (1,)): "fliplr",
    ((0, 1), (0, 1)): "rot180",
    ((1, 0), ()): "transpose",
    ((1, 0), (0,)): "rot90",
    ((1, 0), (1,)): "rot270",
    ((1, 0), (0, 1)): "antitranspose",
}


@dataclasses.dataclass(frozen=True)
class Orientation:
    """`apply(x)` = reverse the axes `flips` of x transposed by `axes`, over the spatial axes only."""

    axes: tuple[int, ...]
    flips: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """A stable name: numpy's for pictures, `axes_102_flip_0` (transpose to 1, 0, 2; reverse 0) for volumes."""
        if len(self.axes) == 2:
            return _NAMES_2D[self.axes, self.flips]
        parts = []
        if self.axes != tuple(range(len(self.axes))):
            parts.append("axes_" + "".join(map(str, self.axes)))
        if self.flips:
            parts.append("flip_" + "_".join(map(str, self.flips)))
        return "_".join(parts) or "identity"

    @property
    def inverse(self) -> "Orientation":
        """The orientation that undoes this one."""
        back = tuple(self.axes.index(axis) for axis in range(len(self.axes)))
        return Orientation(back, tuple(place for place, axis in enumerate(back) if axis in self.flips))

    def apply(self, image: Array, *, leading: int = 0) -> Array:
        """Turn an image [*leading, *space, *trailing] (numpy or JAX); `leading` axes come before the spatial ones."""
        ndim = image.ndim  # type: ignore[attr-defined]
        space = len(self.axes)
        order = (
            *range(leading),
            *(leading + axis for axis in self.axes),
            *range(leading + space, ndim),
        )
        reverse = tuple(slice(None, None, -1) if axis - leading in self.flips else slice(None) for axis in range(ndim))
        return image.transpose(order)[reverse]  # type: ignore[attr-defined]


def orientations(space: tuple[int, ...], symmetry: Symmetry) -> tuple[Orientation, ...]:
    """List the orientations that keep a spatial shape, identity first, pure flips next.

    `none` gives the identity alone, `flips` all flips, `all` quarter turns too where axes are equally long. An axis of
    length 1 is neither flipped nor swapped: that would list the same orientation twice.
    """
    identity = tuple(range(len(space)))
    if symmetry == "none":
        return (Orientation(identity),)
    live = [axis for axis in identity if space[axis] > 1]
    flips = [chosen for count in range(len(live) + 1) for chosen in itertools.combinations(live, count)]
    turns = [identity]
    if symmetry == "all":
        turns = [
            axes
            for axes in itertools.permutations(identity)
            if all(space[axis] == space[place] for place, axis in enumerate(axes))
            and all(axis == place for place, axis in enumerate(axes) if space[place] == 1)
        ]
    return tuple(Orientation(axes, chosen) for axes in turns for chosen in flips)
