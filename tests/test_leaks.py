"""Leaks and duplicates by content and by patient."""

import numpy as np
from small_findings import make_store

from memjax.audit.findings import ImageSet, Neighbours
from memjax.audit.leaks import duplicate_groups, find_leaks, leaked_heldout, near_identical
from memjax.audit.pairs.above import ScoredPairs


def image_set(folder, role, images, patients=None, constant=()):
    return ImageSet(
        role=role, given=role, store=make_store(folder / role, images, patients=patients), constant=constant
    )


def near(one, two):
    return ScoredPairs(
        query=np.array(one, int),
        gallery=np.array(two, int),
        score=np.ones(len(one)),
        orientation=np.zeros(len(one), np.int16),
    )


def random_images(seed, n):
    return np.random.default_rng(seed).integers(0, 256, (n, 5, 5, 1)).astype(np.uint8)


def test_duplicates_are_the_groups_of_equal_images(tmp_path):
    images = random_images(0, 9)
    images[4] = images[1]
    images[7] = images[1]
    images[8] = images[2]
    images[3] = images[5] = 0  # blank images are equal, but evidence of nothing
    train = image_set(tmp_path, "train", images, constant=(3, 5))
    assert duplicate_groups(train, near([], [])) == [[1, 4, 7], [2, 8]]
    assert duplicate_groups(train, near([0, 7], [6, 8])) == [[0, 6], [1, 2, 4, 7, 8]]
    alone = image_set(tmp_path / "alone", "train", random_images(5, 4))
    assert duplicate_groups(alone, near([], [])) == []


def test_an_image_or_patient_in_two_folders(tmp_path):
    train_images, heldout_images, synthetic_images = (random_images(seed, 4) for seed in (1, 2, 3))
    heldout_images[2] = train_images[1]
    synthetic_images[0] = heldout_images[3]
    train = image_set(tmp_path, "train", train_images, ["a", "b", "c", "d"])
    heldout = image_set(tmp_path, "heldout", heldout_images, ["x", "d", "y", "z"])
    synthetic = image_set(tmp_path, "synthetic", synthetic_images)
    leaks = find_leaks([train, heldout, synthetic])
    told = {(leak.kind, leak.roles, leak.ids) for leak in leaks}
    assert told == {
        ("same image", ("train", "heldout"), (1, 2)),
        ("same image", ("heldout", "synthetic"), (3, 0)),
        ("same patient", ("train", "heldout"), (3, 1)),
    }
    reasons = leaked_heldout(heldout, train, leaks)
    assert set(reasons) == {1, 2}
    assert "patient" in reasons[1]
    assert "image" in reasons[2]


def test_patients_of_sets_that_do_not_know_them_never_match(tmp_path):
    train = image_set(tmp_path, "train", random_images(4, 3))
    heldout = image_set(tmp_path, "heldout", random_images(5, 3))
    assert find_leaks([train, heldout]) == []


def test_near_identical_heldout_images_are_leaks(tmp_path):
    """A training image saved again with another compression is no unseen patient's image."""
    train = image_set(tmp_path, "train", random_images(6, 3))
    heldout = image_set(tmp_path, "heldout", random_images(7, 3))
    nearest = Neighbours(
        score=np.array([[0.5], [0.99995], [0.97]]),
        id=np.array([[0], [2], [1]]),
        orientation=np.zeros((3, 1), np.int16),
    )
    leaks = near_identical(train, heldout, nearest)
    assert [(leak.ids, leak.score) for leak in leaks] == [((2, 1), 0.99995)]
    assert set(leaked_heldout(heldout, train, leaks)) == {1}
