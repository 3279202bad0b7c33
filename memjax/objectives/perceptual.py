"""How different two images look: the distance of their features in a network that was not trained with them.

Zhang et al. 2018 (LPIPS, arXiv 1801.03924), eq. 1: features of several layers, of unit length at every place; squared
differences, weighted by channel, averaged over places and summed over layers.
"""

import dataclasses
from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from memjax.errors import UserError
from memjax.trees import Tree

COLOURS = 3

# LPIPS's code: from [-1, 1] to what networks of ImageNet expect.
_SHIFT = np.array([-0.030, -0.088, -0.188], np.float32)
_SCALE = np.array([0.458, 0.448, 0.450], np.float32)

_EPSILON = 1e-10  # of lengths


@dataclasses.dataclass(frozen=True, kw_only=True)
class Perceptual:
    """A network and how its layers count. Make with `memjax.models.vgg.make_perceptual`.

    Attributes:
      params: {"network": whatever `features` takes, "weights": one array [c] a layer, none negative}. They are an
        argument of `losses`, so that a compiled step can be given them and need not contain them.
      features: (network, images [b, h, w, 3]) -> features of each layer, [b, h, w, c].
      smallest: pixels of the shortest side that the network can take.
    """

    params: Tree
    features: Callable[[Tree, Array], Sequence[Array]]
    smallest: int

    def losses(self, params: Tree, x: Float[Array, "b h w c"], y: Float[Array, "b h w c"]) -> Float[Array, "b"]:
        """Return each pair's distance, 0 for the same image.

        Args:
          params: those of this object.
          x: in [-1, 1], of one channel (grey) or three (red, green, blue); of other numbers each channel counts as a
            grey image of its own, and distances are their mean.
          y: what x is compared with; the same for both.

        Raises:
          UserError: they are too small.
        """
        if min(x.shape[1:3]) < self.smallest:
            raise UserError(
                f"images of {x.shape[1]} x {x.shape[2]} are too small for the perceptual distance, which halves them "
                f"four times: give {self.smallest} x {self.smallest} or more, or set config.perceptual.kind to none "
                "and config.loss.perceptual to 0."
            )
        of_x, of_y = (self.features(params["network"], (in_colour(image) - _SHIFT) / _SCALE) for image in (x, y))
        found = distance(of_x, of_y, params["weights"])
        return jnp.mean(found.reshape(len(x), -1), 1)


def in_colour(x: Float[Array, "b h w c"]) -> Float[Array, "n h w 3"]:
    """Return images of three channels: the same ones, or every channel of every image as a grey one."""
    b, h, w, c = x.shape
    if c == COLOURS:
        return x
    return jnp.broadcast_to(jnp.moveaxis(x, -1, 1).reshape(b * c, h, w, 1), (b * c, h, w, COLOURS))


def distance(
    of_x: Sequence[Float[Array, "b ..."]],
    of_y: Sequence[Float[Array, "b ..."]],
    weights: Sequence[Float[Array | np.ndarray, "_"]],
) -> Float[Array, "b"]:
    """Return the sum over layers of weighted squared differences of unit features [b, h, w, c], averaged over space."""
    layers = [
        jnp.mean(jnp.sum(weight * jnp.square(_unit(fx) - _unit(fy)), -1), (1, 2))
        for fx, fy, weight in zip(of_x, of_y, weights, strict=True)
    ]
    return jnp.sum(jnp.stack(layers), 0)


def _unit(x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """Return features of unit length; places where all are 0 stay, and have no slope (that of the root is infinite)."""
    x = x.astype(jnp.float32)
    squared = jnp.sum(jnp.square(x), -1, keepdims=True)
    length = jnp.sqrt(jnp.where(squared > 0, squared, 1.0))
    return x / (jnp.where(squared > 0, length, 0.0) + _EPSILON)
