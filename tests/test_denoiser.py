"""A diffusion model is one of two networks, as its config says, and its samples are clipped as its sampler says."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import jit

from memjax.errors import UserError
from memjax.models.denoiser import denoiser
from memjax.models.slice_unet import SliceUNet
from memjax.models.unet import UNet
from memjax.objectives.steppers import Sampler

SLICES = {"network": "slices", "width": 4, "mults": (1,), "heads": 1, "head_channels": 4, "groups": 2}
UNET = {"width": 4, "mults": (1,), "blocks": 1, "attention": (), "heads": 1, "groups": 2}


def test_the_network_is_chosen():
    plain = denoiser((4, 4, 4, 1), model=UNET, diffusion={})
    assert isinstance(plain.network, UNet)
    assert denoiser((4, 4, 4, 1), model={"network": "unet", **UNET}, diffusion={}) == plain
    slices = denoiser((4, 4, 3, 2), model={**SLICES, "depth_axis": 2}, diffusion={"loss": "hybrid"}, n_classes=3)
    told = {key: value for key, value in SLICES.items() if key != "network"}
    expected = SliceUNet(channels=2, learned_variance=True, n_classes=3, depth_axis=2, **told)
    assert dataclasses.astuple(slices.network)[:-2] == dataclasses.astuple(expected)[:-2]


@pytest.mark.parametrize(
    ("shape", "model", "says"),
    [
        ((8, 8, 1), {**SLICES, "keep_axes": ()}, "images of 8 x 8: the network of slices is for volumes"),
        ((8, 8, 8, 1), {**SLICES, "keep_axes": ()}, "config.model.keep_axes does not exist"),
        (
            (8, 8, 1),
            {"network": "transformer"},
            "config.model.network='transformer' does not exist; choose from unet, ",
        ),
    ],
)
def test_mistakes_are_told(shape, model, says):
    with pytest.raises(UserError, match=says):
        denoiser(shape, model=model, diffusion={})


def awake(model):
    """Return parameters of which none is at a special value."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    return jax.tree.map(lambda leaf: jnp.asarray(0.3 * rng.standard_normal(leaf.shape), leaf.dtype), shapes)


def test_volumes_with_labels_and_a_learned_variance():
    """Everything that asks the network for more than the prediction, and everything that scans it."""
    diffusion = {"steps": 4, "schedule": "cosine", "loss": "hybrid"}
    model = denoiser((2, 2, 3, 2), model={**SLICES, "depth_axis": 2}, diffusion=diffusion, n_classes=2)
    x0, eps = jnp.asarray(np.random.default_rng(1).standard_normal((2, 2, *model.shape)), jnp.float32)

    @jit
    def both(params, ids):
        return model.losses(params, x0, eps, ids, ids), model.draw(params, ids, Sampler(guidance=1.0), ids)

    losses, drawn = both(awake(model), jnp.arange(2))
    assert losses.shape == (2,) and np.all(np.isfinite(losses))
    assert drawn.shape == (2, *model.shape) and 0.1 < np.abs(drawn).max() <= 1


def test_samples_are_clipped_as_the_sampler_says():
    """Where the network says that there is no noise, its samples are the noise that they began with."""
    model = denoiser((4, 4, 1), model=UNET, diffusion={"steps": 2, "beta_min": 1e-5, "beta_max": 1e-5})
    silent = jax.tree.map(jnp.zeros_like, awake(model))

    @jit
    def both(params, ids):
        return tuple(model.draw(params, ids, Sampler(method="ddim", steps=1, clip=clip)) for clip in (True, False))

    clipped, whole = both(silent, jnp.arange(8))
    assert 2 < np.abs(whole).max() < 6
    np.testing.assert_array_equal(clipped, np.clip(whole, -1, 1))
