"""What the discriminator sees of images, and how often they are changed: adaptive discriminator augmentation.

Karras et al. 2020, arXiv 2006.06676. Real and drawn images pass the same random changes, each made with probability p,
so that a discriminator with few training images cannot learn them by heart; p follows from how sure it is of real ones.
Every operation is linear or affine in images, so gradients and their gradients pass.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from memjax.errors import UserError
from memjax.objectives.ada_blit import blit
from memjax.objectives.ada_colour import CHANNELS, recolour
from memjax.objectives.ada_geometry import deform


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ada:
    """Which changes there are, and how p moves; a config's block `ada` says exactly these.

    Attributes:
      enabled: whether the discriminator sees changed images at all.
      blit: flips, quarter turns, shifts by whole pixels.
      geometry: scaling, rotation, stretching, fractional shifts.
      colour: brightness, contrast, luma; of three channels hue and saturation too.
      target: the mean sign of the logits of real images that p is moved towards.
      every: steps from one adjustment of p to the next.
      speed_images: images in which p can go from 0 to 1.
      p: where it starts.
    """

    enabled: bool = False
    blit: bool = True
    geometry: bool = True
    colour: bool = False
    target: float = 0.6
    every: int = 4
    speed_images: int = 500_000
    p: float = 0.0

    def __post_init__(self):
        if not 0 <= self.p <= 1:
            raise UserError(f"ada.p={self.p} is a probability; give a value from 0 to 1.")
        if not -1 < self.target < 1:
            raise UserError(f"ada.target={self.target} is a mean of signs; give a value between -1 and 1.")
        for name in ("every", "speed_images"):
            if getattr(self, name) < 1:
                raise UserError(f"ada.{name}={getattr(self, name)} is too small; give 1 or more.")

    def check(self, channels: int) -> None:
        """Raise a UserError if images of so many channels cannot be changed as asked."""
        if self.enabled and self.colour and channels not in CHANNELS:
            raise UserError(
                f"ada.colour=True, but these images have {channels} channels, and colour is defined for 1 (grey) and "
                "3 (red, green, blue); ada.colour=False keeps flips, turns, shifts and geometry, for any number."
            )

    def augment(
        self, images: Float[Array, "b side side c"], key: Key[Array, ""], p: Float[Array, ""] | float
    ) -> Float[Array, "b side side c"]:
        """Return images, each changed with probability p in each way; values may leave [-1, 1].

        What is drawn follows from the key and an image's place in the batch, on any number of devices. At p = 0 every
        bit stays as it was.
        """
        self.check(images.shape[-1])
        p = jax.lax.stop_gradient(jnp.asarray(p, jnp.float32))
        blit_key, geometry_key, colour_key = jax.random.split(key, 3)
        if self.blit:
            images = blit(images, blit_key, p)
        if self.geometry:
            images = deform(images, geometry_key, p)
        if self.colour:
            images = recolour(images, colour_key, p)
        return images

    def next_p(
        self, p: Float[Array, ""] | float, sign_mean: Float[Array, ""] | float, batch_size: int
    ) -> Float[Array, ""]:
        """Return p after `every` steps in which the signs of the logits of real images had this mean.

        Up when the discriminator is surer of them than the target, else down. It stays within [0, 1]: the paper says
        no more than that it is not below 0, but above 1 nothing changes any more, and p would first have to come back.
        """
        change = jnp.sign(sign_mean - self.target) * (batch_size * self.every / self.speed_images)
        return jnp.clip(p + change, 0.0, 1.0)
