r"""From pixels to vectors whose inner product is the score, for every score the audit knows.

Pearson correlation of images x, y over D pixels and channels is the inner product of zero-mean unit vectors,

    r(x, y) = <x - mean x, y - mean y> / (|x - mean x| |y - mean y|)                                             (1)

and the mean squared distance of images in [-1, 1] is one up to two terms that belong to one image each,

    -msd(x, y) = (2 <x, y> - |x|^2 - |y|^2) / D.                                                                 (2)

So each image becomes a vector v and an offset o with score(x, y) = <v_x, v_y> + o_x + o_y. What makes v of the raw
values is the same for every pixel and does not change when the image is flipped or turned, so an image is described
once for all orientations, and pixels may be picked before they are converted. A foreground mask leaves the other pixels
out, centring on the foreground alone; it must itself be symmetric.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from memjax.data.store import Store
from memjax.orientation import Orientation

Score = Literal["correlation", "msd"]

_FOREGROUND_BELOW = 0.95  # part of the pixels; above it a set has no background worth leaving out
MOST_BYTES = 130_000  # numbers in an image whose products of deviations, each at most 128^2 on average, fit into int32


@runtime_checkable
class Images(Protocol):
    """What the audit needs of an image set; `Store` is one. `ranges` [n, 2]: the raw values for -1 and +1."""

    @property
    def ranges(self) -> np.ndarray: ...  # noqa: D102  (a field, described above)

    def __len__(self) -> int: ...

    def block(self, start: int, stop: int) -> np.ndarray:
        """Read images start:stop: [stop - start, *space, channels]."""
        ...

    def gather(self, ids: np.ndarray) -> np.ndarray:
        """Read the images of these ids: [len(ids), *space, channels]."""
        ...

    def name(self, id_: int) -> str:
        """Say which image this is, for messages."""
        ...

    def check_unchanged(self) -> None:
        """Raise a `UserError` if the images are no longer those that were opened."""
        ...


@dataclasses.dataclass(frozen=True)
class ArrayImages:
    """Images already in memory: [n, *space, channels]."""

    images: np.ndarray
    ranges: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def block(self, start: int, stop: int) -> np.ndarray:
        """Return images start:stop."""
        return self.images[start:stop]

    def gather(self, ids: np.ndarray) -> np.ndarray:
        """Return the images of these ids."""
        return self.images[ids]

    def name(self, id_: int) -> str:
        """Say which image this is."""
        return f"image {id_}"

    def check_unchanged(self) -> None:
        """Do nothing: nobody else holds the array."""


@dataclasses.dataclass(frozen=True)
class Descriptor:
    """What is compared: the score, the channels (None: all), the pixels (None: all; else symmetric bool [*space])."""

    score: Score = "correlation"
    channels: tuple[int, ...] | None = None
    mask: np.ndarray | None = None

    @property
    def limits(self) -> tuple[float, float]:
        """The smallest and the largest value the score can take."""
        return (-1.0, 1.0) if self.score == "correlation" else (-4.0, 0.0)


class Facts(NamedTuple):
    """What makes of an image's raw values its vector (`values`), and the offset of its scores.

    `valid` is False for images that have no score (constant ones), `finite` for those with NaN or infinity in them.
    """

    shift: Float[Array, " n"]
    centre: Float[Array, " n"]
    factor: Float[Array, " n"]
    offset: Float[Array, " n"]
    valid: Bool[Array, " n"]
    finite: Bool[Array, " n"]


def facts(
    raw: Shaped[Array, "n *space c"],
    ranges: Float[Array, "n 2"],
    mask: Bool[Array, "..."] | None,
    *,
    score: Score,
) -> Facts:
    """Find what describes each image of a block (equations 1 and 2), float32, inside jit."""
    # Sums run over leading axes first: along the last one XLA adds number by number, ten times slower.
    rows = raw.reshape(len(raw), -1, raw.shape[-2] * raw.shape[-1])
    inside = (
        None
        if mask is None
        else jnp.broadcast_to(mask[None, ..., None], (1, *raw.shape[1:])).reshape(1, *rows.shape[1:])
    )
    size = raw[0].size if mask is None else jnp.sum(mask) * raw.shape[-1]

    def total(x: Float[Array, "n rows columns"]) -> Float[Array, " n"]:
        return (x if inside is None else jnp.where(inside, x, 0)).sum(1).sum(1)

    def of_rows(x: Float[Array, " n"]) -> Float[Array, "n 1 1"]:
        return x[:, None, None]

    finite = jnp.isfinite(rows).all((1, 2)) if jnp.issubdtype(raw.dtype, jnp.floating) else jnp.ones(len(raw), bool)
    if score == "msd":
        low, high = ranges[:, 0], ranges[:, 1]
        factor = jnp.full(len(raw), jnp.sqrt(2 / size), jnp.float32)
        told = Facts(low, 2 / jnp.where(high > low, high - low, 1), factor, factor, factor > 0, factor > 0)
        square = total(values(rows, told, score=score) ** 2)  # |v|^2 = 2 |x|^2 / D
        return told._replace(offset=-square / 2, finite=finite)

    if are_bytes(raw.dtype, raw.shape[1:]):
        rows = raw.reshape(len(raw), raw.shape[1], -1).astype(jnp.int32)
        inside = None if inside is None else inside.reshape(1, *rows.shape[1:])

        def total_rows(x: Int[Array, "n rows columns"]) -> Int[Array, "n columns"]:
            return (x if inside is None else jnp.where(inside, x, 0)).sum(1)

        sums = total_rows(rows).sum(1)
        return facts_of_bytes(sums, total_rows((rows - rounded_mean(sums, size)[:, None, None]) ** 2), size)
    # Differences from one of the image's own pixels first: exact in float32 even on top of a large common offset.
    shift = raw[(slice(None), *(dim // 2 for dim in raw.shape[1:]))].astype(jnp.float32)
    centre = total(rows.astype(jnp.float32) - of_rows(shift)) / size
    valid = ~is_constant(raw, None if mask is None else mask[None, ..., None])
    square = total((rows.astype(jnp.float32) - of_rows(shift) - of_rows(centre)) ** 2)
    factor = jax.lax.rsqrt(jnp.where(valid & (square > 0), square, 1))
    return Facts(shift, centre, factor, jnp.zeros_like(centre), valid, finite)


def are_bytes(dtype: Any, shape: tuple[int, ...]) -> bool:
    """Say whether images [*space, c] are bytes, and so few that sums over an axis of squares fit into 32 bits."""
    return jnp.dtype(dtype).name in ("int8", "uint8") and shape[0] < 2**15 and int(np.prod(shape)) < 2**23


def multiply_as_bytes(score: Score, dtype: Any, shape: tuple[int, ...]) -> bool:
    """Say whether the scores of images [*space, c] can be made of products of bytes."""
    return score == "correlation" and are_bytes(dtype, shape) and int(np.prod(shape)) <= MOST_BYTES


def rounded_mean(sums: Int[Array, " n"], size: Any) -> Int[Array, " n"]:
    """Return the whole numbers next to the means of images, given their sums."""
    return jnp.round(sums / size).astype(jnp.int32)


def facts_of_bytes(sums: Int[Array, " n"], squares: Int[Array, "n *some"], size: Any) -> Facts:
    """Find the facts of images of bytes from sums in whole numbers: exact, and quicker than floats.

    Args:
      sums: of all values of each image.
      squares: of the differences from `rounded_mean`, summed over any parts of the image.
      size: how many numbers were summed.
    """
    shift = rounded_mean(sums, size)
    axes = tuple(range(1, squares.ndim))
    high, low = (half.sum(axes) for half in (squares >> 8, squares & 255))  # the whole sum need not fit into 32 bits
    centre = (sums - shift * size).astype(jnp.float32) / size
    valid = (high > 0) | (low > 0)
    square = high.astype(jnp.float32) * 256 + low.astype(jnp.float32) - size * centre**2
    factor = jax.lax.rsqrt(jnp.where(valid, square, 1))
    yes = jnp.ones(len(sums), bool)
    return Facts(shift.astype(jnp.float32), centre, factor, jnp.zeros_like(centre), valid, yes)


def values(raw: Shaped[Array, "n *some"], of: Facts, *, score: Score) -> Float[Array, "n *some"]:
    """Return the float32 numbers whose products are the score, for any selection of pixels of a block of images."""
    shift, centre, factor = (fact.reshape(-1, *(1,) * (raw.ndim - 1)) for fact in of[:3])
    x = raw.astype(jnp.float32) - shift
    return (jnp.clip(x * centre - 1, -1, 1) if score == "msd" else x - centre) * factor


def signed_bytes(raw: Shaped[Array, "n *some"]) -> Int[Array, "n *some"]:
    """Return bytes as int8: those from 0 to 255 less 128."""
    return raw if raw.dtype == jnp.int8 else (raw ^ jnp.uint8(128)).astype(jnp.int8)


def of_bytes(product: Int[Array, "*pairs"], x: Facts, y: Facts, *, dtype: Any, size: Any) -> Float[Array, "*pairs"]:
    """Make correlations of the products of `signed_bytes`, without a rounding error before the last steps.

    With a = round(mean x) and r = sum (x - a), likewise b and s for y, in whole numbers (what wraps around wraps back),

        sum (x - a) (y - b) = sum x y - a sum y - r b,        r(x, y) = (sum (x - a) (y - b) - r s / D) f_x f_y.     (3)

    Args:
      product: sum x y, int32.
      x: facts of one side, from `facts_of_bytes`, laid out to be broadcast to the products.
      y: facts of the other side.
      dtype: of the raw bytes.
      size: D, at most `MOST_BYTES`.
    """

    def whole(of: Facts) -> tuple[Array, Array]:
        zero = 0 if jnp.dtype(dtype) == jnp.int8 else 128
        return jnp.round(of.shift).astype(jnp.int32) - zero, jnp.round(of.centre * size).astype(jnp.int32)

    (a, r), (b, s) = whole(x), whole(y)
    product = product - a * (s + b * size) - r * b
    return (product.astype(jnp.float32) - size * x.centre * y.centre) * (x.factor * y.factor)


def is_constant(raw: Shaped[Array, "n *space c"], inside: Bool[Array, "..."] | None) -> Bool[Array, " n"]:
    """Say which images have one value only, exactly: a variance computed in float32 need not be 0 for them."""
    flat = raw.reshape(len(raw), -1)
    if inside is None:
        return jnp.max(flat, 1) == jnp.min(flat, 1)
    kept = jnp.broadcast_to(inside, raw.shape).reshape(flat.shape)
    first = jnp.take_along_axis(flat, jnp.argmax(kept, 1, keepdims=True), 1)
    return jnp.max(jnp.where(kept, flat, first), 1) == jnp.min(jnp.where(kept, flat, first), 1)


def pair_scores(
    query: np.ndarray,
    query_ranges: np.ndarray,
    gallery: np.ndarray,
    gallery_ranges: np.ndarray,
    descriptor: Descriptor,
) -> np.ndarray:
    """Score each image of one block with the image in the same place of the other, in float64: [n]; -inf: no score."""
    dtype = np.result_type(query.dtype, gallery.dtype)  # bytes, if both are the same kind of them
    if multiply_as_bytes(descriptor.score, dtype, query.shape[1:]):
        return _correlations_of_bytes(*(_selected(raw, descriptor) for raw in (query, gallery)))
    x, y = (vectors64(raw, ranges, descriptor) for raw, ranges in ((query, query_ranges), (gallery, gallery_ranges)))
    scores = -np.square(x - y).mean(1) if descriptor.score == "msd" else np.einsum("nd,nd->n", x, y)
    return np.where(np.isnan(scores), -np.inf, scores)


def _correlations_of_bytes(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Correlate bytes [n, D] row by row: whole numbers up to the last division, four times faster than float64."""
    zero = 128 if x.dtype == np.uint8 else 0
    x, y = (side.astype(np.int32) - np.int32(zero) for side in (x, y))  # their products' sums fit into 32 bits
    size = x.shape[1]
    sum_x, sum_y = (side.sum(1, np.int32).astype(np.int64) for side in (x, y))

    def times(a: np.ndarray, b: np.ndarray, sums: np.ndarray) -> np.ndarray:
        return np.einsum("nd,nd->n", a, b).astype(np.int64) * size - sums

    xx, yy = times(x, x, sum_x**2), times(y, y, sum_y**2)
    constant = (xx == 0) | (yy == 0)
    return np.where(constant, -np.inf, times(x, y, sum_x * sum_y) / np.where(constant, 1, np.sqrt(xx) * np.sqrt(yy)))


