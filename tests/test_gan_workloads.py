"""The StyleGAN2 benchmark's networks are the size that they claim, counted by hand, and a step is a training step."""

import itertools

import jax
import jax.numpy as jnp
import pytest

from launch.benchmark.gan_workloads import WORKLOADS
from memjax.mesh import train_mesh
from memjax.train.tasks import make_task
from memjax.trees import count


def counted(work):
    """Count the numbers of both networks from the widths, layer by layer."""

    def layer(before, after, taps, outs):  # its affine map of w, kernel, and what is added to the result
        return (work.w_dim + 1) * before + taps * before * after + outs

    widths = [min(work.base // side, work.max_channels) for side in (4, 8, 16, 32, 64) if side <= work.side]
    steps = list(itertools.pairwise(widths))
    mapping = work.depth * (work.w_dim + 1) * work.w_dim
    generator = 16 * widths[0] + sum(layer(before, after, 9, after + 1) for before, after in steps)
    generator += sum(layer(width, width, 9, width + 1) + layer(width, 1, 1, 1) for width in widths)
    discriminator = 2 * widths[-1]  # of the image
    discriminator += sum(
        9 * wide * wide + wide + 9 * wide * narrow + narrow + wide * narrow for narrow, wide in steps
    )  # from the wide side, at the higher resolution
    first = widths[0]
    discriminator += 9 * (first + 1) * first + first + 16 * first * first + first + first + 1
    return mapping + generator + discriminator


@pytest.mark.parametrize("work", WORKLOADS, ids=lambda work: work.name)
def test_parameters_are_those_of_the_widths(work):
    """PyTorch's networks have as many, counted there: 6,468,108 and 6,558,479."""
    task = make_task(work.config, shape=(work.side, work.side, 1), mesh=train_mesh(n_devices=1))
    state = jax.eval_shape(task.init, jax.random.key(0))
    assert count(state.params) == work.parameters == counted(work)
    assert task.batch_size == work.batch
    assert work.widths[-1] == min(work.base // work.side, work.max_channels)


def test_a_round_is_every_phase_in_its_proportion():
    for work in WORKLOADS:
        regularize = work.config["regularize"]
        assert (regularize["path_every"], regularize["r1_every"]) == (work.path_every, work.r1_every)
        assert work.steps % work.path_every == work.steps % work.r1_every == 0
        ema, optim = work.config["ema"], work.config["generator_optim"]
        assert (ema["half_life_images"], ema["ramp"]) == (work.half_life_images, work.ramp)
        assert (optim["lr"], work.config["mixing"]) == (work.lr, work.mixing)


@pytest.mark.parametrize("work", WORKLOADS, ids=lambda work: work.name)
def test_a_step_trains_both_networks(work):
    """Compiling takes a minute even of a toy, so it is traced only."""
    shape = (work.side, work.side, 1)
    task = make_task(work.config, shape=shape, mesh=train_mesh(n_devices=1))
    state = jax.eval_shape(task.init, jax.random.key(0))
    batch = {"image": jax.ShapeDtypeStruct((work.batch, *shape), jnp.float32)}
    after, told = jax.eval_shape(task.step, state, batch)
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)
    assert {"loss_generator", "loss_discriminator"} <= told.keys()  # of which `ours` returns the sum
