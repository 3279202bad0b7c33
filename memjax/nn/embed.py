"""How a network is told the time and the class: as one vector an image."""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int, Num

_LONGEST = 10_000.0  # period of the slowest wave over 2 pi, in steps


def waves(t: Num[Array, "b"], width: int) -> Float[Array, "b width"]:
    """Return cosines and sines of t at geometric frequencies from 1 to 1 / 10000: arXiv 1706.03762, section 3.5.

    Args:
      t: in steps, 0 to about a thousand; fractions are fine. Times in [0, 1] have to be scaled first.
      width: of the result; an odd one ends in a zero.
    """
    half = width // 2
    frequency = jnp.exp(-math.log(_LONGEST) * jnp.arange(half, dtype=jnp.float32) / half)
    angle = t.astype(jnp.float32)[:, None] * frequency
    return jnp.pad(jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], -1), [(0, 0), (0, width % 2)])


class Embedding(nn.Module):
    """Time, and class if there are any, as a vector that every block reads: the sum of both.

    Float32 throughout: a step of 1 in 1000 is lost in bfloat16. The classes are 0 to n_classes - 1; n_classes itself
    means "no class", which classifier-free guidance (arXiv 2207.12598) trains and samples with.
    """

    width: int  # of the waves
    features: int
    n_classes: int | None = None

    @nn.compact
    def __call__(self, t: Num[Array, "b"], label: Int[Array, "b"] | None = None) -> Float[Array, "b features"]:
        """Return the vectors; without a label those of no class."""
        y = nn.Dense(self.features, name="time_in")(waves(t, self.width))
        y = nn.Dense(self.features, name="time_out")(jax.nn.silu(y))
        if self.n_classes is None:
            return y
        label = jnp.full(t.shape, self.n_classes) if label is None else label
        return y + nn.Embed(self.n_classes + 1, self.features, name="label")(label)
