"""Views: exact where they can be, references elsewhere; labels stay labels; as strong and as frequent as they say."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.interpolate import BSpline

from memjax.data.augment import Rotate
from memjax.data.embeddings import INVARIANCES
from memjax.data.views import Blur, Contrast, Elastic, Noise, Shift, Turn, Views
from memjax.data.warp import smooth_field, warped
from memjax.errors import UserError

STRENGTHS = ("rotate_degrees", "elastic", "shift", "blur", "contrast", "noise")
ALWAYS = {f"{name}_p": 1.0 for name in ("flip", "turn", "rotate", "elastic", "shift", "blur", "contrast", "noise")}
NEVER = dict.fromkeys(ALWAYS, 0.0)


def rng(seed=0):
    return np.random.default_rng(seed)


def image_of(*shape, seed=0):
    return rng(seed).uniform(-1, 1, shape).astype(np.float32)


@st.composite
def images(draw):
    """2-D and 3-D images of any sides, the last channel a label of a few values."""
    space = draw(st.lists(st.integers(1, 9), min_size=2, max_size=3))
    image = image_of(*space, draw(st.integers(2, 3)), seed=draw(st.integers(0, 99)))
    image[..., -1] = np.round(image[..., -1] * 2) / 2
    return image


@settings(max_examples=40)
@given(image=images(), seed=st.integers(0, 999))
def test_any_view_keeps_shape_range_and_labels(image, seed):
    before = image.copy()
    label = image.shape[-1] - 1
    views = Views(**ALWAYS, elastic=0.1, noise=0.5, contrast=0.5)
    found = views(image, rng(seed), (label,))
    assert found.shape == image.shape and found.dtype == np.float32
    assert abs(found).max() <= 1
    assert set(found[..., label].ravel()) <= set(image[..., label].ravel())
    np.testing.assert_array_equal(image, before)  # what was given is not touched
    np.testing.assert_array_equal(views(image, rng(seed), (label,)), found)


@settings(max_examples=40)
@given(image=images(), seed=st.integers(0, 99))
def test_of_no_strength_or_never_a_view_is_the_image(image, seed):
    assert Views(**NEVER)(image, rng(seed)) is image
    assert Views(enabled=False)(image, rng(seed)) is image
    for kind in (Shift, Blur, Elastic, Contrast, Noise):
        np.testing.assert_allclose(kind(0.0, p=1.0)(image, rng(seed)), image, atol=1e-6)


@pytest.mark.parametrize("space", [(5, 5), (3, 4), (4, 4, 3)])
def test_turns_are_of_quarters_in_square_planes_and_of_halves_in_others(space):
    image = image_of(*space, 2)
    planes = list(itertools.combinations(range(len(space)), 2))
    turns = {plane: (1, 2, 3) if space[plane[0]] == space[plane[1]] else (2,) for plane in planes}
    wanted = {np.rot90(image, k, plane).tobytes(): [plane, 0] for plane in planes for k in turns[plane]}
    for seed in range(600):
        wanted[Turn(1.0)(image, rng(seed)).tobytes()][1] += 1  # a KeyError: no such turn
    for plane, count in wanted.values():
        assert abs(count / 600 - 1 / len(planes) / len(turns[plane])) < 0.07


@pytest.mark.parametrize(("space", "share", "by"), [((10, 8), 0.25, (2, 2)), ((5, 8, 4), 0.2, (1, 2, 1))])
def test_a_full_shift_goes_either_way_and_repeats_the_edges(space, share, by):
    image = image_of(*space, 2)
    padded = np.pad(image, [*((n, n) for n in by), (0, 0)], mode="edge")
    wanted = {
        padded[tuple(slice(n - s * n, n - s * n + side) for n, s, side in zip(by, signs, space, strict=True))].tobytes()
        for signs in itertools.product((-1, 1), repeat=len(space))
    }
    assert {Shift(share, 1.0, full=True)(image, rng(seed)).tobytes() for seed in range(60)} == wanted


def test_shifts_fill_their_range():
    image = np.repeat(np.arange(100, dtype=np.float32)[:, None, None], 3, 1)
    moved = [int(50 - Shift(0.1, 1.0)(image, rng(seed))[50, 0, 0]) for seed in range(400)]
    assert {min(moved), max(moved)} == {-10, 10}
    assert abs(np.mean(moved)) < 1


@pytest.mark.parametrize(("shape", "sigma"), [((9, 7, 2), 1.3), ((6, 5, 7, 1), 0.6)])
def test_blur_is_a_gaussian_over_space_alone(shape, sigma):
    image = image_of(*shape)
    reach = int(4 * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    wanted = image.astype(np.float64)
    for axis in range(len(shape) - 1):
        padded = np.pad(wanted, [(reach, reach) if a == axis else (0, 0) for a in range(len(shape))], mode="edge")
        parts = [w * np.take(padded, range(i, i + shape[axis]), axis) for i, w in enumerate(weights / weights.sum())]
        wanted = np.sum(parts, axis=0)
    np.testing.assert_allclose(Blur(sigma, 1.0, full=True)(image, rng()), wanted, atol=1e-5)
    weaker = [np.std(Blur(sigma, 1.0)(image, rng(seed))) for seed in range(50)]
    assert wanted.std() <= min(weaker) < max(weaker) <= image.std()


def test_contrast_is_a_gain_a_power_and_an_offset_of_the_height():
    image = np.linspace(-1, 1, 64, dtype=np.float32).reshape(8, 8, 1)
    wanted = {
        tuple(signs): np.clip(
            (1 + 0.2 * signs[0]) * ((image + 1) / 2) ** np.exp(0.2 * signs[1]) * 2 - 1 + 0.1 * signs[2], -1, 1
        )
        for signs in itertools.product((-1, 1), repeat=3)
    }
    seen = set()
    for seed in range(60):
        found = Contrast(0.2, 1.0, full=True)(image, rng(seed))
        near = min(wanted, key=lambda signs: abs(wanted[signs] - found).max())
        np.testing.assert_allclose(found, wanted[near], atol=1e-5)
        seen.add(near)
    assert seen == set(wanted)
    within = np.stack([Contrast(0.2, 1.0)(image, rng(seed)) for seed in range(60)])
    every = np.stack(list(wanted.values()))
    assert (within >= every.min(0) - 1e-5).all() and (within <= every.max(0) + 1e-5).all()


def test_noise_is_gaussian_of_its_strength():
    image = np.zeros((40, 40, 2), np.float32)
    found = Noise(0.1, 1.0, full=True, label_channels=(1,))(image, rng())
    assert abs(found[..., 0].std() - 0.1) < 0.006 and abs(found[..., 0].mean()) < 0.01
    assert abs(np.corrcoef(found[:-1, :, 0].ravel(), found[1:, :, 0].ravel())[0, 1]) < 0.1
    stds = [Noise(0.1, 1.0)(image, rng(seed)).std() for seed in range(100)]
    assert max(stds) < 0.105 and abs(np.mean(stds) - 0.05) < 0.01  # uniform from 0 on


@pytest.mark.parametrize(("length", "smoothness"), [(17, 0.25), (10, 0.4), (1, 0.5)])
def test_the_field_is_a_cubic_spline_of_its_control_points(length, smoothness):
    points = rng(3).uniform(-1, 1, int(np.ceil(1 / smoothness)) + 3)
    place = np.arange(length) / max(length - 1, 1)
    wanted = BSpline(smoothness * (np.arange(len(points) + 4) - 3), points, 3)(place)
    np.testing.assert_allclose(smooth_field((length,), smoothness, rng(3)), wanted, atol=1e-6)
    assert abs(smooth_field((length, 5, 4), smoothness, rng())).max() <= 1


@pytest.mark.parametrize("space", [(7, 9), (5, 4, 6), (1, 5)])
def test_a_warped_image_is_scipys(space):
    image = image_of(*space, 3)
    places = [rng(axis).uniform(-2, length + 1, space).astype(np.float32) for axis, length in enumerate(space)]
    for order, labels in ((1, ()), (0, (0, 1, 2))):
        wanted = [ndimage.map_coordinates(image[..., c], places, order=order, mode="nearest") for c in range(3)]
        np.testing.assert_allclose(warped(image, places, labels), np.stack(wanted, -1), atol=2e-6)


@pytest.mark.parametrize("space", [(24, 32), (12, 16, 10)])
def test_a_deformation_moves_up_to_its_share_and_never_folds(space):
    """Images of their own coordinates show where each pixel comes from."""
    grid = np.stack(np.meshgrid(*map(np.arange, space), indexing="ij"), -1).astype(np.float32)
    for seed in range(5):
        came = Elastic(0.1, 0.25, 1.0, full=True)(grid, rng(seed))
        moved = abs(came - grid).reshape(-1, len(space)).max(0) / space
        assert (moved <= 0.1).all() and (moved > 0.02).all()
        inside = (slice(None), *(slice(n // 4, -n // 4) for n in space))  # near the border the coordinates end
        jacobian = np.stack([np.stack(np.gradient(came[..., i]))[inside] for i in range(len(space))])
        assert np.linalg.det(np.moveaxis(jacobian, (0, 1), (-2, -1))).min() > 0
    still = np.full((*space, 1), -0.3, np.float32)
    np.testing.assert_allclose(Elastic(0.1, 0.25, 1.0)(still, rng()), still, atol=1e-6)


def test_a_full_rotation_is_by_one_of_both_ends(monkeypatch):
    angles = []
    monkeypatch.setattr("memjax.data.augment.rotated", lambda image, degrees, *_: angles.append(degrees) or image)
    for seed in range(100):
        Rotate([(0, 1)], 5.0, 1.0, full=True)(image_of(2, 2, 1), rng(seed))
    assert set(angles) == {-5.0, 5.0} and 30 < angles.count(5.0) < 70


@pytest.mark.parametrize("name", sorted(ALWAYS))
def test_each_has_its_own_probability_and_word(name):
    views = Views(**NEVER | {name: 0.3}, shift=0.2)
    assert len(views.invariant_to) == 1 and views.invariant_to[0] in INVARIANCES
    assert len(views.transforms((8, 8))) == 1
    image = image_of(8, 8, 1)
    changed = np.mean([not np.array_equal(views(image, rng(seed)), image) for seed in range(400)])
    wanted = 1 - 0.7**2 if name == "flip_p" else 0.3  # two axes
    assert wanted - 0.09 < changed < wanted + 0.07  # a shift may be by less than half a pixel


def test_strengths_of_nothing_turn_off_and_all_words_are_known():
    assert set(Views().invariant_to) == set(INVARIANCES)
    assert Views(**dict.fromkeys(STRENGTHS, 0.0)).invariant_to == ("flips", "quarter turns")
    assert Views(**dict.fromkeys(STRENGTHS, 0.0), flip_axes=(), turn_p=0.0).invariant_to == ()
    assert dataclasses.replace(Views(), enabled=False).invariant_to == ()


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"flip_p": 1.5}, r"views\.flip_p=1\.5 is out of range; give 0 to 1"),
        ({"noise": float("nan")}, r"views\.noise=nan is out of range"),
        ({"shift": 0.6}, r"views\.shift=0\.6 .* 0 to 0\.5"),
        ({"blur": -1.0}, r"views\.blur=-1"),
        ({"contrast": 2.0}, r"views\.contrast=2"),
        ({"elastic_smoothness": 0.0}, r"views\.elastic_smoothness=0"),
        ({"elastic": 0.2}, r"views\.elastic=0\.2 would fold images; give at most 0\.4 of views\.elastic_smoothness"),
        ({"flip_axes": (1, 1)}, r"views\.flip_axes=\(1, 1\) must be"),
        ({"rotate_plane": (1,)}, r"views\.rotate_plane=\(1,\) must be"),
    ],
)
def test_values_out_of_range_are_refused(values, told):
    with pytest.raises(UserError, match=told):
        Views(**values)


def test_axes_that_images_have_not_are_refused():
    with pytest.raises(UserError, match=r"views\.flip_axes=\(2,\) names axis 2, but the images have 2 spatial axes"):
        Views(flip_axes=(2,))(image_of(4, 4, 1), rng())
    Views(flip_axes=(2,), enabled=False).check((4, 4))
