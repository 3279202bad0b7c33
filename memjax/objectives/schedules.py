"""How much noise there is at each step of a diffusion, and which steps a shorter ladder keeps.

Everything follows from alpha_bar, the share of the signal's variance that is left after a step (Ho et al. 2020):

    q(xt | x0) = N(sqrt(alpha_bar) x0, (1 - alpha_bar) I),       alpha_bar_t = (1 - beta_1) ... (1 - beta_t).

Steps are counted from 0, the least noisy one. All of it is NumPy in float64: near the ends alpha_bar is 1 - 1e-5 or
1e-9, and 1 - alpha_bar, ratios and roots are taken before anything is rounded to float32.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from memjax.errors import UserError

_OFFSET = 0.008  # of the cosine: keeps beta_0 above a pixel's quantum (Nichol & Dhariwal 2021, section 3.2)
_SIGMOID_FROM, _SIGMOID_TO = -3.0, 3.0  # Jabri et al. 2022 (arXiv 2212.11972), temperature 1


def alpha_bar(
    name: str, steps: int, *, beta_min: float = 1e-4, beta_max: float = 0.02, max_beta: float = 0.999
) -> Float[np.ndarray, "steps"]:
    """Return alpha_bar of every step, falling.

    Args:
      name: "linear" (Ho et al. 2020) and "scaled_linear" (its root is linear: Rombach et al. 2022) run from beta_min
        to beta_max, both times 1000 / steps, so that the noise at the end does not depend on the number of steps.
        "cosine" (Nichol & Dhariwal 2021, eq. 17) and "sigmoid" (Jabri et al. 2022) say alpha_bar itself.
      steps: of the diffusion.
      beta_min: of the first step of 1000; the linear ones only.
      beta_max: of the last.
      max_beta: betas are clipped here, as else no signal is left at the end. 0.999 in the paper; others have 0.9999.

    Raises:
      UserError: there is no such schedule, or its numbers are impossible.
    """
    if name not in _BETAS:
        raise UserError(f"diffusion.schedule={name!r} does not exist; choose from {', '.join(_BETAS)}.")
    if steps < 1:
        raise UserError(f"diffusion.steps={steps} must be 1 or more.")
    if not 0 < beta_min <= beta_max < 1:
        raise UserError(f"diffusion wants 0 < beta_min <= beta_max < 1, not {beta_min} and {beta_max}.")
    if not 0 < max_beta < 1:
        raise UserError(f"diffusion.max_beta={max_beta} must be between 0 and 1.")
    return np.cumprod(1 - np.minimum(_BETAS[name](steps, beta_min, beta_max), max_beta))


def respaced(steps: int, count: int) -> Int[np.ndarray, "count"]:
    """Return which timesteps a ladder of `count` rungs keeps: evenly spaced from first to last, rounded; one: the last.

    The last is kept as sampling starts there, and the first as it is the cleanest the model knows.

    Raises:
      UserError: there are not as many.
    """
    if not 1 <= count <= steps:
        raise UserError(f"sampler.steps={count} must be from 1 to the {steps} steps of the diffusion.")
    return np.rint(np.linspace(0, steps - 1, count) if count > 1 else np.array([steps - 1.0])).astype(np.int64)


@dataclasses.dataclass(frozen=True)
class Ladder:
    """The noise levels that a chain of denoising steps goes down, least noisy first; 0 is followed by no noise at all.

    Kept steps of a diffusion make a shorter diffusion, whose betas follow from their alpha_bar (Nichol & Dhariwal
    2021, eq. 19): so every formula here is that of the full one.
    """

    t: Int[np.ndarray, "n"]  # timesteps as the network knows them
    alpha_bar: Float[np.ndarray, "n"]

    def kept(self, count: int) -> "Ladder":
        """Return the ladder of `count` of these rungs."""
        rungs = respaced(len(self.t), count)
        return Ladder(self.t[rungs], self.alpha_bar[rungs])

    @property
    def alpha_bar_below(self) -> Float[np.ndarray, "n"]:
        """alpha_bar one rung further down; 1 below the last."""
        return np.append(1.0, self.alpha_bar[:-1])

    @property
    def signal(self) -> Float[np.ndarray, "n"]:
        """What x0 is multiplied by, sqrt(alpha_bar)."""
        return np.sqrt(self.alpha_bar)

    @property
    def noise(self) -> Float[np.ndarray, "n"]:
        """What eps is multiplied by, sqrt(1 - alpha_bar)."""
        return np.sqrt(1 - self.alpha_bar)

    @property
    def snr(self) -> Float[np.ndarray, "n"]:
        """Signal-to-noise ratio, alpha_bar / (1 - alpha_bar)."""
        return self.alpha_bar / (1 - self.alpha_bar)

    @property
    def beta(self) -> Float[np.ndarray, "n"]:
        """Variance of the noise that the step up to here adds; for sampling the largest that is sensible."""
        return 1 - self.alpha_bar / self.alpha_bar_below

    @property
    def posterior_variance(self) -> Float[np.ndarray, "n"]:
        """Variance of q(x_{t-1} | xt, x0), Ho et al. 2020, eq. 7; the smallest that is sensible, 0 on the last rung."""
        return (1 - self.alpha_bar_below) / (1 - self.alpha_bar) * self.beta

    @property
    def posterior_x0(self) -> Float[np.ndarray, "n"]:
        """Weight of x0 in the mean of q(x_{t-1} | xt, x0), the same equation."""
        return np.sqrt(self.alpha_bar_below) * self.beta / (1 - self.alpha_bar)

    @property
    def posterior_xt(self) -> Float[np.ndarray, "n"]:
        """Weight of xt in that mean."""
        return np.sqrt(1 - self.beta) * (1 - self.alpha_bar_below) / (1 - self.alpha_bar)


def _linear(steps: int, beta_min: float, beta_max: float) -> Float[np.ndarray, "steps"]:
    return np.linspace(beta_min, beta_max, steps) * 1000 / steps


def _scaled_linear(steps: int, beta_min: float, beta_max: float) -> Float[np.ndarray, "steps"]:
    return np.linspace(beta_min**0.5, beta_max**0.5, steps) ** 2 * 1000 / steps


def _cosine(steps: int, beta_min: float, beta_max: float) -> Float[np.ndarray, "steps"]:
    left = np.cos((np.linspace(0, 1, steps + 1) + _OFFSET) / (1 + _OFFSET) * np.pi / 2) ** 2
    return 1 - left[1:] / left[:-1]


def _sigmoid(steps: int, beta_min: float, beta_max: float) -> Float[np.ndarray, "steps"]:
    risen = 1 / (1 + np.exp(-np.linspace(_SIGMOID_FROM, _SIGMOID_TO, steps + 1)))
    left = risen[-1] - risen
    return 1 - left[1:] / left[:-1]


_BETAS: dict[str, Callable[[int, float, float], np.ndarray]] = {
    "linear": _linear,
    "scaled_linear": _scaled_linear,
    "cosine": _cosine,
    "sigmoid": _sigmoid,
}
