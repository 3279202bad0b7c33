"""A discriminator that judges patches: one logit for each place of a picture or a volume, higher for more real.

Isola et al. 2017 (arXiv 1611.07004), section 3.2; for volumes too since Ge et al. 2022 (TATS, arXiv 2204.03638), whose
settings Khader et al. 2023 (Sci Rep 13:7303) ran: two zeros around each layer, so that no image is too small, and
features at hand for the generator to match.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Key

from memjax.errors import UserError
from memjax.nn.conv import Conv
from memjax.nn.once import once

_TAPS, _PAD = 4, 2
_WIDEST = 8  # times the first layer's channels
_SLOPE = 0.2  # of the activation below zero


class PatchGan(nn.Module):
    """Convolutions of four taps: `layers` that halve each axis, one and the logits that do not; two or three axes.

    Channels are `width`, doubled by each layer up to eight times as many. Kernels begin as PyTorch's do (the
    default of `Conv`). Between the first layer and the logits features are normalised, and such layers have no bias,
    which the normalisation would take away again.
    """

    width: int = 64
    layers: int = 3  # of stride two
    dtype: Any = None  # of the computation; None: that of x

    @nn.compact
    def __call__(
        self, x: Float[Array, "b *space c"]
    ) -> tuple[Float[Array, "b *patches 1"], list[Float[Array, "b ..."]]]:
        """Return float32 logits, and the features of each layer before them, finest first.

        An axis of length n has n // 2 + 1 places after a layer that halves it, n + 1 after another.

        Raises:
          UserError: width or layers are out of range.
        """
        if self.width < 1 or self.layers < 1:
            raise UserError(f"a patch discriminator with width={self.width}, layers={self.layers}: give 1 or more.")
        padding = [(_PAD, _PAD)] * (x.ndim - 2)
        y, features = x, []
        for i in range(self.layers + 1):
            channels = self.width * min(2**i, _WIDEST)
            strides = 2 if i < self.layers else 1
            y = Conv(channels, _TAPS, strides, padding=padding, use_bias=i == 0, dtype=self.dtype, name=f"conv_{i}")(y)
            if i > 0:
                y = BatchNorm(name=f"norm_{i}")(y)
            y = once(nn.leaky_relu(y, _SLOPE))
            features.append(y)
        logits = Conv(1, _TAPS, padding=padding, dtype=self.dtype, name="logits")(y)
        return logits.astype(jnp.float32), features


class BatchNorm(nn.Module):
    """Normalise each channel over all images and places, then scale and shift: Ioffe and Szegedy, 2015 (1502.03167).

    Always by the batch's own statistics: a discriminator is used in training only, so none are kept. The batch is the
    global one, whatever devices it lies on. Statistics and parameters are float32.
    """

    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: Float[Array, "b *space c"]) -> Float[Array, "b *space c"]:
        """Return x normalised, in its own dtype."""
        gain = self.param("scale", nn.initializers.ones_init(), x.shape[-1:], jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), x.shape[-1:], jnp.float32)
        x32 = x.astype(jnp.float32)
        everywhere = tuple(range(x.ndim - 1))
        mean = jnp.mean(x32, everywhere)
        variance = jnp.maximum(jnp.mean(jnp.square(x32), everywhere) - jnp.square(mean), 0.0)
        a = gain * jax.lax.rsqrt(variance + self.epsilon)
        return (x32 * a + (bias - mean * a)).astype(x.dtype)


def random_slices(key: Key[Array, ""], x: Float[Array, "b *space c"], axis: int) -> Float[Array, "b h w c"]:
    """Return one slice of each volume, every one as likely; pictures are returned as they are.

    Args:
      key: the same key takes the same slices of other volumes of this shape.
      x: volumes [b, d, h, w, c], or pictures.
      axis: of space, 0 to 2, that is cut across.
    """
    if x.ndim == 4:
        return x
    at = jax.random.randint(key, (len(x),), 0, x.shape[1 + axis])
    return jax.vmap(lambda volume, i: jax.lax.dynamic_index_in_dim(volume, i, axis, keepdims=False))(x, at)
