"""The moving average of the parameters that samples are drawn from, in both of the field's forms."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from memjax.errors import UserError
from memjax.trees import Tree


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ema:
    """How parameters are averaged: ema <- d ema + (1 - d) params.

    d = `decay`, applied every `every` steps, while until step `copy_until` the average is a mere copy (Khader et al.:
    0.995, 10, 2000). Or, where there is one, a half-life in images, d = 2^(-batch * every / half_life), of at most
    `ramp` times the images seen, so that the average does not remember the random start (StyleGAN2-ADA: 500,000 and
    0.05).
    """

    decay: float | None = None
    half_life_images: float | None = None
    ramp: float | None = None
    every: int = 1
    copy_until: int = 0

    def __post_init__(self):
        if self.decay is None and self.half_life_images is None:
            raise UserError("ema wants a decay or half_life_images; give one of them.")
        if self.decay is not None and not 0 <= self.decay < 1:
            raise UserError(f"ema.decay={self.decay} must be from 0 to below 1.")
        if self.half_life_images is not None and self.half_life_images <= 0:
            raise UserError(f"ema.half_life_images={self.half_life_images} must be above 0.")
        if self.every < 1 or self.copy_until < 0:
            raise UserError(f"ema.every={self.every} must be 1 or more, ema.copy_until={self.copy_until} 0 or more.")

    def decay_at(self, step: Int[Array, ""], batch_size: int) -> Float[Array, ""]:
        """Return d after `step` finished steps; 1 where nothing is to change, 0 where it is a copy."""
        if self.half_life_images is None:
            decay = jnp.float32(self.decay)
        else:
            half_life = jnp.float32(self.half_life_images)
            if self.ramp is not None:
                half_life = jnp.minimum(half_life, jnp.maximum(step * batch_size * self.ramp, 1e-8))
            decay = jnp.exp2(-batch_size * self.every / half_life)
        decay = jnp.where(step % self.every == 0, decay, 1.0)
        return jnp.where(step <= self.copy_until, 0.0, decay)

    def update(self, ema: Tree, params: Tree, step: Int[Array, ""], batch_size: int) -> Tree:
        """Return the average after `step` finished steps, whose last one made `params`."""
        decay = self.decay_at(step, batch_size)
        return jax.tree.map(lambda old, new: old * decay + new * (1 - decay), ema, params)
