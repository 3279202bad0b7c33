"""What a denoiser is asked, and how its answer is scored: the mathematics of a diffusion's training.

With a = sqrt(alpha_bar_t) and s = sqrt(1 - alpha_bar_t), so that a^2 + s^2 = 1, a noised image is

    xt = a x0 + s eps                                            (1)  Ho et al. 2020, eq. 4
    v  = a eps - s x0                                            (2)  Salimans & Ho 2022, appendix D

(xt, v) is (x0, eps) turned by an angle. So with xt any one of x0, eps and v gives the others:

    x0  = (xt - s eps) / a = a xt - s v                          (3)
    eps = (xt - a x0) / s  = s xt + a v                          (4)
    v   = (a xt - x0) / s  = (eps - s xt) / a                    (5)

Their squared errors differ by factors alone: |d eps|^2 = SNR |d x0|^2 and |d v|^2 = (SNR + 1) |d x0|^2, with
SNR = a^2 / s^2. One step down the chain is Gaussian when x0 is known (Ho et al. 2020, eqs. 6 and 7, `Ladder`); the
model's step has the same mean with its own x0, and either that variance or one it learned (Nichol & Dhariwal 2021,
eq. 15). Divisions by a and s enlarge float32's rounding, at the last of 1000 cosine steps 20,000 times in (3); what
samplers make of x0 there has a small weight that takes it back.
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from memjax.errors import UserError
from memjax.objectives.schedules import Ladder, alpha_bar

_TARGETS = ("eps", "x0", "v")
_LOSSES = ("l1", "l2", "hybrid")
_HALF_LEVEL = 1 / 255  # half the distance of two grey levels of 8 bits in [-1, 1]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Diffusion:
    """A noise schedule, what is predicted, and the loss; a config's block `diffusion` says exactly these.

    Args:
      steps: 2 or more.
      schedule: see `schedules.alpha_bar`, as are beta_min, beta_max and max_beta.
      target: what the network predicts: "eps", "x0" or "v".
      loss: "l1", "l2", or "hybrid": l2, and the variance is learned from the variational bound (Nichol & Dhariwal
        2021, eq. 16); the network then returns twice as many channels.
      vlb_weight: of the bound, in bits per dimension and summed over the steps, in the hybrid loss.
      min_snr: Hang et al. 2023 (arXiv 2303.09556): gamma, 5 in the paper; the squared error of x0 is weighted by
        min(SNR, gamma). None: every error of the target counts the same.
    """

    steps: int = 1000
    schedule: str = "linear"
    target: str = "eps"
    loss: str = "l2"
    vlb_weight: float = 0.001
    min_snr: float | None = None
    beta_min: float = 1e-4
    beta_max: float = 0.02
    max_beta: float = 0.999

    def __post_init__(self):
        for name, choices in (("target", _TARGETS), ("loss", _LOSSES)):
            if getattr(self, name) not in choices:
                raise UserError(
                    f"diffusion.{name}={getattr(self, name)!r} does not exist; choose from {', '.join(choices)}."
                )
        if self.steps < 2:
            raise UserError(f"diffusion.steps={self.steps} must be 2 or more.")
        if self.vlb_weight < 0:
            raise UserError(f"diffusion.vlb_weight={self.vlb_weight} must be 0 or more.")
        if self.min_snr is not None and (self.min_snr <= 0 or self.loss == "l1"):
            raise UserError(
                f"diffusion.min_snr={self.min_snr} must be above 0, and it weights squared errors: "
                "with loss l1, set it to None."
            )
        _ = self.ladder  # that the schedule's numbers are possible

    @functools.cached_property
    def ladder(self) -> Ladder:
        """All noise levels."""
        return Ladder(
            np.arange(self.steps),
            alpha_bar(
                self.schedule, self.steps, beta_min=self.beta_min, beta_max=self.beta_max, max_beta=self.max_beta
            ),
        )

    @property
    def learned_variance(self) -> bool:
        """Whether the network returns a second half of channels, from which variances follow."""
        return self.loss == "hybrid"

    def uniform_times(self, key: Key[Array, ""], b: int) -> Int[Array, "b"]:
        """Return timesteps, each as likely as any other."""
        return jax.random.randint(key, (b,), 0, self.steps, jnp.int32)

    def noised(
        self, x0: Float[Array, "b *space c"], eps: Float[Array, "b *space c"], t: Int[Array, "b"]
    ) -> Float[Array, "b *space c"]:
        """Return xt, eq. 1."""
        a, s = self._levels(t, x0)
        return a * x0 + s * eps

    def split(
        self, output: Float[Array, "b *space d"]
    ) -> tuple[Float[Array, "b *space c"], Float[Array, "b *space c"] | None]:
        """Return the network's output as the prediction and, where the variance is learned, what it says of that."""
        if not self.learned_variance:
            return output, None
        prediction, variance_logits = jnp.split(output, 2, axis=-1)
        return prediction, variance_logits

    def target_of(
        self, x0: Float[Array, "b *space c"], eps: Float[Array, "b *space c"], t: Int[Array, "b"]
    ) -> Float[Array, "b *space c"]:
        """Return what the network should have predicted."""
        if self.target == "v":
            a, s = self._levels(t, x0)
            return a * eps - s * x0
        return x0 if self.target == "x0" else eps

    def to_x0(
        self, prediction: Float[Array, "b *space c"], xt: Float[Array, "b *space c"], t: Int[Array, "b"]
    ) -> Float[Array, "b *space c"]:
        """Return x0 as a prediction of the target implies it, eq. 3; not clipped."""
        a, s = self._levels(t, xt)
        if self.target == "eps":
            return (xt - s * prediction) / a
        return a * xt - s * prediction if self.target == "v" else prediction

    def to_eps(
        self, prediction: Float[Array, "b *space c"], xt: Float[Array, "b *space c"], t: Int[Array, "b"]
    ) -> Float[Array, "b *space c"]:
        """Return eps as a prediction of the target implies it, eq. 4."""
        a, s = self._levels(t, xt)
        if self.target == "x0":
            return (xt - a * prediction) / s
        return s * xt + a * prediction if self.target == "v" else prediction

    def to_v(
        self, prediction: Float[Array, "b *space c"], xt: Float[Array, "b *space c"], t: Int[Array, "b"]
    ) -> Float[Array, "b *space c"]:
        """Return v as a prediction of the target implies it, eq. 5."""
        a, s = self._levels(t, xt)
        if self.target == "x0":
            return (a * xt - prediction) / s
        return (prediction - s * xt) / a if self.target == "eps" else prediction

    def weights(self, t: Int[Array, "b"]) -> Float[Array, "b"]:
        """Return what the target's error counts at each time: 1, or by Hang et al. 2023, eqs. 8 to 10."""
        if self.min_snr is None:
            return jnp.ones(t.shape)
        snr = self.ladder.snr
        in_x0 = {"x0": np.ones_like(snr), "eps": snr, "v": snr + 1}[self.target]  # squared errors by that of x0
        return jnp.asarray(np.minimum(snr, self.min_snr) / in_x0, jnp.float32)[t]

    def losses(
        self,
        output: Float[Array, "b *space d"],
        x0: Float[Array, "b *space c"],
        eps: Float[Array, "b *space c"],
        t: Int[Array, "b"],
    ) -> Float[Array, "b"]:
        """Return each image's loss, a mean over its dimensions, of the network's output for `noised(x0, eps, t)`.

        In the hybrid loss the bound teaches the variance only, and not the prediction. The paper's sum over the steps
        is `steps` times the one term that is drawn.
        """
        prediction, variance_logits = self.split(output.astype(jnp.float32))
        error = prediction - self.target_of(x0, eps, t)
        loss = self.weights(t) * _mean(jnp.abs(error) if self.loss == "l1" else jnp.square(error))
        if variance_logits is None:
            return loss
        frozen = jnp.concatenate([jax.lax.stop_gradient(prediction), variance_logits], -1)
        bound = self.variational_bound(frozen, x0, self.noised(x0, eps, t), t)
        return loss + self.vlb_weight * self.steps * bound

    def log_variance(
        self, variance_logits: Float[Array, "b *space c"] | None, t: Int[Array, "b"], like: Float[Array, "b *space c"]
    ) -> Float[Array, "b *space c"]:
        """Return the log variance of the model's step down from t, in the shape of `like`.

        Learned: between that of the posterior (logits of -1) and beta (1), on a logarithmic scale: Nichol & Dhariwal
        2021, eq. 15. Else that of the posterior. The posterior's at t = 0 would be 0; that of t = 1 stands in.
        """
        smallest = self.ladder.posterior_variance
        smallest = _at(np.log(np.append(smallest[1], smallest[1:])), t, like)
        if variance_logits is None:
            return jnp.broadcast_to(smallest, like.shape)
        share = (variance_logits + 1) / 2
        return share * _at(np.log(self.ladder.beta), t, like) + (1 - share) * smallest

    def variational_bound(
        self,
        output: Float[Array, "b *space d"],
        x0: Float[Array, "b *space c"],
        xt: Float[Array, "b *space c"],
        t: Int[Array, "b"],
    ) -> Float[Array, "b"]:
        """Return each image's term of the variational bound, in bits per dimension: Ho et al. 2020, eqs. 5 and 13.

        For t > 0 the divergence of the model's step from the true one, which knows x0. At t = 0 the code length of x0,
        taken as one of 256 grey levels from -1 to 1. x0 as predicted is not clipped.
        """
        prediction, variance_logits = self.split(output.astype(jnp.float32))
        predicted = self.to_x0(prediction, xt, t)
        log_variance = self.log_variance(variance_logits, t, x0)
        # Both means have the same share of xt, so their difference is taken without it, where it would round away.
        apart = _at(self.ladder.posterior_x0, t, x0) * (x0 - predicted)
        excess = log_variance - self.log_variance(None, t, x0)
        divergence = (excess + jnp.expm1(-excess) + jnp.square(apart) * jnp.exp(-log_variance)) / 2
        code_length = -_log_chance(x0, predicted, jnp.exp(-log_variance / 2))  # the mean at t = 0 is x0 itself
        return jnp.where(t == 0, _mean(code_length), _mean(divergence)) / math.log(2)

    def _levels(self, t: Int[Array, "b"], like: Float[Array, "b *space c"]) -> tuple[Array, Array]:
        """Return a and s of each image."""
        return _at(self.ladder.signal, t, like), _at(self.ladder.noise, t, like)


