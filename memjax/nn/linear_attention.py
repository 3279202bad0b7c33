"""How many positions look at each other at a cost that grows with their number, not with its square."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def linear_attend(
    q: Float[Array, "b h n d"], k: Float[Array, "b h m d"], v: Float[Array, "b h m e"]
) -> Float[Array, "b h n e"]:
    """Return softmax_d(q) (softmax_m(k)^T v) / sqrt(d) for each head: Shen et al., 2021 (arXiv 1812.01243), section 3.

    Each channel of a key weights all positions, and so takes one mean of the values; a query mixes these d means. The
    scale is that of video diffusion as released. Softmax is float32 whatever the arguments.
    """
    of_query = jax.nn.softmax(q.astype(jnp.float32)) / math.sqrt(q.shape[-1])
    of_key = jax.nn.softmax(k.astype(jnp.float32), axis=-2)
    means = jnp.einsum("bhmd,bhme->bhde", of_key.astype(v.dtype), v)
    return jnp.einsum("bhnd,bhde->bhne", of_query.astype(v.dtype), means)
