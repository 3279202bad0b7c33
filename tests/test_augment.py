"""Augmentation: exact where it can be, scipy's elsewhere; labels stay labels; it does as often as it says."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from memjax.data.augment import Augmentation, Flip, Intensity, QuarterTurn, Rotate, rotated
from memjax.errors import UserError

EVERYTHING = Augmentation(flip_axes=(0, 1), quarter_turns=True, rotate_degrees=30.0, rotate_p=1.0, intensity=0.3)


def rng(seed=0):
    return np.random.default_rng(seed)


def image_of(*shape, seed=0):
    return rng(seed).uniform(-1, 1, shape).astype(np.float32)


@st.composite
def images(draw):
    """2-D and 3-D images with two equally long axes, the last channel a label of a few values."""
    side, depth = draw(st.integers(1, 7)), draw(st.none() | st.integers(1, 4))
    space = (side, side) if depth is None else draw(st.permutations((side, side, depth)))
    image = image_of(*space, draw(st.integers(2, 3)), seed=draw(st.integers(0, 99)))
    image[..., -1] = np.round(image[..., -1] * 2) / 2
    return image


@given(image=images(), seed=st.integers(0, 999))
def test_any_augmentation_keeps_shape_range_and_labels(image, seed):
    before = image.copy()
    label = image.shape[-1] - 1
    found = EVERYTHING(image, rng(seed), (label,))
    assert found.shape == image.shape
    assert found.dtype == np.float32
    assert abs(found).max() <= 1 + 1e-6
    assert set(found[..., label].ravel()) <= set(image[..., label].ravel())
    np.testing.assert_array_equal(image, before)  # what was given is not touched
    np.testing.assert_array_equal(EVERYTHING(image, rng(seed), (label,)), found)


@given(image=images(), seed=st.integers(0, 99))
def test_switched_off_or_empty_it_does_nothing(image, seed):
    assert dataclasses.replace(EVERYTHING, enabled=False)(image, rng(seed)) is image
    assert Augmentation()(image, rng(seed)) is image


@given(image=images(), axes=st.sets(st.integers(0, 1)))
def test_flips_are_numpys_and_undo_themselves(image, axes):
    flip = Flip(tuple(axes), 1.0)
    found = flip(image, rng())
    np.testing.assert_array_equal(found, np.flip(image, tuple(axes)))
    np.testing.assert_array_equal(flip(found, rng()), image)


def test_axes_flip_independently_and_as_often_as_they_should():
    image = np.array([[0, 1], [2, 3]], np.float32)[..., None]
    corners = [Flip((0, 1), 0.25)(image, rng(seed))[0, 0, 0] for seed in range(2000)]
    shares = np.bincount(np.array(corners, int), minlength=4) / 2000
    np.testing.assert_allclose(shares, [9 / 16, 3 / 16, 3 / 16, 1 / 16], atol=0.04)


@pytest.mark.parametrize("space", [(5, 5), (4, 4, 3), (3, 3, 3)])
def test_quarter_turns_are_equally_likely_in_every_square_plane(space):
    image = image_of(*space, 2)
    planes = [plane for plane in itertools.combinations(range(len(space)), 2) if space[plane[0]] == space[plane[1]]]
    wanted = {np.rot90(image, k, plane).tobytes(): 0 for plane in planes for k in range(4)}
    for seed in range(600):
        wanted[Augmentation(quarter_turns=True)(image, rng(seed)).tobytes()] += 1  # a KeyError: no quarter turn
    turned = [count for turn, count in wanted.items() if turn != image.tobytes()]
    np.testing.assert_allclose(np.array(turned) / 600, 0.25 / len(planes), atol=0.07)


def test_one_quarter_turn_is_a_rotation_by_90_degrees():
    image = image_of(6, 6, 3)
    np.testing.assert_allclose(rotated(image, 90.0, (0, 1), (2,)), np.rot90(image), atol=1e-6)


@given(image=images())
def test_no_rotation_is_no_change(image):
    np.testing.assert_array_equal(rotated(image, 0.0, (0, 1), (1,)), image)


@pytest.mark.parametrize("degrees", [-75.0, -5.0, 1.3, 40.0])
@pytest.mark.parametrize(
    ("shape", "plane"),
    [((9, 14, 3), (0, 1)), ((1, 6, 1), (0, 1)), *(((5, 6, 7, 2), p) for p in [(0, 1), (0, 2), (1, 2), (2, 0)])],
)
def test_rotation_is_scipys(shape, plane, degrees):
    image = image_of(*shape)
    for order, labels in ((1, ()), (0, tuple(range(shape[-1])))):
        wanted = ndimage.rotate(image, degrees, axes=plane, reshape=False, order=order, mode="nearest")
        np.testing.assert_allclose(rotated(image, degrees, plane, labels), wanted, atol=2e-6)


def test_a_constant_image_stays_exactly_so():
    image = np.full((8, 8, 2), -0.3, np.float32)
    np.testing.assert_array_equal(rotated(image, 33.0, (0, 1)), image)


def test_angles_fill_their_range_and_come_with_their_probability(monkeypatch):
    angles = []
    monkeypatch.setattr("memjax.data.augment.rotated", lambda image, degrees, *_: angles.append(degrees) or image)
    for seed in range(1000):
        Rotate([(0, 1)], 5.0, 0.3)(image_of(2, 2, 1), rng(seed))
    assert 0.25 < len(angles) / 1000 < 0.35
    assert -5 <= min(angles) < -4.8
    assert 4.8 < max(angles) <= 5
    assert abs(np.mean(angles)) < 0.6


@pytest.mark.parametrize(("plane", "share"), [(None, 1 / 3), ((1, 2), 1.0)])
def test_a_volume_rotates_in_every_plane_or_in_the_one_that_is_asked_for(monkeypatch, plane, share):
    planes = []
    monkeypatch.setattr("memjax.data.augment.rotated", lambda image, _, plane, *__: planes.append(plane) or image)
    for seed in range(600):
        Augmentation(rotate_degrees=5.0, rotate_p=1.0, rotate_plane=plane)(image_of(2, 3, 4, 1), rng(seed))
    for one in [plane] if plane else [(0, 1), (0, 2), (1, 2)]:
        assert abs(planes.count(one) / 600 - share) < 0.06


def test_intensity_is_a_gain_and_an_offset_above_the_dark_end():
    image = np.linspace(-1, 1, 50, dtype=np.float32).reshape(50, 1, 1)
    image = np.concatenate([image, image], -1)
    gains, offsets = [], []
    for seed in range(400):
        found = Intensity(0.2, (1,))(image, rng(seed))
        np.testing.assert_array_equal(found[..., 1], image[..., 1])
        inside = (abs(found[..., 0]) < 1).ravel()
        gain, dark = np.polyfit(image[inside, 0, 0] + 1, found[inside, 0, 0] + 1, 1)
        np.testing.assert_allclose(found[..., 0], np.clip((image[..., 0] + 1) * gain + dark - 1, -1, 1), atol=1e-5)
        gains.append(gain)
        offsets.append(dark)
    for values, middle, reach in ((gains, 1, 0.2), (offsets, 0, 0.1)):
        assert middle - reach - 1e-4 <= min(values) < middle - 0.9 * reach
        assert middle + 0.9 * reach < max(values) <= middle + reach + 1e-4


def test_the_order_is_flip_turn_rotate_intensity():
    assert [type(t) for t in EVERYTHING.transforms((4, 4))] == [Flip, QuarterTurn, Rotate, Intensity]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"flip_p": 1.5}, r"augment\.flip_p=1\.5 is out of range; give 0 to 1"),
        ({"rotate_p": float("nan")}, r"augment\.rotate_p=nan"),
        ({"rotate_degrees": -5.0}, r"augment\.rotate_degrees=-5"),
        ({"intensity": 2.0}, r"augment\.intensity=2"),
        ({"flip_axes": (-1,)}, r"augment\.flip_axes=\(-1,\) must be"),
        ({"flip_axes": (0, 0)}, r"augment\.flip_axes=\(0, 0\) must be"),
        ({"rotate_plane": (1, 1)}, r"augment\.rotate_plane=\(1, 1\) must be"),
    ],
)
def test_values_out_of_range_are_refused(values, told):
    with pytest.raises(UserError, match=told):
        Augmentation(**values)


@pytest.mark.parametrize(
    ("values", "space", "told"),
    [
        ({"flip_axes": (0, 2)}, (4, 4), r"augment\.flip_axes=\(0, 2\) names axis 2.* 2 spatial axes; .*0 to 1"),
        ({"rotate_plane": (1, 3)}, (4, 4, 4), r"augment\.rotate_plane=\(1, 3\) names axis 3"),
        ({"quarter_turns": True}, (4, 5), r"augment\.quarter_turns .* 4 x 5"),
    ],
)
def test_images_that_cannot_be_augmented_so_are_refused(values, space, told):
    with pytest.raises(UserError, match=told):
        Augmentation(**values)(image_of(*space, 1), rng())
    Augmentation(**values, enabled=False).check(space)
