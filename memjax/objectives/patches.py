"""What patch discriminators are asked, and those who are to deceive them: losses over a map of logits.

The hinge (Lim and Ye 2017, arXiv 1705.02894) as VQ-GANs use it (Esser et al. 2021, arXiv 2012.09841), least squares
(Mao et al. 2017, arXiv 1611.04076, with targets 0 and 1), and the matching of features (Wang et al. 2018, arXiv
1711.11585, eq. 4). All come by image, as means over its patches.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_LAYERS = 4.0  # what features count, over however many layers


def discriminator_hinge(
    real_logits: Float[Array, "b *patches"], fake_logits: Float[Array, "b *patches"]
) -> Float[Array, "b"]:
    """Return half the sum of what real logits lack of 1 and fake ones have above -1."""
    return 0.5 * (_by_image(jax.nn.relu(1 - real_logits)) + _by_image(jax.nn.relu(1 + fake_logits)))


def generator_hinge(fake_logits: Float[Array, "b *patches"]) -> Float[Array, "b"]:
    """Return minus the logits."""
    return -_by_image(fake_logits)


def discriminator_squares(
    real_logits: Float[Array, "b *patches"], fake_logits: Float[Array, "b *patches"]
) -> Float[Array, "b"]:
    """Return half the sum of squared distances, of real logits from 1 and of fake ones from 0."""
    return 0.5 * (_by_image(jnp.square(real_logits - 1)) + _by_image(jnp.square(fake_logits)))


def generator_squares(fake_logits: Float[Array, "b *patches"]) -> Float[Array, "b"]:
    """Return the squared distance of logits from 1."""
    return _by_image(jnp.square(fake_logits - 1))


def feature_matching(
    real_features: Sequence[Float[Array, "b ..."]], fake_features: Sequence[Float[Array, "b ..."]]
) -> Float[Array, "b"]:
    """Return the mean absolute difference of features, four times the mean over layers; real ones are held fixed.

    Four times: so each of the four layers that Khader et al. match counts once (TATS' weights, 4 / layers).
    """
    layers = [
        _by_image(jnp.abs(jax.lax.stop_gradient(real).astype(jnp.float32) - fake.astype(jnp.float32)))
        for real, fake in zip(real_features, fake_features, strict=True)
    ]
    return _LAYERS * jnp.mean(jnp.stack(layers), 0)


class Loss(NamedTuple):
    """What the two sides are asked: (real logits, fake logits) -> [b] and (fake logits) -> [b]."""

    discriminator: Callable[[Array, Array], Array]
    generator: Callable[[Array], Array]


LOSSES = {
    "hinge": Loss(discriminator_hinge, generator_hinge),
    "squares": Loss(discriminator_squares, generator_squares),
}


def _by_image(x: Float[Array, "b *rest"]) -> Float[Array, "b"]:
    return jnp.mean(x.astype(jnp.float32), tuple(range(1, x.ndim)))
