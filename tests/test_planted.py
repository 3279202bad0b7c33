"""Planted copies are what their cells say, patients play one part only, and the ROC numbers are those of the books."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from launching import noise, store
from scipy import ndimage, stats

from launch.benchmark import planted, roc
from launch.benchmark.parties import LEAST, divide, one_each, sources
from memjax.data.embeddings import INVARIANCES
from memjax.errors import UserError

SPACES = {2: ((24, 24), ("row", "column")), 3: ((12, 16, 12), ("R", "A", "S"))}


def smooth(n, space, seed=0):
    """Draw n smooth uint8 images [n, *space, 1], not symmetric in any way."""
    drawn = np.random.default_rng(seed).normal(size=(n, *space))
    drawn = np.stack([ndimage.gaussian_filter(image, 1.5) for image in drawn])
    drawn = (drawn - drawn.min()) / np.ptp(drawn)
    return np.round(20 + 215 * drawn).astype(np.uint8)[..., None]


def cells(ndim):
    return {cell.name: cell for cell in planted.cells_of(*SPACES[ndim])}


def test_bytes_come_back():
    levels = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(planted.as_bytes(planted.unit_range(levels)), levels)
    assert planted.unit_range(levels)[[0, -1]].tolist() == [-1, 1]


@pytest.mark.parametrize("ndim", [2, 3])
def test_cells_are_named_once_and_need_what_detectors_declare(ndim):
    found = planted.cells_of(*SPACES[ndim])
    assert len({cell.name for cell in found}) == len(found)
    assert {word for cell in found for word in cell.needs} == set(INVARIANCES)


@pytest.mark.parametrize("ndim", [2, 3])
def test_flips_and_turns_move_pixels_and_change_none(ndim):
    images, ids = smooth(20, SPACES[ndim][0]), np.arange(20)

    def copies(name):
        return planted.plant(images, ids, cells(ndim)[name], seed=0)

    np.testing.assert_array_equal(copies("exact"), images)
    for axis, name in enumerate(SPACES[ndim][1]):
        np.testing.assert_array_equal(copies(f"flip {name}"), np.flip(images, axis + 1))
    square = (1, ndim)  # the axes of equal length
    both = [np.rot90(images, times, square) for times in (1, -1)]
    matches = np.array(
        [[np.array_equal(copy, turned[i]) for turned in both] for i, copy in enumerate(copies("turn 90°"))]
    )
    assert matches.sum(1).tolist() == [1] * 20
    assert matches.any(0).all()  # either way
    half = [np.rot90(images, 2, plane) for plane in itertools.combinations(range(1, ndim + 1), 2)]
    assert all(any(np.array_equal(copy, turned[i]) for turned in half) for i, copy in enumerate(copies("turn 180°")))


@pytest.mark.parametrize("ndim", [2, 3])
def test_copies_are_less_alike_the_stronger_the_change(ndim):
    images = smooth(16, SPACES[ndim][0])
    alike: dict[str, list[float]] = {}
    for cell in cells(ndim).values():
        if cell.work not in ("exact", "flip", "turn") and "+" not in cell.work:
            copies = planted.plant(images, np.arange(16), cell, seed=1)
            difference = np.abs(copies.astype(int) - images).reshape(16, -1).mean()
            alike.setdefault(cell.work, []).append(difference)
    assert set(alike) == {"rotation", "shift", "noise", "blur", "contrast", "deformation"}
    for work, differences in alike.items():
        assert differences[0] > 0, work
        assert differences == sorted(differences), work


def test_noise_and_shift_are_as_strong_as_they_say():
    grey = np.full((8, 24, 24, 1), 128, np.uint8)
    for percent in (2, 5, 10):
        spread = planted.plant(grey, np.arange(8), cells(2)[f"noise {percent} %"], seed=0).std()
        assert spread == pytest.approx(255 * percent / 100, rel=0.05)
    images = smooth(8, (24, 24))
    for copy, image in zip(planted.plant(images, np.arange(8), cells(2)["shift 15 %"], seed=0), images, strict=True):
        moved = [np.roll(image, (a, b), (0, 1)) for a in (-4, 4) for b in (-4, 4)]  # 15 % of 24 is 3.6
        assert any(np.array_equal(copy[4:-4, 4:-4], one[4:-4, 4:-4]) for one in moved)


def test_a_copy_depends_on_its_seed_image_and_cell_alone():
    images, cell = smooth(6, (24, 24)), cells(2)["flip + rotation + contrast strong"]
    all_of_them = planted.plant(images, np.arange(6), cell, seed=3)
    some = np.array([4, 1])
    np.testing.assert_array_equal(planted.plant(images[some], some, cell, seed=3), all_of_them[some])
    assert (planted.plant(images, np.arange(6), cell, seed=4) != all_of_them).any((1, 2, 3)).all()


def test_labels_keep_their_values():
    images = np.concatenate([smooth(4, (24, 24)), 85 * noise(4, 0, size=(24, 24, 1)).astype(np.uint8) // 85 * 85], -1)
    images[..., 1] = (images[..., 1] // 128) * 255
    for cell in planted.cells_of(*SPACES[2], label_channels=(1,)):
        copies = planted.plant(images, np.arange(4), cell, seed=0)
        assert set(np.unique(copies[..., 1])) <= {0, 255}, cell.name
        if cell.work in ("noise", "blur", "contrast"):
            np.testing.assert_array_equal(copies[..., 1], images[..., 1])


def test_controls_are_blends_of_two_patients_and_noise_of_the_same_spread():
    images, patient = smooth(6, (24, 24)), np.array(["a", "a", "a", "b", "b", "c"])
    halves = {
        (one, other): (images[one].astype(int) + images[other] + 1) // 2
        for one in range(6)
        for other in range(6)
        if patient[one] != patient[other]
    }
    for blend in planted.blends(images, patient, 12, seed=0):
        assert any(np.array_equal(blend, half) for half in halves.values())
    drawn = planted.noises(images, 50, seed=0)
    assert drawn.mean() == pytest.approx(images.mean(), abs=1)
    assert drawn.std() == pytest.approx(images.std(), rel=0.05)
    assert set(planted.resampled(6, 500, seed=0)) == set(range(6))


def patients_of(n, each=1):
    return [f"p{i // each:03d}" for i in range(n)]


def a_store(path, n=60, each=1, seed=0):
    return store(path, noise(n, seed)[..., None], patient=patients_of(n, each))


def test_patients_play_one_part_only(tmp_path):
    parties = divide(a_store(tmp_path / "s", 120, each=2), 0.5, trained_on={"p003", "p007"}, seed=0)
    groups = [set(side.patient) for side in (parties.gallery, parties.reference, parties.control)]
    assert [len(group) for group in groups] == [29, 14, 15]
    assert len(set.union(*groups)) == 58 and not {"p003", "p007"} & set.union(*groups)
    assert all(len(side) == 2 * side.n_patients for side in (parties.gallery, parties.reference, parties.control))
    other = divide(a_store(tmp_path / "t", 120, each=2), 0.5, seed=1)
    assert set(other.gallery.patient) != groups[0]


def test_a_second_store_gives_the_unseen(tmp_path):
    mine = a_store(tmp_path / "s", 12)
    unseen = noise(25, 7)[..., None]
    unseen[0], unseen[1] = mine.images[3], 9  # in the gallery byte for byte; without contrast
    theirs = store(tmp_path / "t", unseen, patient=[f"q{i}" for i in range(25)])
    parties = divide(mine, theirs, seed=0)
    assert len(parties.gallery) == 12
    assert len(parties.reference) + len(parties.control) == 23
    assert sorted(parties.left_out.values()) == [1, 1]
    with pytest.raises(UserError, match=r"12 patients are in both --data and --heldout \(the first: 'p000'\)"):
        divide(mine, a_store(tmp_path / "u", 40, seed=9), seed=0)


def test_too_few_patients_are_refused_with_how_many_it_takes(tmp_path):
    few = a_store(tmp_path / "s", 30)
    with pytest.raises(UserError, match=r"with --heldout=0\.5 that takes 40 patients or more"):
        divide(few, 0.5, seed=0)
    with pytest.raises(UserError, match=rf"--data with {LEAST} patients or more and --heldout with {2 * LEAST}"):
        divide(few, store(tmp_path / "t", noise(4, 3)[..., None], patient=["q"] * 4), seed=0)
    one = store(tmp_path / "one", noise(50, 3)[..., None], patient=["q"] * 50)
    with pytest.raises(UserError, match="takes 40 patients or more"):
        divide(one, 0.5, seed=0)
    with pytest.raises(UserError, match="2 that a descriptor was trained on left out"):
        divide(a_store(tmp_path / "forty", 40), 0.5, trained_on={"p000", "p001"}, seed=0)
    divide(a_store(tmp_path / "just", 40), 0.5, seed=0)


def test_copies_are_of_as_many_patients_as_there_are():
    patient = np.array(["a"] * 10 + ["b"] * 2 + ["c"])
    assert sorted(patient[sources(patient, 3, seed=0)]) == ["a", "b", "c"]
    assert sorted(patient[sources(patient, 5, seed=0)]) == ["a", "a", "b", "b", "c"]
    assert sources(patient, 99, seed=0).tolist() == list(range(13))
    assert {tuple(one_each(patient, seed=seed)) for seed in range(20)} > {tuple(one_each(patient, seed=0))}


scores = st.lists(st.integers(-3, 3).map(float), min_size=2, max_size=12).map(np.array)


@settings(max_examples=60)
@given(scores, scores)
def test_area_is_mann_and_whitneys_and_that_under_the_curve(positive, negative):
    pairs = [(p > n) + (p == n) / 2 for p in positive for n in negative]
    value = roc.area(positive, negative)
    assert value == pytest.approx(np.mean(pairs))
    assert value == pytest.approx(stats.mannwhitneyu(positive, negative).statistic / len(pairs))
    false, true = roc.curve(positive, negative)
    assert np.trapezoid(true, false) == pytest.approx(value)
    for rate, found in zip((0, 0.3, 1), roc.sensitivities(positive, negative, (0, 0.3, 1)), strict=True):
        reachable = [np.mean(positive >= t) for t in [np.inf, *positive] if np.mean(negative >= t) <= rate + 1e-9]
        assert found == pytest.approx(max(reachable))


def test_interval_is_delongs_and_copies_of_a_patient_count_once():
    rng = np.random.default_rng(0)
    positive, negative = rng.normal(1, 1, 15), rng.normal(0, 1, 20)
    kernel = (positive[:, None] > negative) * 1.0
    variance = kernel.mean(1).var(ddof=1) / 15 + kernel.mean(0).var(ddof=1) / 20
    value = kernel.mean()
    half = 1.96 * np.sqrt(variance) / (value * (1 - value))
    expected = [1 / (1 + np.exp(-(np.log(value / (1 - value)) + way * half))) for way in (-1, 1)]
    found = roc.area_interval(positive, np.arange(15), negative, np.arange(20))
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    again = roc.area_interval(np.repeat(positive, 3), np.repeat(np.arange(15), 3), negative, np.arange(20))
    np.testing.assert_allclose(again, found, rtol=1e-9)
    as_if = roc.area_interval(np.repeat(positive, 3), np.arange(45), negative, np.arange(20))
    assert as_if[0] > found[0]


def test_interval_of_a_perfect_separation_is_no_point():
    low, high = roc.area_interval(np.full(20, 2.0), np.arange(20), np.full(30, 1.0), np.arange(30))
    assert high == 1 and 0.8 < low < 0.95
    variance = low * (1 - low) / 600 * (1 + 24 * ((1 - low) / (2 - low) + low / (1 + low)))
    assert (1 - low) == pytest.approx(1.96 * np.sqrt(variance), rel=1e-3)
    assert roc.area_interval(np.full(4, 1.0), np.arange(4), np.full(5, 2.0), np.arange(5))[0] == 0
    inside = [roc.newcombe_interval(roc.area(*pair), 20, 20) for pair in binormal_pairs(300)]
    truth = stats.norm.cdf(2 / np.sqrt(2))
    assert 0.92 <= np.mean([low <= truth <= high for low, high in inside]) <= 0.99


def binormal_pairs(n):
    rng = np.random.default_rng(1)
    return [(rng.normal(2, 1, 20), rng.normal(0, 1, 20)) for _ in range(n)]


@pytest.mark.parametrize(("count", "n"), [(0, 27), (3, 40), (40, 40)])
def test_share_interval_is_clopper_and_pearsons(count, n):
    low = stats.beta.ppf(0.025, count, n - count + 1) if count else 0
    high = stats.beta.ppf(0.975, count + 1, n - count) if count < n else 1
    np.testing.assert_allclose(roc.share_interval(count, n), (low, high))
