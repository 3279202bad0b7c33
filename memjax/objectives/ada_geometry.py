"""How ADA scales, turns and shifts by fractions of pixels: one affine resampling of each image.

Karras et al. 2020, arXiv 2006.06676, appendix B: twice the resolution through an orthogonal wavelet's filter, bilinear
sampling there, and back through the same filter. Positions are (row, column), in pixels from an image's centre.

The filter's taps h have sum sqrt 2, are orthogonal to themselves moved by 2, 4, ..., and reproduce polynomials up to
degree 5. So up and down again is the identity, constants stay, and what is a straight slope lands exactly where it
should: sample n of the doubled image lies at pixel (n - m) / 2, m being the taps' centre of mass.

Beyond its border an image is mirrored about its outermost pixels, without end. The paper pads by as much as a batch
needs; here positions are folded back, so that shapes do not depend on what was drawn.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Key

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
    gate_keys, (scale_key, turn_key, stretch_key, shift_key) = jnp.split(jax.random.split(key, 9), [5])
    p_turn = 1 - jnp.sqrt(1 - p)
    gates = [jax.random.bernoulli(one, q, (b,)) for one, q in zip(gate_keys, (p, p_turn, p, p_turn, p), strict=True)]
    scale = jnp.where(gates[0], jnp.exp2(_SCALE * jax.random.normal(scale_key, (b,))), 1.0)
    before, after = jax.random.uniform(turn_key, (2, b), minval=-jnp.pi, maxval=jnp.pi)
    stretch = jnp.where(gates[2], jnp.exp2(_SCALE * jax.random.normal(stretch_key, (b,))), 1.0)
    shift = jnp.where(gates[4][:, None], _SHIFT * side * jax.random.normal(shift_key, (b, 2)), 0.0)
    linear = jnp.einsum(
        "bij,bj,bjk->bik",
        rotation(jnp.where(gates[1], before, 0.0)),
        scale[:, None] * jnp.stack([stretch, 1 / stretch], -1),
        rotation(jnp.where(gates[3], after, 0.0)),
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
    assert side > _REACH
    padded = jnp.pad(images, ((0, 0), (_REACH, _REACH), (_REACH, _REACH), (0, 0)), "reflect")
    fine = _doubled(_doubled(padded, 1), 2)
    centre = (side - 1) / 2
    place = (jnp.arange(2 * side + 10) - _CENTRE) / 2 - centre
    m = inverse[:, :, :, None, None]
    at = [m[:, i, 0] * place[:, None] + m[:, i, 1] * place + m[:, i, 2] + centre for i in (0, 1)]
    # What was doubled begins two samples before that of the first pixel's first tap.
    row, column = (2 * _folded(one, side) + _CENTRE + 2 for one in at)
    return _halved(_halved(_bilinear(fine, row, column), 1), 2)


def _doubled(x: Float[Array, "b h w c"], axis: int) -> Float[Array, "b h2 w2 c"]:
    """Return twice the samples along an axis, as far as the filter lies within x: of n, 2 n - 10."""
    taps = 2**0.5 * SYM6.reshape(6, 2)[::-1]
    even, odd = (_filtered(x, taps[:, r], axis) for r in (0, 1))
    return jnp.stack([even, odd], axis + 1).reshape(*x.shape[:axis], -1, *x.shape[axis + 1 :])


def _halved(x: Float[Array, "b h w c"], axis: int) -> Float[Array, "b h2 w2 c"]:
    """Return half the samples along an axis, as far as the filter lies within x: of n, n / 2 - 5."""
    taps = SYM6.reshape(6, 2) / 2**0.5
    pairs = x.reshape(*x.shape[:axis], -1, 2, *x.shape[axis + 1 :])  # strided slices have gradients 10 times as slow
    even, odd = (_filtered(lax.index_in_dim(pairs, r, axis + 1, False), taps[:, r], axis) for r in (0, 1))
    return even + odd


def _filtered(x: Float[Array, "b h w c"], taps: np.ndarray, axis: int) -> Float[Array, "b h2 w2 c"]:
    """Return x correlated with the taps along an axis, where they lie within it."""
    n = x.shape[axis] - len(taps) + 1
    parts = [float(tap) * lax.slice_in_dim(x, j, j + n, axis=axis) for j, tap in enumerate(taps)]
    return functools.reduce(jnp.add, parts)


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