def matrix_scores(
    query: np.ndarray,
    query_ranges: np.ndarray,
    gallery: np.ndarray,
    gallery_ranges: np.ndarray,
    descriptor: Descriptor,
) -> np.ndarray:
    """Score all images of one block with all of the other, in float64, on the host: [n, m]; -inf: no score."""
    x, y = (vectors64(raw, ranges, descriptor) for raw, ranges in ((query, query_ranges), (gallery, gallery_ranges)))
    scores = x @ y.T
    if descriptor.score == "msd":
        scores = (2 * scores - np.square(x).sum(1)[:, None] - np.square(y).sum(1)) / x.shape[1]
    return np.where(np.isnan(scores), -np.inf, scores)


def vectors64(raw: np.ndarray, ranges: np.ndarray, descriptor: Descriptor) -> np.ndarray:
    """Return [n, D] float64: zero-mean unit vectors (NaN if constant), or values in [-1, 1] for the distance."""
    x = _selected(raw, descriptor).astype(np.float64)
    if descriptor.score == "msd":
        low, high = ranges.astype(np.float64)[:, :, None].swapaxes(0, 1)
        return np.clip((x - low) / np.where(high > low, high - low, 1) * 2 - 1, -1, 1)
    constant = x.max(1) == x.min(1)
    x -= x.mean(1, keepdims=True)
    x[constant] = np.nan
    return x / np.sqrt(np.where(constant, 1, np.einsum("nd,nd->n", x, x)))[:, None]


