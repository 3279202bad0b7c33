"""How images are drawn: a ladder of noise levels walked down, by one of three methods.

With a = sqrt(alpha_bar) and s = sqrt(1 - alpha_bar) on this rung, a' and s' on the next one down (a' = 1, s' = 0 below
the last), x0 and eps as the network's answer implies them, and z fresh noise, a step goes from xt to

    ancestral   posterior mean(x0, xt) + sqrt(variance) z                    (1)  Ho et al. 2020, eqs. 6, 7 and 11
    ddim        a' x0 + sqrt(s'^2 - sigma^2) eps + sigma z                   (2)  Song et al. 2021, eq. 12
                sigma = eta s'/s sqrt(beta)                                  (3)  the same, eq. 16
    dpm++2m     s'/s xt + a' (1 - e^-h) D                                    (4)  Lu et al. 2022, arXiv 2211.01095,
                D = x0 + (x0 - x0 before) h / (2 h before)                        algorithm 2

In (2) eps = (xt - a x0) / s, so that image and noise stay consistent where x0 is clipped. The posterior's variance is
(s'/s)^2 beta, so (2) with eta = 1 is (1); with eta = 0 it follows the probability flow, to first order. In (4), which
follows it to second order, h = log(a'/s') - log(a/s) is the step in half the log SNR, "before" means one rung up, and
a' (1 - e^-h) = a' - s' a / s. With D = x0 it is (2) with eta = 0. That is done on the first rung, which has none
before; on the last, where h is infinite; and on the one above it: steps that are even in t end in one that is long in
h, where looking ahead shoots past. (Of five close points in one dimension, 10 and 20 linear steps missed the flow by
0.33 and 0.14 with it, by 0.10 and 0.06 without, and ddim by 0.13 and 0.07.)

So a method is no more than the weights of xt, x0, x0 before and z. They are taken in float64 and rounded last.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from memjax.errors import UserError
from memjax.objectives.diffusion import Diffusion
from memjax.objectives.schedules import Ladder


class Weights(NamedTuple):
    """x' = xt * its weight + x0 * its + ... on each rung; scanned, these are numbers of one rung."""

    xt: Array | np.ndarray
    x0: Array | np.ndarray
    x0_before: Array | np.ndarray
    z: Array | np.ndarray
    log_wider: Array | np.ndarray  # log of what z's weight may grow by: from the posterior's deviation to sqrt(beta)


