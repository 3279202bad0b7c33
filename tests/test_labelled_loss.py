"""What is told of a model that knows labels, for sets that come without, is a loss of something that was trained."""

import jax.numpy as jnp
import numpy as np
import pytest

from memjax.mesh import put, train_mesh
from memjax.models.denoiser import Denoiser
from memjax.models.unet import UNet
from memjax.objectives.diffusion import Diffusion
from memjax.objectives.steppers import Sampler
from memjax.train.ddpm import Ddpm
from memjax.train.ema import Ema
from memjax.train.optim import make_optimizer
from memjax.train.state import State

SAID = np.float32([0.5, -1.0, 2.0, 7.0])  # of three classes and of nobody's
SHARE = (0.5, 0.2, 0.3)


class Speaker(Denoiser):
    """Predicts for each label its own image, the same everywhere."""

    def output(self, params, xt, t, label=None, dropout_key=None):
        return jnp.asarray(SAID)[label][:, None, None, None] * jnp.ones_like(xt)


@pytest.mark.parametrize("drop_label", [0.0, 0.1])
def test_the_label_is_nobodys_if_training_knows_it_and_else_everybodys_in_turn(drop_label):
    diffusion = Diffusion(steps=10, schedule="cosine", target="x0", loss="l2")
    network = UNet(channels=1, width=4, mults=(1,), blocks=1, attention=(), heads=1, groups=2)
    mesh = train_mesh(n_devices=1)
    task = Ddpm(
        Speaker((4, 4, 1), network, diffusion, 3),
        optimizer=make_optimizer(lr=1e-3),
        ema=Ema(decay=0.9),
        sampler=Sampler(method="ddim", steps=2),
        batch_size=2,
        seed=0,
        mesh=mesh,
        drop_label=drop_label,
        label_share=SHARE,
    )
    state = State(step=np.int32(0), params={}, optimizer=(), ema={})
    batch = {"image": np.full((2, 4, 4, 1), 0.25, np.float32), "id": np.arange(2), "mask": np.array([True, False])}
    batch["id"] = batch["id"].astype(np.int32)
    told = task.evaluate(state, {"heldout": [put(mesh, batch)]})
    loss = (SAID - 0.25) ** 2  # of every noise level, as the image itself is predicted
    expected = loss[3] if drop_label else float(np.dot(loss[:3], SHARE))
    assert len(told) == 11 and list(told.values()) == pytest.approx([expected] * 11)
