"""Orientations form the group of flips and quarter turns that the shape allows."""

import numpy as np
import pytest

from memjax.orientation import Orientation, orientations

SIZES = {(5, 5): 8, (5, 4): 4, (6, 6, 6): 48, (6, 6, 2): 16, (4, 5, 6): 8, (1, 7): 2, (3, 1, 3): 8, (1, 1): 1}


@pytest.mark.parametrize(("space", "size"), SIZES.items())
def test_is_a_group_without_repeats(space, size):
    group = orientations(space, "all")
    assert len(group) == size
    assert group[0].name == "identity"
    assert len({orientation.name for orientation in group}) == size
    image = np.arange(np.prod(space)).reshape(space)
    images = {orientation.apply(image).tobytes() for orientation in group}
    assert len(images) == size  # all different on an image without symmetry
    for first in group:
        assert first.apply(image).shape == space
        for second in group:  # closed under composition
            assert second.apply(first.apply(image)).tobytes() in images


def test_names_in_two_dimensions_are_numpys():
    image = np.arange(3 * 3 * 2).reshape(3, 3, 2)
    named = {orientation.name: orientation.apply(image) for orientation in orientations((3, 3), "all")}
    expected = {
        "identity": image,
        "flipud": np.flipud(image),
        "fliplr": np.fliplr(image),
        "rot90": np.rot90(image),
        "rot180": np.rot90(image, 2),
        "rot270": np.rot90(image, 3),
        "transpose": image.swapaxes(0, 1),
        "antitranspose": np.rot90(image, 2).swapaxes(0, 1),
    }
    assert named.keys() == expected.keys()
    for name, turned in expected.items():
        np.testing.assert_array_equal(named[name], turned, err_msg=name)


def test_names_in_three_dimensions_say_what_is_done():
    image = np.arange(27).reshape(3, 3, 3)
    turn = Orientation((1, 0, 2), (0, 2))
    assert turn.name == "axes_102_flip_0_2"
    np.testing.assert_array_equal(turn.apply(image), np.flip(image.transpose(1, 0, 2), (0, 2)))


def test_leading_axes_stay():
    images = np.random.default_rng(0).normal(size=(4, 3, 3, 2))
    for orientation in orientations((3, 3), "all"):
        together = orientation.apply(images, leading=1)
        np.testing.assert_array_equal(together, np.stack([orientation.apply(image) for image in images]))


def test_flips_are_a_part_of_all():
    flips, every = orientations((4, 4, 2), "flips"), orientations((4, 4, 2), "all")
    assert len(flips) == 8
    assert every[:8] == flips
    assert orientations((4, 4, 2), "none") == flips[:1]
