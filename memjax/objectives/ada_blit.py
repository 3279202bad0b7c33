"""How ADA moves whole pixels: flips, quarter turns and shifts, each an exact choice of pixels that are there.

Karras et al. 2020, arXiv 2006.06676, appendix B. What is drawn is uniform and holds "no change" as well, so that below
p = 1 an image's own orientation stays its likeliest and a generator has no reason to learn another.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

_SHIFT = 0.125  # of the side, at most


def blit(
    images: Float[Array, "b side side c"], key: Key[Array, ""], p: Float[Array, ""]
) -> Float[Array, "b side side c"]:
    """Return images mirrored left to right, turned by quarters, and shifted; each of the three with probability p.

    Half of what may be mirrored and a quarter of what may be turned is left as it is, by the draw.
    """
    b, side = images.shape[:2]
    chance = jax.random.uniform(key, (7, b))  # drawn at once: on CPUs, every draw takes a tenth of a second to compile
    is_flipped = (chance[0] < p) & (chance[1] < 0.5)
    quarters = jnp.where(chance[2] < p, jnp.floor(4 * chance[3]), 0).astype(jnp.int32)
    shift = jnp.where(chance[4] < p, jnp.round((2 * chance[5:] - 1) * _SHIFT * side), 0).astype(jnp.int32).T
    return moved(images, is_flipped.astype(jnp.int32), quarters, shift)


def moved(
    images: Float[Array, "b side side c"], flips: Int[Array, "b"], quarters: Int[Array, "b"], shift: Int[Array, "b 2"]
) -> Float[Array, "b side side c"]:
    """Return images mirrored left to right, turned counterclockwise, then moved down and right, in this order.

    Args:
      images: square.
      flips: 0 or 1.
      quarters: of a turn, 0 to 3.
      shift: pixels, less than the side; what comes in is mirrored about the outermost pixels.
    """
    # A turn by one quarter is a transposition, then a flip upside down; by two, both flips. So transposed images need
    # no more than the rows and columns that each image takes its pixels from.
    is_odd = (quarters == 1) | (quarters == 3)
    is_upside_down = (quarters == 1) | (quarters == 2)
    is_mirrored = (quarters == 2) | (quarters == 3)
    flipped = jnp.where(flips[:, None, None, None] == 1, images[:, :, ::-1], images)
    turned = jnp.where(is_odd[:, None, None, None], flipped.swapaxes(1, 2), flipped)
    rows = _taken_from(is_upside_down, shift[:, 0], images.shape[1])
    columns = _taken_from(is_mirrored, shift[:, 1], images.shape[1])
    return jax.vmap(lambda image, rows, columns: image[rows][:, columns])(turned, rows, columns)


def _taken_from(is_reversed: Array, shift: Int[Array, "b"], side: int) -> Int[Array, "b side"]:
    """Return where along one axis each pixel comes from, when the axis is reversed, then moved by `shift`."""
    last = side - 1
    place = jnp.abs(jnp.arange(side) - shift[:, None])
    place = last - jnp.abs(last - place)
    return jnp.where(is_reversed[:, None], last - place, place)
