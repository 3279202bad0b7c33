"""ADA as a whole: nothing at p = 0, each change as often as p says, the same on any devices, and how p moves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from memjax.errors import UserError
from memjax.objectives.ada import Ada
from memjax.objectives.ada_blit import blit
from memjax.objectives.ada_colour import draw_colour
from memjax.objectives.ada_geometry import draw_maps
from memjax.objectives.adversarial import r1

ALL = Ada(enabled=True, colour=True)
N = 4000


def images(*shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).uniform(-1, 1, shape), jnp.float32)


def assert_share(found: np.ndarray, wanted: float) -> None:
    """Within four standard deviations of what independent draws give."""
    assert abs(np.mean(found) - wanted) < 4 * np.sqrt(wanted * (1 - wanted) / len(found)), (np.mean(found), wanted)


@pytest.mark.parametrize("channels", [3, 5])
def test_p_of_zero_changes_no_bit(channels):
    x = images(4, 16, 16, channels)
    augment = jax.jit(Ada(enabled=True, colour=channels == 3).augment)
    assert np.array_equal(augment(x, jax.random.key(0), 0.0), x)
    assert not np.allclose(augment(x, jax.random.key(0), 1.0), x, atol=0.1)


def test_switches():
    x, key = images(4, 16, 16, 1), jax.random.key(1)
    assert Ada(blit=False, geometry=False).augment(x, key, 1.0) is x
    moved = np.asarray(Ada(geometry=False).augment(x, key, 1.0))
    assert set(moved.ravel()) <= set(np.asarray(x).ravel())  # whole pixels only


def test_blits_as_often_as_said():
    """An image whose every pixel is told apart says what was done with it."""
    p, side = 0.3, 8
    x = jnp.broadcast_to(jnp.arange(side * side, dtype=jnp.float32).reshape(side, side, 1), (N, side, side, 1))
    found = np.asarray(jax.jit(blit)(x, jax.random.key(0), jnp.float32(p)))[..., 0]
    right, down = found[:, 4, 4] - found[:, 4, 3], found[:, 4, 4] - found[:, 3, 4]
    is_turned = np.abs(right) == side  # by an odd number of quarters
    is_reversed = right * down * np.where(is_turned, -1, 1) < 0  # its handedness
    assert_share(is_turned, p / 2)
    assert_share(is_reversed, p / 2)
    is_only_shifted = (right == 1) & (down == side)
    assert_share(is_only_shifted, (1 - p / 2) * (1 - 3 * p / 4))
    # Uniform in +-1 pixel and rounded: 0 half of the time, along both axes a quarter.
    still = np.abs(found - np.asarray(x)[..., 0]).max((1, 2)) == 0
    assert_share(still[is_only_shifted], 1 - 3 * p / 4)


def test_geometry_as_often_as_said():
    p = 0.3
    maps = np.asarray(jax.jit(lambda p: draw_maps(jax.random.key(0), p, N, 64))(p), np.float64)
    linear, offset = maps[:, :, :2], maps[:, :, 2]
    area, values = np.linalg.det(linear), np.linalg.svd(linear, compute_uv=False)
    is_scaled, is_stretched = np.abs(area - 1) > 1e-5, values[:, 0] / values[:, 1] > 1 + 1e-5
    assert_share(is_scaled, p)
    assert_share(is_stretched, p)
    assert_share(np.abs(offset).max(1) > 0, p)
    assert_share(np.abs(linear[:, 0, 1]) > 1e-6, p)  # turned, before or after
    assert_share((maps == np.eye(2, 3)).all((1, 2)), (1 - p) ** 4)
    octaves = np.log2(area[is_scaled]) / 2
    assert abs(octaves.std() - 0.2) < 0.02 and abs(octaves.mean()) < 0.03
    octaves = np.log2(values[:, 0] / values[:, 1])[is_stretched] / 2
    assert abs(np.sqrt(np.square(octaves).mean()) - 0.2) < 0.02
    is_only_shifted = (linear == np.eye(2)).all((1, 2)) & (np.abs(offset).max(1) > 0)
    assert abs(offset[is_only_shifted].std() - 8) < 0.8


def test_colour_as_often_as_said():
    p = 0.3
    draw = jax.jit(lambda p: [draw_colour(jax.random.key(0), p, N, channels) for channels in (1, 3)])
    (grey, offset), (matrix, _) = jax.tree.map(lambda x: np.asarray(x, np.float64), draw(p))
    assert_share(grey[:, 0, 0] < 0, p / 2)
    assert_share(np.abs(grey[:, 0, 0]) != 1, p)
    assert_share(offset[:, 0] != 0, p)
    octaves = np.log2(np.abs(grey[:, 0, 0]))
    assert abs(octaves[octaves != 0].std() - 0.5) < 0.05
    bright = offset[:, 0] / grey[:, 0, 0]
    assert abs(bright[bright != 0].std() - 0.2) < 0.02
    beside = np.array([1.0, -1.0, 0.0]) / 2**0.5  # no grey in it
    is_hue_turned = np.abs(np.cross(matrix @ beside, beside)).max(1) > 1e-5
    assert_share(is_hue_turned, p)
    contrast = np.abs((matrix @ np.ones(3)).sum(1)) / 3
    saturation = np.linalg.norm(matrix @ beside, axis=1) / contrast
    assert_share(np.abs(saturation - 1) > 1e-5, p)
    octaves = np.log2(saturation[np.abs(saturation - 1) > 1e-5])
    assert abs(octaves.std() - 1) < 0.1


def test_split_over_devices_changes_nothing():
    """Eight images on eight devices, no collective among them."""
    x, key = images(8, 16, 16, 3), jax.random.key(2)
    wanted = jax.jit(ALL.augment)(x, key, 0.7)
    split = NamedSharding(Mesh(np.array(jax.devices()), "data"), PartitionSpec("data"))
    compiled = jax.jit(ALL.augment, out_shardings=split).lower(jax.device_put(x, split), key, 0.7).compile()
    np.testing.assert_allclose(compiled(jax.device_put(x, split), key, 0.7), wanted, atol=1e-6)
    program = compiled.as_text()
    assert not any(word in program for word in ("all-gather", "all-to-all", "collective-permute", "all-reduce"))


def test_gradients_of_gradients():
    """As R1 through augmented images takes them, of five channels."""
    x = images(2, 16, 16, 5)
    ada = Ada(enabled=True)

    def penalty(scale: jax.Array) -> jax.Array:
        def critic(x: jax.Array) -> jax.Array:
            return jnp.tanh(scale * ada.augment(x, jax.random.key(0), 0.8)).sum(axis=(1, 2, 3))

        return r1(critic, x).sum()

    penalty_slope = jax.jit(jax.value_and_grad(penalty))
    value, slope = penalty_slope(jnp.float32(1.0))
    step = 1e-2
    about = (penalty_slope(jnp.float32(1 + step))[0] - penalty_slope(jnp.float32(1 - step))[0]) / (2 * step)
    assert value > 0
    np.testing.assert_allclose(slope, about, rtol=1e-3)


def test_p_moves_towards_the_target():
    ada = Ada(enabled=True, target=0.6, every=4, speed_images=6400)
    assert ada.next_p(0.5, 0.7, 16) == pytest.approx(0.51)
    assert ada.next_p(0.5, 0.5, 16) == pytest.approx(0.49)
    assert ada.next_p(0.5, ada.target, 16) == 0.5
    assert ada.next_p(0.0, -1.0, 16) == 0 and ada.next_p(1.0, 1.0, 16) == 1
    p = jnp.float32(0)
    for _ in range(100):  # 6400 images
        p = ada.next_p(p, 1.0, 16)
    assert p == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("channels", [2, 5])
def test_colour_of_other_channels(channels):
    with pytest.raises(UserError, match=f"{channels} channels.*1 .grey. and 3 .*ada.colour=False"):
        ALL.check(channels)
    Ada(enabled=True).check(channels)
    Ada(colour=True).check(channels)  # not enabled
    ALL.check(1)
    ALL.check(3)


@pytest.mark.parametrize("wrong", [{"p": 1.1}, {"p": -0.1}, {"target": 1.0}, {"every": 0}, {"speed_images": 0}])
def test_values_out_of_range(wrong):
    with pytest.raises(UserError, match=f"ada.{next(iter(wrong))}={next(iter(wrong.values()))}"):
        Ada(**wrong)
