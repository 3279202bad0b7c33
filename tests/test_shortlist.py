"""Lists of the best, against a stable sort of everything at once."""

import numpy as np
import pytest

from memjax.audit.pairs.shortlist import Shortlist


def expected(n, width, owner, other, score, code):
    """Best first, ties to the earlier entry, filled up with -1."""
    lists = Shortlist.nothing(n, width)
    for i in range(n):
        mine = np.flatnonzero(owner == i)
        best = mine[np.argsort(-score[mine], kind="stable")][:width]
        for column, values in ((lists.score, score), (lists.id, other), (lists.code, code)):
            column[i, : len(best)] = values[best]
    return lists


def assert_same(one, two):
    for name in ("score", "id", "code"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name), err_msg=name)


@pytest.mark.parametrize("parts", [1, 2, 7])
@pytest.mark.parametrize("seed", range(5))
def test_any_number_of_additions_is_one_sort(seed, parts):
    """Scores of both signs, zeros of both signs, many ties, lists that stay short and one that stays empty."""
    rng = np.random.default_rng(seed)
    n, width, pairs = 9, 4, 150
    owner, other = rng.integers(0, n - 1, pairs), np.arange(pairs)
    score = (rng.integers(-4, 5, pairs) / 4 * rng.choice([1.0, -1.0], pairs)).astype(np.float32)
    owner[owner == 3] = 2
    owner[0] = 3
    code = rng.integers(0, 48, pairs).astype(np.int16)
    lists = Shortlist.nothing(n, width)
    for part in np.array_split(np.arange(pairs), parts):
        lists.add(owner[part], other[part], score[part], code[part])
    assert_same(lists, expected(n, width, owner, other, score, code))
    assert (lists.id[n - 1] == -1).all()
    assert lists.floor(2)[3] == -np.inf


def test_merging_two_halves_is_adding_all():
    rng = np.random.default_rng(9)
    owner, other = rng.integers(0, 5, 80), np.arange(80)
    score, code = rng.integers(0, 9, 80).astype(np.float32), np.zeros(80, np.int16)
    halves = [Shortlist.nothing(5, 6) for _ in range(2)]
    for half, part in zip(halves, np.split(np.arange(80), 2), strict=True):
        half.add(owner[part], other[part], score[part], code[part])
    halves[0].merge(halves[1])
    assert_same(halves[0], expected(5, 6, owner, other, score, code))
