"""The transform against the definition: every orientation tried, one by one, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.audit.pairs import symmetry
from memjax.audit.pairs.symmetry import Symmetry, check_group, multiply_adds, products, recombine
from memjax.errors import UserError
from memjax.orientation import Orientation, orientations

# Even and odd, equal and unequal lengths, axes of one voxel, all group sizes: 1, 2, 4, 8, 16 and 48.
SPACES = [
    (6, 6),
    (5, 5),
    (5, 4),
    (1, 7),
    (1, 1),
    (4, 4, 4),
    (5, 5, 5),
    (2, 2, 2),
    (4, 6, 4),
    (3, 3, 5),
    (4, 5, 6),
    (3, 1, 3),
]
TOLERANCE = 2e-5  # float32 sums of at most 500 products of standard normal numbers


def images(seed, n, space, channels):
    return np.random.default_rng(seed).normal(size=(n, *space, channels)).astype(np.float32)


@jax.jit
def split(transform, *sides):
    """Transform sets of images: all in one call, which is compiled once."""
    flat = jnp.concatenate([x.reshape(len(x), -1) for x in sides])
    ends = np.cumsum([len(x) for x in sides])[:-1]
    parts = [jnp.split(part, ends, axis=1) for part in transform.split(flat, lambda v: v)]
    return list(zip(*parts, strict=True))


def every_orientation(x, y, group):
    x = x.reshape(len(x), -1).astype(np.float64)
    return np.stack([x @ g.apply(y, leading=1).reshape(len(y), -1).T.astype(np.float64) for g in group])


@pytest.mark.parametrize("kind", ["none", "flips", "all"])
@pytest.mark.parametrize("space", SPACES)
def test_scores_of_all_orientations(space, kind):
    group = orientations(space, kind)
    x, y = images(0, 3, space, 2), images(1, 4, space, 2)
    transform = Symmetry.of(group, (*space, 2))
    scores = np.stack(recombine(group, products(*split(transform, x, y))))
    expected = every_orientation(x, y, group)
    np.testing.assert_allclose(scores, expected, atol=TOLERANCE * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("space", SPACES)
def test_the_transform_is_orthogonal_and_as_long_as_the_image(space):
    """So norms are kept, nothing is computed twice, and a pair costs what the derivation says."""
    group = orientations(space, "all")
    (parts,) = split(
        Symmetry.of(group, (*space, 1)), np.eye(int(np.prod(space)), dtype=np.float32).reshape(-1, *space, 1)
    )
    matrix = np.concatenate([column for part in parts for column in np.asarray(part)], axis=1)
    assert matrix.shape == (np.prod(space),) * 2
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(len(matrix)), atol=1e-6)


def test_the_price_of_a_pair():
    prices = {(6, 6): 1.5, (5, 4): 1, (4, 5, 6): 1, (4, 4, 2): 1.5, (4, 4, 4): 128 / 48}
    for space, price in prices.items():
        assert multiply_adds(orientations(space, "all")) == pytest.approx(price)
    group = orientations((12, 12, 12), "all")
    (parts,) = split(Symmetry.of(group, (12, 12, 12, 1)), images(0, 1, (12, 12, 12), 1))
    assert sum(p.shape[0] ** 2 * p.shape[2] for p in parts) / 12**3 == pytest.approx(128 / 48, rel=0.01)


@pytest.mark.parametrize("space", [(5, 5), (4, 4, 4), (4, 5)])
def test_channels_and_a_symmetric_mask(space):
    group = orientations(space, "all")
    mask = np.zeros(space, bool)
    mask[tuple(slice(1, -1) for _ in space)] = True
    x, y = images(2, 3, space, 3), images(3, 3, space, 3)
    transform = Symmetry.of(group, (*space, 3), channels=(2, 0), mask=mask)
    scores = np.stack(recombine(group, products(*split(transform, x, y))))
    inside = [np.where(mask[..., None], v[..., [2, 0]], 0) for v in (x, y)]
    np.testing.assert_allclose(scores, every_orientation(*inside, group), atol=TOLERANCE * 30)


@pytest.mark.parametrize("space", SPACES)
def test_representations_are_homomorphisms_with_diagonal_flips(space):
    group = orientations(space, "all")
    table, (signs, rows) = symmetry._table(group), symmetry._characters(group)
    for rho, of_basis in zip(symmetry._representations(group), rows, strict=True):
        np.testing.assert_allclose(rho[table], np.einsum("aij,bjk->abik", rho, rho), atol=1e-12)
        for f in range(len(signs)):
            np.testing.assert_allclose(rho[f], np.diag(signs[of_basis, f]), atol=1e-12)


@pytest.mark.parametrize("space", [(5, 5), (4, 4, 4), (4, 6, 4)])
def test_the_inverse_undoes(space):
    x = images(4, 1, space, 1)[0]
    for g in orientations(space, "all"):
        np.testing.assert_array_equal(g.inverse.apply(g.apply(x)), x)


def test_a_group_that_the_shape_does_not_allow():
    with pytest.raises(
        UserError, match=r"5 x 4 have no orientation transpose; they allow identity, flipud, fliplr, rot180"
    ):
        check_group(orientations((4, 4), "all"), (5, 4))
    half = (Orientation((0, 1)), Orientation((0, 1), (0,)), Orientation((0, 1), (1,)))
    with pytest.raises(UserError, match="no group"):
        check_group(half, (5, 4))
    with pytest.raises(UserError, match="no group"):
        check_group(orientations((4, 4), "all")[:5], (4, 4))
    lopsided = np.zeros((4, 4), bool)
    lopsided[0] = True
    with pytest.raises(UserError, match="symmetric"):
        Symmetry.of(orientations((4, 4), "flips"), (4, 4, 1), mask=lopsided)
