"""Pictures are upright, in the radiological convention, and windowed; orientations in words say what is seen."""

import numpy as np
import pytest

from memjax.audit.report import turns
from memjax.audit.report.display import pictures, windowed
from memjax.data.manifest import Manifest
from memjax.orientation import orientations

RAS = ("R", "A", "S")


def manifest(shape, axes, channels=("grey",), **more):
    return Manifest(n=1, shape=shape, dtype="float32", axes=axes, channels=channels, **more)


def volume_with_marks():
    """A body of 100 with its right side 200, its front 250 and its head 0, in a volume whose axes differ in length."""
    body = np.full((6, 8, 10, 1), 100, np.float32)
    body[-1] = 200
    body[:, -1] = 250
    body[:, :, -1] = 0
    return body


def test_volume_is_three_planes_with_head_and_front_up():
    axial, coronal, sagittal = pictures(volume_with_marks(), manifest((6, 8, 10, 1), RAS))
    assert [p.plane for p in (axial, coronal, sagittal)] == ["axial", "coronal", "sagittal"]
    assert axial.pixels.shape == (8, 6) and coronal.pixels.shape == (10, 6) and sagittal.pixels.shape == (10, 8)
    front, right, head = 255, axial.pixels[4, 0], 0
    assert (axial.pixels[0] == front).all(), "front is up"
    assert (axial.pixels[1:, 0] == right).all() and (axial.pixels[1:, 1] < right).all(), "right is on the left"
    assert (coronal.pixels[0] == head).all(), "head is up"
    assert (coronal.pixels[1:, 0] == right).all() and (coronal.pixels[1:, 1] < right).all(), "right is on the left"
    assert (sagittal.pixels[0] == head).all(), "head is up"
    assert (sagittal.pixels[1:, 0] == front).all() and (sagittal.pixels[1:, 1] < front).all(), "looks to the left"


@pytest.mark.parametrize(
    ("axes", "keep", "plane"),
    [
        (("R", "A"), np.s_[:, :, 5], "axial"),
        (("R", "S"), np.s_[:, 4], "coronal"),
        (("A", "S"), np.s_[3], "sagittal"),
    ],
)
def test_slice_is_shown_like_the_plane_of_its_volume(axes, keep, plane):
    body = volume_with_marks()
    whole = {p.plane: p.pixels for p in pictures(body, manifest(body.shape, RAS))}
    (found,) = pictures(body[keep], manifest(body[keep].shape, axes))
    assert found.plane == plane
    assert found.pixels.shape == whole[plane].shape
    np.testing.assert_array_equal(
        np.argsort(found.pixels.ravel(), kind="stable"), np.argsort(whole[plane].ravel(), kind="stable")
    )


def test_pictures_with_rows_and_columns_are_left_as_they_are():
    image = np.arange(12, dtype=np.float32).reshape(3, 4, 1)
    (found,) = pictures(image, manifest((3, 4, 1), ("row", "column")))
    assert found.plane == "" and found.pixels.shape == (3, 4)
    assert found.pixels[0, 0] == 0 and found.pixels[-1, -1] == 255
    assert (np.diff(found.pixels.ravel().astype(int)) > 0).all()


def test_colours_stay_colours_and_other_channels_show_the_first_contrast():
    rng = np.random.default_rng(0)
    colour = rng.integers(0, 256, (5, 6, 3), np.uint8)
    (found,) = pictures(colour, manifest((5, 6, 3), ("row", "column"), ("red", "green", "blue")))
    np.testing.assert_array_equal(found.pixels, colour)
    (grey,) = pictures(colour, manifest((5, 6, 3), ("row", "column"), ("pre", "flair", "post")))
    np.testing.assert_array_equal(grey.pixels, windowed(colour[..., 0]))
    (unlabelled,) = pictures(colour, manifest((5, 6, 3), ("row", "column"), ("seg", "a", "b"), label_channels=(0,)))
    np.testing.assert_array_equal(unlabelled.pixels, windowed(colour[..., 1]))


