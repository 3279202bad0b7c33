"""The residual block of diffusion U-Nets: two convolutions that are told the time, around a skip."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Key

from memjax.nn.conv import Conv
from memjax.nn.norm import GroupNorm


def drop(x: Float[Array, "b *space c"], rate: float, key: Key[Array, ""] | None) -> Float[Array, "b *space c"]:
    """Return x with a share `rate` of its numbers at zero and the others scaled up; x itself without a key."""
    if key is None or rate == 0.0:
        return x
    return jnp.where(jax.random.bernoulli(key, 1 - rate, x.shape), x / (1 - rate), 0).astype(x.dtype)


class ResidualBlock(nn.Module):
    """skip(x) + conv(silu(norm(conv(silu(norm(x))), embedding))): arXiv 2006.11239, appendix B.

    The embedding shifts the features, or scales and shifts them after the second norm (arXiv 2102.09672, section 3).
    The second convolution starts at zero, so that the block starts as its skip (arXiv 2105.05233, as released).
    """

    features: int
    scale_shift: bool = True
    resample: Callable[[Array], Array] | None = None  # of both branches, before the first convolution: BigGAN
    groups: int = 32
    dropout: float = 0.0
    dtype: Any = None  # of the computation; None: that of x

    @nn.compact
    def __call__(
        self, x: Float[Array, "b *space c"], embedding: Float[Array, "b e"], dropout_key: Key[Array, ""] | None = None
    ) -> Float[Array, "b *new d"]:
        """Return the block's features; `embedding` is past its activation, there is dropout only with a key."""
        y = GroupNorm(groups=self.groups, silu=True, dtype=self.dtype, name="norm_in")(x)
        if self.resample is not None:
            x, y = self.resample(x), self.resample(y)
        y = Conv(self.features, dtype=self.dtype, name="conv_in")(y)

        told = nn.Dense((1 + self.scale_shift) * self.features, dtype=self.dtype, name="embedding")(embedding)
        norm = GroupNorm(groups=self.groups, silu=True, dtype=self.dtype, name="norm_out")
        if self.scale_shift:
            y = norm(y, *jnp.split(told, 2, axis=-1))
        else:
            y = norm(y + jnp.expand_dims(told, tuple(range(1, x.ndim - 1))))

        zeros = nn.initializers.zeros_init()
        y = drop(y, self.dropout, dropout_key)
        y = Conv(self.features, kernel_init=zeros, dtype=self.dtype, name="conv_out")(y)
        if x.shape[-1] != self.features:
            x = Conv(self.features, kernel_size=1, dtype=self.dtype, name="skip")(x)
        return x + y
