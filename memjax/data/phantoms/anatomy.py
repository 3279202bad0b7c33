"""What the phantoms of one anatomy have in common: their axes, channels and field of view, and who draws them."""

import dataclasses
from collections.abc import Callable

import numpy as np

Size = tuple[int, ...]

# The generators of the person (what stays) and of the visit (what changes), and the size; uint8 [*size, channels].
Scan = Callable[[np.random.Generator, np.random.Generator, Size], np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Anatomy:
    """One kind of phantom. A size says only how finely the same field of view is sampled."""

    axes: tuple[str, ...]
    channels: tuple[str, ...]
    label_channels: tuple[int, ...] = ()
    size: Size  # the default
    field_mm: tuple[float, ...]  # field of view along each axis
    scan: Scan

    def spacing_mm(self, size: Size) -> tuple[float, ...]:
        """Return the voxel spacing at this size."""
        return tuple(field / n for field, n in zip(self.field_mm, size, strict=True))
