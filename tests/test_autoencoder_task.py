"""The autoencoder in training: one gradient of all that is asked, critics from their step on, alike on 8 devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import QUICK

from configs import latent3d
from memjax.artifacts.checkpoint import Checkpoints
from memjax.data.phantoms import draw
from memjax.errors import UserError
from memjax.keys import key_at, key_for
from memjax.mesh import put, replicated, state_shardings, train_mesh
from memjax.objectives import quantize
from memjax.train.tasks import make_task
from memjax.trees import norm

BATCH, SIZE = 8, (8, 8, 8)
IMAGES = draw("vessel", range(BATCH), size=SIZE).images.astype(np.float32) / 127.5 - 1
LOCAL = {"image": IMAGES, "id": np.arange(BATCH, dtype=np.int32)}
START = 2


def config(*words, **changes):
    c = latent3d.get_config(",".join(["pccta", "autoencoder", "smoke", *words]))
    c.batch_size, c.adversary.start = BATCH, START
    c.update_from_flattened_dict(changes)
    return c.to_dict()


def task(*words, mesh=None, shape=(*SIZE, 1), **changes):
    return make_task(config(*words, **changes), shape=shape, mesh=mesh or train_mesh(n_devices=1))


def ready(mesh, *words, **changes):
    one = task(*words, mesh=mesh, **changes)
    key = key_for(0, "init")
    shardings = state_shardings(mesh, jax.eval_shape(one.init, key))
    state = jax.jit(one.init, out_shardings=shardings, compiler_options=QUICK)(key)
    step = jax.jit(one.step, donate_argnums=0, out_shardings=(shardings, replicated(mesh)), compiler_options=QUICK)
    return one, state, shardings, step


def advanced(step, state, mesh, steps):
    states, told = [jax.device_get(state)], []
    for _ in range(steps):
        state, metrics = step(state, put(mesh, LOCAL))
        states.append(jax.device_get(state))
        told.append({name: float(value) for name, value in metrics.items()})
    return states, told


@pytest.fixture(scope="module")
def run():
    """Five steps on one device: task, shardings, compiled step, all states and metrics."""
    mesh = train_mesh(n_devices=1)
    one, state, shardings, step = ready(mesh)
    states, told = advanced(step, state, mesh, 5)
    assert step._cache_size() == 1
    return one, shardings, step, states, told


def quick(function, *arguments):
    return jax.jit(function, compiler_options=QUICK)(*arguments)


def differ(a, b):
    return any(not np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def test_critics_begin_at_their_step(run):
    *_, states, told = run
    for k in range(5):
        assert differ(states[k].critics, states[k + 1].critics) == (k >= START)
        assert (told[k]["loss_critics"] != 0) == (k >= START)
        assert differ(states[k].params, states[k + 1].params)


def test_the_first_codes_are_of_the_first_batch(run):
    one, *_, states, _ = run
    h = quick(one.autoencoder.encode, states[0].params, IMAGES).reshape(-1, 8)
    ids = quick(quantize.nearest, h, states[1].codebook.codes)
    assert not states[0].codebook.codes.any() and len(np.unique(ids)) > 8
    assert np.abs(states[1].codebook.codes).max() <= np.abs(h).max()


def test_the_gradient_is_that_of_all_that_is_asked(run):
    """One sum, differentiated outright, instead of parts whose gradients by the image are added."""
    one, *_, states, _ = run
    state = jax.tree.map(jnp.asarray, states[3])
    x = jnp.asarray(IMAGES)
    slice_key = key_at(key_for(0, "slice"), state.step)

    def total(params):
        h = one.autoencoder.encode(params, x)
        q = state.codebook.codes[quantize.nearest(h, state.codebook.codes)]
        y = one.autoencoder.decode(params, h + jax.lax.stop_gradient(q - h))
        asked = one._critics._asked(state.critics["params"], x, y, slice_key)
        return 4 * jnp.abs(x - y).mean() + 0.25 * jnp.square(h - jax.lax.stop_gradient(q)).mean() + asked

    expected = norm(quick(jax.grad(total), state.params))
    assert run[-1][3]["grad_norm"] == pytest.approx(float(expected), rel=1e-3)
    assert run[-1][3]["grad_norm"] > 0


def test_a_run_that_goes_on_is_the_run(run, tmp_path):
    _, shardings, step, states, _ = run
    mesh = train_mesh(n_devices=1)
    with Checkpoints(tmp_path) as kept:
        kept.save(3, jax.device_put(states[3], shardings), {"step": 3})
        kept.wait()
        placed = jax.tree.map(
            lambda leaf, sharding: jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype, sharding=sharding),
            states[3],
            shardings,
        )
        state, _, _ = kept.restore(placed)
    again, _ = advanced(step, state, mesh, 2)
    jax.tree.map(np.testing.assert_array_equal, again[-1], states[5])


def test_eight_devices_train_the_same(run):
    *_, states, told = run
    mesh = train_mesh(fsdp=2)
    _, state, _, step = ready(mesh)
    others, also_told = advanced(step, state, mesh, 3)
    for mine, other in zip(told[:3], also_told, strict=True):
        assert other == pytest.approx(mine, rel=5e-3, abs=5e-4)
    np.testing.assert_allclose(others[3].codebook.counts, states[3].codebook.counts, atol=1e-4)


def test_it_learns_what_it_sees():
    mesh = train_mesh(n_devices=1)
    one, state, _, step = ready(
        mesh, **{"adversary.volume": 0.0, "adversary.slices": 0.0, "optim.lr": 5e-3, "codebook.n_codes": 64}
    )
    assert state.critics == {}
    batch = {**{name: jnp.asarray(value) for name, value in LOCAL.items()}, "mask": jnp.ones(BATCH, bool)}
    before = one.evaluate(state, {"train": [batch]})
    for _ in range(60):
        state, told = step(state, put(mesh, LOCAL))
    after = one.evaluate(state, {"train": [batch]})
    assert after["train/psnr"] > before["train/psnr"] + 3 and after["train/ssim"] > before["train/ssim"]
    assert 1 < after["train/perplexity"] <= 64 and 0 <= after["train/unused_codes"] < 1
    assert float(told["loss"]) < 2 and after["train/latent_std"] > 0
    shown = one.preview(state, {"train": [batch]})["reconstructed_train"]
    assert shown.shape == (16, *SIZE, 1)
    np.testing.assert_array_equal(shown[::2], IMAGES)


def test_padding_of_a_batch_does_not_count(run):
    one, *_, states, _ = run
    state = jax.tree.map(jnp.asarray, states[-1])
    batch = {"image": jnp.asarray(IMAGES), "mask": jnp.arange(BATCH) < 3}
    spoilt = {**batch, "image": batch["image"].at[3:].set(0.5)}
    found, other = (one.evaluate(state, {"train": [part]}) for part in (batch, spoilt))
    assert found == pytest.approx(other, rel=1e-5)


def test_a_gaussian_is_trained_as_well():
    mesh = train_mesh(n_devices=1)
    one, state, _, step = ready(mesh, "kl", **{"adversary.volume": 0.0, "optim.lr": 5e-3})
    assert state.codebook is None and "codes" not in one.weights(state)
    told = []
    for _ in range(20):
        state, found = step(state, put(mesh, LOCAL))
        told.append({name: float(value) for name, value in found.items()})
    assert told[-1]["l1"] < told[0]["l1"] and told[-1]["kl"] > 0
    mean, log_variance = quick(one.autoencoder.posterior, state.params, IMAGES)
    kl = 0.5 * (mean**2 + jnp.exp(log_variance) - 1 - log_variance)
    _, found = step(state, put(mesh, LOCAL))
    assert float(found["kl"]) == pytest.approx(float(kl.sum() / BATCH), rel=1e-4)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"loss.l1": -1.0}, ["loss.l1=-1.0"]),
        ({"loss.slice_axis": 3}, ["slice_axis=3", "0 to 2"]),
        ({"codebook.n_codes": 1}, ["n_codes=1"]),
        ({"adversary.loss": "wgan"}, ["'wgan'", "hinge"]),
        ({"adversary.start": -1}, ["adversary.start=-1"]),
        ({"loss.perceptual": 1.0, "perceptual.kind": "lpips"}, ["perceptual.file"]),
        ({"loss.perceptual": 1.0}, ["loss.perceptual=1.0", "do not go together"]),
        ({"loss.perceptual": 1.0, "perceptual.kind": "random"}, ["8 x 8", "too small"]),
        ({"batch_size": 0}, ["batch of 0"]),
    ],
)
def test_what_it_refuses(changes, words):
    with pytest.raises(UserError) as told:
        task(**changes)
    assert all(word in str(told.value) for word in words), told.value


def test_pictures_have_no_slices():
    with pytest.raises(UserError, match=r"adversary\.slices is for volumes"):
        task(shape=(8, 8, 1), **{"autoencoder.downsample": (2, 2)})
    assert task(shape=(8, 8, 1), **{"autoencoder.downsample": (2, 2), "adversary.slices": 0.0})


def test_it_draws_nothing(run):
    with pytest.raises(UserError, match="draws no images"):
        run[0].draw(run[3][-1], np.arange(3))
