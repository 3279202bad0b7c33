"""The halves of the patients: whole people, each in one, the same one in every store."""

import contextlib

import launching
import numpy as np
import pytest

from memjax.data.halves import half_of
from memjax.errors import UserError


def written(path, patients, seed=0):
    return launching.store(path, launching.noise(len(patients), seed, size=(3, 3, 1)), patient=patients)


def test_halves_are_of_whole_patients_and_the_same_in_every_store(tmp_path):
    patients = [f"p{i % 50}" for i in range(100)]
    store, other = written(tmp_path / "a", patients), written(tmp_path / "b", patients[40:90][::-1], seed=1)
    ids = np.arange(100)[::-1]
    halves = [half_of(store, ids, half) for half in (0, 1)]
    assert sorted(np.concatenate(halves).tolist()) == list(range(100))
    for half, found in enumerate(halves):
        assert (np.diff(found) < 0).all()  # in the order they were given
        people = {patients[i] for i in found}
        assert 10 < len(people) < 40 and len(found) == 2 * len(people)
        assert {other.items[i].patient for i in half_of(other, np.arange(50), half)} <= people


def test_an_image_of_nobody_known_is_a_patient_of_its_own(tmp_path):
    store, other = (written(tmp_path / name, [""] * 60) for name in "ab")
    found = half_of(store, np.arange(60), 0)
    assert 15 < len(found) < 45
    np.testing.assert_array_equal(half_of(other, np.arange(60), 0), found)


def test_a_half_of_nobody_is_refused(tmp_path):
    store = written(tmp_path / "a", ["one"] * 4)
    sizes = {}
    for half in (0, 1):
        with contextlib.suppress(UserError):
            sizes[half] = len(half_of(store, np.arange(4), half))
    assert list(sizes.values()) == [4]
    with pytest.raises(UserError, match=r"half [01] of the patients of .*a is empty; halves need .* more patients"):
        half_of(store, np.arange(4), 1 - next(iter(sizes)))
    with pytest.raises(UserError, match="half=2 is not known"):
        half_of(store, np.arange(4), 2)
