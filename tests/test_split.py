"""Splits by patient: nested, disjoint, and the same whatever else is in the set."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memjax.data.split import first_and_last, first_patients, last_patients, permutation
from memjax.errors import UserError

BRATS_LADDER = (23, 46, 92, 184, 313, 369)  # Akbar et al.

PATIENTS = [f"patient {i}" for i in range(400)]
names = st.lists(st.text(max_size=3), unique=True, min_size=1, max_size=20)


def test_the_ladder_is_a_chain_of_prefixes():
    steps = [first_patients(PATIENTS, count, 0) for count in BRATS_LADDER]
    assert [len(step) for step in steps] == list(BRATS_LADDER)
    for smaller, larger in itertools.pairwise(steps):
        assert smaller < larger


def test_every_step_of_the_ladder_has_the_same_held_out_patients():
    pairs = [first_and_last(PATIENTS, count, 31.0, 0) for count in BRATS_LADDER]
    assert len({frozenset(away) for _, away in pairs}) == 1
    assert all(not train & away for train, away in pairs)


@given(patients=names, repeats=st.integers(1, 3), seed=st.integers(-5, 5))
def test_the_order_depends_on_patients_and_seed_alone(patients, repeats, seed):
    order = permutation(patients, seed)
    assert sorted(order) == sorted(patients)
    assert permutation(reversed(patients * repeats), seed) == order
    assert permutation(order[::2], seed) == order[::2]


def test_another_seed_is_another_order():
    orders = [permutation(PATIENTS, seed) for seed in range(5)]
    assert len({tuple(order) for order in orders}) == 5
    assert all(order != sorted(order) for order in orders)


def test_the_order_is_a_fair_draw():
    firsts = [permutation("abcd", seed)[0] for seed in range(400)]
    assert all(70 < firsts.count(patient) < 130 for patient in "abcd")


@pytest.mark.parametrize(("asked", "held"), [(1.0, 1), (7.0, 7), (0.25, 100), (0.0026, 1), (399.0, 399)])
def test_a_number_or_a_share_is_held_out(asked, held):
    away = last_patients(PATIENTS, asked, 3)
    assert len(away) == held
    assert away == set(permutation(PATIENTS, 3)[-held:])


@pytest.mark.parametrize("asked", [0.0001, 0.9999, 400.0, 1000.0])
def test_both_sides_need_a_patient(asked):
    with pytest.raises(UserError, match=rf"--heldout_patients={asked:g} of 400 patients .* both need at least one"):
        last_patients(PATIENTS, asked, 0)


def test_more_patients_than_there_are():
    with pytest.raises(UserError, match="--patients=401, but there are 400 patients"):
        first_patients(PATIENTS, 401, 0)
    with pytest.raises(UserError, match=r"--patients=300 and --heldout_patients=101 ask for 401 .* there are 400"):
        first_and_last(PATIENTS, 300, 101.0, 0)
    assert first_and_last(PATIENTS, 300, 0.0, 0)[1] == set()
