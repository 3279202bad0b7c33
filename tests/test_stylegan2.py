"""StyleGAN2 in training: phases when they are due, one program, going on bit for bit, alike on one device and eight."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import QUICK

from configs import stylegan2
from memjax.artifacts.checkpoint import Checkpoints
from memjax.data.phantoms import draw
from memjax.errors import UserError
from memjax.keys import key_for
from memjax.mesh import put, replicated, state_shardings, train_mesh
from memjax.train.lazy import lazy_optimizer
from memjax.train.tasks import make_task

SIDE, BATCH = 16, 8
IMAGES = draw("chest", range(BATCH), size=(SIDE, SIDE)).images.astype(np.float32) / 127.5 - 1
LOCAL = {"image": IMAGES, "id": np.arange(BATCH, dtype=np.int32)}
SAME = 2e-3  # relative: sums over eight devices are in another order, and Adam's first steps divide by small numbers


def config(**changes):
    c = stylegan2.get_config("cxr5216,auto,smoke")
    c.regularize.path_every, c.regularize.r1_every = 2, 3
    c.update_from_flattened_dict(changes)
    return c.to_dict()


def task(mesh=None, label_share=(), channels=1, **changes):
    return make_task(
        config(**changes), shape=(SIDE, SIDE, channels), mesh=mesh or train_mesh(n_devices=1), label_share=label_share
    )


def ready(mesh, **changes):
    """Return a task, its first state, its shardings and its compiled step."""
    one = task(mesh, **changes)
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
    """Seven steps on one device: task, shardings, compiled step, all states and metrics."""
    mesh = train_mesh(n_devices=1)
    one, state, shardings, step = ready(mesh)
    states, told = advanced(step, state, mesh, 7)
    assert step._cache_size() == 1
    return one, shardings, step, states, told


def counts(states, network):
    return [int(state.optimizer[network][0].count) for state in states]


def test_phases_happen_when_they_are_due(run):
    *_, states, told = run
    # Adam is asked once a step, and once more whenever the lazy regularizer of its network is due.
    assert counts(states, "generator") == [0, 2, 3, 5, 6, 8, 9, 11]
    assert counts(states, "discriminator") == [0, 2, 3, 4, 6, 7, 8, 10]
    lengths, r1 = ([row[name] for row in told] for name in ("path_length", "r1"))
    assert [lengths[i] != lengths[i - 1] for i in range(1, 7)] == [False, True, False, True, False, True]
    assert [r1[i] != r1[i - 1] for i in range(1, 7)] == [False, False, True, False, False, True]
    assert [int(state.step) for state in states] == list(range(8))


def test_regularizers_of_no_weight_never_happen():
    one = task(**{"regularize.path_weight": 0.0, "regularize.gamma": 0.0})
    assert [phase.name for phase in one._phases] == ["generator", "discriminator"]


def test_a_run_that_goes_on_is_the_run(run, tmp_path):
    _, shardings, step, states, _ = run
    mesh = train_mesh(n_devices=1)
    with Checkpoints(tmp_path) as kept:  # between two regularizers of either network
        kept.save(4, jax.device_put(states[4], shardings), {"step": 4})
        kept.wait()
        placed = jax.tree.map(
            lambda leaf, sharding: jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype, sharding=sharding),
            states[4],
            shardings,
        )
        state, _, _ = kept.restore(placed)
    again, _ = advanced(step, state, mesh, 3)
    jax.tree.map(np.testing.assert_array_equal, again[-1], states[7])


def test_eight_devices_train_as_one_does(run):
    *_, told = run
    mesh = train_mesh(fsdp=2)
    _, state, _, step = ready(mesh)
    _, found = advanced(step, state, mesh, 3)
    for here, there in zip(found, told, strict=False):
        for name, value in here.items():
            np.testing.assert_allclose(value, there[name], rtol=SAME, atol=1e-5, err_msg=name)


def test_averages(run):
    one, *_, states, _ = run
    ema = states[0].ema
    for step, state in enumerate(states[1:], 1):
        ema = one._ema.update(ema, state.params["generator"], jnp.int32(step), BATCH)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), ema, states[-1].ema)
    w = one.gan.map(states[0].params["generator"], jax.random.normal(jax.random.key(0), (4096, one.gan.z_dim)))
    after = states[1].stats["w_avg"] / (1 - 0.995)  # one batch's mean, about that of all w
    np.testing.assert_allclose(after, w.mean(0), atol=5 * float(w.std()) / np.sqrt(BATCH))
    assert np.abs(after).max() > 0


def test_the_lazy_optimizer_moves_as_far():
    block = {"lr": 0.01, "betas": (0.0, 0.99), "epsilon": 1e-8, "warmup": 30}
    lazy = lazy_optimizer(block, 4)
    c = 4 / 5
    assert np.isclose(float(lazy.rate(10_000)), 0.01 * c)
    assert float(lazy.rate(19)) < 0.01 * c * 0.6 and np.isclose(float(lazy.rate(round(30 / c))), 0.01 * c, rtol=0.03)
    state = lazy.transform.init(jnp.zeros(()))
    _, state = lazy.transform.update(jnp.float32(2.0), state)
    np.testing.assert_allclose(state[0].nu, (1 - 0.99**c) * 4, rtol=1e-5)
    assert np.isclose(float(lazy_optimizer(block, 0).rate(10_000)), 0.01)


def test_ada_is_tuned_every_few_steps():
    one = task(**{"ada.enabled": True, "ada.speed_images": 1000, "ada.every": 4})
    zero = jnp.zeros(())
    stats = {"ada_p": jnp.float32(0.5), "sign_sum": jnp.float32(3.6), "r1": zero}
    held = one._with_tuned_ada(stats, jnp.int32(3))
    assert float(held["ada_p"]) == 0.5 and float(held["sign_sum"]) == np.float32(3.6)
    more = one._with_tuned_ada(stats, jnp.int32(4))  # the mean sign 0.9 is above 0.6: too sure of itself
    np.testing.assert_allclose(more["ada_p"], 0.5 + 4 * BATCH / 1000, rtol=1e-6)
    assert float(more["sign_sum"]) == 0
    less = one._with_tuned_ada({**stats, "sign_sum": jnp.float32(1.2)}, jnp.int32(4))
    np.testing.assert_allclose(less["ada_p"], 0.5 - 4 * BATCH / 1000, rtol=1e-6)
    off = task(**{"ada.every": 4})._with_tuned_ada(stats, jnp.int32(4))
    assert float(off["ada_p"]) == 0.5


def test_evaluation_is_the_mean_logit_of_what_is_no_padding(run):
    one, *_, states, _ = run
    state = jax.tree.map(jnp.asarray, states[-1])
    mask = np.arange(BATCH) < 5
    told = one.evaluate(state, {"heldout": [put(train_mesh(n_devices=1), {**LOCAL, "mask": mask})]})
    expected = np.asarray(one.gan.criticize(state.params["discriminator"], jnp.asarray(IMAGES)))[:5].mean()
    np.testing.assert_allclose(told["heldout/logit"], expected, rtol=1e-4)


def test_images_of_a_state_are_those_of_its_weights(run):
    one, *_, states, _ = run
    state = jax.tree.map(jnp.asarray, states[-1])
    found = one.draw(state, np.arange(3))
    weights = one.weights(state)
    expected = one.gan.draw(weights["generator"], weights["w_avg"], jnp.arange(3), one._truncation)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.shape == (3, SIDE, SIDE, 1) and np.abs(found).max() <= 1


@pytest.mark.parametrize(
    ("changes", "channels", "words"),
    [
        ({"batch_size": 6}, 1, "batch of 6 images does not divide into groups of 4"),
        ({"mixing": 1.5}, 1, "config.mixing=1.5"),
        ({"regularize.path_every": 0}, 1, "regularize.path_every=0"),
        ({"regularize.gamma": -1.0}, 1, "regularize.gamma=-1.0"),
        ({"ada.enabled": True, "ada.colour": True}, 5, "ada.colour=False"),
        ({"sampler.psi": 1.5}, 1, "psi=1.5"),
    ],
)
def test_what_makes_no_training(changes, channels, words):
    with pytest.raises(UserError, match=words):
        task(channels=channels, **changes)


def test_labels_reach_both_networks():
    one = task(label_share=(0.5, 0.5))
    state = jax.eval_shape(one.init, key_for(0, "init"))
    batch = {**LOCAL, "label": np.zeros(BATCH, np.int32)}
    after, told = jax.eval_shape(one.step, state, batch)
    assert jax.tree.map(lambda leaf: leaf.shape, after) == jax.tree.map(lambda leaf: leaf.shape, state)
    assert told["loss_generator"].shape == ()
    with pytest.raises(UserError, match="n_classes"):
        jax.eval_shape(task().step, jax.eval_shape(task().init, key_for(0, "init")), batch)


def test_accelerators_get_low_precision_at_the_highest_resolutions():
    low = {"low_precision": 1, "dtype": "bfloat16"}
    one = task(
        **{f"{network}.{key}": value for network in ("synthesis", "discriminator") for key, value in low.items()}
    )
    state = jax.eval_shape(one.init, key_for(0, "init"))
    batch = {name: jax.ShapeDtypeStruct(values.shape, values.dtype) for name, values in LOCAL.items()}
    text = jax.jit(one.step).trace(state, batch).lower(lowering_platforms=("tpu", "cuda")).as_text()
    convolutions = [line for line in text.splitlines() if "stablehlo.convolution" in line]
    assert any(f"x{SIDE}x{SIDE}x" in line and "xbf16>" in line for line in convolutions)
    assert any("x8x8x" in line and "xbf16>" not in line for line in convolutions)
    after, _ = jax.eval_shape(one.step, state, batch)
    assert {leaf.dtype for leaf in jax.tree.leaves(after.params)} == {jnp.dtype("float32")}
