"""Grids show every image, every channel and all three planes, in their places."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from memjax.artifacts.images import grid, write_png

GAP, GREY = 2, 96


def constants(*values, shape=(4, 5)):
    """Images of one channel that each hold one value."""
    return np.stack([np.full((*shape, 1), value, np.float32) for value in values])


def test_range():
    assert grid(constants(-1, 0, 1, 9, -9, np.nan, np.inf), columns=7)[0, :: 5 + GAP].tolist() == [
        0,
        128,
        255,
        255,
        0,
        0,
        255,
    ]


@given(arrays(np.uint8, (3, 4, 4, 1)))
def test_bytes_come_back(bytes_):
    picture = grid(bytes_.astype(np.float32) / 127.5 - 1, columns=1)
    for i, image in enumerate(bytes_):
        np.testing.assert_array_equal(picture[i * (4 + GAP) :][:4], image[..., 0])


def test_a_square_of_images_with_gaps_and_an_open_end():
    picture = grid(constants(-1, 1, -1, 1, -1))
    assert picture.shape == (4 + GAP + 4, 3 * 5 + 2 * GAP)
    assert (picture[4:6] == GREY).all()
    assert (picture[:, 5:7] == GREY).all()
    assert picture[0, [0, 7, 14]].tolist() == [0, 255, 0]
    assert picture[9, [0, 7, 14]].tolist() == [255, 0, GREY]


@given(st.integers(1, 20), st.integers(1, 9))
def test_every_image_is_there(n, columns):
    values = np.linspace(-1, 1, n, dtype=np.float32)
    picture = grid(constants(*values, shape=(1, 1)), columns)
    found = picture[:: 1 + GAP, :: 1 + GAP].reshape(-1)
    np.testing.assert_array_equal(found[:n], np.rint(values * 127.5 + 127.5))
    assert (found[n:] == GREY).all()


def test_channels_lie_side_by_side_one_image_a_row():
    images = np.linspace(-1, 1, 2 * 3).reshape(2, 1, 1, 3).repeat(4, 1).repeat(5, 2).astype(np.float32)
    picture = grid(images)
    assert picture.shape == (4 + GAP + 4, 3 * 5 + 2 * GAP)
    assert picture[:: 4 + GAP, :: 5 + GAP].tolist() == [[0, 51, 102], [153, 204, 255]]


def test_colours_only_when_asked():
    images = np.stack([constants(1, 1)[..., 0], constants(-1, -1)[..., 0], constants(0, 0)[..., 0]], -1)
    picture = grid(images, is_rgb=True)
    assert picture.shape == (4, 5 + GAP + 5, 3)
    assert picture[0, 0].tolist() == [255, 0, 128]
    assert picture[0, 5].tolist() == [GREY] * 3


def test_volumes_show_their_middle_slices():
    shape = (4, 6, 8)
    volume = np.random.default_rng(0).uniform(-1, 1, (1, *shape, 1)).astype(np.float32)
    picture = grid(volume)
    assert picture.shape == (6, 8 + GAP + 8 + GAP + 6)
    whole = np.rint(volume[0, ..., 0] * 127.5 + 127.5)
    np.testing.assert_array_equal(picture[:, :8], whole[2])
    np.testing.assert_array_equal(picture[:4, 10:18], whole[:, 3])
    np.testing.assert_array_equal(picture[:4, 20:], whole[:, :, 4])
    assert (picture[4:, 10:] == GREY).all()
    assert grid(np.repeat(volume, 2, -1)).shape == (6, 2 * 26 + GAP)  # two contrasts
    assert grid(np.repeat(volume, 3, 0)).shape == (3 * 6 + 2 * GAP, 26)


@pytest.mark.parametrize("is_rgb", [False, True])
def test_png(tmp_path, is_rgb):
    picture = grid(np.random.default_rng(0).uniform(-1, 1, (4, 8, 8, 3)).astype(np.float32), is_rgb=is_rgb)
    write_png(tmp_path / "previews" / "a.png", picture)
    with Image.open(tmp_path / "previews" / "a.png") as opened:
        assert opened.format == "PNG"
        np.testing.assert_array_equal(np.asarray(opened), picture)
    assert [p.name for p in (tmp_path / "previews").iterdir()] == ["a.png"]
