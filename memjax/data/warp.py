"""Smooth deformations: random fields between few control points, and images seen through a field of places."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

_AT_ONCE = 1 << 15  # pixels that are looked up together: what a whole volume needs for that leaves the cache


def smooth_field(space: Sequence[int], smoothness: float, rng: np.random.Generator) -> Float32[np.ndarray, "*space"]:
    """Return a smooth random field in [-1, 1]: cubic B-splines of control points uniform there.

    Free-form deformation is made of such fields (Rueckert et al., IEEE TMI 18:712, 1999).

    Args:
      space: its shape.
      smoothness: the distance of control points, as a share of each side.
      rng: what draws them.
    """
    bases = [_splines(length, smoothness) for length in space]
    field = rng.uniform(-1, 1, [basis.shape[1] for basis in bases]).astype(np.float32)
    for basis in bases:  # each product takes the first axis and puts it last, so all of them restore the order
        field = np.tensordot(field, basis, (0, 1))
    return field


def _splines(length: int, smoothness: float) -> np.ndarray:
    """Return what each control point counts at each pixel: float32 [length, points], rows sum to 1."""
    place = np.arange(length) / (max(length - 1, 1) * smoothness)
    points = int(np.ceil(1 / smoothness)) + 3
    distance = abs(place[:, None] - (np.arange(points) - 1))
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = (2 - distance) ** 3 / 6
    return np.where(distance < 1, near, np.where(distance < 2, far, 0)).astype(np.float32)


def warped(
    image: Float32[np.ndarray, "*space c"],
    places: Sequence[Float32[np.ndarray, "*space"]],
    label_channels: tuple[int, ...] = (),
) -> Float32[np.ndarray, "*space c"]:
    """Return the image whose pixels come from these places; edges are repeated.

    Interpolation is linear, for label channels it is the nearest neighbour. All channels share what it takes to find
    the places: half of the time of `scipy.ndimage.map_coordinates` for one channel, a third for five.

    Args:
      image: values of any range.
      places: a pixel coordinate for each pixel, one array for each spatial axis.
      label_channels: whose values are kept.
    """
    result = np.empty(image.shape, np.float32)
    flat = np.ascontiguousarray(image).reshape(-1, image.shape[-1])
    rows = max(1, _AT_ONCE // int(np.prod(image.shape[1:-1])))
    for start in range(0, len(image), rows):
        some = slice(start, start + rows)
        result[some] = _sampled(flat, image.shape[:-1], [place[some] for place in places], label_channels)
    return result


def _sampled(
    flat: np.ndarray, space: tuple[int, ...], places: Sequence[np.ndarray], label_channels: tuple[int, ...]
) -> np.ndarray:
    """Return what lies at some places in an image [pixels, channels] of this spatial shape."""
    corner, nearest = np.zeros(places[0].shape, np.intp), np.zeros(places[0].shape, np.intp)
    steps, shares = [], []
    for axis, (place, length) in enumerate(zip(places, space, strict=True)):
        stride = int(np.prod(space[axis + 1 :]))
        inside = np.clip(place, 0, length - 1)
        whole = inside.astype(np.intp)
        corner += whole * stride
        if label_channels:
            nearest += (inside + np.float32(0.5)).astype(np.intp) * stride
        steps.append((whole < length - 1) * stride)
        shares.append((inside - whole.astype(np.float32))[..., None])

    def between(axis: int, at: np.ndarray) -> np.ndarray:
        """Return what lies at these corners, interpolated along this axis and all after it."""
        if axis == len(space):
            return flat.take(at, axis=0)
        low, high = between(axis + 1, at), between(axis + 1, at + steps[axis])
        high -= low
        high *= shares[axis]
        high += low
        return high

    found = between(0, corner)
    if label_channels:
        labels = list(label_channels)
        found[..., labels] = flat.take(nearest, axis=0)[..., labels]
    return found
