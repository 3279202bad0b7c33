"""The training benchmark's networks are the size that they claim, and its step trains."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from launch.benchmark.training_workloads import WORKLOADS, ours
from memjax.models.unet import UNet
from memjax.trees import count


@pytest.mark.parametrize("work", WORKLOADS, ids=lambda work: work.name)
def test_parameters_are_those_of_the_peer(work):
    """The numbers are those of MONAI's network, counted there."""
    x = jax.ShapeDtypeStruct((1, *work.shape), jnp.float32)
    t = jax.ShapeDtypeStruct((1,), jnp.int32)
    assert count(jax.eval_shape(UNet(**work.model).init, jax.random.key(0), x, t)) == work.parameters


def test_a_step_trains():
    small = dataclasses.replace(
        WORKLOADS[0], space=(8, 8), batch=4, width=8, mults=(1,), attention=(False,), head_channels=4, blocks=1
    )
    run, parameters = ours(small)
    losses = [run() for _ in range(20)]
    assert parameters > 1000
    assert losses[-1] < losses[0]
