"""Patients and splits: whose each image is, whole patients on one side, and sets that nest."""

import itertools
import os

import numpy as np
import pytest
from launching import files_below, noise, pictures
from preparing import names_read, prepared, volumes

from memjax.data.readers.base import ReadOptions
from memjax.data.readers.pictures import Pictures
from memjax.errors import UserError


def patients_of(store, split):
    return {item.patient or item.source for item in store.items if item.split == split}


@pytest.fixture
def scans(tmp_path):
    """Two pictures each of ten patients, p0 to p9."""
    images = noise(20, 0)
    return pictures(tmp_path / "scans", {f"p{i // 2}_{i % 2}.png": image for i, image in enumerate(images)})


@pytest.fixture
def reads(monkeypatch):
    """The names of the picture units that are read from now on."""
    return names_read(monkeypatch, Pictures)


@pytest.mark.parametrize(
    ("asked", "kind", "patient"),
    [
        ({"patient_regex": r"p(\d)"}, "regex", "0"),
        ({"patients_from": "folder"}, "folder", "in"),
        ({"patients_from": "none"}, "none", ""),
        ({}, "none", ""),
    ],
)
def test_patients_come_from_where_the_user_says(tmp_path, asked, kind, patient):
    root = pictures(tmp_path, {"in/p0_0.png": noise(1, 0)[0], "in/p0_1.png": noise(1, 1)[0]})
    made = prepared(root, tmp_path / "s", **asked)
    assert made.manifest.patient_ids == kind
    assert {item.patient for item in made.items} == {patient}


def test_patients_come_from_a_table(tmp_path, scans):
    table = tmp_path / "patients.csv"
    table.write_text("file,patient\n" + "".join(f"p{i // 2}_{i % 2}.png,Иван {i // 2}\n" for i in range(20)))
    made = prepared(scans, tmp_path / "s", patient_csv=str(table))
    assert made.manifest.patient_ids == "csv"
    assert {item.patient for item in made.items} == {f"Иван {i}" for i in range(10)}


def test_patients_come_from_well_known_names(tmp_path):
    names = [f"person{i}_virus_{i}.png" for i in range(4)]
    made = prepared(pictures(tmp_path / "in", dict(zip(names, noise(4, 0), strict=True))), tmp_path / "s")
    assert made.manifest.patient_ids == "names"
    assert [item.patient for item in made.items] == [f"person{i}" for i in range(4)]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"patient_regex": "("}, "is no regular expression"),
        ({"patient_csv": "nowhere.csv"}, r"nowhere\.csv cannot be read"),
        ({"patient_regex": "p", "patient_csv": "nowhere.csv"}, "not both"),
    ],
)
def test_a_rule_that_cannot_be_is_told_before_any_work(tmp_path, scans, reads, asked, said):
    with pytest.raises(UserError, match=said):
        prepared(scans, tmp_path / "s", **asked)
    assert not reads


def test_a_rule_that_does_not_fit_costs_no_second_reading(tmp_path, scans, reads):
    with pytest.raises(UserError, match="finds no patient in 20 of 20 sources"):
        prepared(scans, tmp_path / "s", patient_regex="q(.)")
    assert len(reads) == 20
    made = prepared(scans, tmp_path / "s", patient_regex="p(.)", heldout_patients=3.0)
    assert len(reads) == 20
    prepared(scans, tmp_path / "other", patient_regex="p(.)", heldout_patients=3.0)
    assert files_below(made.path) == files_below(tmp_path / "other")


@pytest.mark.parametrize(("asked", "held"), [(3.0, 3), (0.2, 2)])
def test_whole_patients_are_held_out(tmp_path, scans, asked, held):
    made = prepared(scans, tmp_path / "s", patient_regex="(p.)", heldout_patients=asked)
    away, train = patients_of(made, "heldout"), patients_of(made, "train")
    assert len(away) == held
    assert not away & train
    assert len(away | train) == 10
    assert not made.manifest.notes
    other = prepared(scans, tmp_path / "t", patient_regex="(p.)", heldout_patients=asked, seed=1)
    assert patients_of(other, "heldout") != away


def test_slices_of_one_volume_are_on_one_side_and_doubt_is_told(tmp_path):
    root = volumes(tmp_path / "in", [f"{i}.nii" for i in range(6)])
    made = prepared(root, tmp_path / "s", heldout_patients=2.0, read=ReadOptions(layout="slices"))
    files = {split: {source.partition("#")[0] for source in patients_of(made, split)} for split in ("train", "heldout")}
    assert [len(files["train"]), len(files["heldout"])] == [4, 2]
    assert not files["train"] & files["heldout"]
    assert "the patients of 36 images are unknown" in made.manifest.notes[0]


