"""Films of a StyleGAN's styles, and what each kind of model can be asked for when it is sampled."""

import jax.numpy as jnp
import numpy as np
import pytest
from compiling import jit
from small_gan import DISCRIMINATOR, MAPPING, SYNTHESIS, awake

from memjax.errors import UserError
from memjax.sample.interpolate import interpolate
from memjax.sample.models import make_sampler, stylegan, stylegan_weights
from memjax.trees import named_leaves

SHAPE = (16, 16, 1)
CONFIG = {"task": "stylegan2", "sampler": {"psi": 0.7, "layers": None, "noise": True}}
CONFIG |= {"mapping": MAPPING, "synthesis": SYNTHESIS, "discriminator": DISCRIMINATOR}
DDPM = {"task": "ddpm", "sampler": {"method": "ddim", "steps": 10}}


@pytest.fixture(scope="module")
def weights():
    model = stylegan(CONFIG, SHAPE, None)
    return awake(lambda key: stylegan_weights(model, key))


def film(weights, seed_ids, frames, **changes):
    return interpolate(
        CONFIG,
        {name: np.asarray(leaf) for name, leaf in named_leaves(weights).items()},
        shape=SHAPE,
        label_share=(),
        seed_ids=seed_ids,
        frames=frames,
        changes=changes,
    )


def drawn(model, weights, seed_id, **changes):
    sampler = make_sampler(CONFIG, changes)
    draw = jit(lambda weights, ids: model.draw(weights["generator"], weights["w_avg"], ids, sampler))
    return draw(weights, jnp.array([seed_id], jnp.int32))


def test_a_film_passes_through_its_images_and_closes(weights):
    found = film(weights, [4, 9, 2], 7)
    assert found.shape == (21, *SHAPE)
    model = stylegan(CONFIG, SHAPE, None)
    first = drawn(model, weights, 4)
    np.testing.assert_allclose(found[0], first[0], atol=2e-5)
    steps = np.abs(np.diff(np.concatenate([found, found[:1]]), axis=0)).mean((1, 2, 3))
    jump = np.abs(found[0] - found[14]).mean()  # between two images
    assert steps.min() > 0 and max(steps[-1], steps[0]) < 0.5 * jump  # none where the film starts again
    still = film(weights, [4, 9], 3, noise=False)
    other = drawn(model, weights, 9, noise=False)
    np.testing.assert_allclose(still[3], other[0], atol=2e-5)


def test_the_mean_image_does_not_move(weights):
    found = film(weights, [0, 1], 2, psi=0.0)
    np.testing.assert_allclose(found, np.broadcast_to(found[:1], found.shape), atol=1e-6)


def test_what_makes_no_film(weights):
    with pytest.raises(UserError, match="one seed id"):
        film(weights, [4], 7)
    with pytest.raises(UserError, match="task ddpm, which has no styles"):
        interpolate(DDPM, {}, shape=SHAPE, label_share=(), seed_ids=[0, 1], frames=2, changes={})


def test_settings_of_the_other_kind_of_model_are_named():
    with pytest.raises(UserError, match=r"diffusion model \(task ddpm\), whose sampler has no psi; it has method"):
        make_sampler(DDPM, {"psi": 0.7})
    with pytest.raises(UserError, match=r"StyleGAN \(task stylegan2\), whose sampler has no method and no steps"):
        make_sampler(CONFIG, {"method": "ddim", "steps": 5})
    assert make_sampler(CONFIG, {"psi": 0.5}).psi == 0.5
