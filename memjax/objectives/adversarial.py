"""What a generator and its discriminator are asked, and what holds each of them back: a GAN's losses.

Non-saturating logistic losses (Goodfellow et al. 2014, section 3), R1 (Mescheder et al. 2018, eq. 9), regularization of
path lengths and the mixing of styles (Karras et al. 2020, arXiv 1912.04958, eq. 4 and appendix B; 2019, section 3.1).
Losses come by image, so that whoever takes their mean may leave some out.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

_GAMMA = 0.0002  # R1's weight is this times the pixels of an image over the images of a batch: arXiv 2006.06676's code


def generator_loss(fake_logits: Float[Array, "b"]) -> Float[Array, "b"]:
    """Return -log D(fake), D being the sigmoid of the logits."""
    return jax.nn.softplus(-fake_logits)


def discriminator_loss(real_logits: Float[Array, "b"], fake_logits: Float[Array, "b"]) -> Float[Array, "b"]:
    """Return -log D(real) - log(1 - D(fake)), D being the sigmoid of the logits."""
    return jax.nn.softplus(-real_logits) + jax.nn.softplus(fake_logits)


def default_gamma(resolution: int, batch_size: int) -> float:
    """Return R1's weight where none is given: small images and large batches need less."""
    return _GAMMA * resolution**2 / batch_size


def r1(
    critic: Callable[[Float[Array, "b h w c"]], Float[Array, "b"]], real: Float[Array, "b h w c"]
) -> Float[Array, "b"]:
    """Return the squared norm of the gradient of the logits at each real image; the loss is gamma / 2 times it.

    Where logits depend on several images (standard deviations over a group), it is that of the sum of all logits.
    """
    gradient = jax.grad(lambda images: critic(images).sum())(real)
    return jnp.sum(jnp.square(gradient), axis=(1, 2, 3))


def path_lengths(
    synthesize: Callable[[Float[Array, "b styles w"]], Float[Array, "b height width c"]],
    ws: Float[Array, "b styles w"],
    y: Float[Array, "b height width c"],
) -> Float[Array, "b"]:
    """Return how far a step in w moves each image: the norm of J^T y, y a random direction in images.

    One w that feeds all styles has a squared length of their mean, so lengths do not grow with the layers.

    Args:
      synthesize: images from styles, everything else (noise) held fixed.
      ws: one w a style.
      y: standard normal; divided by sqrt(h w) here, so lengths do not grow with the resolution.
    """
    images, pull = jax.vjp(synthesize, ws)
    (gradient,) = pull(y.astype(images.dtype) / (y.shape[1] * y.shape[2]) ** 0.5)
    squared = jnp.sum(jnp.square(gradient), axis=2).mean(axis=1)
    is_moved = squared > 0  # the root's slope at 0 is infinite, and infinity times 0 would end the training
    return jnp.where(is_moved, jnp.sqrt(jnp.where(is_moved, squared, 1.0)), 0.0)


def path_penalty(
    lengths: Float[Array, "b"], mean: Float[Array, ""], decay: float = 0.01
) -> tuple[Float[Array, "b"], Float[Array, ""]]:
    """Return how far lengths are from their running mean, squared, and that mean `decay` of the way to the batch's.

    The mean is what they are compared with, the batch included; no gradient goes through it.
    """
    mean = jax.lax.stop_gradient(mean + decay * (lengths.mean() - mean))
    return jnp.square(lengths - mean), mean


def mix_styles(
    key: Key[Array, ""], w: Float[Array, "b w"], other: Float[Array, "b w"], styles: int, probability: float
) -> Float[Array, "b styles w"]:
    """Return a w for every style: `w`, from some style on `other` in as many images as `probability` says.

    The first style always has `w`, the last of a mixed image always `other`; between them every crossover is as likely.
    """
    chance_key, place_key = jax.random.split(key)
    is_mixed = jax.random.bernoulli(chance_key, probability, w.shape[:1])
    crossover = jax.random.randint(place_key, w.shape[:1], 1, styles)
    is_first = (jnp.arange(styles) < crossover[:, None]) | ~is_mixed[:, None]
    return jnp.where(is_first[:, :, None], w[:, None], other[:, None])
