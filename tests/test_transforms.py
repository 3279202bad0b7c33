"""Shapes: against a triangle filter written out in NumPy, scipy's interpolation, and cases done by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from memjax.data.transforms import FITS, background, crop_or_pad, cut_around, fill_up, resize, scale, spaced_size
from memjax.errors import UserError

RNG = np.random.default_rng(0)


def fit(image, size, how, label_channels=()):
    """Both steps, one after the other."""
    return crop_or_pad(scale(image, size, how, label_channels), size)


def triangle(n, wanted):
    """The antialiased bilinear filter as a matrix [wanted, n]: hat functions as wide as the coarser of both grids."""
    scale = n / wanted
    width = max(scale, 1.0)
    centres = (np.arange(wanted) + 0.5) * scale
    weights = np.maximum(1 - np.abs(np.arange(n) + 0.5 - centres[:, None]) / width, 0)
    return weights / weights.sum(1, keepdims=True)


def reference(image, size):
    result = image.astype(np.float64)
    for axis, wanted in enumerate(size):
        result = np.moveaxis(np.tensordot(triangle(result.shape[axis], wanted), result, (1, axis)), 0, axis)
    return result


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((12, 9, 1), (5, 9)),
        ((12, 9, 3), (24, 7)),
        ((7, 7, 5), (3, 20)),
        ((6, 9, 5, 1), (3, 9, 8)),
        ((4, 5, 6, 2), (8, 8, 8)),
    ],
)
def test_resampling_is_the_antialiased_triangle(shape, size):
    image = RNG.normal(0, 100, shape).astype(np.float32)
    np.testing.assert_allclose(resize(image, size), reference(image, size), atol=1e-3)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
def test_integers_are_rounded(dtype, channels):
    limits = np.iinfo(dtype)
    image = RNG.integers(limits.min, limits.max, (12, 9, channels), dtype, endpoint=True)
    found = resize(image, (7, 15))
    assert found.dtype == dtype
    # Pillow's own path for bytes works in fixed point, one axis after the other.
    np.testing.assert_allclose(found, reference(image, (7, 15)), atol=1.01 if dtype == "uint8" else 0.51)


def test_enlarging_is_scipys_linear_interpolation():
    image = RNG.normal(size=(6, 5, 7, 1)).astype(np.float32)
    expected = ndimage.zoom(image[..., 0], 3, order=1, mode="nearest", grid_mode=True)
    np.testing.assert_allclose(resize(image, (18, 15, 21))[..., 0], expected, atol=1e-5)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("how", FITS)
def test_its_own_size_changes_nothing(how, dtype):
    image = RNG.integers(0, 100, (5, 6, 2)).astype(dtype)
    assert fit(image, (5, 6), how) is image


@pytest.mark.parametrize("size", [(3, 3), (5, 11), (20, 20)])
@pytest.mark.parametrize("how", FITS)
def test_a_constant_image_stays_constant(how, size):
    found = fit(np.full((7, 9, 2), 93, np.uint16), size, how)
    assert found.shape == (*size, 2)
    assert (found == 93).all()


@settings(max_examples=60, deadline=None)
@given(
    space=st.lists(st.integers(1, 12), min_size=2, max_size=3),
    size=st.lists(st.integers(1, 12), min_size=3, max_size=3),
    how=st.sampled_from(FITS),
    dtype=st.sampled_from(["uint8", "uint16", "int16", "float32"]),
)
def test_any_image_gets_any_shape_within_its_own_range(space, size, how, dtype):
    image = np.random.default_rng(1).integers(0, 200, (*space, 3)).astype(dtype)
    found = fit(image, tuple(size[: len(space)]), how, label_channels=(2,))
    assert found.shape == (*size[: len(space)], 3)
    assert found.dtype == dtype
    assert found.min() >= image.min() - 1e-3
    assert found.max() <= image.max() + 1e-3
    assert set(np.unique(found[..., 2])) <= set(np.unique(image[..., 2]))


def test_halving_blocks_of_labels_keeps_them():
    labels = RNG.choice(np.array([0, 51, 204], np.uint8), (4, 5, 1))
    image = np.concatenate([labels, labels], -1).repeat(2, 0).repeat(2, 1)
    found = resize(image, (4, 5), label_channels=(1,))
    np.testing.assert_array_equal(found[..., 1], labels[..., 0])
    assert not np.array_equal(found[..., 0], labels[..., 0])  # what is no label is smoothed


def test_labels_take_the_nearest_neighbour():
    labels = RNG.integers(0, 5, (6, 5, 4, 1)).astype(np.uint8)
    doubled = resize(labels, (12, 10, 8), label_channels=(0,))
    np.testing.assert_array_equal(doubled, labels.repeat(2, 0).repeat(2, 1).repeat(2, 2))


def test_crop_fills_the_frame_and_pad_shows_all():
    image = np.zeros((20, 40, 1), np.float32)
    image[:, 10:30] = 100  # the middle square
    assert (fit(image, (10, 10), "crop")[:, 1:-1] == 100).all()
    padded = fit(image, (10, 10), "pad")[..., 0]
    np.testing.assert_array_equal(padded[:2], 0)
    np.testing.assert_array_equal(padded[-3:], 0)
    np.testing.assert_allclose(padded[3:7, 3:7], 100)
    stretched = fit(image, (10, 10), "stretch")[..., 0]
    np.testing.assert_allclose(stretched[:, 3:7], 100)
    assert stretched[0, 0] == 0


@pytest.mark.parametrize("how", ["crop", "pad"])
@pytest.mark.parametrize("size", [(64, 64), (224, 31)])
def test_one_factor_for_both_axes_never_misses_by_rounding(how, size):
    for rows in range(1, 60, 7):
        for columns in range(1, 60, 5):
            assert fit(np.zeros((rows, columns, 1), np.uint8), size, how).shape == (*size, 1)


def test_centre_cuts_and_fills_up_without_resampling():
    image = np.arange(1, 7 * 4 + 1, dtype=np.int16).reshape(7, 4, 1)
    image[0] = image[-1] = 0
    found = crop_or_pad(image, (4, 7))
    expected = np.zeros((4, 7), np.int16)
    expected[:, 1:5] = image[1:5, :, 0]
    np.testing.assert_array_equal(found[..., 0], expected)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 4), st.integers(0, 4))
def test_filling_up_and_cutting_again_gives_the_image_back(rows, columns, more_rows, more_columns):
    image = np.random.default_rng(0).integers(0, 9, (rows, columns, 2)).astype(np.uint8)
    larger = crop_or_pad(image, (rows + 2 * more_rows, columns + 2 * more_columns))
    np.testing.assert_array_equal(crop_or_pad(larger, (rows, columns)), image)


@pytest.mark.parametrize("value", [0, 255])
def test_the_background_is_what_most_of_the_border_is(value):
    image = np.full((9, 9, 1), value, np.uint8)
    image[2:7, 2:7] = RNG.integers(30, 90, (5, 5, 1))
    image[0, :4] = 128  # a letter at the film's edge
    assert background(image).tolist() == [value]
    assert (crop_or_pad(image, (9, 20))[:, 0] == value).all()


def test_without_a_plain_border_the_background_is_the_smallest_value():
    image = RNG.integers(10, 200, (30, 30, 1)).astype(np.int16)
    image[15, 15] = -7
    assert background(image).tolist() == [-7]


def test_each_channel_has_its_own_background():
    image = np.zeros((6, 6, 6, 2), np.float32)
    image[..., 1] = 5
    image[2:4, 2:4, 2:4] = 9
    assert background(image).tolist() == [0, 5]
    assert crop_or_pad(image, (8, 6, 6))[0, 0, 0].tolist() == [0, 5]


def test_spacing():
    assert spaced_size((100, 80, 10), (0.5, 0.5, 5.0), (1.0, 1.0, 1.0)) == (50, 40, 50)
    assert spaced_size((3, 3), (0.1, 0.1), (10.0, 0.3)) == (1, 1)
    with pytest.raises(UserError, match="--spacing_mm has 2 numbers, the images have 3 spatial axes"):
        spaced_size((4, 4, 4), (1.0, 1.0, 1.0), (1.0, 1.0))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 7), st.integers(1, 9), st.integers(0, 6)), min_size=2, max_size=3))
def test_a_part_around_a_voxel_is_a_slice_of_the_padded_whole(axes):
    space, size = (tuple(axis[i] for axis in axes) for i in range(2))
    centre = tuple(min(axis[2], axis[0] - 1) for axis in axes)
    image = np.random.default_rng(0).normal(size=(*space, 2)).astype(np.float32)
    part, before = cut_around(image, centre, size)
    found = fill_up(part, size, before, np.array([7, 8], np.float32))
    first = [at + 9 - wanted // 2 for at, wanted in zip(centre, size, strict=True)]
    place = tuple(slice(at, at + wanted) for at, wanted in zip(first, size, strict=True))
    for channel, value in enumerate((7, 8)):
        whole = np.pad(image[..., channel], 9, constant_values=value)
        np.testing.assert_array_equal(found[..., channel], whole[place])
    np.testing.assert_array_equal(found[tuple(wanted // 2 for wanted in size)], image[centre])


def test_a_given_value_fills_up_in_place_of_the_background():
    image = np.zeros((2, 3, 2), np.uint8)
    found = crop_or_pad(image, (4, 3), np.array([128, 9], np.uint8))
    assert found[[0, 3]].reshape(-1, 2).tolist() == [[128, 9]] * 6
    assert not found[1:3].any()
