"""Planted copies: training images changed in known ways, from exact to what a reader might still call a copy.

Each cell is one change at one strength. The changes are those that a descriptor learns to see through
(`memjax.data.views`), here always at full strength: only the direction is drawn. What is stored of a copy has 256
levels, as what a generator saves. Controls hold no copies, or nothing but copies.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from memjax.data.augment import Transform

_ROTATIONS = (2.0, 5.0, 10.0, 15.0)  # degrees
_SHIFTS = (4.0, 8.0, 15.0)  # per cent of each side; 4 % of 24 pixels still is one of them
_NOISES = (2.0, 5.0, 10.0, 20.0)  # standard deviation, per cent of the range
_BLURS = (0.5, 1.0, 2.0)  # pixels
_CONTRASTS = (10.0, 20.0, 40.0)  # per cent, of gain and gamma
_DEFORMATIONS = (2.0, 4.0, 8.0)  # per cent of each side
_COMBINED = ("mild", "strong"), (5.0, 20.0), (5.0, 10.0), (10.0, 40.0)  # noise, degrees, contrast


@dataclasses.dataclass(frozen=True)
class Cell:
    """One change at one strength. `needs` are the invariances, in the audit's words, that see through it."""

    work: str
    strength: float  # in the unit of `label`; 0 for none, the axis of a flip, 1 and 2 for mild and strong
    label: str  # for people: "5°"
    needs: tuple[str, ...]
    steps: "tuple[Transform, ...]"

    @property
    def name(self) -> str:
        """For messages and file names: "rotation 5°"."""
        return f"{self.work} {self.label}".strip()


@dataclasses.dataclass(frozen=True)
class Turned:
    """Turn by so many quarters, either way, in one of these planes, equally likely."""

    planes: Sequence[tuple[int, int]]
    quarters: int

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the image [*space, channels], turned."""
        plane = self.planes[int(rng.integers(len(self.planes)))]
        return np.rot90(image, self.quarters * (1 - 2 * int(rng.integers(2))), plane)


def cells_of(space: Sequence[int], axes: Sequence[str], label_channels: tuple[int, ...] = ()) -> tuple[Cell, ...]:
    """Return all cells for images of this spatial shape, in the order in which they are shown.

    Args:
      space: the shape.
      axes: the spatial axes' names.
      label_channels: channels whose values are labels; what changes intensities leaves them alone.
    """
    from memjax.data.augment import Flip, Rotate, planes_of
    from memjax.data.views import Blur, Contrast, Elastic, Noise, Shift

    planes = planes_of(space)
    square = [(a, b) for a, b in planes if space[a] == space[b]]
    labels = label_channels

    def rotate(degrees: float) -> "Transform":
        return Rotate(planes, degrees, 1.0, labels, full=True)

    def noise(percent: float) -> "Transform":
        return Noise(percent / 50, 1.0, full=True, label_channels=labels)  # images span 2

    def contrast(percent: float) -> "Transform":
        return Contrast(percent / 100, 1.0, full=True, label_channels=labels)

    def graded(
        work: str, needs: str, strengths: Sequence[float], unit: str, make: "Callable[[float], Transform]"
    ) -> list[Cell]:
        return [Cell(work, s, f"{s:g}{unit}", (needs,), (make(s),)) for s in strengths]

    def flip(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return np.flip(image, int(rng.integers(len(space))))

    combined = list(zip((1, 2), *_COMBINED, strict=True))
    return (
        Cell("exact", 0, "", (), ()),
        *(Cell("flip", axis, name, ("flips",), (Flip((axis,), 1.0),)) for axis, name in enumerate(axes)),
        *([Cell("turn", 90, "90°", ("quarter turns",), (Turned(square, 1),))] if square else []),
        Cell("turn", 180, "180°", ("flips",), (Turned(planes, 2),)),  # two flips
        *graded("rotation", "small rotations", _ROTATIONS, "°", rotate),
        *graded("shift", "shifts", _SHIFTS, " %", lambda s: Shift(s / 100, 1.0, full=True)),
        *graded("noise", "noise", _NOISES, " %", noise),
        *graded("blur", "blur", _BLURS, " px", lambda s: Blur(s, 1.0, full=True, label_channels=labels)),
        *graded("contrast", "contrast", _CONTRASTS, " %", contrast),
        *graded(
            "deformation",
            "deformation",
            _DEFORMATIONS,
            " %",
            lambda s: Elastic(s / 100, p=1.0, full=True, label_channels=labels),
        ),
        *(
            Cell("flip + noise", number, label, ("flips", "noise"), (flip, noise(percent)))
            for number, label, percent, *_ in combined
        ),
        *(
            Cell(
                "flip + rotation + contrast",
                number,
                label,
                ("flips", "small rotations", "contrast"),
                (flip, rotate(degrees), contrast(percent)),
            )
            for number, label, _, degrees, percent in combined
        ),
    )


def plant(images: np.ndarray, ids: np.ndarray, cell: Cell, *, seed: int) -> np.ndarray:
    """Return one copy of each image, changed as the cell says.

    Args:
      images: uint8 [n, *space, channels].
      ids: of the images, [n]; a copy depends on the seed, the cell's name and its image's id.
      cell: the change.
      seed: any whole number from 0 on.

    Returns:
      uint8 [n, *space, channels].
    """
    copies = np.empty_like(images)
    for i, id_ in enumerate(ids.tolist()):
        rng = np.random.default_rng([seed, id_, *cell.name.encode()])
        image = unit_range(images[i])
        for step in cell.steps:
            image = step(image, rng)
        copies[i] = as_bytes(image)
    return copies


def resampled(n: int, size: int, *, seed: int) -> np.ndarray:
    """Return the places, int64 [size], at which a perfect memorizer draws from n training images, with replacement."""
    return np.random.default_rng([seed, 1]).integers(n, size=size)


def blends(images: np.ndarray, patient: np.ndarray, n: int, *, seed: int) -> np.ndarray:
    """Return n images half way between two of different patients: uint8 [n, *space, channels].

    Args:
      images: uint8 [m, *space, channels].
      patient: of each, [m]; at least two different ones.
      n: how many.
      seed: of the choice.
    """
    rng = np.random.default_rng([seed, 2])
    made = np.empty((n, *images.shape[1:]), np.uint8)
    for i in range(n):
        one = int(rng.integers(len(images)))
        other = int(rng.choice(np.flatnonzero(patient != patient[one])))
        made[i] = (images[one].astype(np.uint16) + images[other] + 1) // 2
    return made


def noises(images: np.ndarray, n: int, *, seed: int) -> np.ndarray:
    """Return n images of white noise with the mean and the standard deviation of these: uint8 [n, *space, channels]."""
    rng = np.random.default_rng([seed, 3])
    axes = tuple(range(images.ndim - 1))  # each channel has its own
    drawn = images.mean(axes) + images.std(axes) * rng.standard_normal((n, *images.shape[1:]), np.float32)
    return np.clip(np.round(drawn), 0, 255).astype(np.uint8)


def unit_range(images: np.ndarray) -> np.ndarray:
    """Return bytes as float32 in [-1, 1]."""
    return images.astype(np.float32) * np.float32(2 / 255) - 1


def as_bytes(image: np.ndarray) -> np.ndarray:
    """Return values in [-1, 1] as the nearest of 256 levels."""
    return np.clip(np.round((image + 1) * np.float32(127.5)), 0, 255).astype(np.uint8)
