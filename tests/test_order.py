"""The order of images: whole permutations, fresh ones, from the seed alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memjax.data.order import epoch_order, record_rng, records


@given(n=st.integers(1, 40), seed=st.integers(0, 2**70), epoch=st.integers(0, 2**40))
def test_every_epoch_is_a_permutation(n, seed, epoch):
    assert sorted(records(epoch * n, (epoch + 1) * n, n=n, seed=seed)) == list(range(n))


@given(n=st.integers(1, 12), seed=st.integers(0, 9), start=st.integers(0, 50), length=st.integers(0, 50))
def test_any_part_is_a_part_of_the_whole(n, seed, start, length):
    whole = np.concatenate([epoch_order(n, seed=seed, epoch=epoch) for epoch in range(101)])
    found = records(start, start + length, n=n, seed=seed)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, whole[start : start + length])


def test_no_epoch_is_one_of_another_seed():
    orders = {tuple(epoch_order(30, seed=seed, epoch=epoch)) for seed in range(20) for epoch in range(20)}
    assert len(orders) == 400


def test_all_orders_are_equally_likely():
    counts = np.zeros((4, 4))
    for epoch in range(4000):
        counts[np.arange(4), epoch_order(4, seed=7, epoch=epoch)] += 1
    assert abs(counts - 1000).max() < 5 * np.sqrt(4000 * 0.25 * 0.75)  # binomial


def test_a_kept_order_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        epoch_order(5, seed=0, epoch=0)[0] = 1


def test_random_numbers_of_records_have_nothing_in_common():
    drawn = [record_rng(record, seed=seed).random(4) for seed in range(3) for record in (0, 1, 2**33)]
    again = [record_rng(record, seed=seed).random(4) for seed in range(3) for record in (0, 1, 2**33)]
    np.testing.assert_array_equal(drawn, again)
    assert len(np.unique(drawn)) == np.size(drawn)
