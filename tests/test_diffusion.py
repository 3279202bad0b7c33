"""Training's mathematics: conversions that return, weights that agree, and the bound against an independent one."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from memjax.errors import UserError
from memjax.objectives.diffusion import Diffusion

TARGETS = ("x0", "eps", "v")
ROUNDINGS = 8  # float32's, half an ulp each, that one conversion may add up, times what its division enlarges
SHAPES = [(4, 4, 3), (2, 4, 2, 1)]


def pair(shape: tuple[int, ...], seed: int = 0) -> tuple[jax.Array, jax.Array]:
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.uniform(-1, 1, shape), jnp.float32), jnp.asarray(rng.standard_normal(shape), jnp.float32)


def levels(shape: tuple[int, ...], seed: int = 0) -> jax.Array:
    """Return images of 8 bits, some black and white pixels among them."""
    grey = np.random.default_rng(seed).integers(-20, 276, shape).clip(0, 255)
    return jnp.asarray(grey / 127.5 - 1, jnp.float32)


def convert(target: str, wanted: str, prediction, xt, t, **settings):
    return getattr(Diffusion(target=target, **settings), f"to_{wanted}")(prediction, xt, t)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "sigmoid"])
@pytest.mark.parametrize("start", TARGETS)
def test_conversions_return_where_they_started(schedule, start):
    """At every t, through any two others and back. What is lost is rounding times 1/a or 1/s, as eqs. 3 to 5 say."""
    settings = {"steps": 300, "schedule": schedule}
    diffusion = Diffusion(target=start, **settings)
    t = jnp.arange(300)
    x0, eps = pair((300, 5, 2))
    xt = diffusion.noised(x0, eps, t)
    value = diffusion.target_of(x0, eps, t)
    enlarged = 1 / np.minimum(diffusion.ladder.signal, diffusion.ladder.noise)
    for first, second in itertools.product(TARGETS, TARGETS):
        there = convert(start, first, value, xt, t, **settings)
        further = convert(first, second, there, xt, t, **settings)
        back = convert(second, start, further, xt, t, **settings)
        error = np.abs(back - value).max(axis=(1, 2))
        scale = np.abs(xt).max(axis=(1, 2)) + np.abs(value).max(axis=(1, 2))
        assert (error <= ROUNDINGS * 2.0**-24 * enlarged * scale).all(), (
            start,
            first,
            second,
            (error / enlarged).max(),
        )


@pytest.mark.parametrize(("target", "shape"), [("x0", SHAPES[0]), ("eps", SHAPES[1]), ("v", SHAPES[0])])
def test_the_target_implies_what_it_was_made_of(target, shape):
    diffusion = Diffusion(target=target, steps=100)
    x0, eps = pair((5, *shape))
    t = jnp.array([3, 10, 30, 50, 70])
    xt, value = jax.jit(diffusion.noised)(x0, eps, t), jax.jit(diffusion.target_of)(x0, eps, t)
    a, s = (
        table[np.asarray(t)].reshape(-1, *[1] * len(shape))
        for table in (diffusion.ladder.signal, diffusion.ladder.noise)
    )
    np.testing.assert_allclose(xt, a * x0 + s * eps, atol=1e-6)
    np.testing.assert_allclose(diffusion.to_x0(value, xt, t), x0, atol=2e-5)
    np.testing.assert_allclose(diffusion.to_eps(value, xt, t), eps, atol=2e-5)
    np.testing.assert_allclose(diffusion.to_v(value, xt, t), a * eps - s * x0, atol=2e-5)


def test_noised_images_at_both_ends():
    diffusion = Diffusion(schedule="cosine", steps=1000)
    x0, eps = pair((2, 8, 8, 1))
    clean, noise = diffusion.noised(x0, eps, jnp.array([0, 999]))
    assert np.abs(clean - x0[0]).max() < 0.03  # s = 0.0064
    np.testing.assert_allclose(noise, eps[1], atol=1e-4)  # a = 5e-5


@pytest.mark.parametrize(("loss", "shape"), [("l1", SHAPES[0]), ("l2", SHAPES[1])])
def test_losses_against_numpy(loss, shape):
    diffusion = Diffusion(loss=loss, target="v", schedule="cosine", steps=50)
    x0, eps = pair((3, *shape))
    output, _ = pair((3, *shape), seed=1)
    t = np.array([0, 20, 49])
    found = jax.jit(diffusion.losses)(output, x0, eps, jnp.asarray(t))
    for i in range(3):
        left = diffusion.ladder.alpha_bar[t[i]]
        error = np.asarray(output[i]) - (math.sqrt(left) * np.asarray(eps[i]) - math.sqrt(1 - left) * np.asarray(x0[i]))
        np.testing.assert_allclose(found[i], np.mean(np.abs(error) if loss == "l1" else error**2), rtol=1e-5)


def test_a_perfect_prediction_costs_nothing():
    x0, eps = pair((4, 6, 6, 1))
    t = jnp.array([0, 3, 100, 299])
    for target, loss in itertools.product(TARGETS, ("l1", "l2")):
        diffusion = Diffusion(target=target, loss=loss, steps=300)
        assert not diffusion.losses(diffusion.target_of(x0, eps, t), x0, eps, t).any()


def test_half_precision_outputs_are_scored_in_float32():
    x0, eps = pair((2, 4, 4, 1))
    diffusion, t = Diffusion(loss="hybrid"), jnp.array([0, 500])
    output = jnp.concatenate([eps, eps], -1).astype(jnp.bfloat16)
    found = jax.jit(diffusion.losses)(output, x0, eps, t)
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found, jax.jit(diffusion.losses)(output.astype(jnp.float32), x0, eps, t))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("gamma", [1.0, 5.0])
def test_min_snr_is_the_same_weight_on_x0_for_every_target(target, gamma):
    """Hang et al. 2023: the weighted loss is min(SNR, gamma) times the squared error of x0 that it implies."""
    diffusion = Diffusion(target=target, min_snr=gamma, schedule="cosine", steps=100)
    x0, eps = pair((98, 4, 4, 1))
    t = jnp.arange(1, 99)  # at the ends the implied x0 is rounding
    xt = diffusion.noised(x0, eps, t)
    output = diffusion.target_of(x0, eps, t) + 0.1
    implied = np.mean((np.asarray(diffusion.to_x0(output, xt, t)) - np.asarray(x0)) ** 2, axis=(1, 2, 3))
    wanted = np.minimum(diffusion.ladder.snr, gamma)[1:99] * implied
    np.testing.assert_allclose(diffusion.losses(output, x0, eps, t), wanted, rtol=1e-3)


def test_min_snr_weights_as_published():
    t = jnp.arange(1000)
    snr = Diffusion().ladder.snr
    for target, wanted in {
        "eps": np.minimum(snr, 5) / snr,
        "v": np.minimum(snr, 5) / (snr + 1),
        "x0": np.minimum(snr, 5),
    }.items():
        np.testing.assert_allclose(Diffusion(target=target, min_snr=5.0).weights(t), wanted, rtol=1e-5)
    np.testing.assert_array_equal(Diffusion().weights(t), 1)


def bound_in_numpy(diffusion: Diffusion, prediction, share, x0, xt, t: int) -> float:
    """Return the bound's term in bits per dimension, in float64, both Gaussians written out."""
    left = diffusion.ladder.alpha_bar
    beta = 1 - left[t] / (left[t - 1] if t else 1.0)
    true_variance = (1 - left[max(t, 1) - 1]) / (1 - left[max(t, 1)]) * (1 - left[max(t, 1)] / left[max(t, 1) - 1])
    variance = true_variance if share is None else beta**share * true_variance ** (1 - share)
    predicted = (xt - math.sqrt(1 - left[t]) * prediction) / math.sqrt(left[t])
    if t == 0:
        normal = scipy.stats.norm(predicted, np.sqrt(variance))
        upper = np.where(x0 > 0.999, 1.0, normal.cdf(x0 + 1 / 255))
        return float(-np.log2(upper - np.where(x0 < -0.999, 0.0, normal.cdf(x0 - 1 / 255))).mean())

    def mean(x0):
        before = left[t - 1]
        return (math.sqrt(before) * beta * x0 + math.sqrt(1 - beta) * (1 - before) * xt) / (1 - left[t])

    ratio = true_variance / variance
    nats = 0.5 * (ratio - 1 - np.log(ratio) + (mean(x0) - mean(predicted)) ** 2 / variance)
    return float(nats.mean() / math.log(2))