def unit_range(images: Images, ids: np.ndarray, channels: tuple[int, ...] | None = None) -> np.ndarray:
    """Return the images of these ids as float32 in [-1, 1], each by its own range: [n, *space, channels]."""
    raw = images.gather(ids).astype(np.float32)
    raw = raw if channels is None else raw[..., list(channels)]
    low, high = images.ranges[ids].astype(np.float32).T.reshape(2, len(ids), *(1,) * (raw.ndim - 1))
    raw -= low
    raw *= 2 / np.where(high > low, high - low, 1)
    raw -= 1
    return np.clip(raw, -1, 1, out=raw)


def constant_images(store: Images, *, block: int = 256) -> list[int]:
    """Return the ids of the images whose values are all equal: no correlation with anything exists."""
    found: list[int] = []
    for start in range(0, len(store), block):
        flat = (images := store.block(start, start + block)).reshape(len(images), -1)
        found += [start + int(i) for i in np.flatnonzero(flat.max(1) == flat.min(1))]
    return found


def foreground(store: Store, group: Sequence[Orientation], *, share: float = 0.05, block: int = 256) -> np.ndarray:
    """Return the pixels that are not background in the set as a whole: bool [*space], symmetric under `group`.

    A pixel is foreground if in more than `share` of the images it is brighter than a tenth of that image's range, in
    any channel that is not a label. In a set without a common background (chest radiographs) that is every pixel.
    """
    channels = [c for c in range(store.manifest.shape[-1]) if c not in store.manifest.label_channels]
    bright = np.zeros(store.manifest.shape[:-1], np.int64)
    for start in range(0, len(store), block):
        images = store.block(start, start + block)[..., channels].astype(np.float32)
        axes = tuple(range(1, images.ndim))
        low, high = images.min(axes, keepdims=True), images.max(axes, keepdims=True)
        bright += ((images - low) > 0.1 * (high - low)).any(-1).sum(0)
    mask = bright > share * len(store)
    return np.any([orientation.apply(mask) for orientation in group], axis=0)


def common_foreground(store: Store, group: Sequence[Orientation]) -> tuple[np.ndarray | None, float]:
    """Return the foreground (None where there is no background to leave out) and its share of the pixels."""
    mask = foreground(store, group)
    share = float(mask.mean())
    return (mask if 0 < share < _FOREGROUND_BELOW else None), share


def _selected(raw: np.ndarray, descriptor: Descriptor) -> np.ndarray:
    """Return the pixels and channels that are compared: [n, D]."""
    x = raw if descriptor.channels is None else raw[..., list(descriptor.channels)]
    return (x if descriptor.mask is None else x[:, descriptor.mask]).reshape(len(raw), -1)
