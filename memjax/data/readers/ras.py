"""The one frame in which all volumes meet: RAS, axes growing towards the patient's right, front and top.

Readers of volumes say with a `Grid` where the stored voxels lie, and get from it the view of their array in RAS.
Rotated (oblique) grids are not resampled: each stored axis is named by the RAS axis nearest to it.
"""

import dataclasses
from functools import cached_property

import numpy as np
from nibabel.affines import voxel_sizes
from nibabel.orientations import apply_orientation, io_orientation

from memjax.data.readers.base import PLANES, BadFile, Image, Spec

_FAR_MM = 1e6


@dataclasses.dataclass(frozen=True, eq=False)
class Grid:
    """Where the voxels of an array [i, j, k] lie: `affine` [4, 4] takes (i, j, k, 1) to mm in RAS.

    Raises:
      BadFile: the affine has values beyond a kilometre or NaN, or maps the volume onto a plane, a line or a point.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray

    def __post_init__(self):
        axes = self.affine[:3, :3]
        if not (np.abs(self.affine) < _FAR_MM).all():  # NaN is not less either
            raise BadFile(
                f"has NaN, infinite or absurd values in its affine ({_one_line(self.affine)}); mend its header"
            )
        lengths = np.linalg.norm(axes, axis=0)
        # Relative to the product of the axes' lengths, so that small voxels are no flat ones.
        if not lengths.all() or abs(np.linalg.det(axes / lengths)) < 1e-6:
            raise BadFile(f"has a singular affine ({_one_line(axes)}); mend its header")

    @cached_property
    def _order(self) -> np.ndarray:
        """Each stored axis as nibabel writes it [3, 2]: its RAS axis, and 1, or -1 if it runs backwards."""
        return io_orientation(self.affine)

    @property
    def ras_shape(self) -> tuple[int, int, int]:
        """The volume's shape once in RAS."""
        first, second, third = (self.shape[axis] for axis in np.argsort(self._order[:, 0]))
        return first, second, third

    @property
    def ras_spacing_mm(self) -> tuple[float, float, float]:
        """The distances of neighbouring voxels along the axes once in RAS."""
        sizes = voxel_sizes(self.affine)
        first, second, third = (float(sizes[axis]) for axis in np.argsort(self._order[:, 0]))
        return first, second, third

    def to_ras(self, volume: np.ndarray) -> np.ndarray:
        """Return the view in RAS of an array [i, j, k, ...]."""
        return apply_orientation(volume, self._order)


def slice_spec(volume: Spec, plane: str) -> Spec:
    """Return the `Spec` of the slices that `cut_slices` makes of a volume with this one."""
    through = PLANES[plane]
    within = [axis for axis in range(3) if axis != through]
    return dataclasses.replace(
        volume,
        space=tuple(volume.space[axis] for axis in within),
        axes=tuple(volume.axes[axis] for axis in within),
        spacing_mm=volume.spacing_mm and tuple(volume.spacing_mm[axis] for axis in within),
        count=volume.space[through],
    )


def cut_slices(volume: np.ndarray, plane: str) -> list[Image]:
    """Cut a RAS volume [x, y, z, channels] into all slices along a plane, named `#z` by their index in it."""
    slices = np.ascontiguousarray(np.moveaxis(volume, PLANES[plane], 0))
    return [Image(image=image, suffix=f"#{z}", slice=z) for z, image in enumerate(slices)]


def _one_line(matrix: np.ndarray) -> str:
    return "; ".join(" ".join(f"{value:g}" for value in row) for row in matrix)
