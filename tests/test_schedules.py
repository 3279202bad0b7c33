"""Noise schedules against values from papers and plain loops, shorter ladders, and posteriors by Bayes' rule."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memjax.errors import UserError
from memjax.objectives.schedules import Ladder, alpha_bar, respaced

NAMES = ("linear", "scaled_linear", "cosine", "sigmoid")


def ladder(name: str, steps: int) -> Ladder:
    return Ladder(np.arange(steps), alpha_bar(name, steps))


def test_cosine_of_300_steps():
    """Khader et al. 2023; the last value is what clipping at 0.9999 leaves."""
    found = alpha_bar("cosine", 300, max_beta=0.9999)
    np.testing.assert_allclose(found[[0, 149]], [0.99984, 0.494], rtol=1e-3)
    np.testing.assert_allclose(found[-1], 2.7e-9, rtol=0.01)
    np.testing.assert_allclose(alpha_bar("cosine", 300, max_beta=0.999)[-1], 2.7e-8, rtol=0.01)


@pytest.mark.parametrize("steps", [300, 1000])
def test_linear_against_a_loop(steps):
    wanted, left = [], 1.0
    for i in range(steps):
        left *= 1 - (1e-4 + (0.02 - 1e-4) * i / (steps - 1)) * 1000 / steps
        wanted.append(left)
    np.testing.assert_allclose(alpha_bar("linear", steps), wanted, rtol=1e-10)


def test_scaled_linear_of_latent_diffusion():
    """Rombach et al. 2022: signal of 0.0683 is left, as their samplers' authors complain (arXiv 2305.08891)."""
    left = alpha_bar("scaled_linear", 1000, beta_min=0.00085, beta_max=0.012)[-1]
    assert math.sqrt(left) == pytest.approx(0.068265, abs=1e-6)


def test_sigmoid_against_its_definition():
    def sigmoid(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    wanted = [(sigmoid(3) - sigmoid(-3 + 6 * i / 100)) / (sigmoid(3) - sigmoid(-3)) for i in range(1, 101)]
    found = alpha_bar("sigmoid", 100)
    np.testing.assert_allclose(found[:-1], wanted[:-1], rtol=1e-10)
    assert found[-1] == pytest.approx(found[-2] * 0.001)  # it would be 0


@given(name=st.sampled_from(NAMES), steps=st.integers(1, 1200), max_beta=st.sampled_from([0.999, 0.9999]))
def test_every_schedule_falls_within_its_bounds(name, steps, max_beta):
    left = alpha_bar(name, steps, max_beta=max_beta)
    beta = 1 - left / np.append(1.0, left[:-1])
    assert left.dtype == np.float64 and left.shape == (steps,)
    assert left[-1] > 0 and left[0] < 1 and (np.diff(left) < 0).all()
    assert (beta > 0).all() and (beta <= max_beta + 1e-9).all()


@pytest.mark.parametrize("name", ["linear", "scaled_linear"])
def test_fewer_steps_add_as_much_noise(name):
    assert np.log(alpha_bar(name, 500)[-1]) == pytest.approx(np.log(alpha_bar(name, 4000)[-1]), rel=0.02)


@given(steps=st.integers(1, 2000), data=st.data())
def test_respacing_is_even(steps, data):
    count = data.draw(st.integers(1, steps))
    kept = respaced(steps, count)
    assert kept.dtype == np.int64 and kept.shape == (count,) and kept[-1] == steps - 1
    if count > 1:
        apart = np.diff(kept)
        assert kept[0] == 0 and apart.min() >= 1 and apart.max() - apart.min() <= 1
    np.testing.assert_array_equal(respaced(steps, steps), np.arange(steps))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("count", [1, 2, 7, 50, 100])
def test_a_shorter_ladder_is_a_diffusion_with_the_same_noise(name, count):
    full = ladder(name, 100)
    short = full.kept(count)
    np.testing.assert_array_equal(short.alpha_bar, full.alpha_bar[short.t])
    np.testing.assert_allclose(np.cumprod(1 - short.beta), short.alpha_bar, rtol=1e-9)
    again = short.kept(count)
    np.testing.assert_array_equal(again.t, short.t)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("count", [10, 1000])
def test_the_posterior_by_bayes_rule(name, count):
    """The prior on x_{t-1} is q(x_{t-1} | x0), the likelihood q(xt | x_{t-1}): precisions and their means add up."""
    rungs = ladder(name, 1000).kept(count)
    x0, xt = 0.7, -1.3
    below, beta = rungs.alpha_bar[:-1], rungs.beta[1:]
    precision = 1 / (1 - below) + (1 - beta) / beta
    mean = (np.sqrt(below) * x0 / (1 - below) + np.sqrt(1 - beta) * xt / beta) / precision
    np.testing.assert_allclose(rungs.posterior_variance[1:], 1 / precision, rtol=1e-7)
    np.testing.assert_allclose((rungs.posterior_x0 * x0 + rungs.posterior_xt * xt)[1:], mean, rtol=1e-7, atol=1e-9)
    assert (rungs.posterior_variance[0], rungs.posterior_x0[0], rungs.posterior_xt[0]) == (0, 1, 0)


def test_signal_and_noise_share_the_variance():
    for name in NAMES:
        rungs = ladder(name, 300)
        np.testing.assert_allclose(rungs.signal**2 + rungs.noise**2, 1, rtol=1e-12)
        np.testing.assert_allclose(rungs.snr, (rungs.signal / rungs.noise) ** 2, rtol=1e-9)


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"name": "quadratic"}, "diffusion.schedule='quadratic' does not exist; choose from linear, scaled_linear"),
        ({"steps": 0}, "diffusion.steps=0"),
        ({"beta_min": 0.0}, "0 < beta_min <= beta_max < 1, not 0.0 and 0.02"),
        ({"beta_min": 0.5}, "beta_max"),
        ({"max_beta": 1.0}, "diffusion.max_beta=1.0"),
    ],
)
def test_impossible_schedules(told, says):
    with pytest.raises(UserError, match=says):
        alpha_bar(**{"name": "linear", "steps": 10, **told})


@pytest.mark.parametrize("count", [0, 11])
def test_impossible_ladders(count):
    with pytest.raises(UserError, match=f"sampler.steps={count} must be from 1 to the 10 steps"):
        respaced(10, count)
