"""Descriptions against numpy, and the invariances that the kernel relies on."""

import jax.numpy as jnp
import numpy as np
import pytest
from small_findings import make_store

from memjax.audit.describe import (
    ArrayImages,
    Descriptor,
    constant_images,
    facts,
    foreground,
    matrix_scores,
    pair_scores,
    values,
)
from memjax.orientation import orientations

RANGES = np.tile(np.float32([0, 255]), (6, 1))


def images(seed=0, shape=(6, 5, 5, 2)):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def described(raw, score, mask=None):
    """The device's vectors [n, *space, channels], nothing outside of the mask, and what else it knows."""
    of = facts(jnp.asarray(raw), jnp.asarray(RANGES), None if mask is None else jnp.asarray(mask), score=score)
    vector = np.asarray(values(jnp.asarray(raw), of, score=score))
    return vector if mask is None else np.where(mask[..., None], vector, 0), of


def scores(x, y, score, mask=None):
    """Matrix of scores from the device's descriptions."""
    (a, of_a), (b, of_b) = (described(raw, score, mask) for raw in (x, y))
    return a.reshape(len(a), -1) @ b.reshape(len(b), -1).T + np.asarray(of_a.offset)[:, None] + np.asarray(of_b.offset)


def test_correlation_is_pearsons():
    x, y = images(0), images(1)
    expected = np.corrcoef(x.reshape(6, -1), y.reshape(6, -1))[:6, 6:]
    np.testing.assert_allclose(scores(x, y, "correlation"), expected, atol=1e-6)


def test_distance_is_the_mean_square_of_images_in_unit_range():
    x, y = images(0), images(1)
    a, b = (raw.reshape(6, -1) / 255 * 2 - 1 for raw in (x, y))
    expected = -((a[:, None] - b[None]) ** 2).mean(-1)
    np.testing.assert_allclose(scores(x, y, "msd"), expected, atol=1e-6)


@pytest.mark.parametrize("score", ["correlation", "msd"])
def test_a_mask_is_leaving_the_other_pixels_out(score):
    x, y = images(2), images(3)
    mask = np.zeros((5, 5), bool)
    mask[1:4, 1:4] = True
    inside = [raw[:, mask].reshape(6, 1, 9, 2) for raw in (x, y)]
    np.testing.assert_allclose(scores(x, y, score, mask), scores(*inside, score), atol=1e-6)


@pytest.mark.parametrize("score", ["correlation", "msd"])
def test_facts_do_not_depend_on_orientation(score):
    """But for the correlation's first difference, which starts from another pixel."""
    x = images(4)
    vector, straight = described(x, score)
    for turn in orientations((5, 5), "all"):
        turned_vector, turned = described(turn.apply(x, leading=1), score)
        np.testing.assert_allclose(turned.factor, straight.factor, rtol=1e-6)
        np.testing.assert_allclose(turned.offset, straight.offset, rtol=1e-6)
        np.testing.assert_allclose(turned_vector, turn.apply(vector, leading=1), atol=1e-6)


@pytest.mark.parametrize("score", ["correlation", "msd"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_images_that_are_not_finite_are_known(score, bad):
    x = images(9).astype(np.float32)
    x[2, 1, 1, 0] = bad
    assert np.asarray(described(x, score)[1].finite).tolist() == [True, True, False, True, True, True]


def test_correlation_ignores_brightness_and_contrast():
    x = images(5).astype(np.float32)
    assert scores(x, 0.3 * x + 40, "correlation").diagonal() == pytest.approx(np.ones(6), abs=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.float32])
@pytest.mark.parametrize("score", ["correlation", "msd"])
@pytest.mark.parametrize("masked", [False, True])
def test_pair_scores_are_the_diagonal(dtype, score, masked):
    """Bytes are scored in whole numbers, all others in float64: both are what the matrix of all pairs says."""
    x, y = (images(seed).astype(dtype) for seed in (6, 7))
    x[2] = 3  # no score
    mask = np.zeros(x.shape[1:-1], bool)
    mask[1:3] = True
    descriptor = Descriptor(score=score, channels=(1,) if masked else None, mask=mask if masked else None)
    pairs = pair_scores(x, RANGES, y, RANGES, descriptor)
    np.testing.assert_allclose(pairs, np.diag(matrix_scores(x, RANGES, y, RANGES, descriptor)), atol=1e-14)
    assert np.isneginf(pairs[2]) == (score == "correlation")


def test_constant_images_are_found_exactly():
    x = images(8).astype(np.float32)
    x[1] = 0.1  # its float32 mean is not exactly 0.1
    x[4] = 7
    x[4, 0, 0, 0] = np.nextafter(np.float32(7), np.float32(8))
    assert constant_images(ArrayImages(x, RANGES)) == [1]
    assert np.asarray(described(x, "correlation")[1].valid).tolist() == [True, False, True, True, True, True]


def test_foreground_is_what_several_images_show_and_symmetric(tmp_path):
    x = np.zeros((40, 8, 8, 2), np.uint8)
    x[:, 2:6, 2:5, 0] = 200  # in every image
    x[0, 0, 0, 0] = 200  # in one image of forty: not foreground
    x[:, :, :, 1] = np.random.default_rng(0).integers(0, 2, (40, 8, 8)) * 255  # a label channel does not count
    store = make_store(tmp_path / "s", x, channels=("t1", "seg"), label_channels=(1,))
    mask = foreground(store, orientations((8, 8), "none"))
    np.testing.assert_array_equal(mask, x[1, :, :, 0] > 0)
    symmetric = foreground(store, orientations((8, 8), "all"))
    assert symmetric[mask].all()
    for turn in orientations((8, 8), "all"):
        np.testing.assert_array_equal(turn.apply(symmetric), symmetric)
