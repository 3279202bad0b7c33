"""What is computed once is so on processors only, and is what it was."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.nn.once import compiler_options, once


def chain(x):
    y = once(2 * x + x * x)
    return jnp.sum(y[::2] * 3) + jnp.sum(y[1::2])


@pytest.mark.parametrize(("platform", "barriers"), [("cpu", 2), ("tpu", 0), ("cuda", 0)])
def test_there_is_a_barrier_both_ways_on_processors_only(platform, barriers):
    lowered = jax.jit(jax.value_and_grad(chain)).trace(jnp.ones(8)).lower(lowering_platforms=(platform,))
    assert lowered.as_text().count("optimization_barrier") == barriers


def test_xla_keeps_the_barriers_when_told():
    for options, kept in ((compiler_options("cpu"), True), (compiler_options("gpu"), False)):
        compiled = jax.jit(jax.grad(chain), compiler_options=options).lower(jnp.ones(8)).compile()
        assert ("opt-barrier" in compiled.as_text()) is kept
        np.testing.assert_array_equal(compiled(jnp.ones(8)), np.where(np.arange(8) % 2, 4, 12))