@pytest.mark.parametrize("loss", ["l2", "hybrid"])
@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_the_bound_against_numpy(loss, schedule):
    diffusion = Diffusion(loss=loss, schedule=schedule, steps=100)
    t = np.array([0, 1, 2, 50, 98, 99])
    x0, eps = levels((6, 8, 8, 1)), pair((6, 8, 8, 1))[1]
    xt = diffusion.noised(x0, eps, jnp.asarray(t))
    prediction = eps + 0.05 * pair((6, 8, 8, 1), seed=2)[1]
    logits = pair((6, 8, 8, 1), seed=3)[0]
    output = jnp.concatenate([prediction, logits], -1) if loss == "hybrid" else prediction
    found = jax.jit(diffusion.variational_bound)(output, x0, xt, jnp.asarray(t))
    for i in range(len(t)):
        share = (np.asarray(logits[i], np.float64) + 1) / 2 if loss == "hybrid" else None
        arrays = (np.asarray(value[i], np.float64) for value in (x0, xt))
        wanted = bound_in_numpy(diffusion, np.asarray(prediction[i], np.float64), share, *arrays, int(t[i]))
        np.testing.assert_allclose(found[i], wanted, rtol=1e-3, err_msg=f"t = {t[i]}")


@pytest.mark.parametrize("mean", [0.0, 0.98, -3.0])
@pytest.mark.parametrize("steps", [10, 1000])
def test_the_chances_of_all_grey_levels_add_up_to_one(mean, steps):
    diffusion = Diffusion(target="x0", steps=steps)
    x0 = jnp.asarray(np.arange(256) / 127.5 - 1, jnp.float32)[:, None, None]
    t = jnp.zeros(256, jnp.int32)
    bits = jax.jit(diffusion.variational_bound)(jnp.full_like(x0, mean), x0, x0, t)
    assert np.isfinite(bits).all()
    assert np.exp2(-np.asarray(bits, np.float64)).sum() == pytest.approx(1, abs=1e-4)


