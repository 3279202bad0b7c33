"""How positions of a volume look at each other: those of one slice, or those at one place of all slices."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from memjax.nn.conv import Conv
from memjax.nn.once import once
from memjax.nn.positions import rotated


class SliceAttention(nn.Module):
    """x + projection of `mix(q, k, v)`, where all three are linear in the norm of x over its channels."""

    mix: Callable[..., Array]  # of arrays [b, n, h, w, heads, channels of a head]
    heads: int = 8
    head_channels: int = 32
    use_bias: bool = False  # of the projection
    dtype: Any = None  # of the computation; None: that of x

    @nn.compact
    def __call__(self, x: Float[Array, "b n h w c"], *more: Array) -> Float[Array, "b n h w c"]:
        """Return x with what each position has gathered; `more` goes to `mix`."""
        x = once(x)
        dtype = x.dtype if self.dtype is None else self.dtype
        y = nn.LayerNorm(1e-5, dtype=dtype, use_bias=False, name="norm")(x)
        features = self.heads * self.head_channels
        y = Conv(3 * features, kernel_size=1, use_bias=False, dtype=dtype, name="qkv")(y)
        y = y.reshape(*y.shape[:-1], 3, self.heads, self.head_channels)
        y = self.mix(y[..., 0, :, :], y[..., 1, :, :], y[..., 2, :, :], *more)
        y = y.reshape(*x.shape[:-1], features)
        return x + Conv(x.shape[-1], kernel_size=1, use_bias=self.use_bias, dtype=dtype, name="project")(y)


def within_slices(attend: Callable[[Array, Array, Array], Array]) -> Callable[[Array, Array, Array], Array]:
    """Return what lets the positions of each slice attend: `attend` is of arrays [b, heads, positions, channels]."""

    def mix(
        q: Float[Array, "b n h w k d"], k: Float[Array, "b n h w k d"], v: Float[Array, "b n h w k d"]
    ) -> Float[Array, "b n h w k d"]:
        b, n, h, w, heads, _ = q.shape
        y = attend(*(jnp.swapaxes(part.reshape(b * n, h * w, heads, -1), 1, 2) for part in (q, k, v)))
        return jnp.swapaxes(y, 1, 2).reshape(q.shape)

    return mix


def along_depth(
    q: Float[Array, "b n h w k d"],
    k: Float[Array, "b n h w k d"],
    v: Float[Array, "b n h w k d"],
    bias: Float[Array, "k n n"],
) -> Float[Array, "b n h w k d"]:
    """Return softmax attention among the slices at each place, told the positions by turning and by a bias."""
    q, k = rotated(q / math.sqrt(q.shape[-1]), 1), rotated(k, 1)
    logits = jnp.einsum("bnyxkd,bmyxkd->byxknm", q, k, preferred_element_type=jnp.float32)
    return jnp.einsum("byxknm,bmyxkd->bnyxkd", jax.nn.softmax(logits + bias).astype(v.dtype), v)
