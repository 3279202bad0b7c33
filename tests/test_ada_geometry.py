"""One affine resampling: the filter derived again, slopes and blobs where mathematics puts them, and undone."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.objectives.ada_geometry import SYM6, deform, draw_maps, resample, rotation

SIDE = 32
CENTRE = (SIDE - 1) / 2
ROW, COLUMN = (x - CENTRE for x in np.mgrid[:SIDE, :SIDE])


SAG = 2 * (1 / 4) * (1 / 2) ** 2 / 8  # of a blob's top below its curve, between samples half a pixel apart


def maps(linear: np.ndarray | jax.Array, shift: tuple[float, float] = (0.0, 0.0)) -> jax.Array:
    """Return one map from where a pixel goes to where it comes from."""
    return jnp.asarray(np.concatenate([np.asarray(linear, np.float64), np.array(shift)[:, None]], 1), jnp.float32)[None]


def turned(degrees: float) -> np.ndarray:
    return np.asarray(rotation(jnp.array([math.radians(degrees)]))[0], np.float64)


def resampled(image: np.ndarray, inverse: jax.Array) -> np.ndarray:
    return np.asarray(jax.jit(resample)(jnp.asarray(image, jnp.float32)[None, ..., None], inverse))[0, ..., 0]


def blob(row: float, column: float, width: float = 2.0) -> np.ndarray:
    return np.exp(-((ROW - row) ** 2 + (COLUMN - column) ** 2) / (2 * width**2))


def test_filter_is_an_orthogonal_wavelets():
    assert SYM6.sum() == pytest.approx(2**0.5, abs=1e-14)
    for shift in range(6):
        assert SYM6[2 * shift :] @ SYM6[: 12 - 2 * shift] == pytest.approx(float(shift == 0), abs=1e-14)
    for degree in range(6):  # so many moments of its high-pass vanish
        assert (SYM6 * (-1.0) ** np.arange(12)) @ (np.arange(12) - 5.0) ** degree == pytest.approx(0, abs=1e-8)


def test_filter_is_the_least_asymmetric():
    """Daubechies: |H|^2 is known, and its roots come in groups of which either half makes a filter."""
    y = np.roots([math.comb(5 + k, k) for k in range(5, -1, -1)])
    halves = []
    for one in y[y.imag > -1e-9]:
        inside = np.roots([1, 4 * one - 2, 1])
        inside = inside[np.argmin(np.abs(inside))]
        pairs = [[z, z.conj()] if abs(one.imag) > 1e-9 else [z] for z in (inside, 1 / inside)]
        halves.append(pairs)

    def bend(taps: np.ndarray) -> float:
        """How far the phase is from a straight line."""
        frequency = np.linspace(0.01, 2.5, 200)
        phase = np.unwrap(np.angle(np.exp(-1j * np.outer(frequency, np.arange(12))) @ taps))
        slope = (frequency @ phase) / (frequency @ frequency)
        return np.square(phase - slope * frequency).sum()

    filters = [np.poly([-1] * 6 + list(itertools.chain(*chosen))).real for chosen in itertools.product(*halves)]
    filters = sorted((taps * 2**0.5 / taps.sum() for taps in filters), key=bend)
    assert bend(filters[1]) < 1.01 * bend(filters[0]) < 0.5 * bend(filters[2])  # it and its mirror image
    assert min(np.abs(SYM6 - taps).max() for taps in filters[:2]) < 1e-9


def test_no_map_changes_nothing():
    noise = np.random.default_rng(0).uniform(-1, 1, (SIDE, SIDE))
    np.testing.assert_allclose(resampled(noise, maps(np.eye(2))), noise, atol=3e-5)  # to the border


def test_whole_pixels_and_quarter_turns_are_nearly_exact():
    noise = np.random.default_rng(0).uniform(-1, 1, (SIDE, SIDE))
    shifted = resampled(noise, maps(np.eye(2), (3.0, -2.0)))
    np.testing.assert_allclose(shifted[6:-6, 6:-6], np.roll(noise, (-3, 2), (0, 1))[6:-6, 6:-6], atol=3e-5)


@pytest.mark.parametrize("shift", [(0.0, 0.0), (1.3, -0.6)])
@pytest.mark.parametrize("degrees", [0.0, 23.0, -90.0])
def test_slopes_land_exactly(degrees, shift):
    """An image that is linear in its position stays so; where nothing comes from outside, to rounding."""
    linear = turned(degrees) @ np.diag([0.8, 1.1])
    found = resampled(0.05 * ROW - 0.02 * COLUMN, maps(linear, shift))
    row, column = (linear[i, 0] * ROW + linear[i, 1] * COLUMN + shift[i] for i in (0, 1))
    inside = np.hypot(ROW, COLUMN) < 6
    np.testing.assert_allclose(found[inside], (0.05 * row - 0.02 * column)[inside], atol=1e-5)


@pytest.mark.parametrize("degrees", [30.0, 90.0, 200.0])
def test_a_turned_blob_lands_where_it_should(degrees):
    at = np.array([5.0, -3.0])
    inverse = turned(degrees)
    found = resampled(blob(*at), maps(inverse))
    inside = np.hypot(ROW, COLUMN) < 15  # beyond are its mirror images
    np.testing.assert_allclose(
        found[inside], blob(*(inverse.T @ at))[inside], atol=1.3 * SAG
    )  # and a little by the taps' asymmetry
    found = np.where(inside, found, 0.0)
    mass = np.array([(found * ROW).sum(), (found * COLUMN).sum()]) / found.sum()
    np.testing.assert_allclose(mass, inverse.T @ at, atol=0.1)


def test_maps_are_undone_by_their_inverses():
    image = blob(3, 2) - 0.5 * blob(-4, 1)
    linear = turned(40) @ np.diag([1.15, 1 / 1.15]) @ turned(-10) * 0.95
    shift = np.array([1.4, -0.7])
    there = resampled(image, maps(linear, tuple(shift)))
    back = np.linalg.inv(linear)
    returned = resampled(there, maps(back, tuple(-back @ shift)))
    assert np.abs(there - image).max() > 0.3
    inside = np.hypot(ROW, COLUMN) < 11
    np.testing.assert_allclose(returned[inside], image[inside], atol=2.2 * SAG)


def test_borders_are_mirrored_without_end():
    """A whole image that comes from far outside is what its mirror images are."""
    smooth = np.cos(2 * np.pi * (ROW + CENTRE) / (SIDE - 1)) * np.cos(np.pi * (COLUMN + CENTRE) / (SIDE - 1))
    for shift in ((40.0, 0.0), (-13.5, 77.25)):  # cosines continue themselves when mirrored
        row, column = ROW + shift[0] + CENTRE, COLUMN + shift[1] + CENTRE
        wanted = np.cos(2 * np.pi * row / (SIDE - 1)) * np.cos(np.pi * column / (SIDE - 1))
        np.testing.assert_allclose(resampled(smooth, maps(np.eye(2), shift)), wanted, atol=0.015)


def test_constants_stay_and_images_without_a_map_are_not_resampled():
    n, key, p = 64, jax.random.key(0), jnp.float32(0.3)
    noise = np.random.default_rng(0).uniform(-1, 1, (n, 16, 16, 1)).astype(np.float32)
    x = jnp.concatenate([noise, np.full_like(noise, 0.7)], -1)
    found, drawn = jax.jit(lambda x: (deform(x, key, p), draw_maps(key, p, n, 16)))(x)
    np.testing.assert_allclose(found[..., 1], 0.7, atol=1e-6)
    is_same = (np.asarray(drawn) == np.eye(2, 3)).all((1, 2))
    assert 0 < is_same.sum() < n
    assert np.array_equal(found[is_same], x[is_same])
    assert (np.abs(found - x).max((1, 2, 3))[~is_same] > 0.01).all()
