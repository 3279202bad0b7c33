"""The diffusion model in training: it learns, the same on one device and on eight, whatever the microbatches."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import QUICK

from memjax.data.phantoms import draw
from memjax.errors import UserError
from memjax.keys import key_for
from memjax.mesh import put, replicated, state_shardings, train_mesh
from memjax.objectives.steppers import Sampler
from memjax.train.tasks import make_task

SHAPE = (12, 12, 1)
CONFIG = {
    "task": "ddpm",
    "seed": 0,
    "batch_size": 8,
    "microbatches": 1,
    "drop_label": 0.5,
    "model": {"width": 12, "mults": (1,), "blocks": 1, "attention": (), "heads": 1, "groups": 4},
    "diffusion": {"steps": 40, "schedule": "cosine", "target": "v"},
    "optim": {"lr": 2e-3, "warmup": 10},
    "ema": {"decay": 0.9},
    "sampler": {"method": "ddim", "steps": 10},
}
IMAGES = draw("chest", range(8), size=SHAPE[:-1]).images.astype(np.float32) / 127.5 - 1
BATCH = {"image": IMAGES, "id": np.arange(8, dtype=np.int32)}
ONE = train_mesh(n_devices=1)
SAME = 2e-4  # relative: sums over eight devices and over one are in another order


def task(mesh=None, label_share=(), **changes):
    return make_task({**CONFIG, **changes}, shape=SHAPE, mesh=mesh or train_mesh(), label_share=label_share)


def started(one, mesh):
    key = key_for(0, "init")
    shardings = state_shardings(mesh, jax.eval_shape(one.init, key))
    return jax.jit(one.init, out_shardings=shardings, compiler_options=QUICK)(key), shardings


def losses(steps, *, mesh=None, label_share=(), batch=BATCH, **changes):
    """Train, and return the loss of every step and the last state."""
    mesh = mesh or train_mesh()
    one = task(mesh, label_share, **changes)
    state, shardings = started(one, mesh)
    step = jax.jit(one.step, donate_argnums=0, out_shardings=(shardings, replicated(mesh)))
    found = []
    for _ in range(steps):
        state, metrics = step(state, put(mesh, batch))
        found.append(float(metrics["loss"]))
    assert step._cache_size() == 1
    return np.array(found), state


@pytest.fixture(scope="module")
def trained():
    return losses(500, mesh=ONE)


@pytest.fixture(scope="module")
def one():
    return task(ONE)


def test_eight_phantoms_are_learnt_by_heart(trained):
    found, _ = trained
    assert np.mean(found[-20:]) < 0.25 * np.mean(found[:5])


def test_the_loss_of_training_images_falls_at_every_noise_level(one, trained):
    before, _ = started(one, ONE)
    sets = [{"train": [put(ONE, {**BATCH, "mask": np.arange(8) < 6})]} for _ in range(2)]
    first, last = one.evaluate(before, sets[0]), one.evaluate(trained[1], sets[1])
    assert len(first) == 11 and set(first) == set(last)
    assert all(last[name] < first[name] for name in first)
    assert last["train/loss"] == pytest.approx(np.mean([v for name, v in last.items() if "_t" in name]))


def test_masked_images_do_not_count(one):
    state, _ = started(one, ONE)
    masked = {**BATCH, "mask": np.arange(8) < 5}
    other = {**masked, "image": np.where((np.arange(8) < 5)[:, None, None, None], IMAGES, 1.0).astype(np.float32)}
    found = [one.evaluate(state, {"a": [put(ONE, several)]}) for several in (masked, other)]
    assert found[0] == found[1]


def test_samples_are_of_their_seed_alone(one, trained):
    whole = one.draw(trained[1], np.arange(20))
    assert whole.shape == (20, *SHAPE) and np.abs(whole).max() <= 1
    np.testing.assert_allclose(one.draw(trained[1], np.array([17, 3])), whole[[17, 3]], atol=1e-5)
    np.testing.assert_allclose(one.preview(trained[1], {})["samples"], whole[:16], atol=1e-5)


def test_samples_are_nearer_to_what_was_trained_on_than_to_other_people(one, trained):
    drawn = one.draw(trained[1], np.arange(32)).reshape(32, -1)
    others = draw("chest", range(100, 108), size=SHAPE[:-1]).images
    known, unknown = (np.corrcoef(drawn, images.reshape(8, -1))[:32, 32:].max(1) for images in (IMAGES, others))
    nearer = known - unknown
    assert nearer.mean() > 4 * nearer.std() / np.sqrt(32)


@pytest.mark.parametrize("fsdp", [1, 2])
def test_one_device_and_eight_learn_alike(fsdp, trained):
    found, _ = losses(6, mesh=train_mesh(fsdp))
    np.testing.assert_allclose(found, trained[0][:6], rtol=SAME)


def test_microbatches_learn_alike(trained):
    found, _ = losses(6, mesh=train_mesh(n_devices=2), microbatches=4)
    np.testing.assert_allclose(found, trained[0][:6], rtol=SAME)


def test_labels_condition_and_are_hidden_at_times():
    label = np.arange(8, dtype=np.int32) % 2
    found, state = losses(40, label_share=(0.5, 0.5), batch={**BATCH, "label": label}, mesh=train_mesh(n_devices=1))
    assert np.mean(found[-5:]) < np.mean(found[:5])
    denoiser, ids = task(label_share=(0.5, 0.5)).denoiser, jnp.zeros(3, jnp.int32)
    sampler = Sampler(method="ddim", steps=3)

    def drawn(labels, **more):
        return denoiser.draw(state.ema, ids, dataclasses.replace(sampler, **more), jnp.array(labels, jnp.int32))

    plain = drawn([0, 1, 2])  # the same noise; 2 is nobody's label
    assert np.abs(np.asarray(plain[0] - plain[1])).max() > 1e-3
    np.testing.assert_allclose(drawn([0, 1, 2], guidance=1e-6), plain, atol=1e-4)
    guided = drawn([0, 1, 2], guidance=3.0)
    np.testing.assert_allclose(guided[2], plain[2], atol=1e-4)  # nothing to be guided by
    assert np.abs(np.asarray(guided[0] - plain[0])).max() > 1e-3


@pytest.mark.parametrize(("changes", "told"), [
    ({"task": "gan"}, "no task 'gan'; config.task must be one of ddpm"),
    ({"model": {"widht": 8}}, "config.model.widht does not exist; did you mean 'width'"),
    ({"optim": {}}, "config.optim.lr is missing"),
    ({"ema": {"decay": 0.9, "steps": 3}}, "config.ema.steps does not exist"),
    ({"diffusion": {"target": "noise"}}, "diffusion.target='noise'"),
])  # fmt: skip
def test_a_config_that_does_not_fit_is_told_by_key(changes, told):
    with pytest.raises(UserError, match=told):
        task(**changes)