def test_pieces_of_one_array_file_are_apart(tmp_path):
    np.save(tmp_path / "x.npy", noise(10, 0, size=(20, 20)))
    made = prepared(tmp_path / "x.npy", tmp_path / "s", heldout_patients=4.0)
    assert len(patients_of(made, "heldout")) == 4


def test_smaller_sets_nest_in_larger_ones(tmp_path, scans):
    sets = [
        prepared(scans, tmp_path / str(n), patient_regex="(p.)", n_patients=n, heldout_patients=3.0) for n in (2, 5, 7)
    ]
    for smaller, larger in itertools.pairwise(sets):
        assert patients_of(smaller, "train") < patients_of(larger, "train")
        assert patients_of(smaller, "heldout") == patients_of(larger, "heldout")
    assert [len(patients_of(one, "train")) for one in sets] == [2, 5, 7]
    assert [len(one) for one in sets] == [10, 16, 20]
    alone = prepared(scans, tmp_path / "alone", patient_regex="(p.)", n_patients=2)
    assert patients_of(alone, "") == patients_of(sets[0], "train")


def test_a_training_patient_who_is_lost_draws_nobody_back(tmp_path, scans):
    asked = {"patient_regex": "(p.)", "n_patients": 2, "heldout_patients": 3.0}
    whole = prepared(scans, tmp_path / "whole", **asked)
    lost, kept = sorted(patients_of(whole, "train"))
    for i in range(2):
        os.truncate(scans / f"{lost}_{i}.png", 50)
    made = prepared(scans, tmp_path / "s", **asked, skip_bad=True)
    assert patients_of(made, "train") == {kept}
    assert patients_of(made, "heldout") == patients_of(whole, "heldout")


def test_more_patients_than_there_are(tmp_path, scans):
    with pytest.raises(UserError, match="--patients=11, but there are 10 patients"):
        prepared(scans, tmp_path / "s", patient_regex="(p.)", n_patients=11)
    np.save(tmp_path / "x.npy", noise(10, 0, size=(20, 20)))
    with pytest.raises(UserError, match="--patients needs one file or folder a patient"):
        prepared(tmp_path / "x.npy", tmp_path / "s", n_patients=2)


def split_folders(tmp_path, owner):
    images = noise(6, 0)
    names = [f"{('train', 'test')[i % 2]}/{owner(i)}_{i}.png" for i in range(6)]
    return pictures(tmp_path / "in", dict(zip(names, images, strict=True)))


def test_splits_of_whole_patients_are_kept(tmp_path):
    root = split_folders(tmp_path, lambda i: f"p{i % 2}")
    made = prepared(root, tmp_path / "s", patient_regex="(p.)_")
    assert {(item.patient, item.split) for item in made.items} == {("p0", "train"), ("p1", "test")}
    without = prepared(root, tmp_path / "t", patient_regex="(p.)_", keep_splits=False)
    assert {item.split for item in without.items} == {""}


def test_splits_that_tear_a_patient_are_dropped_and_this_is_noted(tmp_path):
    root = split_folders(tmp_path, lambda i: f"p{i // 3}")
    made = prepared(root, tmp_path / "s", patient_regex="(p.)_")
    assert {item.split for item in made.items} == {""}
    assert "put 2 patients into more than one (the first: p0)" in made.manifest.notes[0]


def test_one_split_can_be_taken(tmp_path):
    root = split_folders(tmp_path, lambda i: f"p{i}")
    made = prepared(root, tmp_path / "s", take_split="test")
    assert [item.source for item in made.items] == ["test/p1_1.png", "test/p3_3.png", "test/p5_5.png"]
    with pytest.raises(UserError, match="has no split 'valid'; its images are in test, train"):
        prepared(root, tmp_path / "t", take_split="valid")


def test_one_split_of_a_store_can_be_taken(tmp_path):
    whole = prepared(split_folders(tmp_path, lambda i: f"p{i}"), tmp_path / "s", patient_regex="(p.)_")
    made = prepared(whole.path, tmp_path / "t", take_split="test")
    assert [item.source for item in made.items] == [item.source for item in whole.items if item.split == "test"]
    assert made.manifest.patient_ids == "regex"
    assert [item.patient for item in made.items] == ["p1", "p3", "p5"]
    with pytest.raises(UserError, match="has no image in the split 'valid'"):
        prepared(whole.path, tmp_path / "u", take_split="valid")
