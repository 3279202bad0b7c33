"""How training images are varied: flips, quarter turns, small rotations, intensity, in this order.

Each transform takes one image [*space, channels], values in [-1, 1], and draws what it does from the generator it is
given. Channels of labels move with the others, but only ever hold values they held before.

Akbar et al. (arXiv 2305.07644) train without; the follow-up of Dar et al. flips and rotates by up to 5 degrees, each
with probability 0.5.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from memjax.errors import UserError

_PART = 1 << 16  # numbers that are interpolated at a time: they stay in the cache, and large images take half the time

Image = Float32[np.ndarray, "*space c"]
Transform = Callable[[np.ndarray, np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class Flip:
    """Mirror each of these axes with probability `p`, independently."""

    axes: tuple[int, ...]
    p: float = 0.5

    def __call__(self, image: Image, rng: np.random.Generator) -> Image:  # noqa: D102  (the class says it)
        return np.flip(image, tuple(axis for axis in self.axes if rng.random() < self.p))


@dataclass(frozen=True)
class QuarterTurn:
    """Turn by 0, 90, 180 or 270 degrees, equally likely, in one of these planes, equally likely."""

    planes: Sequence[tuple[int, int]]

    def __call__(self, image: Image, rng: np.random.Generator) -> Image:  # noqa: D102  (the class says it)
        plane = self.planes[int(rng.integers(len(self.planes)))]
        return np.rot90(image, int(rng.integers(4)), plane)


@dataclass(frozen=True)
class Rotate:
    """With probability `p` rotate by an angle uniform in +-`degrees`, in one of these planes, equally likely.

    With `full` the angle is always one of both ends.
    """

    planes: Sequence[tuple[int, int]]
    degrees: float
    p: float = 0.5
    label_channels: tuple[int, ...] = ()
    full: bool = False

    def __call__(self, image: Image, rng: np.random.Generator) -> Image:  # noqa: D102  (the class says it)
        if rng.random() >= self.p:
            return image
        plane = self.planes[int(rng.integers(len(self.planes)))]
        degrees = rng.uniform(-self.degrees, self.degrees)
        return rotated(
            image, math.copysign(self.degrees, degrees) if self.full else degrees, plane, self.label_channels
        )


@dataclass(frozen=True)
class Intensity:
    """Multiply the height above -1 by a gain uniform in 1 +- `amount`, add an offset uniform in +- `amount` / 2, clip.

    All channels but those of labels get the same.
    """

    amount: float
    label_channels: tuple[int, ...] = ()

    def __call__(self, image: Image, rng: np.random.Generator) -> Image:  # noqa: D102  (the class says it)
        gain = np.float32(1 + rng.uniform(-self.amount, self.amount))
        offset = np.float32(rng.uniform(-self.amount, self.amount) / 2)
        result = np.clip((image + 1) * gain + (offset - 1), -1, 1)
        labels = list(self.label_channels)
        result[..., labels] = image[..., labels]
        return result


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """All of a run's augmentation; its fields are the keys of `config.augment`.

    Args:
      enabled: False turns everything off.
      flip_axes: spatial axes, each mirrored with probability `flip_p`.
      flip_p: see there.
      quarter_turns: turn by a random multiple of 90 degrees, in a random plane of two equally long axes.
      rotate_degrees: rotate by up to so much, with probability `rotate_p`; linear interpolation, edges repeated.
      rotate_p: see there.
      rotate_plane: two spatial axes; default: any two. Voxels count as cubes: where slices are thick, rotate in them.
      intensity: gain in 1 +- this and offset in +- half of this, about the dark end.

    Raises:
      UserError: a value is out of its range.
    """

    enabled: bool = True
    flip_axes: tuple[int, ...] = ()
    flip_p: float = 0.5
    quarter_turns: bool = False
    rotate_degrees: float = 0.0
    rotate_p: float = 0.5
    rotate_plane: tuple[int, int] | None = None
    intensity: float = 0.0

    def __post_init__(self):
        for key, most in (("flip_p", 1), ("rotate_p", 1), ("rotate_degrees", 180), ("intensity", 1)):
            value = getattr(self, key)
            if not 0 <= value <= most:  # NaN, too
                raise UserError(f"augment.{key}={value:g} is out of range; give 0 to {most}.")
        for key in ("flip_axes", "rotate_plane"):
            axes = getattr(self, key) or ()
            if len(set(axes)) < len(axes) or min(axes, default=0) < 0:
                raise UserError(f"augment.{key}={axes} must be different spatial axes, counted from 0.")

    def check(self, space: Sequence[int]) -> None:
        """Raise `UserError` unless images of this spatial shape can be augmented so."""
        if not self.enabled:
            return
        for key in ("flip_axes", "rotate_plane"):
            axes = getattr(self, key) or ()
            if max(axes, default=0) >= len(space):
                raise UserError(
                    f"augment.{key}={axes} names axis {max(axes)}, but the images have {len(space)} spatial axes; "
                    f"give axes from 0 to {len(space) - 1}."
                )
        if self.quarter_turns and not _square(space):
            raise UserError(
                f"augment.quarter_turns needs two axes of equal length, but the images are "
                f"{' x '.join(map(str, space))}; set it to False, or prepare the images with such a --size."
            )

    def transforms(self, space: Sequence[int], label_channels: tuple[int, ...] = ()) -> tuple[Transform, ...]:
        """Return what is done to an image of this spatial shape, in order."""
        self.check(space)
        if not self.enabled:
            return ()
        found: list[Transform] = []
        if self.flip_axes:
            found.append(Flip(self.flip_axes, self.flip_p))
        if self.quarter_turns:
            found.append(QuarterTurn(_square(space)))
        if self.rotate_degrees:
            planes = [self.rotate_plane] if self.rotate_plane else planes_of(space)
            found.append(Rotate(planes, self.rotate_degrees, self.rotate_p, label_channels))
        if self.intensity:
            found.append(Intensity(self.intensity, label_channels))
        return tuple(found)

    def __call__(self, image: Image, rng: np.random.Generator, label_channels: tuple[int, ...] = ()) -> Image:
        """Return the image, augmented as the generator decides; it may be a view of the one that was given."""
        for transform in self.transforms(image.shape[:-1], label_channels):
            image = transform(image, rng)
        return image


def rotated(image: Image, degrees: float, plane: tuple[int, int], label_channels: tuple[int, ...] = ()) -> Image:
    """Return the image rotated about its centre in a plane of two spatial axes, with its shape; edges are repeated.

    Interpolation is linear, for label channels it is the nearest neighbour. The sense is that of
    `scipy.ndimage.rotate`. Where each pixel comes from is found once, for all channels and slices.
    """
    first, second = sorted(plane)
    moved = np.moveaxis(image, (first, second), (0, 1))
    h, w = moved.shape[:2]
    flat = np.ascontiguousarray(moved).reshape(h * w, -1)
    angle = math.radians(degrees)
    cos, sin = math.cos(angle), math.sin(angle)
    down, right = np.arange(h)[:, None] - (h - 1) / 2, np.arange(w) - (w - 1) / 2
    y = np.clip(cos * down + sin * right + (h - 1) / 2, 0, h - 1).ravel()
    x = np.clip(cos * right - sin * down + (w - 1) / 2, 0, w - 1).ravel()

    result = np.empty_like(flat)
    size = max(1, _PART // flat.shape[1])
    for start in range(0, h * w, size):
        part = slice(start, start + size)
        result[part] = _interpolated(flat, y[part], x[part], (h, w))
    result = result.reshape(moved.shape)
    if label_channels:
        nearest = np.take(flat, (y + 0.5).astype(np.intp) * w + (x + 0.5).astype(np.intp), axis=0).reshape(moved.shape)
        labels = list(label_channels)
        result[..., labels] = nearest[..., labels]
    return np.moveaxis(result, (0, 1), (first, second))


def _interpolated(flat: np.ndarray, y: np.ndarray, x: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return what lies at rows y and columns x, float [n] each, of pixels [rows * columns, numbers]: [n, numbers]."""
    h, w = shape
    top, left = y.astype(np.intp), x.astype(np.intp)
    to_right = (left < w - 1).astype(np.intp)
    to_below = (top < h - 1).astype(np.intp) * w
    corner = top * w + left
    along_y, along_x = ((z - whole).astype(np.float32)[:, None] for z, whole in ((y, top), (x, left)))
    upper = _between(np.take(flat, corner, axis=0), np.take(flat, corner + to_right, axis=0), along_x)
    below = corner + to_below
    lower = _between(np.take(flat, below, axis=0), np.take(flat, below + to_right, axis=0), along_x)
    return _between(upper, lower, along_y)


def _between(a: np.ndarray, b: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Return (1 - share) a + share b; exactly a where both are equal."""
    b -= a
    b *= share
    b += a
    return b


def planes_of(space: Sequence[int]) -> list[tuple[int, int]]:
    """Return the planes of any two axes."""
    return list(itertools.combinations(range(len(space)), 2))


def _square(space: Sequence[int]) -> list[tuple[int, int]]:
    """Return the planes of two equally long axes."""
    return [(a, b) for a, b in planes_of(space) if space[a] == space[b]]
