"""Pieces of the device's side against numpy: floors, and what rounding to bfloat16 may take from a product."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.audit.pairs import screen, symmetry
from memjax.audit.pairs.machine import Quick
from memjax.audit.pairs.screen import How
from memjax.mesh import audit_mesh
from memjax.orientation import orientations


@pytest.mark.parametrize("k", [1, 3, 10, 40])
@pytest.mark.parametrize("kind", ["noise", "ties", "missing", "sizes"])
def test_the_kth_largest_is_that_of_a_sort(k, kind):
    rng = np.random.default_rng(k)
    x = rng.normal(size=(40, 200)).astype(np.float32)
    if kind == "ties":
        x = np.round(x)  # and zeros of both signs
    if kind == "missing":
        x[rng.random(x.shape) < 0.7] = -np.inf
    if kind == "sizes":
        x = np.where(rng.random(x.shape) < 0.5, x * np.float32(1e-30), x * np.float32(1e30))
    np.testing.assert_array_equal(screen._kth(jnp.asarray(x), k), np.sort(x, axis=0)[-k])


def test_of_fewer_than_k_nothing_is_known():
    assert np.isneginf(np.asarray(screen._kth(jnp.ones((3, 5)), 4))).all()


@pytest.mark.parametrize("score", ["correlation", "msd"])
def test_rounded_products_with_their_excess_are_bounds(score):
    """Every orientation of every pair; without the excess a good part of the products is too low."""
    rng = np.random.default_rng(0)
    shape = (9, 9, 1)
    group = orientations(shape[:-1], "all")
    how = How(
        kind="sketched",
        block=1,
        score=score,
        group=group,
        channels=None,
        k=1,
        bins=0,
        limits=(-1.0, 1.0),
        quick=Quick(bytes=True, halves=True),
        dtype="float32",
        shape=shape,
        leave_out="nothing",
        mesh=audit_mesh(1),
    )
    x, y = (rng.normal(size=(n, 81)).astype(np.float32) for n in (20, 30))
    length = 1 if score == "correlation" else np.sqrt(2)  # the longest there are
    x, y = (side / np.linalg.norm(side, axis=1, keepdims=True) * np.float32(length) for side in (x, y))
    transform = symmetry.Symmetry.of(group, shape)
    described = jax.jit(lambda transform, side: screen._bounding(how, transform.split(side, lambda pixels: pixels)))
    sides = [described(transform, side) for side in (x, y)]
    rounded = symmetry.recombine(group, symmetry.products(sides[0][0], sides[1][0]))
    excess = np.asarray(sides[0][1])[:, None] + np.asarray(sides[1][1])
    images = y.reshape(-1, *shape)
    lost = [
        x.astype(np.float64) @ g.apply(images, leading=1).reshape(len(y), -1).T - np.asarray(found)
        for g, found in zip(group, rounded, strict=True)
    ]
    assert (np.array(lost) <= excess).all()
    assert 0.3 < (np.array(lost) > 0).mean() < 0.7
    assert excess.max() < 0.01 * length**2
