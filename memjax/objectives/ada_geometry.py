"""How ADA scales, turns and shifts by fractions of pixels: one affine resampling of each image.

Karras et al. 2020, arXiv 2006.06676, appendix B: twice the resolution through an orthogonal wavelet's filter, bilinear
sampling there, and back through the same filter. Positions are (row, column), in pixels from an image's centre.

The filter's taps h have sum sqrt 2, are orthogonal to themselves moved by 2, 4, ..., and reproduce polynomials up to
degree 5. So up and down again is the identity, constants stay, and what is a straight slope lands exactly where it
should: sample n of the doubled image lies at pixel (n - m) / 2, m being the taps' centre of mass.

Beyond its border an image is mirrored about its outermost pixels, without end. The paper pads by as much as a batch
needs; here positions are folded back, so that shapes do not depend on what was drawn.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Float64, Key

# Daubechies' least asymmetric filter with six vanishing moments; the test derives it again.
SYM6 = np.array(
    [
        0.015404109327044824,
        0.0034907120842221625,
        -0.11799011114852003,
        -0.048311742585698055,
        0.49105594192797373,
        0.787641141028651,
        0.33792942172816583,
        -0.072637522786376583,
        -0.021060292512370848,
        0.044724901770781385,
        0.0017677118642540077,
        -0.0078007083250323804,
    ]
)

_CENTRE = float(np.arange(12) @ SYM6 / SYM6.sum())
_REACH = 6  # pixels that are mirrored before doubling: as far as the filter reaches from the border, twice
_SCALE = 0.2  # octaves, standard deviation
_SHIFT = 0.125  # of the side, standard deviation

_HIGHEST = lax.Precision.HIGHEST  # of positions: less would move pixels


def deform(
    images: Float[Array, "b side side c"], key: Key[Array, ""], p: Float[Array, ""]
) -> Float[Array, "b side side c"]:
    """Return images under maps that are drawn; those that drew none are returned as they are."""
    inverse = draw_maps(key, p, len(images), images.shape[1])
    is_same = jnp.all(inverse == jnp.eye(2, 3), axis=(1, 2))
    return jnp.where(is_same[:, None, None, None], images, resample(images, inverse))


def draw_maps(key: Key[Array, ""], p: Float[Array, ""], b: int, side: int) -> Float[Array, "b 2 3"]:
    """Return maps from where a pixel goes to where it comes from.

    Scaled with probability p, stretched along one axis as squeezed along the other with probability p, turned before or
    after that (or both) with probability p together, shifted with probability p. Each is as likely as its inverse, so
    it is the inverses that are drawn, the last first.
    """
    chance_key, size_key = jax.random.split(key)
    chance, size = jax.random.uniform(chance_key, (7, b)), jax.random.normal(size_key, (4, b))
    p_turn = 1 - jnp.sqrt(1 - p)
    scale = jnp.where(chance[0] < p, jnp.exp2(_SCALE * size[0]), 1.0)
    stretch = jnp.where(chance[1] < p, jnp.exp2(_SCALE * size[1]), 1.0)
    shift = jnp.where(chance[2] < p, _SHIFT * side * size[2:], 0.0).T
    turn = jnp.where(chance[3:5] < p_turn, jnp.pi * (2 * chance[5:] - 1), 0.0)
    linear = jnp.einsum(
        "bij,bj,bjk->bik",
        rotation(turn[0]),
        scale[:, None] * jnp.stack([stretch, 1 / stretch], -1),
        rotation(turn[1]),
        precision=_HIGHEST,
    )
    return jnp.concatenate([linear, jnp.einsum("bij,bj->bi", linear, shift, precision=_HIGHEST)[..., None]], -1)


def rotation(angle: Float[Array, "b"]) -> Float[Array, "b 2 2"]:
    """Return matrices that turn (row, column), rows to columns for small positive angles."""
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return jnp.stack([jnp.stack([cos, -sin], -1), jnp.stack([sin, cos], -1)], -2)


def resample(images: Float[Array, "b side side c"], inverse: Float[Array, "b 2 3"]) -> Float[Array, "b side side c"]:
    """Return images whose value at each position is the given ones' at `inverse` of it.

    Linear in images. The side must be above `_REACH`.
    """
    side = images.shape[1]
    up, down = filters(side)
    centre = (side - 1) / 2
    place = (jnp.arange(2 * side + 10) - _CENTRE) / 2 - centre
    m = inverse[:, :, :, None, None]
    at = [m[:, i, 0] * place[:, None] + m[:, i, 1] * place + m[:, i, 2] + centre for i in (0, 1)]
    row, column = (2 * _folded(one, side) + _CENTRE + 2 for one in at)  # `up` begins two samples before sample 0
    return _along_both(down, _bilinear(_along_both(up, images), row, column))


def filters(side: int) -> tuple[Float64[np.ndarray, "fine side"], Float64[np.ndarray, "side coarse"]]:
    """Return the matrices that double a mirrored line of pixels and halve its 2 side + 10 samples from 0 on.

    As matrices they compile in no time and are differentiated as fast as applied. As sums of slices they need less
    arithmetic, but XLA on CPUs took seconds to compile them and repeated the sampling between them for every tap.
    """
    assert side > _REACH
    mirrored = np.pad(np.eye(side), ((_REACH, _REACH), (0, 0)), "reflect")
    up = _taps(np.arange(-2, 2 * side + 12), np.arange(-_REACH, side + _REACH)) @ mirrored
    return 2**0.5 * up, _taps(np.arange(2 * side + 10), np.arange(side)).T / 2**0.5


def _taps(sample: np.ndarray, pixel: np.ndarray) -> np.ndarray:
    """Return what each sample takes from each pixel."""
    index = sample[:, None] - 2 * pixel
    return np.where((index >= 0) & (index < len(SYM6)), SYM6[index.clip(0, len(SYM6) - 1)], 0.0)


def _along_both(matrix: np.ndarray, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    """Return x multiplied by a matrix along both axes."""
    taps = jnp.asarray(matrix, x.dtype)
    x = jnp.einsum("ij,bjwc->biwc", taps, x, precision=_HIGHEST)
    return jnp.einsum("ij,bhjc->bhic", taps, x, precision=_HIGHEST)


def _folded(at: Float[Array, "b n n"], side: int) -> Float[Array, "b n n"]:
    """Return positions, from the first pixel, mirrored into the image, unless they are near enough as they are."""
    last = side - 1
    within = last - jnp.abs(at % (2 * last) - last)
    is_near = (at > -3.4) & (at < last + 3.4)  # there `fine` has what mirrored pixels give through the filter
    return jnp.where(is_near, at, within)


def _bilinear(
    x: Float[Array, "b h w c"], row: Float[Array, "b n n"], column: Float[Array, "b n n"]
) -> Float[Array, "b n n c"]:
    """Return x between its samples, all of which must exist."""
    top, left = jnp.floor(row), jnp.floor(column)
    down, right = (row - top)[..., None], (column - left)[..., None]
    corner = jnp.stack([top, left], -1).astype(jnp.int32)
    # Four neighbours at a time: the gradient, which scatters, takes half as long as for each alone.
    squares = lax.GatherDimensionNumbers(offset_dims=(2, 3, 4), collapsed_slice_dims=(), start_index_map=(0, 1))
    sizes = (2, 2, x.shape[-1])
    near = jax.vmap(lambda one, at: lax.gather(one, at, squares, sizes, mode="promise_in_bounds"))(x, corner)
    upper, lower = ((1 - right) * near[..., i, 0, :] + right * near[..., i, 1, :] for i in (0, 1))
    return (1 - down) * upper + down * lower
