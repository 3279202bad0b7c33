"""Planted copies: a stand-in for a generator of which it is known what it copied.

The strengths are such that a person looking at both images would call each a copy: noise of 2 to 3 % of the range, a
mild change of gain, offset and gamma, a smooth displacement of at most 1 to 1.5 % of the width.
"""

import dataclasses

import numpy as np
from scipy import ndimage

from memjax.data.phantoms.noise import smooth_noise
from memjax.data.phantoms.scanner import eight_bits
from memjax.digest import array_digest
from memjax.errors import UserError
from memjax.orientation import Orientation, orientations

COPY_KINDS = ("exact", "flipped", "rotated", "noised", "contrast", "deformed")

_NOISE = 0.02, 0.03  # standard deviation, of each channel's own range
_GAIN, _OFFSET, _GAMMA = (0.88, 1.08), (-0.03, 0.03), (0.88, 1.14)
_DISPLACEMENT = 0.010, 0.015  # the largest, of each axis's length
_DISPLACEMENT_CELLS = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Planted:
    """What a stand-in generator made, and the truth about it; one entry an image.

    `kind` is one of `COPY_KINDS`, "" for an image that copies nothing; `train_id` is the index of the training image
    that was copied, -1 for none; `orientation` is the name of what turns it into the copy, "" for none.
    """

    images: np.ndarray  # uint8 [n, *space, channels]
    kind: tuple[str, ...]
    train_id: np.ndarray  # int64 [n]
    orientation: tuple[str, ...]


def make_copy(
    image: np.ndarray, kind: str, *, rng: np.random.Generator, label_channels: tuple[int, ...] = ()
) -> tuple[np.ndarray, Orientation]:
    """Copy one training image [*space, channels] as a generator that memorized it might.

    `flipped` is any flip but the identity. `rotated` is a quarter turn in a plane of equally long axes; an image that
    has no such plane is turned by half. Noise and contrast leave label channels alone, deformation moves them without
    mixing values.

    Returns:
      The copy, uint8 [*space, channels], and the orientation that turns the training image into it (the identity
      unless flipped or rotated).

    Raises:
      UserError: an unknown kind, an image that is not uint8, or one too thin to be flipped or turned.
    """
    if kind not in COPY_KINDS:
        raise UserError(f"there is no copy of kind {kind!r}; choose one of {', '.join(COPY_KINDS)}.")
    if image.dtype != np.uint8:
        raise UserError(f"copies are made of uint8 images, this one is {image.dtype}; convert it first.")
    space = image.shape[:-1]
    orientation = Orientation(tuple(range(len(space))))
    if kind in ("flipped", "rotated"):
        choices = _flips(space) if kind == "flipped" else _rotations(space)
        if not choices:
            raise UserError(f"an image of {space} voxels cannot be {kind}; leave this kind of copy out.")
        orientation = choices[rng.integers(len(choices))]
        return np.ascontiguousarray(orientation.apply(image)), orientation
    copy = image.copy()
    pictures = [channel for channel in range(image.shape[-1]) if channel not in label_channels]
    if kind == "noised":
        copy[..., pictures] = _noised(image[..., pictures], rng)
    elif kind == "contrast":
        copy[..., pictures] = _recontrasted(image[..., pictures], rng)
    elif kind == "deformed":
        copy = _deformed(image, label_channels, rng)
    return copy, orientation


