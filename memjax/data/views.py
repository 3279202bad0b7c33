"""How copies may differ from what they are copies of: the views by which a descriptor learns to see through it.

Dar et al. (arXiv 2307.01148) call a synthetic image a copy, too, if it is a flipped or rotated training image, and
train their descriptor on such pairs: an image and a view of it. The follow-up's views (arXiv 2402.01054) are mirrored
along the last axis and rotated by up to 5 degrees, each with probability 0.5. Here are these and those they leave out.

Each transform takes one image [*space, channels], values in [-1, 1], and draws what it does from the generator it is
given; it never writes into the image. Its strength is its first field: what it does is drawn up to it, or with `full`
always at it, so that copies can be planted at graded strengths. Channels of labels move with the others, but only ever
hold values they held before.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32
from scipy import ndimage

from memjax.data.augment import Flip, Rotate, Transform, planes_of
from memjax.data.warp import smooth_field, warped
from memjax.errors import UserError

Image = Float32[np.ndarray, "*space c"]

_UNFOLDED = 0.4  # of the distance of control points: moved by less, a volume never folds (Choi & Lee, 2000)


@dataclass(frozen=True)
class Turn:
    """With probability `p` turn in a random plane: by 90, 180 or 270 degrees; by 180 where its sides differ."""

    p: float = 0.5

    def __call__(self, image: Image, rng: np.random.Generator) -> Image:  # noqa: D102  (the class says it)
        if rng.random() >= self.p:
            return image
        planes = planes_of(image.shape[:-1])
        first, second = planes[int(rng.integers(len(planes)))]
        turns = int(rng.integers(1, 4)) if image.shape[first] == image.shape[second] else 2
        return np.rot90(image, turns, (first, second))


@dataclass(frozen=True)
class Shift:
    """With probability `p` shift along every axis by up to this share of its length, in whole pixels; edges repeat."""

    share: float
    p: float = 0.5
    full: bool = False

    def __call__(self, image: Image, rng: np.random.Generator) -> Image:  # noqa: D102  (the class says it)
        if rng.random() >= self.p:
            return image
        for axis, length in enumerate(image.shape[:-1]):
            by = round(_either_way(self.share, rng, full=self.full) * length)
            image = np.take(image, np.clip(np.arange(length) - by, 0, length - 1), axis)
        return image


@dataclass(frozen=True)
class Elastic:
    """With probability `p` deform smoothly: control points move by up to this share of each side; edges repeat.

    `smoothness` is the distance of control points, as a share of each side, with cubic B-splines between them. What
    moves by up to 0.4 of it never folds.
    """

    amount: float
    smoothness: float = 0.25
    p: float = 0.5
    full: bool = False
    label_channels: tuple[int, ...] = ()

    def __call__(self, image: Image, rng: np.random.Generator) -> Image:  # noqa: D102  (the class says it)
        if rng.random() >= self.p:
            return image
        amount = _up_to(self.amount, rng, full=self.full)
        space = image.shape[:-1]
        places = []
        for axis, length in enumerate(space):
            own = np.arange(length, dtype=np.float32).reshape([-1 if a == axis else 1 for a in range(len(space))])
            places.append(own + np.float32(amount * (length - 1)) * smooth_field(space, self.smoothness, rng))
        return warped(image, places, self.label_channels)


@dataclass(frozen=True)
class Blur:
    """With probability `p` blur by a Gaussian of up to so many pixels (its standard deviation); edges repeat."""

    sigma: float
    p: float = 0.5
    full: bool = False
    label_channels: tuple[int, ...] = ()

    def __call__(self, image: Image, rng: np.random.Generator) -> Image:  # noqa: D102  (the class says it)
        if rng.random() >= self.p:
            return image
        sigma = _up_to(self.sigma, rng, full=self.full)
        blurred = ndimage.gaussian_filter(image, (*(sigma,) * (image.ndim - 1), 0), mode="nearest")
        return _with_labels(blurred, image, self.label_channels)


@dataclass(frozen=True)
class Contrast:
    """With probability `p` change the height h above -1, on a scale from 0 to 1, into gain h^gamma + offset, clipped.

    The gain lies within 1 +- `amount`, log(gamma) within +- `amount`, the offset within +- `amount` / 4: a quarter,
    since it moves the background, too. All channels but those of labels get the same.
    """

    amount: float
    p: float = 0.5
    full: bool = False
    label_channels: tuple[int, ...] = ()

    def __call__(self, image: Image, rng: np.random.Generator) -> Image:  # noqa: D102  (the class says it)
        if rng.random() >= self.p:
            return image
        gain, gamma, offset = (_either_way(self.amount, rng, full=self.full) for _ in range(3))
        height = np.power(np.maximum((image + 1) / 2, 0), np.float32(np.exp(gamma)))
        changed = np.clip(height * np.float32(2 * (1 + gain)) + np.float32(offset / 2 - 1), -1, 1)
        return _with_labels(changed, image, self.label_channels)


@dataclass(frozen=True)
class Noise:
    """With probability `p` add Gaussian noise of up to this standard deviation (images span 2), and clip."""

    std: float
    p: float = 0.5
    full: bool = False
    label_channels: tuple[int, ...] = ()

    def __call__(self, image: Image, rng: np.random.Generator) -> Image:  # noqa: D102  (the class says it)
        if rng.random() >= self.p:
            return image
        std = _up_to(self.std, rng, full=self.full)
        noisy = rng.standard_normal(image.shape, np.float32)
        noisy *= np.float32(std)
        noisy += image
        return _with_labels(np.clip(noisy, -1, 1, out=noisy), image, self.label_channels)


@dataclass(frozen=True, kw_only=True)
class Views:
    """All that the views of a run may differ by; its fields are the keys of `config.views`.

    Each has a probability of its own. A strength or a probability of 0 turns it off.

    Args:
      enabled: False turns everything off.
      flip_axes: spatial axes, each mirrored with probability `flip_p`; None: all.
      flip_p: see there.
      turn_p: probability of a turn by a multiple of 90 degrees, in a random plane (of 180 where its sides differ).
      rotate_degrees: rotate by up to so much, in a random plane of two axes, or in `rotate_plane`.
      rotate_p: see there.
      rotate_plane: two spatial axes; None: any two. Voxels count as cubes: where slices are thick, rotate in them.
      elastic: deform: control points move by up to this share of each side.
      elastic_smoothness: the control points' distance, as a share of each side.
      elastic_p: see there.
      shift: by up to this share of each side, in whole pixels.
      shift_p: see there.
      blur: by a Gaussian of up to so many pixels.
      blur_p: see there.
      contrast: gain, gamma and offset, see `Contrast`.
      contrast_p: see there.
      noise: of up to this standard deviation; images span from -1 to 1.
      noise_p: see there.

    Raises:
      UserError: a value is out of its range.
    """

    enabled: bool = True
    flip_axes: tuple[int, ...] | None = None
    flip_p: float = 0.5
    turn_p: float = 0.5
    rotate_degrees: float = 5.0
    rotate_p: float = 0.5
    rotate_plane: tuple[int, ...] | None = None
    elastic: float = 0.02
    elastic_smoothness: float = 0.25
    elastic_p: float = 0.25
    shift: float = 0.05
    shift_p: float = 0.5
    blur: float = 1.0
    blur_p: float = 0.25
    contrast: float = 0.2
    contrast_p: float = 0.5
    noise: float = 0.1
    noise_p: float = 0.5

    def __post_init__(self):
        most = {"rotate_degrees": 180, "elastic": 1, "shift": 0.5, "blur": 100, "contrast": 0.9, "noise": 2}
        names = ("flip", "turn", "rotate", "elastic", "shift", "blur", "contrast", "noise")
        for key, limit in (most | {f"{name}_p": 1 for name in names}).items():
            if not 0 <= (value := getattr(self, key)) <= limit:  # NaN, too
                raise UserError(f"views.{key}={value:g} is out of range; give 0 to {limit:g}.")
        if not 0.05 <= self.elastic_smoothness <= 1:
            raise UserError(f"views.elastic_smoothness={self.elastic_smoothness:g} is out of range; give 0.05 to 1.")
        if self.elastic > _UNFOLDED * self.elastic_smoothness:
            raise UserError(
                f"views.elastic={self.elastic:g} would fold images; give at most {_UNFOLDED:g} of "
                f"views.elastic_smoothness={self.elastic_smoothness:g}."
            )
        for key in ("flip_axes", "rotate_plane"):
            axes = getattr(self, key) or ()
            if (
                len(set(axes)) < len(axes)
                or min(axes, default=0) < 0
                or (key == "rotate_plane" and len(axes) not in (0, 2))
            ):
                raise UserError(f"views.{key}={axes} must be different spatial axes, counted from 0.")

    @property
    def invariant_to(self) -> tuple[str, ...]:
        """What views differ by, in the audit's words; nothing if views are off."""
        strengths = {
            "flips": self.flip_axes != () and self.flip_p,
            "quarter turns": self.turn_p,
            "small rotations": self.rotate_degrees and self.rotate_p,
            "shifts": self.shift and self.shift_p,
            "noise": self.noise and self.noise_p,
            "blur": self.blur and self.blur_p,
            "contrast": self.contrast and self.contrast_p,
            "deformation": self.elastic and self.elastic_p,
        }
        return tuple(word for word, strength in strengths.items() if strength) if self.enabled else ()

    def check(self, space: Sequence[int]) -> None:
        """Raise `UserError` unless images of this spatial shape can be varied so."""
        if not self.enabled:
            return
        for key in ("flip_axes", "rotate_plane"):
            axes = getattr(self, key) or ()
            if max(axes, default=0) >= len(space):
                raise UserError(
                    f"views.{key}={axes} names axis {max(axes)}, but the images have {len(space)} spatial axes; "
                    f"give axes from 0 to {len(space) - 1}."
                )

    def transforms(self, space: Sequence[int], label_channels: tuple[int, ...] = ()) -> tuple[Transform, ...]:
        """Return what is done to an image of this spatial shape, in order: first what moves it, noise last."""
        self.check(space)
        axes = tuple(range(len(space))) if self.flip_axes is None else self.flip_axes
        planes = [(min(self.rotate_plane), max(self.rotate_plane))] if self.rotate_plane else planes_of(space)
        labels = label_channels
        every: dict[str, Transform] = {
            "flips": Flip(axes, self.flip_p),
            "quarter turns": Turn(self.turn_p),
            "small rotations": Rotate(planes, self.rotate_degrees, self.rotate_p, labels),
            "deformation": Elastic(self.elastic, self.elastic_smoothness, self.elastic_p, label_channels=labels),
            "shifts": Shift(self.shift, self.shift_p),
            "blur": Blur(self.blur, self.blur_p, label_channels=labels),
            "contrast": Contrast(self.contrast, self.contrast_p, label_channels=labels),
            "noise": Noise(self.noise, self.noise_p, label_channels=labels),
        }
        return tuple(transform for word, transform in every.items() if word in self.invariant_to)

    def __call__(self, image: Image, rng: np.random.Generator, label_channels: tuple[int, ...] = ()) -> Image:
        """Return a view of the image; with nothing turned on, or by chance, the image that was given."""
        for transform in self.transforms(image.shape[:-1], label_channels):
            image = transform(image, rng)
        return image


def _up_to(strength: float, rng: np.random.Generator, *, full: bool) -> float:
    return strength if full else rng.uniform(0, strength)


def _either_way(strength: float, rng: np.random.Generator, *, full: bool) -> float:
    return strength * (1 - 2 * int(rng.integers(2))) if full else rng.uniform(-strength, strength)


def _with_labels(changed: np.ndarray, image: np.ndarray, label_channels: tuple[int, ...]) -> np.ndarray:
    labels = list(label_channels)
    changed[..., labels] = image[..., labels]
    return changed
