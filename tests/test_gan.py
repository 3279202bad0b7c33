"""Images are functions of their seed ids, truncation pulls them to the average, classes change them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import jit

from memjax.errors import UserError
from memjax.mesh import batch_sharding, replicated, train_mesh
from memjax.models.gan import Truncation, gan
from memjax.trees import named_leaves
from tests.small_gan import DISCRIMINATOR, KEY, MAPPING, SYNTHESIS, awake, small_gan

IDS = jnp.array([0, 1, 2, 3, 7, 2**31 - 1, 1000, 5], jnp.int32)


def drawer(model, truncation):
    def draw(params, w_avg, ids, label):
        return model.draw(params["generator"], w_avg, ids, truncation, label)

    return jit(draw)


@pytest.fixture(scope="module")
def small():
    """Return a model of three classes, what draws from it, its parameters, an average style, labels and images."""
    model = small_gan(channels=5, n_classes=3)
    params = awake(model.init)
    w_avg = jnp.asarray(np.random.default_rng(5).standard_normal(model.w_dim), jnp.float32)
    label, draw = IDS % 3, drawer(model, Truncation(0.7))
    return model, draw, params, w_avg, label, np.asarray(draw(params, w_avg, IDS, label))


def test_parameters_are_in_two_parts():
    model = small_gan()
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    assert {name: sorted(part) for name, part in shapes.items()}["generator"] == ["mapping", "synthesis"]
    assert set(shapes) == {"generator", "discriminator"}
    assert (model.z_dim, model.w_dim, model.styles, model.shape) == (6, 5, 6, (16, 16, 1))
    assert {leaf.dtype for leaf in named_leaves(shapes).values()} == {jnp.dtype("float32")}


def test_an_image_is_a_function_of_its_seed_id(small):
    _, draw, params, w_avg, label, images = small
    assert images.shape == (8, 16, 16, 5) and images.dtype == np.float32
    assert np.abs(images).max() <= 1 and min(np.std(images, axis=(1, 2, 3))) > 0.05
    assert min(np.abs(images[i] - images[j]).max() for i in range(8) for j in range(i)) > 0.05
    order = np.array([3, 7, 0, 0, 5, 6, 2, 4])  # in other company, bit for bit
    again = draw(params, w_avg, IDS[order], label[order])
    np.testing.assert_array_equal(again, images[order])
    for part in (slice(0, 2), slice(6, 8)):  # fewer at a time: matrix products may sum in another order
        again = draw(params, w_avg, IDS[part], label[part])
        np.testing.assert_allclose(again, images[part], rtol=2e-5, atol=2e-5)


def test_one_device_equals_eight(small):
    _, draw, params, w_avg, label, images = small
    mesh = train_mesh()
    assert mesh.size == 8
    whole, split = replicated(mesh), batch_sharding(mesh)
    params, w_avg = jax.device_put((params, w_avg), whole)
    out = draw(params, w_avg, *jax.device_put((IDS, label), split))
    np.testing.assert_allclose(out, images, rtol=2e-5, atol=2e-5)


def test_without_noise_and_truncated_to_the_average_all_images_are_one(small):
    model, _, params, w_avg, label, _ = small
    average = drawer(model, Truncation(0.0, noise=False))(params, w_avg, IDS, label)
    ws = jnp.broadcast_to(w_avg, (1, model.styles, model.w_dim))
    expected = jnp.clip(jit(model.synthesize)(params["generator"], ws), -1, 1)
    np.testing.assert_allclose(average, jnp.broadcast_to(expected, average.shape), atol=1e-5)


def test_a_class_changes_the_image(small):
    model, draw, params, w_avg, label, images = small
    others = np.asarray(draw(params, w_avg, IDS, (label + 1) % 3))
    assert np.abs(others - images).max(axis=(1, 2, 3)).min() > 1e-2
    with pytest.raises(UserError, match="n_classes=3, but there are no labels"):
        model.map(params["generator"], jnp.zeros((1, 6)))


def test_truncation_interpolates_the_first_styles():
    rng = np.random.default_rng(6)
    w, w_avg = (jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in ((3, 5), 5))
    whole = np.broadcast_to(np.asarray(w)[:, None], (3, 6, 5))
    np.testing.assert_array_equal(Truncation().styles(w, w_avg, 6), whole)
    np.testing.assert_array_equal(Truncation(0.0).styles(w, w_avg, 6), np.broadcast_to(w_avg, (3, 6, 5)))
    half = np.asarray(Truncation(0.5, layers=2).styles(w, w_avg, 6))
    np.testing.assert_array_equal(half[:, 2:], whole[:, 2:])
    np.testing.assert_allclose(half[:, :2], (whole[:, :2] + np.asarray(w_avg)) / 2, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(Truncation(0.5, layers=8).styles(w, w_avg, 6), Truncation(0.5).styles(w, w_avg, 6))


def test_noise_is_standard_normal_and_its_own_key_s():
    model = small_gan()
    noise = jit(lambda: model.noise(KEY, 64))()
    assert [part.shape for part in noise] == [(64, side, side, 1) for side in (4, 8, 8, 16, 16)]
    for part in noise:
        assert abs(np.mean(part)) < 0.1 and np.std(part) == pytest.approx(1, rel=0.1)
    of = jit(model.noise_of)(jnp.stack([jax.random.key(seed) for seed in (1, 2, 1)]))
    for part, like in zip(of, noise, strict=True):
        assert part.shape == (3, *like.shape[1:])
        np.testing.assert_array_equal(part[0], part[2])
        assert np.abs(part[0] - part[1]).max() > 0.1


def test_logits_are_one_an_image(small):
    model, _, params, _, label, images = small
    logits = jit(model.criticize)(params["discriminator"], jnp.asarray(images), label)
    assert logits.shape == (8,) and np.std(logits) > 1e-4


def test_real_and_drawn_images_meet_no_others_than_their_own(small):
    model, _, params, _, label, images = small
    real, drawn = jnp.asarray(images), jnp.asarray(images[::-1] ** 3)
    found = jit(model.compare)(params["discriminator"], real, drawn, label)
    for logits, one in zip(found, (real, drawn), strict=True):
        alone = jit(model.criticize)(params["discriminator"], one, label)
        np.testing.assert_allclose(logits, alone, rtol=1e-5, atol=1e-6)
    assert np.abs(found[0] - found[1]).max() > 1e-3


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"psi": 1.2}, r"psi=1.2 is out of range; give 0 \(the average image\) to 1"),
        ({"psi": -0.1}, "psi=-0.1"),
        ({"psi": float("nan")}, "psi=nan"),
        ({"layers": -1}, "layers=-1 is out of range; give 0 or more"),
    ],
)
def test_truncation_is_told_when_out_of_range(values, says):
    with pytest.raises(UserError, match=says):
        Truncation(**values)


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ((16, 24, 1), "images of 16 x 24: StyleGAN draws square images; crop or pad them to 24 x 24"),
        ((32, 32, 32, 1), "images of 32 x 32 x 32: StyleGAN draws images, not volumes"),
        ((240, 240, 5), "images of 240 x 240: .* prepare them at 128 or 256"),
    ],
)
def test_shapes_that_do_not_fit_are_told(shape, says):
    with pytest.raises(UserError, match=says):
        gan(shape, mapping=MAPPING, synthesis=SYNTHESIS, discriminator=DISCRIMINATOR)


def test_unknown_keys_and_choices_are_told():
    with pytest.raises(UserError, match=r"config\.synthesis\.bas does not exist; did you mean 'base'"):
        small_gan(synthesis={"bas": 1})
    with pytest.raises(UserError, match=r"config\.discriminator\.resolution does not exist"):
        small_gan(discriminator={"resolution": 16})
