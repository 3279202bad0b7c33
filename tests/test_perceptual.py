"""The perceptual distance: a narrow VGG16 from a file in torch's names against scipy, and words for wrong files."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from memjax.errors import UserError
from memjax.models import vgg
from memjax.objectives import perceptual

PLACES = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)  # torchvision's vgg16
WIDTHS = (2, 3, 4, 4, 5, 3, 4, 5, 4, 6, 5, 4, 3)
LAST = (1, 3, 6, 9, 12)  # conv1_2, 2_2, 3_3, 4_3, 5_3


def planted() -> dict[str, np.ndarray]:
    """A VGG16 of other widths, in torch's layout."""
    rng, arrays, before = np.random.default_rng(0), {}, 3
    for place, width in zip(PLACES, WIDTHS, strict=True):
        kernel = rng.standard_normal((width, before, 3, 3)) * (2 / (9 * before)) ** 0.5
        arrays[f"features.{place}.weight"] = kernel.astype(np.float32)
        arrays[f"features.{place}.bias"] = (0.1 * rng.standard_normal(width)).astype(np.float32)
        before = width
    for i, last in enumerate(LAST):
        arrays[f"lin{i}.model.1.weight"] = rng.uniform(0, 1, (1, WIDTHS[last], 1, 1)).astype(np.float32)
    return arrays | {"classifier.0.weight": np.zeros(3, np.float32)}


@pytest.fixture
def file(tmp_path):
    np.savez(tmp_path / "weights.npz", **planted())
    return str(tmp_path / "weights.npz")


def images(b: int, c: int, shape: tuple[int, int] = (19, 17), seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (b, *shape, c)).astype(np.float32)


