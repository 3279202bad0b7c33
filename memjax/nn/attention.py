"""How positions of a feature map look at each other: softmax attention over all of them, in two or three axes."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from memjax.errors import UserError
from memjax.nn.conv import Conv
from memjax.nn.norm import GroupNorm


def attend(
    q: Float[Array, "b h n d"], k: Float[Array, "b h m d"], v: Float[Array, "b h m d"]
) -> Float[Array, "b h n d"]:
    """Return softmax(q k^T / sqrt(d)) v for each head: Vaswani et al., 2017 (arXiv 1706.03762), equation 1.

    Logits and softmax are float32 whatever the arguments: bfloat16 cannot tell apart probabilities of a thousand
    positions. Heads come before positions: the other way round, and so in jax.nn.dot_product_attention, the products
    take 1.2 to 1.6 times as long on processors (16 x 16 positions, 4 heads of 24 channels).
    """
    logits = jnp.einsum("bhnd,bhmd->bhnm", q / math.sqrt(q.shape[-1]), k, preferred_element_type=jnp.float32)
    return jnp.einsum("bhnm,bhmd->bhnd", jax.nn.softmax(logits).astype(v.dtype), v)


class Attention(nn.Module):
    """x + projection of attention over all positions of norm(x): Ho et al., 2020 (arXiv 2006.11239), appendix B.

    The last projection starts at zero, so that the layer starts as the identity.
    """

    heads: int = 4
    head_channels: int | None = None  # given: there are channels / head_channels heads
    groups: int = 32
    dtype: Any = None  # of the computation; None: that of x

    @nn.compact
    def __call__(self, x: Float[Array, "b *space c"]) -> Float[Array, "b *space c"]:
        """Return x with what each position has gathered from all others of its image.

        Raises:
          UserError: the channels do not divide into heads.
        """
        channels = x.shape[-1]
        asked = self.heads if self.head_channels is None else self.head_channels
        if asked < 1 or channels % asked:
            name = "heads" if self.head_channels is None else "head_channels"
            raise UserError(f"{name}={asked} does not divide the {channels} channels that attend; give a divisor.")
        heads = asked if self.head_channels is None else channels // asked

        y = GroupNorm(groups=self.groups, dtype=self.dtype, name="norm")(x)
        y = Conv(3 * channels, kernel_size=1, dtype=self.dtype, name="qkv")(y)
        y = y.reshape(x.shape[0], -1, 3, heads, channels // heads)
        q, k, v = jnp.transpose(y, (2, 0, 3, 1, 4))  # [b, heads, positions, channels of a head]
        y = jnp.swapaxes(attend(q, k, v), 1, 2).reshape(x.shape)
        zeros = nn.initializers.zeros_init()
        return x + Conv(channels, kernel_size=1, kernel_init=zeros, dtype=self.dtype, name="project")(y)
