"""How attention along an axis is told where things are: queries and keys that turn, and a bias by their distance."""

import math

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int

_BASE = 10_000.0  # period of the slowest turn over 2 pi, in positions


def rotated(x: Float[Array, "*shape d"], axis: int) -> Float[Array, "*shape d"]:
    """Return x with the vector at position n of an axis turned by n: Su et al., 2021 (arXiv 2104.09864), eq. 15.

    Channel i of the first half and i of the second turn together, by n / 10000^(2 i / d) radians. So the inner product
    of a query and a key, both turned, depends on the difference of their positions alone. `d` is even.
    """
    half = x.shape[-1] // 2
    angle = np.outer(np.arange(x.shape[axis]), _BASE ** (-np.arange(half) / half))
    shape = [1] * x.ndim
    shape[axis], shape[-1] = angle.shape
    cos, sin = (jnp.asarray(part.reshape(shape), jnp.float32) for part in (np.cos(angle), np.sin(angle)))
    first, second = jnp.split(x.astype(jnp.float32), 2, -1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], -1).astype(x.dtype)


def distance_buckets(n: int, count: int, longest: int) -> Int[np.ndarray, "n n"]:
    """Return in which of `count` buckets each key lies for each query: Raffel et al., 2020 (arXiv 1910.10683), 2.1.

    The second half of the buckets is for keys that come after the query. The first half of each half has one distance
    in each; the others grow geometrically up to `longest`, from where on everything is in the last.

    Args:
      n: positions; the result is [query, key].
      count: a multiple of four.
      longest: above count / 4.
    """
    ahead = np.arange(n) - np.arange(n)[:, None]
    apart, half, exact = np.abs(ahead), count // 2, count // 4
    grown = np.log(np.maximum(apart, exact) / exact) / math.log(longest / exact) * (half - exact)
    far = np.minimum(exact + grown.astype(np.int64), half - 1)
    return np.where(apart < exact, apart, far) + np.where(ahead > 0, half, 0)


class DistanceBias(nn.Module):
    """What is added to the logits of attention: for each head one learned number a bucket, float32."""

    heads: int
    buckets: int = 32
    longest: int = 32

    @nn.compact
    def __call__(self, n: int) -> Float[Array, "h n n"]:
        """Return the bias of each head, query and key among n positions."""
        table = self.param("table", nn.initializers.normal(1.0), (self.buckets, self.heads), jnp.float32)
        return jnp.transpose(table[distance_buckets(n, self.buckets, self.longest)], (2, 0, 1))
