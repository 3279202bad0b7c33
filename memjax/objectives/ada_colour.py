"""How ADA changes colour: one affine map of the channels for each image (arXiv 2006.06676, appendix B).

Grey images are those of colours that are all alike, so they are brightened, stretched and inverted by the same draws;
hue and saturation would leave them as they are.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

CHANNELS = (1, 3)

_BRIGHTNESS = 0.2  # standard deviations: of what is added; of the others in octaves
_CONTRAST = 0.5
_SATURATION = 1.0

_product = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)


def recolour(
    images: Float[Array, "b side side c"], key: Key[Array, ""], p: Float[Array, ""]
) -> Float[Array, "b side side c"]:
    """Return images of 1 or 3 channels, each of the five (three) changes made with probability p; not clipped."""
    matrix, offset = draw_colour(key, p, len(images), images.shape[-1])
    is_same = jnp.all(matrix == jnp.eye(images.shape[-1]), axis=(1, 2)) & jnp.all(offset == 0, axis=1)
    by_channel = [images[..., i, None] * matrix[:, None, None, :, i] for i in range(images.shape[-1])]
    changed = functools.reduce(jnp.add, by_channel) + offset[:, None, None]  # products of small matrices are slower
    return jnp.where(is_same[:, None, None, None], images, changed)


def draw_colour(
    key: Key[Array, ""], p: Float[Array, ""], b: int, channels: int
) -> tuple[Float[Array, "b c c"], Float[Array, "b c"]]:
    """Return matrix and offset of brightness, contrast, inverted luma, turned hue and saturation, in this order."""
    chance_key, size_key = jax.random.split(key)
    chance, size = jax.random.uniform(chance_key, (7, b)), jax.random.normal(size_key, (3, b))
    bright = jnp.where(chance[0] < p, _BRIGHTNESS * size[0], 0.0)
    contrast = jnp.where(chance[1] < p, jnp.exp2(_CONTRAST * size[1]), 1.0)
    is_inverted = (chance[2] < p) & (chance[3] < 0.5)
    matrix = contrast[:, None, None] * inverted_luma(is_inverted.astype(jnp.float32), channels)
    if channels == 3:
        angle = jnp.where(chance[4] < p, jnp.pi * (2 * chance[5] - 1), 0.0)
        saturation = jnp.where(chance[6] < p, jnp.exp2(_SATURATION * size[2]), 1.0)
        matrix = _product("bij,bjk,bkl->bil", saturated(saturation), turned_hue(angle), matrix)
    return matrix, _product("bij,b->bi", matrix, bright)  # brightened first


def inverted_luma(share: Float[Array, "b"], channels: int) -> Float[Array, "b c c"]:
    """Return the reflections that turn light to dark and leave the hue: of greys, x to -x. Share 0: nothing."""
    return jnp.eye(channels) - 2 * share[:, None, None] * _grey(channels)


def turned_hue(angle: Float[Array, "b"]) -> Float[Array, "b 3 3"]:
    """Return rotations about the axis of greys."""
    cos, sin = jnp.cos(angle)[:, None, None], jnp.sin(angle)[:, None, None]
    across = jnp.array([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / 3**0.5
    return jnp.eye(3) + (1 - cos) * (_grey(3) - jnp.eye(3)) + sin * across


def saturated(scale: Float[Array, "b"]) -> Float[Array, "b 3 3"]:
    """Return maps that scale what a colour has beside its grey."""
    return jnp.eye(3) + (scale[:, None, None] - 1) * (jnp.eye(3) - _grey(3))


def _grey(channels: int) -> Float[Array, "c c"]:
    """Return the projection on greys."""
    return jnp.full((channels, channels), 1 / channels)
