"""Whole pixels moved: as numpy moves them, and back again."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.objectives.ada_blit import blit, moved

SIDE = 8


def image() -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (1, SIDE, SIDE, 2)).astype(np.float32)


def move(x: np.ndarray, flips: int = 0, quarters: int = 0, shift: tuple[int, int] = (0, 0)) -> np.ndarray:
    n = len(x)
    several = jnp.full(n, flips), jnp.full(n, quarters), jnp.broadcast_to(jnp.array(shift), (n, 2))
    return np.asarray(jax.jit(moved)(x, *several))


@pytest.mark.parametrize("flips", [0, 1])
@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_as_numpy_moves_them(flips, quarters):
    x = image()
    wanted = np.rot90(x[:, :, ::-1] if flips else x, quarters, axes=(1, 2))
    assert np.array_equal(move(x, flips, quarters), wanted)
    for shift in ((2, -1), (-3, 0)):
        padded = np.pad(wanted, ((0, 0), (3, 3), (3, 3), (0, 0)), mode="reflect")
        down, right = shift
        cut = padded[:, 3 - down : 3 - down + SIDE, 3 - right : 3 - right + SIDE]
        assert np.array_equal(move(x, flips, quarters, shift), cut)


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_moves_undo_each_other(quarters):
    x = image()
    assert np.array_equal(move(move(x, 0, quarters), 0, -quarters % 4), x)
    assert np.array_equal(move(move(x, 1, quarters), 1, quarters), x)  # a reflection is its own inverse
    inner = slice(3, -3)
    assert np.array_equal(move(move(x, 0, 0, (2, -3)), 0, 0, (-2, 3))[:, inner, inner], x[:, inner, inner])


def test_what_is_drawn_at_p_of_one_moves_pixels_only():
    """Undone by one of the moves there are, every pixel is where it was, and each move is among those drawn."""
    n, side = 256, 8
    x = np.broadcast_to(image(), (n, side, side, 2))
    found = np.asarray(jax.jit(blit)(x, jax.random.key(0), 1.0))
    seen = np.zeros((2, 4, 3, 3), int)
    for flips, quarters, down, right in np.ndindex(*seen.shape):
        wanted = move(x[:1], flips, quarters, (down - 1, right - 1))
        seen[flips, quarters, down, right] = (found == wanted).all((1, 2, 3)).sum()
    assert seen.sum() == n
    assert (
        (seen.sum((2, 3)) > 0.5 * n / 8).all() and (seen.sum((0, 1, 3)) > 0).all() and (seen.sum((0, 1, 2)) > 0).all()
    )
