"""Kernel distance, inception score, neighbourhoods: against definitions in plain loops, and planted answers."""

import numpy as np
import pytest
import scipy.stats
from scipy.spatial.distance import cdist

from memjax.audit.fidelity import neighbourhoods as module
from memjax.audit.fidelity.inception_score import inception_score
from memjax.audit.fidelity.kernel import kernel_distance, squared_discrepancy
from memjax.audit.fidelity.neighbourhoods import neighbourhoods

RNG = np.random.default_rng(0)


def test_kernel_distance_in_loops():
    x, y = RNG.normal(size=(7, 5)), RNG.normal(size=(6, 5)) + 0.5

    def kernel(a, b):
        return (float(a @ b) / 5 + 1) ** 3

    within = [np.mean([kernel(a, b) for i, a in enumerate(s) for j, b in enumerate(s) if i != j]) for s in (x, y)]
    across = np.mean([kernel(a, b) for a in x for b in y])
    assert squared_discrepancy(x, y) == pytest.approx(sum(within) - 2 * across, rel=1e-10)
    assert squared_discrepancy(y[::-1], np.float32(x)) == pytest.approx(sum(within) - 2 * across, rel=1e-5)


def test_kernel_distance_is_unbiased_and_its_subsets_agree_with_the_whole():
    same = [squared_discrepancy(RNG.normal(size=(20, 4)), RNG.normal(size=(30, 4))) for _ in range(300)]
    assert abs(np.mean(same)) < 3 * np.std(same) / np.sqrt(300) and np.min(same) < 0
    x, y = RNG.normal(size=(60, 4)), RNG.normal(size=(50, 4)) + 0.3
    found = kernel_distance(x, y, seed=0, subsets=400)
    assert found.deviation > 0 and found.mean > 0
    assert found.mean == pytest.approx(squared_discrepancy(x, y), abs=4 * found.deviation / 20)
    assert kernel_distance(x, y, seed=0, subsets=5, subset_size=9) == kernel_distance(
        x, y, seed=0, subsets=5, subset_size=9
    )
    with pytest.raises(ValueError, match="4 images"):
        kernel_distance(x[:3], y, seed=0)


def test_inception_score_of_planted_classes():
    assert inception_score(np.full((40, 8), 1 / 8)) == pytest.approx((1, 0))  # unsure
    assert inception_score(np.tile(np.eye(8)[3], (40, 1))) == pytest.approx((1, 0))  # sure, of one class
    assert inception_score(np.tile(np.eye(8), (10, 1)), splits=5) == pytest.approx((8, 0))  # sure, of all
    assert inception_score(np.repeat(np.eye(8), 10, 0), splits=8) == pytest.approx((1, 0))  # a part has but one
    with pytest.raises(ValueError, match="10 parts"):
        inception_score(np.eye(8))


def test_inception_score_in_loops():
    p = RNG.dirichlet(np.full(6, 0.3), size=23)
    parts = [p[:12], p[12:]]
    scores = [np.exp(np.mean([scipy.stats.entropy(row, part.mean(0)) for row in part])) for part in parts]
    assert inception_score(p, splits=2) == pytest.approx((np.mean(scores), np.std(scores)))


def by_definition(x, y, k):
    """Return the four scores from all distances at once."""
    xx, yy, xy = np.sort(cdist(x, x)), np.sort(cdist(y, y)), cdist(x, y)
    in_x, in_y = xy <= xx[:, k, None], xy <= yy[:, k]
    return in_x.any(0).mean(), in_y.any(1).mean(), in_x.sum(0).mean() / k, in_x.any(1).mean()


@pytest.mark.parametrize("k", [1, 3, 5])
def test_neighbourhoods_by_definition_in_any_blocks(k, monkeypatch):
    x, y = RNG.normal(size=(90, 6)) + 100, 1.3 * RNG.normal(size=(70, 6)) + 100.4  # far from the origin
    expected = by_definition(x, y, k)
    assert min(expected) > 0.1 and len(set(expected)) == 4
    assert neighbourhoods(x, y, k=k) == pytest.approx(expected, abs=1e-12)
    assert neighbourhoods(x[::-1], RNG.permutation(y), k=k) == pytest.approx(expected, abs=1e-12)
    monkeypatch.setattr(module, "_BLOCK", 200)  # two rows
    assert neighbourhoods(x, y, k=k) == pytest.approx(expected, abs=1e-12)


def test_neighbourhoods_of_planted_sets(monkeypatch):
    x = np.float32(RNG.normal(size=(60, 5)) * 10 + 50)
    assert neighbourhoods(x, x, k=5) == (1, 1, pytest.approx(6 / 5), 1)  # each image is in its own ball, too
    assert neighbourhoods(x, x + 1000, k=5) == (0, 0, 0, 0)
    one = np.tile(x[:1], (60, 1))  # all are copies of one image: precise, and of no recall
    assert neighbourhoods(x, one, k=5)[:2] == (1, 1 / 60)
    often = np.tile(x, (7, 1))  # balls of radius 0, in any block: a copy is in them still
    monkeypatch.setattr(module, "_BLOCK", 1000)
    assert neighbourhoods(often, x[::-1], k=5)[0] == neighbourhoods(often, x[::-1], k=5)[3] == 1
    assert neighbourhoods(often, x + 1e-3, k=5)[0] == 0
    with pytest.raises(ValueError, match="6 images"):
        neighbourhoods(x, x[:5], k=5)


def test_density_and_coverage_of_a_perfect_generator():
    """Density is 1, and a ball holds none of as many images with about 2^-k (Naeem et al. 2020, equation 9)."""
    found = neighbourhoods(RNG.normal(size=(2000, 3)), RNG.normal(size=(2000, 3)), k=5)
    assert found.density == pytest.approx(1, abs=0.05)
    assert found.coverage == pytest.approx(1 - 2**-5, abs=0.012)
