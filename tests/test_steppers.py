"""Samplers against exact denoisers: for data whose best denoiser is a formula, what has to come out is known."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from memjax.errors import UserError
from memjax.keys import keys_of
from memjax.objectives.diffusion import Diffusion
from memjax.objectives.schedules import Ladder
from memjax.objectives.steppers import Sampler, ancestral, ddim, dpm, sample

MEAN, DEVIATION = 0.3, 0.4  # of Gaussian data
N = 10_000  # images of one pixel: a mean is known to 1 / 100 of a deviation, a deviation to 1 / 140
SPREAD = 4.5  # standard errors that a right sampler may be off


def gaussian_x0(xt, a, s, mean=MEAN, deviation=DEVIATION):
    """Return E[x0 | xt] for data N(mean, deviation^2)."""
    return mean + a * deviation**2 / (a**2 * deviation**2 + s**2) * (xt - a * mean)


def two_points_x0(xt, a, s, share=0.3, at=0.8):
    """Return E[x0 | xt] for data that is `at` with probability `share`, else -at."""
    return at * jnp.tanh(at * a * xt / s**2 + np.log(share / (1 - share)) / 2)


def denoiser(diffusion: Diffusion, best, variance_logit: float = 0.0):
    """Return the network that knows the best x0, and says it as the diffusion's target."""
    a, s = (jnp.asarray(table, jnp.float32) for table in (diffusion.ladder.signal, diffusion.ladder.noise))

    says = Diffusion(target="x0", steps=diffusion.steps, schedule=diffusion.schedule)
    convert = {"x0": says.to_x0, "eps": says.to_eps, "v": says.to_v}[diffusion.target]

    def denoise(xt, t):
        shape = (-1, *[1] * (xt.ndim - 1))
        output = convert(best(xt, a[t].reshape(shape), s[t].reshape(shape)), xt, t)
        if not diffusion.learned_variance:
            return output
        return jnp.concatenate([output, jnp.full_like(output, variance_logit)], -1)

    return denoise


@functools.cache
def drawer(diffusion: Diffusion, best, shape: tuple[int, ...], variance_logit: float, sampler: Sampler):
    denoise = denoiser(diffusion, best, variance_logit)

    @jax.jit
    def run(ids):
        first, later = jax.vmap(lambda key: jax.random.split(key), out_axes=1)(keys_of(jax.random.key(7), ids))
        xT = jax.vmap(lambda key: jax.random.normal(key, shape))(first)
        return sample(denoise, xT, later, diffusion=diffusion, sampler=sampler)

    return run


def draw(diffusion: Diffusion, best, *, shape=(1, 1), ids=N, variance_logit=0.0, **settings) -> np.ndarray:
    """Return the images of seed ids, or of so many."""
    run = drawer(diffusion, best, shape, variance_logit, Sampler(**settings))
    return np.asarray(run(np.arange(ids) if isinstance(ids, int) else np.asarray(ids)))


def check_gaussian(x0: np.ndarray, deviation: float = DEVIATION):
    assert abs(x0.mean() - MEAN) < SPREAD * deviation / len(x0) ** 0.5
    assert abs(x0.std() / deviation - 1) < SPREAD / (2 * len(x0)) ** 0.5
    assert scipy.stats.kstest((x0.ravel() - MEAN) / deviation, "norm").pvalue > 0.001


@pytest.mark.parametrize(
    ("schedule", "settings"),
    [("linear", {}), ("cosine", {}), ("linear", {"variance": "large"}), ("cosine", {"method": "ddim", "eta": 1.0})],
)
def test_the_whole_chain_draws_the_data(schedule, settings):
    check_gaussian(draw(Diffusion(schedule=schedule), gaussian_x0, clip=False, **settings))


@pytest.mark.parametrize("method", ["ddim", "dpm++2m"])
def test_the_flow_draws_the_data(method):
    check_gaussian(draw(Diffusion(schedule="cosine"), gaussian_x0, clip=False, method=method))


