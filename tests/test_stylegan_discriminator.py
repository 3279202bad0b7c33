"""The discriminator: layers of unit second moment, groups that no device split changes, classes that are judged."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import jit

from memjax.errors import UserError
from memjax.mesh import batch_sharding, replicated, train_mesh
from memjax.models.stylegan_discriminator import Discriminator, minibatch_std
from memjax.trees import named_leaves
from tests.small_gan import DISCRIMINATOR, KEY, awake, layers_of, moment


def images(n=8, channels=1, side=16, seed=2):
    return jnp.asarray(np.random.default_rng(seed).uniform(-1, 1, (n, side, side, channels)), jnp.float32)


def test_every_layer_starts_with_unit_second_moment():
    net = Discriminator(16, 16, base=1024, max_channels=64)
    x = images(32, 16)
    found = jit(lambda p: layers_of(net, p, x, constant=True))(awake(net.init, x, by=0))
    moments = {name: moment(y) for name, (_, y) in found.items() if name}
    assert len(moments) == 1 + 2 * 3 + 1 + 2
    for name, value in moments.items():
        assert value == pytest.approx(1, rel=1.0 if name == "out" else 0.25), name
    assert np.median(list(moments.values())) == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize(("group", "channels"), [(4, 1), (2, 3), (8, 2)])
def test_minibatch_std_equals_numpy(group, channels):
    x = np.random.default_rng(3).standard_normal((8, 3, 5, 6))
    expected = np.empty((8, 3, 5, channels))
    for first in range(0, 8, group):
        part = x[first : first + group]
        for i, maps in enumerate(np.split(part, channels, -1)):
            expected[first : first + group, ..., i] = np.std(maps, 0).mean()
    y = jax.jit(lambda x: minibatch_std(x, group, channels))(jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(y, expected, rtol=1e-5)
    same = minibatch_std(jnp.ones((group, 2, 2, channels)), group, channels)
    assert np.all(np.asarray(same) < 1e-3) and np.all(np.isfinite(same))


@pytest.fixture(scope="module")
def small():
    """Return a discriminator, compiled, with images and what it says."""
    net, x = Discriminator(16, 1, group=2, **DISCRIMINATOR), images()
    params, apply = awake(net.init, x), jit(net.apply)
    return apply, params, x, np.asarray(apply(params, x))


def test_one_device_equals_eight(small):
    apply, params, x, y = small
    mesh = train_mesh()
    assert mesh.size == len(x) == 8  # one image on each, so that every group is on two
    out = apply(jax.device_put(params, replicated(mesh)), jax.device_put(x, batch_sharding(mesh)))
    np.testing.assert_allclose(out, y, rtol=1e-5, atol=1e-5)


def test_only_a_group_sees_its_images(small):
    apply, params, x, y = small
    changed = np.asarray(apply(params, x.at[2].mul(0.1)))
    assert np.all(np.abs(changed - y)[2:4] > 1e-4)
    np.testing.assert_array_equal(np.delete(changed, (2, 3)), np.delete(y, (2, 3)))
    order = np.array([4, 5, 0, 1, 7, 6, 3, 2])
    np.testing.assert_allclose(apply(params, x[order]), y[order], rtol=1e-5, atol=1e-5)


def test_residual_averages_what_goes_past():
    net, x = Discriminator(16, 3, **DISCRIMINATOR), images(4, 3)
    found = jit(lambda p, x: layers_of(net, p, x))(awake(net.init, x), x)

    def activated(name):
        y = np.asarray(found[name][1])
        return np.sqrt(2) * np.where(y > 0, y, 0.2 * y)

    np.testing.assert_allclose(found["conv_16_0"][0], activated("rgb_16"), atol=1e-6)
    mean = np.sqrt(0.5) * (activated("conv_16_1") + np.asarray(found["past_16"][1]))
    np.testing.assert_allclose(found["conv_8_0"][0], mean, atol=1e-5)
    std = np.std(found["conv_4"][0][..., :-1], 0).mean()
    np.testing.assert_allclose(found["conv_4"][0][..., -1], std, rtol=1e-4)


@pytest.mark.parametrize("architecture", ["residual", "skip", "plain"])
@pytest.mark.parametrize(("resolution", "channels"), [(16, 5), (64, 1)])
def test_shapes(architecture, resolution, channels):
    net = Discriminator(resolution, channels, architecture=architecture, **DISCRIMINATOR)
    out, params = jax.eval_shape(net.init_with_output, KEY, images(8, channels, resolution))
    assert out.shape == (8,) and out.dtype == jnp.float32
    names = {name.split("/")[1] for name in named_leaves(params)}
    assert ("rgb_4" in names) == (architecture == "skip") and f"rgb_{resolution}" in names
    assert ("past_8" in names) == (architecture == "residual")


def test_skip_sees_the_image_at_every_resolution():
    net, x = Discriminator(16, 1, architecture="skip", **DISCRIMINATOR), images()
    found = jit(lambda p, x: layers_of(net, p, x))(awake(net.init, x), x)
    for side in (16, 8, 4):
        seen = np.asarray(found[f"rgb_{side}"][0])
        assert seen.shape == (8, side, side, 1) and np.any(seen)
    for name in ("conv_8_0", "conv_4"):  # what the image adds is there, and not alone
        y = np.asarray(found[f"rgb_{name.split('_')[1]}"][1])
        added = np.asarray(found[name][0])[..., : y.shape[-1]] - np.sqrt(2) * np.where(y > 0, y, 0.2 * y)
        before = np.asarray(found[f"conv_{2 * int(name.split('_')[1])}_1"][1])
        np.testing.assert_allclose(added, np.sqrt(2) * np.where(before > 0, before, 0.2 * before), atol=1e-5)


def test_a_class_is_judged():
    net, x = Discriminator(16, 1, n_classes=3, **DISCRIMINATOR), images()
    x, labels = jnp.broadcast_to(x[:1], x.shape), jnp.arange(8) % 3
    params = awake(net.init, x, labels)
    found = jit(lambda p, *args: layers_of(net, p, *args))(params, x, labels)
    y = np.asarray(found[""][1])
    assert min(np.abs(y[0] - y[1]), np.abs(y[1] - y[2]), np.abs(y[0] - y[2])) > 1e-3
    np.testing.assert_allclose(y[:3], y[3:6], rtol=1e-5)
    h = np.asarray(found["mapping/dense_0"][1])
    of_class = np.sqrt(2) * np.where(h > 0, h, 0.2 * h)
    np.testing.assert_allclose(y, (np.asarray(found["out"][1]) * of_class).sum(-1) / np.sqrt(8), rtol=1e-4, atol=1e-6)


def test_low_precision_is_for_the_highest_resolutions_and_stays_near(small):
    _, params, x, y = small
    low = Discriminator(16, 1, group=2, low_precision=1, dtype="bfloat16", clamp=256.0, **DISCRIMINATOR)
    found = jit(lambda p, x: layers_of(low, p, x))(params, x)
    half = {name for name, (_, y) in found.items() if y.dtype == jnp.bfloat16}
    assert half == {"rgb_16", "conv_16_0", "conv_16_1", "past_16"}
    assert 1e-5 < np.abs(np.asarray(found[""][1]) - y).max() / np.abs(y).max() < 0.05


@pytest.mark.parametrize(
    ("changes", "shape", "says"),
    [
        ({}, (6, 16, 16, 1), "batch of 6 images .* groups of 4 .* give 4 or 8 images, or set group to 2"),
        ({}, (3, 16, 16, 1), "batch of 3 .* give 4 images, or set group to 1"),
        ({}, (4, 16, 8, 1), "images of 16 x 8 x 1, the discriminator is for 16 x 16 x 1"),
        ({}, (4, 16, 16, 3), "images of 16 x 16 x 3"),
        ({"resolution": 20}, (4, 20, 20, 1), "images of 20 x 20: .* 16 or 32"),
        ({"architecture": "orig"}, (4, 16, 16, 1), "architecture='orig' is not known; give skip, residual or plain"),
    ],
)
def test_mistakes_are_told(changes, shape, says):
    net = Discriminator(**{"resolution": 16, "channels": 1, **DISCRIMINATOR, **changes})
    with pytest.raises(UserError, match=says):
        jax.eval_shape(net.init, KEY, jnp.zeros(shape))
