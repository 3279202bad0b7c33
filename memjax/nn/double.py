"""How the slices of a volume double their sides: a transposed convolution with 4 x 4 taps, as one matrix product."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from memjax.nn.once import once


def doubled(x: Float[Array, "b n h w c"], kernel: Float[Array, "4 4 c d"]) -> Float[Array, "b n 2*h 2*w d"]:
    """Return x with zeros between its rows and columns and two around, convolved: a stride of 2, a padding of 1.

    Each corner where four positions meet (those outside are zero) has four results around it, each the sum of four
    taps, which together are the whole kernel. So the four positions times a matrix are the four results. The same on
    all platforms, as products, forwards and backwards, are what they do best.
    """
    b, n, h, w, c = x.shape
    x = jnp.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0)))
    corners = jnp.concatenate([x[:, :, i : i + h + 1, j : j + w + 1] for i in range(2) for j in range(2)], -1)
    weights = jnp.transpose(kernel.reshape(2, 2, 2, 2, c, -1), (0, 2, 4, 1, 3, 5)).reshape(4 * c, -1)
    y = (corners.reshape(-1, 4 * c) @ weights).reshape(b, n, h + 1, w + 1, 2, 2, -1)
    # Along each axis the first result at a corner belongs to the position before it, and comes second there.
    y = jnp.stack([y[:, :, :-1, :, 0], y[:, :, 1:, :, 1]], 3)
    y = jnp.stack([y[..., :-1, 0, :], y[..., 1:, 1, :]], 5)
    return y.reshape(b, n, 2 * h, 2 * w, -1)


class Double(nn.Module):
    """Twice the sides of each slice, with as many channels and slices."""

    dtype: Any = None  # of the computation; None: that of x

    @nn.compact
    def __call__(self, x: Float[Array, "b n h w c"]) -> Float[Array, "b n 2*h 2*w c"]:
        """Return x at double the resolution within its slices."""
        c, dtype = x.shape[-1], x.dtype if self.dtype is None else self.dtype
        init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
        kernel = self.param("kernel", init, (4, 4, c, c), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), (c,), jnp.float32)
        return once(doubled(x.astype(dtype), kernel.astype(dtype)) + bias.astype(dtype))
