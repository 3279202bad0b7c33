"""How features are normalised: group norm, with the modulation and the activation that follow it."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from memjax.nn.once import once


class GroupNorm(nn.Module):
    """Normalise each group of channels of each image, then scale and shift: Wu and He, 2018 (arXiv 1803.08494).

    Channels are split into the largest number of groups that divides them, `groups` at most. With `silu` the SiLU
    activation follows. Statistics and parameters are float32.
    """

    groups: int = 32
    epsilon: float = 1e-5
    silu: bool = False
    dtype: Any = None  # of the result; None: that of x

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b *space c"],
        scale: Float[Array, "b c"] | None = None,
        shift: Float[Array, "b c"] | None = None,
    ) -> Float[Array, "b *space c"]:
        """Return norm(x) * (1 + scale) + shift; both are one number for each image and channel."""
        x = once(x)
        channels = x.shape[-1]
        groups = next(n for n in range(min(self.groups, channels), 0, -1) if channels % n == 0)
        gain = self.param("scale", nn.initializers.ones_init(), (channels,), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), (channels,), jnp.float32)

        a, b = _affine(x, groups, self.epsilon)
        a, b = a * gain, b * gain + bias
        if scale is not None:
            a, b = a * (1 + scale.astype(jnp.float32)), b * (1 + scale.astype(jnp.float32))
        if shift is not None:
            b += shift.astype(jnp.float32)

        over_space = (slice(None), *(None,) * (x.ndim - 2))
        y = x.astype(jnp.float32) * a[over_space] + b[over_space]
        return (jax.nn.silu(y) if self.silu else y).astype(x.dtype if self.dtype is None else self.dtype)


def _affine(
    x: Float[Array, "b *space c"], groups: int, epsilon: float
) -> tuple[Float[Array, "b c"], Float[Array, "b c"]]:
    """Return a and b such that a * x + b is normalised.

    Moments are summed by channel first, then over the channels of a group: XLA on processors reduces `[b, *space,
    groups, c / groups]` over space and channels at once five times slower (BUILD_NOTES).
    """
    space = tuple(range(1, x.ndim - 1))
    x = x.astype(jnp.float32)
    moments = jnp.stack([jnp.mean(x, space), jnp.mean(jnp.square(x), space)])  # [2, b, c]
    of_group = jnp.mean(moments.reshape(*moments.shape[:2], groups, -1), -1, keepdims=True)
    mean, square = jnp.broadcast_to(of_group, (*of_group.shape[:3], x.shape[-1] // groups)).reshape(moments.shape)
    a = jax.lax.rsqrt(jnp.maximum(square - jnp.square(mean), 0.0) + epsilon)
    return a, -mean * a