@pytest.mark.parametrize("settings", [{}, {"method": "ddim"}, {"method": "dpm++2m"}], ids=str)
def test_two_points_in_their_proportion(settings):
    """Clipped, as paper B's sampler is; the points lie inside."""
    x0 = draw(Diffusion(schedule="cosine", steps=500), two_points_x0, **settings)
    assert np.abs(np.abs(x0) - 0.8).max() < 0.02
    assert abs((x0 > 0).mean() - 0.3) < SPREAD * (0.3 * 0.7 / N) ** 0.5 + 0.003  # what 500 steps leave


@pytest.mark.parametrize("deviation", [0.4, 0.8])
@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_ddim_follows_the_probability_flow(schedule, deviation):
    """For Gaussian data the flow keeps every image at its own number of deviations from the mean."""
    diffusion = Diffusion(schedule=schedule)
    xT = jnp.linspace(-2, 2, 9)[:, None, None]
    denoise = denoiser(diffusion, lambda xt, a, s: gaussian_x0(xt, a, s, MEAN, deviation))
    sampler = Sampler(method="ddim", clip=False)
    keys = jax.random.split(jax.random.key(0), 9)
    found = jax.jit(lambda xT: sample(denoise, xT, keys, diffusion=diffusion, sampler=sampler))(xT)
    a = diffusion.ladder.signal[-1]
    own = (np.asarray(xT) - a * MEAN) / np.sqrt(a**2 * deviation**2 + 1 - a**2)
    np.testing.assert_allclose(found, MEAN + deviation * own, atol=0.01)  # 1000 steps of first order


def walk(method, ladder: Ladder, x: np.ndarray, mean=MEAN, deviation=DEVIATION) -> np.ndarray:
    """Return where x is on the cleanest rung, by a method's weights in float64."""
    weights, before = method(ladder, 0.0), np.zeros_like(x)
    for i in range(len(ladder.t) - 1, 0, -1):
        x0 = gaussian_x0(x, ladder.signal[i], ladder.noise[i], mean, deviation)
        x, before = weights.xt[i] * x + weights.x0[i] * x0 + weights.x0_before[i] * before, x0
    return x


def flow(ladder: Ladder, x: np.ndarray, mean=MEAN, deviation=DEVIATION) -> np.ndarray:
    """Return where the probability flow of Gaussian data takes x from the top rung to the cleanest."""
    to, start = (np.sqrt(ladder.alpha_bar[i] * deviation**2 + 1 - ladder.alpha_bar[i]) for i in (0, -1))
    return ladder.signal[0] * mean + to / start * (x - ladder.signal[-1] * mean)


@pytest.mark.parametrize(("method", "order"), [(ddim, 1), (dpm, 2)])
def test_orders_of_convergence(method, order):
    """Where steps are even in the log SNR, twice the steps halve DDIM's error and quarter DPM-Solver++(2M)'s."""
    x = np.linspace(-2, 2, 5)
    errors = []
    for n in (80, 160, 320, 640):
        snr = np.exp(np.linspace(5, -5, n + 1))
        ladder = Ladder(np.arange(n + 1), snr / (1 + snr))
        errors.append(np.abs(walk(method, ladder, x) - flow(ladder, x)).max())
    np.testing.assert_allclose(np.array(errors[:-1]) / errors[1:], 2.0**order, rtol=0.15)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("deviation", [0.1, 0.4, 0.8])
@pytest.mark.parametrize("steps", [5, 10, 20, 50, 100])
def test_dpm_is_nearer_to_the_flow_than_ddim(schedule, deviation, steps):
    ladder = Diffusion(schedule=schedule).ladder.kept(steps)
    x = np.linspace(-2, 2, 5)
    ours, theirs = (
        np.abs(walk(method, ladder, x, MEAN, deviation) - flow(ladder, x, MEAN, deviation)).max()
        for method in (dpm, ddim)
    )
    assert ours < theirs
    if deviation >= 0.4 and steps >= 20:  # five close points and narrow peaks need more
        assert ours < theirs / 1.9


