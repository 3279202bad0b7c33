"""How a descriptor learns which images show the same: triplets, and the cross entropy of who belongs to whom.

Triplets: Schroff et al., 2015 (FaceNet, arXiv 1503.03832), as Dar et al. (arXiv 2307.01148, eq. 3) use them: the anchor
is a training image, the positive a view of it, the negative another image. NT-Xent: Chen et al., 2020 (SimCLR, arXiv
2002.05709, eq. 1), as their follow-up does (arXiv 2402.01054); with more positives than one it is Khosla et al.'s, 2020
(arXiv 2004.11362, eq. 2). What is known to be of one patient is never a negative, since it may well look the same.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

_EPS = 1e-12  # of squared lengths: a descriptor of zeros has no direction


def strangers(id: Int[Array, "b"], patient: Int[Array, "b"]) -> Bool[Array, "b b"]:  # noqa: A002  (the batch's word)
    """Say of every two images whether they are known to differ: not the same id, not the same patient.

    Args:
      id: of the images.
      patient: theirs; -1 where nobody knows it, which is nobody's but the image's own.
    """
    return ~(_alike(id) | relatives(patient))


def relatives(patient: Int[Array, "b"]) -> Bool[Array, "b b"]:
    """Say of every two images whether they are of one known patient."""
    return _alike(patient) & (patient >= 0)[:, None]


def squared_distances(a: Float[Array, "n d"], b: Float[Array, "m d"]) -> Float[Array, "n m"]:
    """Return the squared Euclidean distance of every two rows."""
    # Not |a|^2 + |b|^2 - 2ab: near descriptors, which matter most, would lose their digits.
    return jnp.sum(jnp.square(a[:, None] - b[None]), -1)


def triplet(
    anchor: Float[Array, "b d"], positive: Float[Array, "b d"], negative: Float[Array, "b d"], *, margin: float
) -> Float[Array, "b"]:
    """Return by how much the squared distance to the negative lacks `margin` over that to the positive; 0 if not."""
    near = jnp.sum(jnp.square(anchor - positive), -1)
    far = jnp.sum(jnp.square(anchor - negative), -1)
    return jax.nn.relu(near - far + margin)


def following(is_stranger: Bool[Array, "b b"]) -> Int[Array, "b"]:
    """Return for each image the next stranger after it in the batch, which is in random order; itself without any."""
    b = len(is_stranger)
    ahead = (jnp.arange(b)[None] - jnp.arange(b)[:, None]) % b
    return jnp.argmin(jnp.where(is_stranger, ahead, jnp.where(ahead == 0, b, b + 1)), 1)


def semi_hard(
    anchor: Float[Array, "b d"], positive: Float[Array, "b d"], is_stranger: Bool[Array, "b b"]
) -> Int[Array, "b"]:
    """Return for each anchor the nearest stranger that is farther than its positive: FaceNet, section 3.2.

    Where all strangers are nearer than the positive it is the farthest of them, the least hard one; without any
    stranger it is the anchor itself. Nothing is differentiated.
    """
    anchor, positive = jax.lax.stop_gradient((anchor, positive))
    distance = squared_distances(anchor, anchor)
    near = jnp.sum(jnp.square(anchor - positive), -1, keepdims=True)
    beyond = jnp.where(is_stranger & (distance > near), distance, jnp.inf)
    within = jnp.where(is_stranger, distance, -jnp.inf)
    found = jnp.where(jnp.isfinite(beyond).any(1), jnp.argmin(beyond, 1), jnp.argmax(within, 1))
    return jnp.where(is_stranger.any(1), found, jnp.arange(len(anchor)))


def nt_xent(
    image: Float[Array, "b d"],
    view: Float[Array, "b d"],
    is_stranger: Bool[Array, "b b"],
    is_relative: Bool[Array, "b b"] | None = None,
    *,
    temperature: float = 0.07,
) -> Float[Array, "b"]:
    """Return how surprised one is, in nats, by whom each image and each view belongs with; the mean of the two.

    Each of the 2b descriptors is an anchor in turn: minus the logarithm of exp(s / temperature) of its positive over
    the sum of the same of all its positives and negatives, s being cosines; of several positives it is the mean.

    Args:
      image: descriptors of the images.
      view: those of a view of each, in the same order.
      is_stranger: which images, and their views, are negatives of which.
      is_relative: which images, and their views, are positives besides the anchor's own other half; None: none are.
      temperature: below 1 near negatives count more.
    """
    b = len(image)
    of_own = jnp.eye(b, dtype=bool)
    is_positive = of_own if is_relative is None else of_own | is_relative
    is_other = ~jnp.eye(2 * b, dtype=bool)
    is_positive, is_counted = (jnp.tile(mask, (2, 2)) & is_other for mask in (is_positive, is_positive | is_stranger))
    desc = unit(jnp.concatenate([image, view]))
    logits = jnp.matmul(desc, desc.T, precision=jax.lax.Precision.HIGHEST) / temperature
    total = jax.nn.logsumexp(logits, axis=1, where=is_counted)
    surprise = jnp.sum((total[:, None] - logits) * is_positive, 1) / jnp.sum(is_positive, 1)
    return surprise.reshape(2, b).mean(0)


def unit(desc: Float[Array, "n d"]) -> Float[Array, "n d"]:
    """Return descriptors of length one."""
    return desc * jax.lax.rsqrt(jnp.sum(jnp.square(desc), -1, keepdims=True) + _EPS)


def _alike(values: Int[Array, "b"]) -> Bool[Array, "b b"]:
    return values[:, None] == values[None]
