"""PSNR and SSIM: against scipy in float64, and what must hold of any pair of images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from memjax.objectives.fidelity import psnr, ssim

SHAPES = [(3, 16, 11, 1), (2, 9, 12, 3), (2, 8, 9, 10, 2), (2, 4, 9, 8, 1), (1, 7, 7, 1)]


def pair(shape: tuple[int, ...], noise: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = np.clip(scipy.ndimage.gaussian_filter(rng.standard_normal(shape), (0, *(1,) * (len(shape) - 2), 0)) * 2, -1, 1)
    y = np.clip(x + noise * rng.standard_normal(shape), -1, 1)
    return x.astype(np.float32), y.astype(np.float32)


def by_scipy(x: np.ndarray, y: np.ndarray) -> float:
    """SSIM of one channel, in float64: uniform_filter, and windows that reach over the border cut away."""
    x, y = np.float64(x), np.float64(y)
    size = tuple(min(7, n) for n in x.shape)
    inner = tuple(slice(s // 2, n - (s - 1) // 2) for s, n in zip(size, x.shape, strict=True))

    def mean(z: np.ndarray) -> np.ndarray:
        return scipy.ndimage.uniform_filter(z, size)[inner]

    n = np.prod(size)
    mx, my = mean(x), mean(y)
    vx, vy, both = (n / (n - 1) * (mean(a * b) - mean(a) * mean(b)) for a, b in ((x, x), (y, y), (x, y)))
    c1, c2 = 0.02**2, 0.06**2
    s = (2 * mx * my + c1) * (2 * both + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    assert s.shape == tuple(n - w + 1 for n, w in zip(x.shape, size, strict=True))
    return float(s.mean())


@pytest.mark.parametrize("shape", SHAPES)
def test_ssim_is_that_of_scipy(shape):
    x, y = (0.2 * image for image in pair(shape))  # so little contrast that both constants count
    found = jax.jit(ssim)(x, y)
    wanted = [np.mean([by_scipy(x[b, ..., c], y[b, ..., c]) for c in range(shape[-1])]) for b in range(shape[0])]
    np.testing.assert_allclose(found, wanted, rtol=1e-4)
    assert (np.asarray(wanted) < 0.9).all()


def test_a_window_by_hand():
    """One window that sees all: means, sample variances and the covariance are numpy's."""
    x, y = (image[0, ..., 0].ravel() for image in pair((1, 7, 7, 1)))
    covariance = np.cov(np.float64(x), np.float64(y))
    mx, my = x.mean(dtype=np.float64), y.mean(dtype=np.float64)
    wanted = (2 * mx * my + 4e-4) * (2 * covariance[0, 1] + 3.6e-3)
    wanted /= (mx**2 + my**2 + 4e-4) * (np.trace(covariance) + 3.6e-3)
    found = ssim(jnp.asarray(x.reshape(1, 7, 7, 1)), jnp.asarray(y.reshape(1, 7, 7, 1)))
    np.testing.assert_allclose(found, [wanted], rtol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_what_holds_of_any_pair(shape):
    x, y = (jnp.asarray(image) for image in pair(shape))
    np.testing.assert_allclose(ssim(x, x), np.ones(shape[0]), rtol=1e-6)
    np.testing.assert_allclose(ssim(x, y), ssim(y, x), rtol=1e-6)
    np.testing.assert_allclose(ssim(100 * x, 100 * y, data_range=200.0), ssim(x, y), rtol=1e-4)
    nearer = ssim(x, 0.5 * (x + y))
    assert (nearer > ssim(x, y)).all() and (nearer < 1).all()


def test_psnr_by_hand():
    x, y = (jnp.asarray(image) for image in pair((3, 8, 9, 4, 2)))
    error = np.square(np.float64(x) - np.float64(y)).reshape(3, -1).mean(1)
    np.testing.assert_allclose(psnr(x, y), 10 * np.log10(4 / error), rtol=1e-5)
    np.testing.assert_allclose(psnr(x, x + 0.02), [40.0] * 3, rtol=1e-4)
    np.testing.assert_allclose(psnr(x, y, data_range=20.0), psnr(x, y) + 20, rtol=1e-5)
    assert np.isposinf(psnr(x, x)).all()