def test_dpm_against_its_algorithm():
    """Algorithm 2 of arXiv 2211.01095 step by step in its own symbols, with lower order where ours has it."""
    ladder = Diffusion().ladder.kept(6)
    alpha, sigma = np.append(1.0, ladder.signal), np.append(0.0, ladder.noise)  # 0: no noise
    x, q = 0.7, {}
    for i in range(6, 0, -1):
        q[i] = gaussian_x0(x, alpha[i], sigma[i])
        if i == 1:
            x = q[i]
            continue
        lam = np.log(alpha[1:] / sigma[1:])
        h = lam[i - 2] - lam[i - 1]
        d = q[i]
        if 2 < i < 6:
            r = (lam[i - 1] - lam[i]) / h
            d = (1 + 1 / (2 * r)) * q[i] - 1 / (2 * r) * q[i + 1]
        x = sigma[i - 1] / sigma[i] * x - alpha[i - 1] * (np.exp(-h) - 1) * d
    diffusion = Diffusion(target="v")
    found = sample(
        denoiser(diffusion, gaussian_x0),
        jnp.full((1, 1, 1), 0.7),
        jax.random.split(jax.random.key(0), 1),
        diffusion=diffusion,
        sampler=Sampler(method="dpm++2m", steps=6, clip=False),
    )
    np.testing.assert_allclose(found, x, rtol=1e-4)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("steps", [1, 2, 3, 50, 1000])
def test_the_methods_agree_where_they_should(schedule, steps):
    ladder = Diffusion(schedule=schedule).ladder.kept(steps)
    np.testing.assert_allclose(ddim(ladder, 1.0)[:4], ancestral(ladder)[:4], rtol=1e-6, atol=1e-8)
    first_order = [i for i in range(steps) if i in (0, 1, steps - 1)]
    np.testing.assert_allclose(np.array(dpm(ladder))[:, first_order], np.array(ddim(ladder))[:, first_order], rtol=1e-9)
    for weights in (ancestral(ladder), ddim(ladder), ddim(ladder, 0.5), dpm(ladder)):
        assert np.isfinite(np.array(weights)).all()
        assert (weights.xt[0], weights.x0[0], weights.x0_before[0], weights.z[0]) == (0, 1, 0, 0)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_ddim_against_its_equation(eta):
    ladder = Diffusion().ladder.kept(10)
    x0, eps = 0.4, -1.1
    weights = ddim(ladder, eta)
    left, below = ladder.alpha_bar, np.append(1.0, ladder.alpha_bar[:-1])
    sigma = eta * np.sqrt((1 - below) / (1 - left)) * np.sqrt(1 - left / below)
    wanted = np.sqrt(below) * x0 + np.sqrt(1 - below - sigma**2) * eps
    xt = np.sqrt(left) * x0 + np.sqrt(1 - left) * eps
    np.testing.assert_allclose(weights.xt * xt + weights.x0 * x0, wanted, rtol=1e-9)
    np.testing.assert_allclose(weights.z, sigma, rtol=1e-9)


def test_the_same_keys_draw_the_same_images_by_ddim_with_noise():
    diffusion = Diffusion(steps=100)
    one = draw(diffusion, gaussian_x0, ids=50, steps=20)
    np.testing.assert_allclose(draw(diffusion, gaussian_x0, ids=50, steps=20, method="ddim", eta=1.0), one, atol=1e-5)


def test_learned_variances_are_used_by_the_ancestral_method():
    plain, learned = Diffusion(steps=100), Diffusion(steps=100, loss="hybrid")
    for logit, variance in ((-1.0, "small"), (1.0, "large")):
        wanted = draw(plain, gaussian_x0, ids=50, steps=20, variance=variance)
        found = draw(learned, gaussian_x0, ids=50, steps=20, variance_logit=logit)
        np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert np.abs(wanted - draw(plain, gaussian_x0, ids=50, steps=20)).max() > 0.01


