"""How feature maps change resolution: by two, along every axis that is not kept."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from memjax.nn.conv import Conv


def factors(n_axes: int, keep_axes: Sequence[int] = ()) -> tuple[int, ...]:
    """Return by how much each spatial axis shrinks or grows: 2, or 1 for those that are kept."""
    return tuple(1 if axis in keep_axes else 2 for axis in range(n_axes))


def pool(x: Float[Array, "b *space c"], keep_axes: Sequence[int] = ()) -> Float[Array, "b *half c"]:
    """Return means of two neighbours along every axis; lengths must be even."""
    for axis, factor in enumerate(factors(x.ndim - 2, keep_axes), start=1):
        if factor == 2:
            x = x.reshape(*x.shape[:axis], x.shape[axis] // 2, 2, *x.shape[axis + 1 :]).mean(axis + 1)
    return x


def nearest(x: Float[Array, "b *space c"], keep_axes: Sequence[int] = ()) -> Float[Array, "b *double c"]:
    """Return every position twice along every axis."""
    for axis, factor in enumerate(factors(x.ndim - 2, keep_axes), start=1):
        x = jnp.repeat(x, factor, axis)
    return x


class Down(nn.Module):
    """Half the resolution by a convolution of stride two."""

    keep_axes: Sequence[int] = ()
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Float[Array, "b *space c"]) -> Float[Array, "b *half c"]:
        """Return x at half the resolution, with as many channels."""
        strides = factors(x.ndim - 2, self.keep_axes)
        return Conv(x.shape[-1], strides=strides, dtype=self.dtype, name="conv")(x)


class Up(nn.Module):
    """Double the resolution by a convolution over the nearest positions."""

    keep_axes: Sequence[int] = ()
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Float[Array, "b *space c"]) -> Float[Array, "b *double c"]:
        """Return x at double the resolution, with as many channels."""
        return Conv(x.shape[-1], dtype=self.dtype, name="conv")(nearest(x, self.keep_axes))