def by_scipy(x: np.ndarray, y: np.ndarray) -> float:
    """LPIPS of one pair [h, w, 3] in float64, channels first."""
    arrays = planted()
    total, both = 0.0, []
    for image in (x, y):
        z = np.moveaxis(np.float64(image), -1, 0)
        z = (z - np.reshape([-0.030, -0.088, -0.188], (3, 1, 1))) / np.reshape([0.458, 0.448, 0.450], (3, 1, 1))
        layers = []
        for i, place in enumerate(PLACES):
            if i - 1 in LAST:
                h, w = (n // 2 for n in z.shape[1:])
                z = z[:, : 2 * h, : 2 * w].reshape(-1, h, 2, w, 2).max((2, 4))
            kernel, bias = arrays[f"features.{place}.weight"], arrays[f"features.{place}.bias"]
            z = np.stack(
                [
                    b + sum(scipy.signal.correlate2d(channel, tap, "same") for channel, tap in zip(z, k, strict=True))
                    for k, b in zip(np.float64(kernel), bias, strict=True)
                ]
            )
            z = np.maximum(z, 0)
            if i in LAST:
                layers.append(z)
        both.append(layers)
    for i, (fx, fy) in enumerate(zip(*both, strict=True)):
        fx, fy = (f / (np.linalg.norm(f, axis=0) + 1e-10) for f in (fx, fy))
        total += (arrays[f"lin{i}.model.1.weight"][0] * (fx - fy) ** 2).sum(0).mean()
    return total


def test_the_distance_is_that_of_scipy(file):
    lpips = vgg.make_perceptual("lpips", file)
    x, y = images(2, 3), images(2, 3, seed=2)
    found = jax.jit(lpips.losses)(lpips.params, x, y)
    np.testing.assert_allclose(found, [by_scipy(*pair) for pair in zip(x, y, strict=True)], rtol=1e-4)
    grey = images(1, 1), images(1, 1, seed=2)
    found = jax.jit(lpips.losses)(lpips.params, *grey)
    np.testing.assert_allclose(found, [by_scipy(*(np.repeat(one[0], 3, -1) for one in grey))], rtol=1e-4)


@pytest.fixture(scope="module")
def untrained():
    return vgg.make_perceptual("random", width=2)


def test_the_same_image_is_at_no_distance(untrained):
    losses = jax.jit(untrained.losses)
    x, y = images(3, 1, (16, 16)), images(3, 1, (16, 16), seed=2)
    assert (losses(untrained.params, x, x) < 1e-12).all()  # compiled differently, features round differently
    there = losses(untrained.params, x, y)
    np.testing.assert_allclose(there, losses(untrained.params, y, x), rtol=1e-5)
    assert (there > losses(untrained.params, x, 0.9 * x + 0.1 * y)).all() and (there > 0).all()


@pytest.mark.parametrize("c", [2, 5])
def test_other_channels_count_as_grey_images(untrained, c):
    x, y = (jnp.asarray(images(2, c, (16, 16), seed)) for seed in (1, 2))
    losses = jax.jit(untrained.losses)
    one_by_one = [losses(untrained.params, x[..., i : i + 1], y[..., i : i + 1]) for i in range(c)]
    np.testing.assert_allclose(losses(untrained.params, x, y), np.mean(one_by_one, 0), rtol=1e-4)


def test_the_slope_is_that_of_differences(file):
    """In float64, by scipy; and where features are all zero there is none, since the root's would be infinite."""
    lpips = vgg.make_perceptual("lpips", file)
    x, y, along = (images(1, 3, (16, 16), seed) for seed in (1, 2, 3))
    gradient = jax.jit(jax.grad(lambda y: lpips.losses(lpips.params, jnp.asarray(x), y).sum()))(y)
    ahead, behind = (by_scipy(x[0], np.float64(y[0]) + step * along[0]) for step in (1e-6, -1e-6))
    np.testing.assert_allclose(np.vdot(gradient, along), (ahead - behind) / 2e-6, rtol=1e-3)
    dark = [jnp.zeros((1, 2, 2, 3))]
    to_dark = jax.grad(lambda fx: perceptual.distance(fx, [jnp.ones((1, 2, 2, 3))], [jnp.ones(3)]).sum())(dark)
    assert np.isfinite(to_dark[0]).all()


def test_the_untrained_network_is_always_the_same_and_keeps_its_scale(untrained):
    again = vgg.make_perceptual("random", width=2)
    jax.tree.map(np.testing.assert_array_equal, untrained.params, again.params)
    wide = vgg.random_params(64)
    assert [layer["kernel"].shape[2:] for layer in wide["network"]] == [
        *((3, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 256)),
        *((256, 512), *[(512, 512)] * 5),
    ]
    for layer in wide["network"]:
        assert abs(layer["kernel"].var() * np.prod(layer["kernel"].shape[:3]) / 2 - 1) < 0.1
    assert all(abs(weight.sum() - 1) < 1e-5 for weight in wide["weights"])


def test_none_is_none():
    assert vgg.make_perceptual("none") is None


def test_small_images_are_told(untrained):
    with pytest.raises(UserError, match=r"15 x 20 are too small.*give 16 x 16 or more"):
        untrained.losses(untrained.params, jnp.zeros((1, 15, 20, 1)), jnp.zeros((1, 15, 20, 1)))


def test_what_does_not_go_together_is_told(file):
    for args, words in (
        (("vgg", None), "'vgg' does not exist; choose from lpips, random, none"),
        (("lpips", None), "needs trained weights"),
        (("random", file), "is for config.perceptual.kind lpips, not random"),
    ):
        with pytest.raises(UserError, match=words):
            vgg.make_perceptual(*args)
    with pytest.raises(UserError, match="width=0"):
        vgg.make_perceptual("random", width=0)


def wrong(**changes: np.ndarray | None) -> dict[str, np.ndarray]:
    return {name: array for name, array in (planted() | changes).items() if array is not None}


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        ("features.12.bias", None, r"has no array features.12.bias \(1 of 31"),
        ("features.12.weight", np.ones((3, 7, 3, 3), np.float32), r"is \[3, 7, 3, 3\] float32, not \[any, 5, 3, 3\]"),
        ("features.12.weight", np.ones((3, 5), np.float32), "wrong file"),
        ("features.0.bias", np.ones(2, np.int32), r"\[2\] int32, not \[2\] float"),
        ("features.0.bias", np.full(2, np.nan, np.float32), "not finite"),
        ("lin1.model.1.weight", np.full((1, 4, 1, 1), -1, np.float32), "negative"),
        ("lin1.model.1.weight", np.array([object()]), "pickled"),
    ],
)
def test_a_wrong_file_is_told(tmp_path, name, array, words):
    path = tmp_path / "wrong.npz"
    np.savez(path, **wrong(**{name: array}))
    with pytest.raises(UserError, match=words):
        vgg.make_perceptual("lpips", str(path))


def test_no_file_and_no_npz_are_told(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        vgg.make_perceptual("lpips", str(tmp_path / "none.npz"))
    (tmp_path / "text.npz").write_text("weights")
    with pytest.raises(UserError, match="is not a NumPy file"):
        vgg.make_perceptual("lpips", str(tmp_path / "text.npz"))
    np.savez(tmp_path / "whole.npz", **planted())
    content = (tmp_path / "whole.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="damaged or cut off"):
        vgg.make_perceptual("lpips", str(tmp_path / "cut.npz"))
