"""The optimizer against the papers' own equations, and its learning rate by step."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from memjax.errors import UserError
from memjax.train.optim import make_optimizer


def test_adam_is_the_papers():
    made = make_optimizer(lr=0.1, betas=(0.8, 0.95), epsilon=1e-3)
    w, m, v = 2.0, 0.0, 0.0
    params = {"w": jnp.float32(w)}
    state = made.transform.init(params)
    for t in range(1, 6):
        g = 3 * w
        m, v = 0.8 * m + 0.2 * g, 0.95 * v + 0.05 * g * g
        updates, state = made.transform.update({"w": 3 * params["w"]}, state, params)
        params = optax.apply_updates(params, updates)
        w -= 0.1 * (m / (1 - 0.8**t)) / (np.sqrt(v / (1 - 0.95**t)) + 1e-3)
        np.testing.assert_allclose(params["w"], w, rtol=1e-5)


def test_weights_decay_beside_the_gradient():
    made = make_optimizer(lr=0.1, weight_decay=0.5)
    params = {"w": jnp.float32(2.0)}
    updates, _ = made.transform.update({"w": jnp.float32(0.0)}, made.transform.init(params), params)
    np.testing.assert_allclose(updates["w"], -0.1 * 0.5 * 2.0, rtol=1e-6)


def test_clipping_bounds_the_norm_before_adam_sees_it():
    clipped, whole = (make_optimizer(lr=1.0, clip=clip, epsilon=1.0) for clip in (1.0, None))
    params = {"w": jnp.zeros(2)}
    gradient = {"w": jnp.array([3.0, 4.0])}
    found, _ = clipped.transform.update(gradient, clipped.transform.init(params), params)
    wanted, _ = whole.transform.update({"w": gradient["w"] / 5}, whole.transform.init(params), params)
    np.testing.assert_allclose(found["w"], wanted["w"], rtol=1e-6)


def test_the_rate_warms_up_and_falls_as_a_cosine():
    rate = make_optimizer(lr=2.0, warmup=10, schedule="cosine", steps=110, final=0.1).rate
    np.testing.assert_allclose([rate(0), rate(5), rate(10)], [0.0, 1.0, 2.0], rtol=1e-6)
    np.testing.assert_allclose([rate(60), rate(110), rate(500)], [1.1, 0.2, 0.2], rtol=1e-5)
    constant = make_optimizer(lr=2.0).rate
    assert constant(0) == constant(10_000) == 2.0


@pytest.mark.parametrize(("given", "told"), [
    ({"lr": 0.0}, "optim.lr=0.0"),
    ({"lr": 1.0, "warmup": -1}, "optim.warmup=-1"),
    ({"lr": 1.0, "schedule": "linear"}, "optim.schedule='linear' must be one of constant, cosine"),
    ({"lr": 1.0, "schedule": "cosine", "warmup": 5, "steps": 5}, "optim.steps=5"),
])  # fmt: skip
def test_what_makes_no_optimizer(given, told):
    with pytest.raises(UserError, match=told):
        make_optimizer(**given)