def stand_in_generator(
    train_images: np.ndarray,
    novel_images: np.ndarray,
    *,
    copies_per_kind: int,
    seed: int,
    label_channels: tuple[int, ...] = (),
) -> Planted:
    """Mix copies of training images of every kind with images of unseen patients, in an order drawn from the seed.

    No training image is copied twice as long as there are enough. A training set with duplicates has several right
    answers to what was copied; `train_id` names one.

    Args:
      train_images: uint8 [n, *space, channels].
      novel_images: uint8 [m, *space, channels], all of which become the images that copy nothing.
      copies_per_kind: copies of each of `COPY_KINDS`.
      seed: what is copied, how, and in what order.
      label_channels: channels whose values are labels, as in `make_copy`.

    Raises:
      UserError: the two sets differ in shape, there is nothing to copy, or `make_copy` cannot copy it.
    """
    if train_images.shape[1:] != novel_images.shape[1:]:
        raise UserError(
            f"training images are {train_images.shape[1:]}, novel images {novel_images.shape[1:]}; "
            "draw both at the same size."
        )
    kinds = [kind for kind in COPY_KINDS for _ in range(copies_per_kind)]
    if kinds and not len(train_images):
        raise UserError("there are no training images to copy; give at least one.")
    choose, shuffle, *each = np.random.default_rng(seed).spawn(2 + len(kinds))
    rounds = -(-len(kinds) // max(1, len(train_images)))
    ids = np.concatenate([choose.permutation(len(train_images)) for _ in range(rounds)] or [np.empty(0, np.int64)])
    ids = ids[: len(kinds)].astype(np.int64)
    copies = [
        make_copy(train_images[train_id], kind, rng=rng, label_channels=label_channels)
        for train_id, kind, rng in zip(ids, kinds, each, strict=True)
    ]
    n_novel = len(novel_images)
    images = np.concatenate([np.stack([image for image, _ in copies]), novel_images]) if copies else novel_images
    names = [orientation.name for _, orientation in copies] + [""] * n_novel
    kinds += [""] * n_novel
    order = shuffle.permutation(len(images))
    return Planted(
        images=images[order],
        kind=tuple(kinds[i] for i in order),
        train_id=np.concatenate([ids, np.full(n_novel, -1)])[order],
        orientation=tuple(names[i] for i in order),
    )


def plant_duplicates(
    images: np.ndarray, *, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, tuple[tuple[int, ...], ...]]:
    """Repeat `count` images of a set once or twice each, at random places.

    Args:
      images: [n, *space, channels], no two alike.
      count: how many images are repeated, at most n.
      rng: what is repeated, how often, where.

    Returns:
      The larger set (all else in its order), and for each repeated image the ids, ascending, at which it stands now;
      groups in the order of their first id.

    Raises:
      UserError: the set has duplicates already, or fewer than `count` images.
    """
    if len({array_digest(image) for image in images}) < len(images):
        raise UserError("the images given hold duplicates already; plant duplicates in a set without any.")
    if not 0 <= count <= len(images):
        raise UserError(f"cannot repeat {count} of {len(images)} images; give at most {len(images)}.")
    origin = np.arange(len(images))
    chosen = rng.permutation(len(images))[:count]
    for again in np.repeat(chosen, rng.integers(1, 3, count)):
        origin = np.insert(origin, rng.integers(len(origin) + 1), again)
    groups = (tuple(int(place) for place in np.flatnonzero(origin == image)) for image in chosen)
    return images[origin], tuple(sorted(groups))


def _flips(space: tuple[int, ...]) -> tuple[Orientation, ...]:
    return orientations(space, "flips")[1:]


def _rotations(space: tuple[int, ...]) -> tuple[Orientation, ...]:
    """Return the quarter turns in single planes; where there are none, the half turns."""
    quarter = [turn for turn in orientations(space, "all") if _is_quarter_turn(turn)]
    half = [flip for flip in _flips(space) if len(flip.flips) == 2]
    return tuple(quarter or half)


def _is_quarter_turn(orientation: Orientation) -> bool:
    """Whether two axes change places and one of them, and no other, is reversed."""
    swapped = {place for place, axis in enumerate(orientation.axes) if place != axis}
    return len(swapped) == 2 and len(orientation.flips) == 1 and orientation.flips[0] in swapped


def _noised(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add white noise, its strength a share of each channel's range."""
    sigma = rng.uniform(*_NOISE) * _ranges(image)[1]
    return eight_bits((image + sigma * rng.standard_normal(image.shape)) / 255)


def _recontrasted(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Change gain, offset and gamma over each channel's range, the same change in all channels."""
    low, span = _ranges(image)
    share = (image - low) / np.maximum(span, 1)
    changed = rng.uniform(*_GAIN) * share ** rng.uniform(*_GAMMA) + rng.uniform(*_OFFSET)
    return eight_bits((low + span * changed) / 255)


def _deformed(image: np.ndarray, label_channels: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Move every voxel by a smooth field; labels take the nearest value, pictures are interpolated."""
    space = image.shape[:-1]
    fields = np.stack([smooth_noise(rng, space, _DISPLACEMENT_CELLS) for _ in space])
    fields *= rng.uniform(*_DISPLACEMENT) / np.linalg.norm(fields, axis=0).max()
    places = np.indices(space) + fields * np.reshape(space, (-1, *(1,) * len(space)))
    copy = np.empty_like(image)
    for channel in range(image.shape[-1]):
        values = image[..., channel]
        if channel in label_channels:
            copy[..., channel] = ndimage.map_coordinates(values, places, order=0, mode="nearest")
        else:
            moved = ndimage.map_coordinates(values.astype(np.float32), places, order=1, mode="nearest")
            copy[..., channel] = eight_bits(moved / 255)
    return copy


def _ranges(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each channel's lowest value and its span."""
    axes = tuple(range(image.ndim - 1))
    low = image.min(axes).astype(np.float64)
    return low, image.max(axes) - low
