"""Both stages of latent diffusion, at full size and abstractly: every config builds, and the second fits the first."""

import jax
import pytest

from configs import latent3d
from memjax.keys import key_for
from memjax.mesh import train_mesh
from memjax.train.tasks import make_task
from memjax.trees import count

SHAPES = {
    "pccta": (64, 64, 64, 1),
    "mrnet": (256, 256, 32, 1),
    "brats64": (64, 64, 64, 1),
    "brats128": (128, 128, 128, 1),
}


def stages(words, shape):
    """Return both stages' tasks for images of this shape."""
    mesh = train_mesh(n_devices=1)
    first = latent3d.get_config(f"{words},autoencoder")
    first.perceptual.kind = "random"  # the weights of LPIPS do not ship with the code
    coder = make_task(first.to_dict(), shape=shape, mesh=mesh)
    second = latent3d.get_config(f"{words},ddpm")
    return coder, make_task(second.to_dict(), shape=coder.autoencoder.latent_shape, mesh=mesh)


def parameters(task):
    return count(jax.eval_shape(task.init, key_for(0, "init")).params)


@pytest.mark.parametrize(
    ("words", "latent", "coder_size", "unet_size"),
    [
        ("pccta", (32, 32, 32, 8), 266_825, 9_981_512),
        ("mrnet", (32, 32, 4, 8), 5_884_201, 9_981_512),
        ("mrnet,low", (64, 64, 8, 8), 1_391_081, None),
        ("brats64", (32, 32, 32, 8), 266_825, 9_981_512),
        ("brats128", (16, 16, 16, 8), 5_884_201, None),
        ("pccta,kl", (32, 32, 32, 3), None, None),
        ("pccta,f32,khader-64", (32, 32, 32, 8), None, None),
    ],
)
def test_the_stages_fit(words, latent, coder_size, unet_size):
    coder, ddpm = stages(words, SHAPES[words.split(",")[0]])
    assert coder.autoencoder.latent_shape == latent
    assert coder_size in (None, parameters(coder)) and unet_size in (None, parameters(ddpm))


def test_what_ran_is_what_is_set():
    first, second = (latent3d.get_config(f"mrnet,{stage}") for stage in ("autoencoder", "ddpm"))
    assert (first.optim.lr, first.optim.betas, first.adversary.start, first.batch_size) == (
        1.875e-5,
        (0.5, 0.9),
        5000,
        2,
    )
    assert (first.loss.l1, first.loss.perceptual, first.loss.commitment, first.adversary.features) == (4, 4, 0.25, 4)
    d = second.diffusion
    assert (d.steps, d.schedule, d.target, d.loss) == (300, "cosine", "eps", "l1")
    assert (second.ema.decay, second.ema.every, second.ema.copy_until) == (0.995, 10, 2000)
    assert (second.sampler.method, second.sampler.steps, second.batch_size // second.microbatches) == (
        "ancestral",
        300,
        10,
    )
    assert not first.augment.enabled and not second.augment.enabled


def test_augmentation_is_one_word():
    flips, both = (latent3d.get_config(f"mrnet,autoencoder,{word}").augment for word in ("flips", "rotations"))
    assert flips.enabled and flips.flip_axes == (1,) and flips.rotate_degrees == 0
    assert both.enabled and both.rotate_degrees == 5 and both.rotate_plane == (0, 1)
    with pytest.raises(ValueError, match="prepare --latents"):
        latent3d.get_config("mrnet,ddpm,flips")
    with pytest.raises(ValueError, match="'knee' is none of"):
        latent3d.get_config("knee")
