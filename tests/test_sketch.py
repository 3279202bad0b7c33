"""The bound is never below a score, for any images, and close for images that are smooth."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from memjax.audit.describe import facts
from memjax.audit.pairs import symmetry
from memjax.audit.pairs.sketch import Sketch, symmetric_cuts
from memjax.orientation import orientations

SPACES = [(12, 12), (13, 13), (16, 9), (8, 8, 8), (9, 8, 9), (5, 1, 7), (3, 3)]


def images(kind, n, space, channels, seed):
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(n, *space, channels)).astype(np.float32)
    if kind == "noise":  # no low-pass energy worth mentioning
        return noise
    if kind == "smooth":
        return ndimage.gaussian_filter(noise, (0, *(2.0,) * len(space), 0))
    if kind == "pixel":  # equal but for one pixel
        x = np.repeat(noise[:1], n, axis=0)
        x.reshape(n, -1)[np.arange(n), rng.integers(0, x[0].size, n)] += 3
        return x
    checks = np.indices(space).sum(0) % 2  # energy just above what block means can see
    return (checks[..., None] * 100 + noise).astype(np.float32)


@functools.partial(jax.jit, static_argnames="score")
def sketched(how, x, score, mask=None):
    return how.describe(x, jnp.tile(jnp.array([-3.0, 3.0]), (len(x), 1)), mask, score=score)


@functools.partial(jax.jit, static_argnames="score")
def parts_of_both(how, x, y, score, mask):
    """Sketch both sides in one call, which is compiled once."""
    parts, _ = sketched(how, jnp.concatenate([x, y]), score, mask)
    return tuple(part[:, : len(x)] for part in parts), tuple(part[:, len(x) :] for part in parts)


def vectors(x, score, mask=None):
    """What `describe.values` stands for, in float64."""
    x = x.astype(np.float64) if mask is None else np.where(mask[..., None], x.astype(np.float64), np.nan)
    axes = tuple(range(1, x.ndim))
    if score == "msd":
        x = np.clip((x + 3) / 6 * 2 - 1, -1, 1) * np.sqrt(2 / np.isfinite(x[0]).sum())
    else:
        x = x - np.nanmean(x, axes, keepdims=True)
        x = x / np.sqrt(np.nansum(x * x, axes, keepdims=True))
    return np.nan_to_num(x)


@pytest.mark.parametrize("score", ["correlation", "msd"])
@pytest.mark.parametrize("kind", ["noise", "smooth", "pixel", "edge"])
@pytest.mark.parametrize("space", SPACES)
def test_never_below_a_score(space, kind, score):
    group = orientations(space, "all")
    mask = np.ones(space, bool)
    mask[tuple(length // 2 for length in space)] = min(space) % 2 == 0
    mask = np.all([g.apply(mask) for g in group], axis=0)
    x, y = images(kind, 6, space, 2, 0), images(kind, 7, space, 2, 1)
    x[:2] = y[:2]
    for masked in (None, mask):
        how = Sketch.of(group, space, 2, n_channels=2)
        parts = parts_of_both(how, x, y, score, masked)
        bound = np.stack(symmetry.recombine(group, symmetry.products(*parts)))
        u, v = vectors(x, score, masked), vectors(y, score, masked)
        exact = np.stack([u.reshape(6, -1) @ g.apply(v, leading=1).reshape(7, -1).T for g in group])
        assert (bound - exact).min() > -2e-6
        if kind == "smooth" and len(space) == 2 and min(space) > 8 and score == "correlation" and masked is None:
            assert (bound - exact).max() < 0.2


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.float16, np.float32])
def test_facts_are_those_of_whole_images(dtype):
    """Sums of blocks and cells give the same mean and norm; low contrast far from zero keeps its digits."""
    rng = np.random.default_rng(5)
    x = rng.integers(100, 127, (6, 9, 7, 2)).astype(dtype)
    x[1] = 101
    x[1, 4, 4, 1] = 102
    x[2] = 77
    mask = np.zeros((9, 7), bool)
    mask[2:7, 1:6] = True
    for masked in (None, jnp.asarray(mask)):
        of = jax.jit(lambda x, m=masked: facts(x, jnp.zeros((6, 2)), m, score="correlation"))(jnp.asarray(x))
        how = Sketch.of(orientations((9, 7), "all"), (9, 7), 2, n_channels=2)
        _, mine = sketched(how, x, "correlation", None if masked is None else mask)
        np.testing.assert_array_equal(mine.valid, of.valid)
        both = [f.shift + f.centre for f in (mine, of)]
        np.testing.assert_allclose(*both, rtol=1e-6)
        np.testing.assert_allclose(np.where(of.valid, mine.factor, 1), np.where(of.valid, of.factor, 1), rtol=2e-6)


@pytest.mark.parametrize("block", [1, 2, 3, 4, 7])
def test_cuts_lie_the_same_from_both_ends(block):
    for length in range(1, 40):
        cuts = symmetric_cuts(length, block)
        assert sum(cuts) == length
        assert cuts == cuts[::-1]
        assert max(cuts) < 2 * block


def test_rests_matter():
    """Without them the bound would be below the score: the test above can fail."""
    group, space = orientations((8, 8), "all"), (8, 8)
    x = images("noise", 3, space, 1, 3)
    how = Sketch.of(group, space, 4, n_channels=1)
    (parts, _) = sketched(how, x, "correlation")
    means_only = tuple(
        part[:, :, : part.shape[2] - rest.shape[2]] for part, rest in zip(parts, _rest_parts(how, x), strict=True)
    )
    bound = symmetry.recombine(group, symmetry.products(means_only, means_only))[0]
    assert np.diagonal(bound).max() < 0.9  # every image correlates with itself by 1


def _rest_parts(how, x):
    cells = np.ones((len(x), int(np.prod([len(c) for c in how.cells]))), np.float32)
    return jax.jit(lambda rests, flat: rests.split(flat, lambda v: v))(how.rests, jnp.asarray(cells))
