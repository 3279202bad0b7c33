"""MS-SSIM: against scipy in float64, and what must hold of pairs and of sets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from memjax.audit.fidelity import diversity as module
from memjax.audit.fidelity.diversity import diversity, ms_ssim, n_scales, random_pairs

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
SHAPES = {(2, 45, 52, 2): 3, (2, 22, 25, 23, 1): 2, (2, 24, 9, 1): 1}  # scales by shape; the last: a shorter window


def pair(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = np.clip(scipy.ndimage.gaussian_filter(rng.standard_normal(shape), (0, *(1,) * (len(shape) - 2), 0)) * 2, -1, 1)
    y = np.clip(0.8 * x + 0.2 * rng.standard_normal(shape) + 0.1, -1, 1)
    return x.astype(np.float32), y.astype(np.float32)


def by_scipy(x: np.ndarray, y: np.ndarray, scales: int) -> float:
    """MS-SSIM of one channel in float64: whole convolutions, whose border is cut away."""
    x, y = (np.float64(x) + 1) / 2, (np.float64(y) + 1) / 2
    weights = np.array(WEIGHTS[:scales]) / sum(WEIGHTS[:scales])
    product = 1.0
    for scale in range(scales):

        def mean(z: np.ndarray) -> np.ndarray:
            for axis, length in enumerate(z.shape):
                at = np.arange(min(11, length)) - (min(11, length) - 1) / 2
                window = np.exp(-(at**2) / (2 * 1.5**2))
                z = np.apply_along_axis(np.convolve, axis, z, window / window.sum(), "valid")
            return z

        mx, my = mean(x), mean(y)
        vx, vy, both = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
        cs = (2 * both + 0.03**2) / (vx + vy + 0.03**2)
        ls = (2 * mx * my + 0.01**2) / (mx * mx + my * my + 0.01**2)
        product *= (cs * ls if scale == scales - 1 else cs).mean() ** weights[scale]
        for axis in range(x.ndim):
            half = x.shape[axis] // 2
            x, y = (
                (z.take(np.arange(0, 2 * half, 2), axis) + z.take(np.arange(1, 2 * half, 2), axis)) / 2 for z in (x, y)
            )
    return product


@pytest.mark.parametrize("shape", SHAPES)
def test_ms_ssim_is_that_of_scipy(shape):
    x, y = pair(shape)
    assert n_scales(shape[1:-1]) == SHAPES[shape]
    wanted = [np.mean([by_scipy(x[b, ..., c], y[b, ..., c], SHAPES[shape]) for c in range(shape[-1])]) for b in (0, 1)]
    found = jax.jit(ms_ssim)(jnp.asarray(x), jnp.asarray(y))
    np.testing.assert_allclose(found, wanted, rtol=1e-4)
    assert max(wanted) < 0.96


def test_what_holds_of_any_pair():
    x, y = (jnp.asarray(image) for image in pair((2, 24, 9, 1)))
    compared = module._compared
    np.testing.assert_allclose(compared(x, x), 1, rtol=1e-6)
    np.testing.assert_allclose(compared(x, y), compared(y, x), rtol=1e-6)
    assert (compared(x, (x + y) / 2) > compared(x, y)).all()
    np.testing.assert_array_equal(compared(x, -x), 0)  # opposite: no root of a negative number


def test_scales_are_as_many_as_the_smallest_axis_allows():
    assert [n_scales((n, 500)) for n in (5, 21, 22, 43, 44, 88, 175, 176, 4000)] == [1, 1, 2, 2, 3, 4, 4, 5, 5]


def test_pairs_are_all_different():
    first, second = random_pairs(6, 1000, seed=0)
    assert set(zip(first.tolist(), second.tolist(), strict=True)) == {(i, j) for j in range(6) for i in range(j)}
    first, second = random_pairs(2_000_000_000, 5000, seed=1)  # where float64 has no room for the pair's number
    assert (first >= 0).all() and (first < second).all() and (second < 2_000_000_000).all()
    assert len(set(zip(first.tolist(), second.tolist(), strict=True))) == 5000
    assert first.mean() == pytest.approx(2e9 / 3, rel=0.05) and second.mean() == pytest.approx(4e9 / 3, rel=0.05)


def test_of_a_set(monkeypatch):
    images = np.random.default_rng(0).uniform(-1, 1, (7, 24, 9, 1)).astype(np.float32)
    found = diversity(images, n=7, seed=0)
    assert found.pairs == 21 and found.scales == 1
    second, first = np.tril_indices(7, -1)
    wanted = np.asarray(module._compared(jnp.asarray(images[first]), jnp.asarray(images[second])))
    assert found.mean == pytest.approx(wanted.mean(), rel=1e-5)
    monkeypatch.setattr(module, "_BLOCK_BYTES", 4 * 4 * 24 * 9)  # four at once: the last of 21 is alone
    assert diversity(lambda ids: images[ids], n=7, seed=5).mean == pytest.approx(found.mean, rel=1e-5)
    assert diversity(images[[0] * 7], n=7, seed=0).mean == pytest.approx(1, rel=1e-6)  # collapsed
    assert found.mean < 0.1
    with pytest.raises(ValueError, match="two images"):
        diversity(images, n=1, seed=0)
