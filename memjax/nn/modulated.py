"""How a style changes what a layer of a generator draws: modulated convolutions, and instance norm before them.

StyleGAN2 (arXiv 1912.04958, section 2.2) scales the inputs of a kernel by the style of each image, and then, to
demodulate, each output to unit variance. Here features are scaled instead of kernels, before and after one convolution
that all images share: the same numbers, as a convolution is linear.
"""

from typing import Literal

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from memjax.nn.equalized import resampling_conv
from memjax.nn.fir import FIR
from memjax.nn.once import once


def modulated_conv(
    x: Float[Array, "b h w c"],
    kernel: Float[Array, "k k c d"],
    style: Float[Array, "b c"],
    *,
    demodulate: bool = True,
    resample: Literal["up"] | None = None,
    taps: tuple[float, ...] = FIR,
) -> Float[Array, "b h2 w2 d"]:
    """Return each image convolved with its own kernel: `kernel * style`, over its norm where demodulated.

    Equations 1 and 3 of arXiv 1912.04958. Style and kernel may have more precision than x, which says what the
    convolution is computed in.
    """
    # Once: the gradients of style and demodulation read x and y again, and would compute them from layers before.
    y = once(resampling_conv(once(_scaled(once(x), style)), kernel.astype(x.dtype), resample, taps))
    if not demodulate:
        return y
    energy = jnp.square(style) @ jnp.sum(jnp.square(kernel), (0, 1))  # [b, d]
    return _scaled(y, lax.rsqrt(energy + 1e-8))


def adain(
    x: Float[Array, "b h w c"], scale: Float[Array, "b c"], shift: Float[Array, "b c"]
) -> Float[Array, "b h w c"]:
    """Return norm(x) * (1 + scale) + shift, where norm gives each channel of each image mean 0 and variance 1.

    Adaptive instance normalisation, as StyleGAN (arXiv 1812.04948, equation 1) has it. Statistics are float32.
    """
    x32 = x.astype(jnp.float32)
    mean = jnp.mean(x32, (1, 2))
    variance = jnp.maximum(jnp.mean(jnp.square(x32), (1, 2)) - jnp.square(mean), 0.0)
    a = lax.rsqrt(variance + 1e-8) * (1 + scale)
    return (x32 * a[:, None, None] + (shift - mean * a)[:, None, None]).astype(x.dtype)


def _scaled(x: Array, factor: Array) -> Array:
    return x * factor[:, None, None].astype(x.dtype)