class Method(Protocol):
    """What turns a ladder into the weights of its rungs."""

    def __call__(self, ladder: Ladder, eta: float) -> Weights:
        """Return them; eta is ddim's."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampler:
    """How images are drawn; a config's block `sampler` says exactly these.

    Args:
      method: "ancestral", "ddim" or "dpm++2m".
      steps: rungs of the ladder, see `schedules.respaced`; None: all of the diffusion's.
      eta: of ddim: 0 adds no noise, 1 as much as the ancestral method.
      clip: whether every predicted x0 is clipped to [-1, 1].
      variance: of the ancestral method, "small" (the posterior's) or "large" (beta); a learned one goes before.
      guidance: w of Ho & Salimans 2022 (arXiv 2207.12598), for models with labels: the network's answer is
        (1 + w) times that with the label minus w times that without. 0: no guidance. Whoever makes `denoise` does it.
    """

    method: str = "ancestral"
    steps: int | None = None
    eta: float = 0.0
    clip: bool = True
    variance: str = "small"
    guidance: float = 0.0

    def __post_init__(self):
        for name, choices in (("method", tuple(_METHODS)), ("variance", ("small", "large"))):
            if getattr(self, name) not in choices:
                raise UserError(
                    f"sampler.{name}={getattr(self, name)!r} does not exist; choose from {', '.join(choices)}."
                )
        if self.steps is not None and self.steps < 1:
            raise UserError(f"sampler.steps={self.steps} must be 1 or more, or None for all of the diffusion's.")
        if not 0 <= self.eta <= 1:
            raise UserError(f"sampler.eta={self.eta} must be from 0 to 1.")


def ancestral(ladder: Ladder, eta: float = 0.0) -> Weights:
    """Return the weights of eq. 1; eta has no part in it."""
    small, zero = np.sqrt(ladder.posterior_variance), np.zeros_like(ladder.alpha_bar)
    wider = np.append(0.0, np.log(ladder.beta[1:] / ladder.posterior_variance[1:]) / 2)  # no noise on the last rung
    return Weights(ladder.posterior_xt, ladder.posterior_x0, zero, small, wider)


def ddim(ladder: Ladder, eta: float = 0.0) -> Weights:
    """Return the weights of eq. 2, eps written out."""
    sigma, zero = eta * np.sqrt(ladder.posterior_variance), np.zeros_like(ladder.alpha_bar)
    # s'^2 - sigma^2 as a product, since the difference of a short ladder's rounds to below zero.
    left = (1 - ladder.alpha_bar_below) * (1 - eta**2 * ladder.beta / (1 - ladder.alpha_bar))
    xt = np.sqrt(left) / ladder.noise
    return Weights(xt, np.sqrt(ladder.alpha_bar_below) - xt * ladder.signal, zero, sigma, zero)


def dpm(ladder: Ladder, eta: float = 0.0) -> Weights:
    """Return the weights of eq. 4; eta has no part in it."""
    zero, ahead = np.zeros_like(ladder.alpha_bar), np.zeros_like(ladder.alpha_bar)
    xt = np.sqrt(1 - ladder.alpha_bar_below) / ladder.noise
    both = np.sqrt(ladder.alpha_bar_below) - xt * ladder.signal
    h = np.diff(np.log(ladder.snr)) / -2  # h[i]: from rung i + 1 to rung i
    ahead[2:-1] = h[1:-1] / (2 * h[2:])
    return Weights(xt, both * (1 + ahead), -both * ahead, zero, zero)


_METHODS: dict[str, Method] = {"ancestral": ancestral, "ddim": ddim, "dpm++2m": dpm}


def sample(
    denoise: Callable[[Array, Array], Array],
    xT: Float[Array, "b *space c"],
    keys: Key[Array, "b"],
    *,
    diffusion: Diffusion,
    sampler: Sampler,
) -> Float[Array, "b *space c"]:
    """Return x0, drawn down the ladder from pure noise; a pure function that can be jitted.

    Args:
      denoise: (xt, t [b] int32) -> the network's output, float32, of twice the channels if the variance is learned.
      xT: standard normal noise.
      keys: one an image. The noise that it gets on a rung is a function of its key and the rung's number from below,
        so it does not depend on the batch it is drawn in, and the image only as far as `denoise` does.
      diffusion: what `denoise` was trained on.
      sampler: how.

    Raises:
      UserError: the sampler has more steps than the diffusion.
    """
    ladder = diffusion.ladder if sampler.steps is None else diffusion.ladder.kept(sampler.steps)
    weights = _METHODS[sampler.method](ladder, sampler.eta)
    is_random = bool(np.any(weights.z))
    fixed_share = 1.0 if sampler.variance == "large" else 0.0

    def step(
        carry: tuple[Array, Array], rung: tuple[Int[Array, ""], Int[Array, ""], Weights]
    ) -> tuple[tuple[Array, Array], None]:
        (xt, x0_before), (i, t, weight) = carry, rung
        ts = jnp.full(len(xt), t, jnp.int32)
        prediction, variance_logits = diffusion.split(denoise(xt, ts).astype(jnp.float32))
        x0 = diffusion.to_x0(prediction, xt, ts)
        if sampler.clip:
            x0 = jnp.clip(x0, -1, 1)
        below = xt * weight.xt + x0 * weight.x0 + x0_before * weight.x0_before
        if is_random:
            z = jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, i), xt.shape[1:]))(keys)
            share = fixed_share if variance_logits is None else (variance_logits + 1) / 2
            below += z * weight.z * jnp.exp(share * weight.log_wider)
        return (below, x0), None

    rungs = (
        jnp.arange(len(ladder.t), dtype=jnp.int32)[::-1],
        jnp.asarray(ladder.t[::-1], jnp.int32),
        Weights(*(jnp.asarray(values[::-1], jnp.float32) for values in weights)),
    )
    (x0, _), _ = jax.lax.scan(step, (xT, jnp.zeros_like(xT)), rungs)  # below the last rung, xt is x0
    return x0
