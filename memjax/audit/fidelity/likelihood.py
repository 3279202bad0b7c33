r"""Feature likelihood divergence, and its generalization gap: how likely unseen and training images are as neighbours.

Jiralerspong et al. 2023 (arXiv 2302.04440). Synthetic images k become Gaussians in feature space of d dimensions,

    p(x) = 1/S sum_k N(x; s_k, exp(v_k) I),                                                                      (1)

whose widths v_k are fitted to the training images. A generator that copies has narrow Gaussians around training images,
under which unseen images are unlikely. Features are standardised by mean and deviation of the unseen images.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Float32
from scipy.special import logsumexp

_MOST = 10_000  # Gaussians, and training images to a step
_EPOCHS, _RATE = 50, 0.5  # of Adam, at most
_SETTLED, _LAST = 5e-4, 5  # it ends when the loss of so many epochs differs by less (nats per dimension)
_FLOOR = 1e-3  # added to the squared distance that a width starts from
_BOUND = 40.0  # of |v|
_SHRUNK = 0.9**2  # squared distances to the background's centre are shortened to this share
_BLOCK = 1 << 22  # distances in float64 at once
_ROUNDING = 1e-12  # of |x|^2 + |y|^2: squared distances below are 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fld:
    """What the fitted Gaussians say, in nats per feature dimension; `fld` and `gap` times 100.

    Beyond 1000, `fld` and `gap` say no more than that images are copies: the widths of copies shrink without end.
    """

    fld: float  # how much less likely unseen images are than under training images as centres; 0 is best
    gap: float  # how much more likely training images are than unseen ones, as a negative number: 0 generalises
    memorization: np.ndarray  # float64 [S], of each synthetic image; the higher, the nearer to one training image


def fld(
    train: Float[np.ndarray, "n d"], test: Float[np.ndarray, "h d"], synthetic: Float[np.ndarray, "s d"], *, seed: int
) -> Fld:
    """Fit the Gaussians and return what they say.

    `fld` is the mean negative log-likelihood of the unseen images, less that under Gaussians at one half of the
    training images that were fitted to the other half. `gap` is that of the training images less that of the unseen
    ones. `memorization` is, of each synthetic image, the largest log-likelihood of a training image under its Gaussian
    alone, per dimension.

    Takes 8 n s bytes, and 16 for each pair of a Gaussian and one of up to 10,000 training images. Features that are the
    same in all unseen images are left out.

    Args:
      train: features of the training images, at least 4.
      test: features of real images of patients who are not in the training set, at least 2.
      synthetic: features of the synthetic images. Of more than 10,000 a random choice becomes Gaussians; the
        memorization of the others is nan.
      seed: of the halves and of the choice.

    Returns:
      The scores; all nan if no feature varies over the unseen images, or there are fewer images.
    """
    memorization = np.full(len(synthetic), np.nan)
    varies = test.std(0) > 0
    if len(train) < 4 or len(test) < 2 or not varies.any():
        return Fld(fld=math.nan, gap=math.nan, memorization=memorization)
    mean, deviation = test[:, varies].mean(0, dtype=np.float64), test[:, varies].std(0, ddof=1, dtype=np.float64)
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(len(synthetic))[:_MOST])
    known, unseen, made = ((x[:, varies] - mean) / deviation for x in (train, test, synthetic[chosen]))

    known = known[rng.permutation(len(known))]  # folders are in some order, and a step may take a part
    d = known.shape[1]
    distance = _squared_distances(known, made)
    width = _fit(distance, known)
    unseen_nll = _nll(_squared_distances(unseen, made), width, d)
    half = min(len(made), len(known) // 2)
    fitted = _fit(_squared_distances(known[half:], known[:half]), known[half:])
    baseline = _nll(_squared_distances(unseen, known[:half]), fitted, d)
    memorization[chosen] = _log_density(distance.min(0), width, d) / d
    return Fld(
        fld=100 * (unseen_nll - baseline),
        gap=100 * (_nll(distance, width, d) - unseen_nll),
        memorization=memorization,
    )


def _fit(distance: Float32[np.ndarray, "n k"], known: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "k"]:
    """Return the widths v that make the training images likely.

    Each starts at its best for the nearest training image alone. While fitting, one more Gaussian of free width around
    the mean keeps every image possible.

    Args:
      distance: squared, from training images to centres.
      known: the training images.
    """
    d = known.shape[1]
    background = _SHRUNK * np.square(known - known.mean(0)).sum(1, keepdims=True)
    widths = jnp.asarray(np.append(np.log((distance.min(0) + _FLOOR) / d), 0.0), jnp.float32)
    parts = -(-len(distance) // _MOST)
    batches = [
        (jnp.asarray(some), jnp.asarray(far, jnp.float32))
        for some, far in zip(np.array_split(distance, parts), np.array_split(background, parts), strict=True)
    ]
    state = optax.adam(_RATE).init(widths)
    losses: list[float] = []
    for _ in range(_EPOCHS):
        epoch = []
        for batch in batches:
            widths, state, loss = _step(widths, state, *batch, jnp.float32(d))
            epoch.append(loss)
        losses.append(float(np.mean(jax.device_get(epoch))))
        if len(losses) > _LAST + 1 and max(abs(losses[-1] - before) for before in losses[-_LAST:]) < _SETTLED:
            break
    return np.asarray(widths[:-1], np.float64)


@jax.jit
def _step(
    widths: Float[Array, "k"],
    state: optax.OptState,
    distance: Float[Array, "n k-1"],
    background: Float[Array, "n 1"],
    d: Float[Array, ""],
) -> tuple[Float[Array, "k"], optax.OptState, Float[Array, ""]]:
    """Take one step of Adam towards a higher likelihood; returns also the loss before it.

    The background, whose width is the last, counts as much as all others together.
    """
    share = -math.log(distance.shape[1])

    def nll(widths: Float[Array, "k"]) -> Float[Array, ""]:
        others, last = (
            -0.5 * (far * jnp.exp(-width) + d * width)
            for far, width in ((distance, widths[:-1]), (background, widths[-1:]))
        )
        return -jax.nn.logsumexp(jnp.concatenate([others + share, last], axis=1), axis=1).mean() / d

    loss, gradient = jax.value_and_grad(nll)(widths)
    update, state = optax.adam(_RATE).update(gradient, state)
    moved = optax.apply_updates(widths, update)
    assert isinstance(moved, jax.Array)
    return jnp.clip(moved, -_BOUND, _BOUND), state, loss


def _nll(distance: Float[np.ndarray, "n k"], width: Float[np.ndarray, "k"], d: int) -> float:
    """Return the mean negative log-likelihood (1) per dimension."""
    total = sum(float(np.sum(logsumexp(_log_density(distance[rows], width, d), axis=1))) for rows in _blocks(distance))
    return (math.log(len(width)) - total / len(distance)) / d


def _log_density(distance: np.ndarray, width: Float[np.ndarray, "k"], d: int) -> np.ndarray:
    """Return log N of squared distances [..., k]."""
    return -0.5 * (distance * np.exp(-width) + d * (width + math.log(2 * math.pi)))


def _squared_distances(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "k d"]) -> Float32[np.ndarray, "n k"]:
    """Return squared distances; 0 exactly for equal rows, since a width divides by what is left of rounding."""
    found = np.empty((len(x), len(y)), np.float32)
    norm = np.square(y).sum(1)
    for rows in _blocks(found):
        size = np.square(x[rows]).sum(1)[:, None] + norm
        far = size - 2 * (x[rows] @ y.T)
        found[rows] = np.where(far > _ROUNDING * size, far, 0.0)
    return found


def _blocks(distance: np.ndarray) -> list[slice]:
    """Return some rows after the others, so that one part in float64 is small."""
    step = max(1, _BLOCK // distance.shape[1])
    return [slice(start, start + step) for start in range(0, len(distance), step)]