def _log_chance(
    x0: Float[Array, "b *space c"], mean: Float[Array, "b *space c"], precision: Float[Array, "b *space c"]
) -> Float[Array, "b *space c"]:
    """Return the log probability that a Gaussian falls into the grey level of x0; the outermost two reach to infinity.

    `precision` is one over its standard deviation. Exact in both tails: on the upper side everything is mirrored, as
    differences of cumulative probabilities near 1 are lost, and so is the gradient where they are clipped instead.
    """
    low = jnp.where(x0 < -1 + _HALF_LEVEL, -jnp.inf, (x0 - mean - _HALF_LEVEL) * precision)
    high = jnp.where(x0 > 1 - _HALF_LEVEL, jnp.inf, (x0 - mean + _HALF_LEVEL) * precision)
    is_upper = low + high > 0
    low, high = jnp.where(is_upper, -high, low), jnp.where(is_upper, -low, high)
    log_low, log_high = jax.scipy.special.log_ndtr(low), jax.scipy.special.log_ndtr(high)
    return log_high + jnp.log(-jnp.expm1(log_low - log_high))


def _at(table: np.ndarray, t: Int[Array, "b"], like: Float[Array, "b *space c"]) -> Float[Array, "b *_"]:
    """Return a float64 table's values at each image's time, rounded last, in a shape that broadcasts over images."""
    return jnp.asarray(table, jnp.float32)[t].reshape(-1, *[1] * (like.ndim - 1))


def _mean(x: Float[Array, "b *space c"]) -> Float[Array, "b"]:
    """Return the mean over everything but the batch."""
    return x.mean(axis=tuple(range(1, x.ndim)))