def test_a_grey_volume_of_three_slices_is_not_taken_for_colour():
    body = np.random.default_rng(0).integers(0, 256, (6, 8, 3, 1), np.uint8)
    assert all(p.pixels.ndim == 2 for p in pictures(body, manifest(body.shape, RAS)))


def test_window_ignores_a_few_extreme_pixels():
    values = np.tile(np.linspace(0, 100, 1000, dtype=np.float32), 2)
    values[0] = 1e6
    shown = windowed(values)
    assert shown[500] in range(120, 136)
    assert shown[0] == 255


def test_window_of_rare_foreground_and_of_a_constant_image():
    rare = np.zeros((50, 50), np.int16)
    rare[3, 4] = 9
    assert windowed(rare)[3, 4] == 255 and windowed(rare).sum() == 255
    assert (windowed(np.full((4, 4), -7, np.int16)) == 128).all()


def test_spacing_becomes_the_aspect_of_each_plane():
    body = volume_with_marks()
    shown = pictures(body, manifest(body.shape, RAS, spacing_mm=(1.0, 2.0, 5.0)))
    assert [p.aspect for p in shown] == [2.0, 5.0, 2.5]
    (unknown,) = pictures(body[0], manifest(body[0].shape, ("A", "S"), spacing_mm=None))
    assert unknown.aspect == 1.0


@pytest.mark.parametrize("axes", [("row", "column"), ("R", "A"), ("R", "S"), ("A", "S")])
def test_words_say_what_the_orientation_does_to_the_shown_picture(axes):
    seen_as = {
        "same orientation": lambda p: p,
        "mirrored left–right": np.fliplr,
        "mirrored top–bottom": np.flipud,
        "turned by 180°": lambda p: np.rot90(p, 2),
        "turned by 90° to the left": np.rot90,
        "turned by 90° to the right": lambda p: np.rot90(p, -1),
        "mirrored along the falling diagonal": np.transpose,
        "mirrored along the rising diagonal": lambda p: np.rot90(p, 2).T,
    }
    image = np.random.default_rng(1).integers(0, 256, (7, 7, 1), np.uint8)
    described = manifest((7, 7, 1), axes)
    before = pictures(image, described)[0].pixels
    said = set()
    for orientation in orientations((7, 7), "all"):
        words = turns.in_words(orientation.name, axes)
        after = pictures(orientation.apply(image), described)[0].pixels
        np.testing.assert_array_equal(after, seen_as[words](before))
        said.add(words)
    assert said == set(seen_as)


def test_words_of_volumes_name_directions_of_the_body():
    assert turns.in_words("identity", RAS) == "same orientation"
    assert turns.in_words("flip_0", RAS) == "mirrored left–right"
    assert turns.in_words("flip_1_2", RAS) == "mirrored front–back and head–foot"
    assert turns.in_words("axes_102_flip_0", RAS) == (
        "turned so that front–back becomes left–right, left–right becomes front–back, then mirrored left–right"
    )
    assert len({turns.in_words(o.name, RAS) for o in orientations((4, 4, 4), "all")}) == 48


def test_volumes_of_unknown_place_are_shown_as_stored():
    """Nobody may call a plane axial, or a flip left-right, where the file does not say how the patient lay."""
    about = manifest((4, 5, 6, 1), ("depth", "row", "column"))
    volume = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 1)).astype(np.uint8)
    shown = pictures(volume, about)
    assert [picture.plane for picture in shown] == ["across depth", "across row", "across column"]
    for picture, axis in zip(shown, range(3), strict=True):
        plane = np.take(volume[..., 0], volume.shape[axis] // 2, axis).astype(float)
        assert np.corrcoef(plane.ravel(), picture.pixels.ravel())[0, 1] > 0.99
    assert turns.in_words("flip_0", about.axes) == "mirrored depth"
    assert turns.in_words("flip_0", RAS) == "mirrored left–right"
