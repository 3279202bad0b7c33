"""Splits by patient: nested, disjoint, and the same whatever else is in the set."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memjax.data.manifest import Item
from memjax.data.split import (
    first_and_last,
    first_images,
    first_patients,
    heldout_ids,
    last_patients,
    permutation,
    training_ids,
)
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


def items(patients: list[str]) -> list[Item]:
    return [
        Item(id=i, source=str(i), patient=patient, slice=None, split="train", label="", low=0.0, high=1.0, sha256="")
        for i, patient in enumerate(patients)
    ]


@given(st.lists(st.sampled_from(["", "a", "b", "c", "d"]), min_size=1, max_size=30), st.integers(0, 5))
def test_smaller_training_sets_are_contained_in_larger_ones_and_tear_one_patient_at_most(patients, seed):
    rows = items(patients)
    ids = np.arange(len(rows))
    sets = [set(first_images(rows, ids, count, seed).tolist()) for count in range(1, len(rows) + 1)]
    assert [len(one) for one in sets] == list(range(1, len(rows) + 1))
    assert all(smaller < larger for smaller, larger in itertools.pairwise(sets))
    for one in sets:
        torn = [
            name for name in set(patients) - {""} if 0 < sum(patients[i] == name for i in one) < patients.count(name)
        ]
        assert len(torn) <= 1


def test_who_is_trained_on_and_who_is_held_out():
    rows = [dataclasses.replace(row, split=split) for row, split in zip(
        items(["a", "b", "c", "d"]), ["train", "val", "test", ""], strict=True)]  # fmt: skip
    assert training_ids(rows).tolist() == [0, 3]
    assert heldout_ids(rows).tolist() == [1, 2]
    apart = [dataclasses.replace(rows[0], split="heldout"), *rows[1:]]
    assert heldout_ids(apart).tolist() == [0]
    assert heldout_ids(rows[2:]).tolist() == [2]
    assert heldout_ids(rows[:1]).tolist() == []
    with pytest.raises(UserError, match=r"config\.n_train=3, but there are 2"):
        first_images(rows, training_ids(rows), 3, 0)
