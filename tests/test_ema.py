"""Averages of parameters, in both of the field's forms, against plain Python."""

import jax.numpy as jnp
import numpy as np
import pytest

from memjax.errors import UserError
from memjax.train.ema import Ema


def run(ema: Ema, values: list[float], batch_size: int) -> list[float]:
    average, seen = {"w": jnp.float32(0.0)}, []
    for step, value in enumerate(values, 1):
        average = ema.update(average, {"w": jnp.float32(value)}, jnp.int32(step), batch_size)
        seen.append(float(average["w"]))
    return seen


def test_decay_every_k_steps_after_a_warm_copy():
    values = [1.0, 5.0, 2.0, 8.0, 3.0, 9.0, 4.0, 7.0]
    wanted, average = [], 0.0
    for step, value in enumerate(values, 1):
        if step <= 3:
            average = value
        elif step % 2 == 0:
            average = 0.9 * average + 0.1 * value
        wanted.append(average)
    np.testing.assert_allclose(run(Ema(decay=0.9, every=2, copy_until=3), values, 4), wanted, rtol=1e-6)


def test_half_life_halves_the_distance_after_so_many_images():
    seen = run(Ema(half_life_images=40.0), [1.0] * 20, batch_size=4)  # from 0 towards 1
    np.testing.assert_allclose(seen[9], 0.5, rtol=1e-5)
    np.testing.assert_allclose(seen[19], 0.75, rtol=1e-5)
    np.testing.assert_allclose(run(Ema(half_life_images=40.0, every=2), [1.0] * 20, 4)[9], 0.5, rtol=1e-5)


def test_the_ramp_forgets_the_start():
    slow, ramped = (run(Ema(half_life_images=1e6, ramp=ramp), [1.0] * 50, 4)[-1] for ramp in (None, 0.05))
    assert slow < 0.001 and ramped > 0.99


@pytest.mark.parametrize(("given", "told"), [
    ({}, "a decay or half_life_images"),
    ({"decay": 1.0}, "ema.decay=1.0"),
    ({"half_life_images": 0.0}, "half_life_images=0.0"),
    ({"decay": 0.9, "every": 0}, "ema.every=0"),
])  # fmt: skip
def test_what_makes_no_average(given, told):
    with pytest.raises(UserError, match=told):
        Ema(**given)