def test_the_target_does_not_matter_if_the_answer_is_exact():
    x0 = {
        target: draw(
            Diffusion(target=target, steps=300, schedule="cosine"), gaussian_x0, ids=50, steps=30, method="dpm++2m"
        )
        for target in ("x0", "eps", "v")
    }
    for one, other in itertools.combinations(x0.values(), 2):
        np.testing.assert_allclose(one, other, atol=2e-3)  # eps at the noisy end: float32's rounding times 20,000


@pytest.mark.parametrize(("method", "shape"), [("ancestral", (4, 4, 2)), ("ddim", (2, 3, 4, 1))])
def test_an_image_does_not_depend_on_its_batch(method, shape):
    diffusion = Diffusion(steps=50)
    settings = {"shape": shape, "method": method, "steps": 10, "eta": 0.5 if method == "ddim" else 0.0}
    together = draw(diffusion, gaussian_x0, ids=np.arange(8), **settings)
    assert len(np.unique(together)) > together.size / 2
    for parts in ([[0], [5], [7]], [[0, 1, 2], [3, 4, 5], [7, 0, 6]]):
        for ids in parts:
            np.testing.assert_array_equal(draw(diffusion, gaussian_x0, ids=ids, **settings), together[ids])


def test_noise_is_new_on_every_rung_and_for_every_image():
    """A denoiser that says 0 leaves a sum of noises: without new ones its variance would be another."""
    diffusion = Diffusion(target="x0", steps=30)
    ladder = diffusion.ladder
    seen = []

    def denoise(xt, t):
        jax.debug.callback(lambda xt, t: seen.append((int(t[0]), np.asarray(xt))), xt, t, ordered=True)
        return jnp.zeros_like(xt)

    xT = jax.random.normal(jax.random.key(0), (N, 1, 1))
    sample(denoise, xT, jax.random.split(jax.random.key(1), N), diffusion=diffusion, sampler=Sampler())
    jax.effects_barrier()
    assert [t for t, _ in seen] == list(range(29, -1, -1))
    for (t, above), (_, below) in itertools.pairwise(seen):
        z = (below - ladder.posterior_xt[t] * above) / np.sqrt(ladder.posterior_variance[t])
        assert abs(z.std() - 1) < SPREAD / (2 * N) ** 0.5
        assert abs(np.mean(z * above) / above.std()) < SPREAD / N**0.5


@pytest.mark.parametrize(("clip", "most"), [(True, 1.0), (False, 5.0)])
def test_clipping(clip, most):
    diffusion = Diffusion(steps=20, target="x0")
    keys = jax.random.split(jax.random.key(0), 3)
    sampler = Sampler(method="dpm++2m", clip=clip)
    x0 = sample(lambda xt, t: jnp.full_like(xt, 5.0), jnp.ones((3, 4, 1)), keys, diffusion=diffusion, sampler=sampler)
    np.testing.assert_allclose(x0, most, rtol=1e-6)


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"method": "euler"}, r"sampler.method='euler' does not exist; choose from ancestral, ddim, dpm\+\+2m"),
        ({"variance": "learned"}, "sampler.variance='learned' does not exist; choose from small, large"),
        ({"steps": 0}, "sampler.steps=0 must be 1 or more"),
        ({"eta": 1.5}, "sampler.eta=1.5"),
    ],
)
def test_impossible_settings(told, says):
    with pytest.raises(UserError, match=says):
        Sampler(**told)


def test_more_steps_than_the_diffusion_has():
    with pytest.raises(UserError, match=r"sampler\.steps=11 must be from 1 to the 10 steps"):
        draw(Diffusion(steps=10), gaussian_x0, ids=2, steps=11)