def test_the_bound_has_gradients_far_out():
    """A prediction 200 deviations off has a chance that underflows; its code length and gradient do not."""
    diffusion = Diffusion(target="x0")
    x0, t = jnp.array([[[1.0], [-1.0], [0.0]]]), jnp.zeros(1, jnp.int32)
    bits, slope = jax.jit(jax.value_and_grad(lambda p: diffusion.variational_bound(p, x0, x0, t).sum()))(x0 - 1.5)
    assert np.isfinite(bits) and bits > 1000
    assert (slope[0, ::2] < 0).all() and np.isfinite(slope).all()  # up to the image; black reaches to minus infinity


def test_only_the_variance_learns_from_the_bound():
    diffusion = Diffusion(loss="hybrid", steps=100)
    plain = Diffusion(loss="l2", steps=100)
    x0, t = levels((3, 4, 4, 2)), jnp.array([0, 7, 99])
    eps, prediction = pair((3, 4, 4, 2))[1], pair((3, 4, 4, 2), seed=2)[1]
    logits = pair((3, 4, 4, 2), seed=3)[0]

    @jax.jit
    def both(prediction, logits):
        def total(prediction, logits):
            losses = diffusion.losses(jnp.concatenate([prediction, logits], -1), x0, eps, t)
            return losses.sum(), losses

        def plain_total(prediction):
            losses = plain.losses(prediction, x0, eps, t)
            return losses.sum(), losses

        output = jnp.concatenate([prediction, logits], -1)
        return (
            jax.grad(total, argnums=(0, 1), has_aux=True)(prediction, logits),
            jax.grad(plain_total, has_aux=True)(prediction),
            diffusion.variational_bound(output, x0, diffusion.noised(x0, eps, t), t),
        )

    ((by_prediction, by_logits), losses), (wanted, plain_losses), bound = both(prediction, logits)
    np.testing.assert_array_equal(by_prediction, wanted)
    assert (jnp.abs(by_logits).max(axis=(1, 2, 3)) > 0).all()
    np.testing.assert_allclose(losses, plain_losses + 0.001 * 100 * bound, rtol=1e-5)


def test_learned_variances_lie_between_the_two_fixed_ones():
    diffusion = Diffusion(loss="hybrid", steps=100)
    t, like = jnp.arange(100), jnp.zeros((100, 2, 1))
    small, middle, large = (diffusion.log_variance(like + logit, t, like)[:, 0, 0] for logit in (-1, 0, 1))
    np.testing.assert_allclose(small[1:], np.log(diffusion.ladder.posterior_variance[1:]), rtol=1e-5)
    assert small[0] == small[1]
    np.testing.assert_allclose(large, np.log(diffusion.ladder.beta), rtol=1e-5)
    np.testing.assert_allclose(middle, (small + large) / 2, rtol=1e-5)
    np.testing.assert_array_equal(diffusion.log_variance(None, t, like)[:, 0, 0], small)


def test_what_the_network_returns():
    output = jnp.arange(12.0).reshape(1, 2, 6)
    prediction, logits = Diffusion(loss="hybrid").split(output)
    np.testing.assert_array_equal(prediction, output[..., :3])
    np.testing.assert_array_equal(logits, output[..., 3:])
    assert Diffusion(loss="hybrid").learned_variance
    assert Diffusion().split(output)[1] is None


def test_times_are_uniform():
    times = np.asarray(Diffusion(steps=20).uniform_times(jax.random.key(0), 20_000))
    assert times.dtype == np.int32
    assert scipy.stats.chisquare(np.bincount(times, minlength=20)).pvalue > 0.01
    assert len(np.bincount(times)) == 20


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"target": "score"}, "diffusion.target='score' does not exist; choose from eps, x0, v"),
        ({"loss": "huber"}, "diffusion.loss='huber' does not exist; choose from l1, l2, hybrid"),
        ({"schedule": "quadratic"}, "diffusion.schedule='quadratic'"),
        ({"steps": 1}, "diffusion.steps=1 must be 2 or more"),
        ({"vlb_weight": -1.0}, "diffusion.vlb_weight=-1.0"),
        ({"min_snr": 0.0}, "diffusion.min_snr=0.0"),
        ({"min_snr": 5.0, "loss": "l1"}, "with loss l1, set it to None"),
    ],
)
def test_impossible_settings(told, says):
    with pytest.raises(UserError, match=says):
        Diffusion(**told)
