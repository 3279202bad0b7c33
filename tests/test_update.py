"""One step: gradients over microbatches are the gradient, and the order is gradient, optimizer, average."""

import jax
import jax.numpy as jnp
import numpy as np

from memjax.train.ema import Ema
from memjax.train.optim import make_optimizer
from memjax.train.state import first_state
from memjax.train.update import mean_gradient, updated


def losses(params, batch, number):
    return jnp.square(batch["x"] @ params["w"] - batch["y"])


def batch(n: int = 12):
    rng = np.random.default_rng(0)
    return {"x": jnp.asarray(rng.normal(size=(n, 3)), jnp.float32), "y": jnp.asarray(rng.normal(size=n), jnp.float32)}


def test_the_gradient_is_least_squares_own_whatever_the_parts():
    params = {"w": jnp.array([1.0, -2.0, 0.5])}
    one = batch()
    rest = one["x"] @ params["w"] - one["y"]
    for parts in (1, 2, 3, 4, 12):
        loss, gradient = jax.jit(lambda p, b, parts=parts: mean_gradient(losses, p, b, parts))(params, one)
        np.testing.assert_allclose(loss, np.mean(np.square(rest)), rtol=1e-5)
        np.testing.assert_allclose(gradient["w"], 2 * one["x"].T @ rest / 12, rtol=1e-5)


def test_every_part_is_told_its_number_and_every_row_comes_once():
    def rows(params, part, number):
        return params["w"] * (part["row"] + 100.0 * number)

    _, gradient = mean_gradient(rows, {"w": jnp.float32(1.0)}, {"row": jnp.arange(6.0)}, 3)
    np.testing.assert_allclose(gradient["w"], (15 + 100 * (0 + 0 + 1 + 1 + 2 + 2)) / 6, rtol=1e-6)


def test_the_average_sees_the_new_parameters_and_metrics_are_of_this_step():
    optimizer, ema = make_optimizer(lr=0.5, warmup=2), Ema(decay=0.75)
    state = first_state({"w": jnp.array([3.0, 4.0])}, optimizer.transform)
    gradient = {"w": jnp.array([0.6, 0.8])}
    state, first = updated(state, gradient, optimizer, ema, 8)
    np.testing.assert_allclose([first["lr"], first["update_norm"], first["grad_norm"]], [0, 0, 1], atol=1e-6)
    before = state.params["w"]
    state, second = updated(state, gradient, optimizer, ema, 8)
    assert int(state.step) == 2
    np.testing.assert_allclose(second["lr"], 0.25)
    np.testing.assert_allclose(second["update_norm"], 0.25 * np.sqrt(2), rtol=1e-4)  # Adam's steps have the rate's size
    np.testing.assert_allclose(state.ema["w"], 0.75 * before + 0.25 * state.params["w"], rtol=1e-6)
    np.testing.assert_allclose(second["param_norm"], np.linalg.norm(state.params["w"]), rtol=1e-6)
