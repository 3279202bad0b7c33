"""From files to a store: shapes, types, and what becomes of files that cannot be used."""

import contextlib
import os
import random
import shutil
import time
from collections import namedtuple

import numpy as np
import pytest
from launching import ODD_NAMES, files_below, noise, pictures
from PIL import Image as Pillow
from preparing import names_read, prepared, volume, volumes

from memjax.data import prepare
from memjax.data.readers.base import Image, ReadOptions
from memjax.data.readers.pictures import Pictures
from memjax.data.store import Store
from memjax.data.transforms import FITS, crop_or_pad, scale
from memjax.errors import UserError


@pytest.fixture
def scans(tmp_path):
    """Two pictures each of ten patients, p0 to p9."""
    images = noise(20, 0)
    return pictures(tmp_path / "scans", {f"p{i // 2}_{i % 2}.png": image for i, image in enumerate(images)})


@pytest.fixture
def reads(monkeypatch):
    """The names of the picture units that are read from now on."""
    return names_read(monkeypatch, Pictures)


def test_pictures_become_a_store_bit_for_bit(tmp_path):
    images = noise(6, 0)
    made = prepared(pictures(tmp_path / "in", dict(zip(ODD_NAMES, images, strict=True))), tmp_path / "s")
    found = {item.source: made.images[item.id, ..., 0] for item in Store.open(tmp_path / "s").items}
    assert found.keys() == set(ODD_NAMES)
    for name, image in zip(ODD_NAMES, images, strict=True):
        np.testing.assert_array_equal(found[name], image)


def test_neither_workers_nor_their_luck_change_anything(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    sizes = rng.integers(4, 30, (40, 2))
    root = pictures(tmp_path / "in", [rng.integers(0, 256, size, np.uint8) for size in sizes.tolist()])
    read = Pictures.read

    def by_chance(self, unit):
        time.sleep(random.random() / 200)
        return read(self, unit)

    monkeypatch.setattr(Pictures, "read", by_chance)
    for workers in (1, 2, 7):
        prepared(root, tmp_path / str(workers), workers=workers, size=(8, 8))
        assert files_below(tmp_path / str(workers)) == files_below(tmp_path / "1")


@pytest.mark.parametrize("how", [None, *FITS])
def test_every_image_is_fitted(tmp_path, how):
    images = [noise(1, 0, size=size)[0] for size in ((8, 12), (20, 6), (10, 10))]
    made = prepared(pictures(tmp_path / "in", images), tmp_path / "s", size=(10, 10), fit=how)
    for found, image in zip(made.images, images, strict=True):
        scaled = scale(image[..., None], (10, 10), how or "stretch")
        np.testing.assert_array_equal(found, crop_or_pad(scaled, (10, 10)))
    assert made.manifest.preparation["fit"] == (how or "stretch")


def test_volumes_are_cut_and_filled_up_by_default(tmp_path):
    made = prepared(volumes(tmp_path / "in", ["a.nii", "b.nii"]), tmp_path / "s", size=(6, 3, 6))
    assert made.manifest.preparation["fit"] == "centre"
    assert made.manifest.spacing_mm == (1.0, 1.0, 1.0)


def test_what_is_added_around_is_the_background(tmp_path):
    film = np.full((9, 5), 255, np.uint8)
    film[3:6, 2] = (10, 20, 30)
    made = prepared(pictures(tmp_path / "in", [film]), tmp_path / "s", size=(9, 9), fit="pad")
    assert (made.images[0, :, [0, 1, 7, 8]] == 255).all()


def test_several_sizes_need_a_choice(tmp_path):
    images = [noise(1, 0, size=size)[0] for size in ((8, 8), (8, 9), (8, 8), (5, 5), (6, 6))]
    root = pictures(tmp_path / "in", images)
    with pytest.raises(UserError, match=r"4 different sizes \(8x8, .*, …\); say which .*--size=64,64"):
        prepared(root, tmp_path / "s")
    with pytest.raises(UserError, match=r"--size has 3 numbers, but the images .* have 2 spatial axes \(row, column\)"):
        prepared(root, tmp_path / "s", size=(8, 8, 8))
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_spacing_gives_volumes_their_size(tmp_path):
    root = tmp_path / "in"
    volume(root / "a.nii", noise(1, 0, size=(8, 8, 4))[0], (0.5, 0.5, 2.0))
    volume(root / "b.nii", noise(1, 1, size=(4, 4, 8))[0])
    made = prepared(root, tmp_path / "s", spacing_mm=(1.0, 1.0, 1.0))
    assert made.manifest.shape == (4, 4, 8, 1)
    assert made.manifest.spacing_mm == (1.0, 1.0, 1.0)
    np.testing.assert_array_equal(made.images[1, ..., 0], noise(1, 1, size=(4, 4, 8))[0])


@pytest.mark.parametrize(("how", "known"), [("centre", True), ("stretch", False), ("pad", False)])
def test_a_spacing_is_told_only_where_it_is_true(tmp_path, how, known):
    root = volumes(tmp_path / "in", ["a.nii"], shape=(8, 8, 8))
    made = prepared(root, tmp_path / "s", spacing_mm=(2.0, 2.0, 2.0), size=(8, 8, 8), fit=how)
    assert made.manifest.spacing_mm == ((2.0, 2.0, 2.0) if known else None)


def test_spacing_needs_files_that_tell_theirs(tmp_path, scans):
    with pytest.raises(UserError, match="does not say its spacing, which --spacing_mm needs"):
        prepared(scans, tmp_path / "s", spacing_mm=(1.0, 1.0))
    with pytest.raises(UserError, match="--spacing_mm has 2 numbers, the images have 3"):
        prepared(volumes(tmp_path / "in", ["a.nii"]), tmp_path / "s", spacing_mm=(1.0, 1.0))


@pytest.mark.parametrize(
    ("kinds", "joint"),
    [(("uint8", "uint16"), "uint16"), (("uint8", "int16"), "int16"), (("uint16", "int16"), "float32")],
)
def test_mixed_types_take_the_smallest_that_holds_all(tmp_path, kinds, joint):
    arrays = [np.full((2, 3, 4), np.iinfo(kind).max, kind) for kind in kinds]
    for i, array in enumerate(arrays):
        array.flat[0] = np.iinfo(array.dtype).min
        volume(tmp_path / "in" / f"{i}.nii", array)
    made = prepared(tmp_path / "in", tmp_path / "s")
    assert made.manifest.dtype == joint
    for found, array in zip(made.images, arrays, strict=True):
        np.testing.assert_array_equal(found[..., 0], array)


def test_labels_stay_labels(tmp_path):
    rng = np.random.default_rng(0)
    labels = rng.choice(np.array([0, 51, 204], np.uint8), (3, 20, 20, 1))
    images = np.concatenate([noise(3, 0, size=(20, 20, 1)), labels], -1)
    np.savez(tmp_path / "x.npz", images=images, channels=np.array(["t1", "seg"]))
    made = prepared(tmp_path / "x.npz", tmp_path / "s", size=(7, 33))
    assert made.manifest.label_channels == (1,)
    assert made.manifest.channels == ("t1", "seg")
    assert set(np.unique(made.images[..., 1])) == {0, 51, 204}


def test_a_window_is_every_images_range(tmp_path, scans):
    made = prepared(scans, tmp_path / "s", window=(-1000.0, 400.0))
    assert {(item.low, item.high) for item in made.items} == {(-1000.0, 400.0)}


def damage(root, names):
    for name in names:
        os.truncate(root / name, (root / name).stat().st_size // 2)


def test_bad_files_are_all_named_and_with_skip_bad_left_out_and_listed(tmp_path, scans, reads):
    bad = ["p1_0.png", "p4_1.png"]
    damage(scans, bad)
    (scans / "link.png").symlink_to("nowhere.png")
    with pytest.raises(UserError, match=r"1 of its files cannot be used.*--skip_bad.*\n  link\.png: does not exist"):
        prepared(scans, tmp_path / "s")
    (scans / "link.png").unlink()
    with pytest.raises(UserError, match=r"2 of its files .*\n  p1_0\.png: is damaged .*\n  p4_1\.png: is damaged"):
        prepared(scans, tmp_path / "s")
    assert not (tmp_path / "s").exists()
    assert len(reads) == 20
    made = prepared(scans, tmp_path / "s", skip_bad=True)
    assert len(reads) == 22  # the bad ones once more, the good ones not
    assert [entry["source"] for entry in made.manifest.left_out] == bad
    assert len(made) == 18
    assert not {item.source for item in made.items} & set(bad)
    made.verify()


def test_an_interrupted_preparation_lists_what_was_left_out_before(tmp_path, scans, monkeypatch):
    damage(scans, ["p1_0.png", "p8_1.png"])
    whole = prepared(scans, tmp_path / "whole", skip_bad=True)
    read = Pictures.read

    def interrupted(self, unit):
        if unit.name == "p5_0.png":
            raise KeyboardInterrupt
        return read(self, unit)

    with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        patch.setattr(Pictures, "read", interrupted)
        prepared(scans, tmp_path / "s", skip_bad=True)
    prepared(scans, tmp_path / "s", skip_bad=True)
    assert files_below(tmp_path / "s") == files_below(whole.path)


def test_many_bad_files_are_counted(tmp_path, scans):
    damage(scans, [path.name for path in scans.iterdir()])
    with pytest.raises(UserError, match=r"20 of its files cannot be used(.*\n)+  … and 10 more"):
        prepared(scans, tmp_path / "s")
    with pytest.raises(UserError, match=r"none of the 20 files can be used; the first: p0_0\.png: is damaged"):
        prepared(scans, tmp_path / "s", skip_bad=True)


def test_a_changed_file_is_read_again(tmp_path, scans, reads):
    with pytest.raises(UserError, match="finds no patient"):
        prepared(scans, tmp_path / "s", patient_regex="q(.)")
    pictures(scans, {"p0_0.png": noise(1, 99, size=(8, 8))[0]})
    os.utime(scans / "p0_0.png", ns=(1, 1))
    made = prepared(scans, tmp_path / "s")
    assert len(reads) == 40
    np.testing.assert_array_equal(made.images[0, ..., 0], noise(1, 99)[0])


def test_files_that_give_no_image_are_noted(tmp_path, scans, monkeypatch):
    read = Pictures.read
    monkeypatch.setattr(Pictures, "read", lambda self, unit: [] if unit.name == "p3_0.png" else read(self, unit))
    made = prepared(scans, tmp_path / "s")
    assert len(made) == 19
    assert made.manifest.notes == ("1 files gave no image (the first: p3_0.png)",)
    monkeypatch.setattr(Pictures, "read", lambda self, unit: [])
    with pytest.raises(UserError, match="gives no image"):
        prepared(scans, tmp_path / "t")


@pytest.mark.parametrize(("shape", "dtype"), [((8, 8, 3), "uint8"), ((8, 8, 1), "uint16"), ((8, 8), "uint8")])
def test_an_image_that_its_header_did_not_promise_is_a_bad_file(tmp_path, scans, monkeypatch, shape, dtype):
    image = np.zeros(shape, dtype)
    monkeypatch.setattr(Pictures, "read", lambda self, unit: [Image(image=image)])
    with pytest.raises(UserError, match=r"p0_0\.png: holds an image of shape .*; its header said \(8, 8\)"):
        prepared(scans, tmp_path / "s")


def test_images_of_different_kinds_do_not_go_together(tmp_path):
    root = volumes(tmp_path / "in", ["a.nii", "b.nii"])
    rgb = np.zeros((4, 5, 6), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    volume(root / "c.nii", rgb)
    with pytest.raises(UserError, match=r"most have channels \('grey',\), but c\.nii has \('red', .* \(1 such\)"):
        prepared(root, tmp_path / "s")


def test_masks_are_listed(tmp_path, scans):
    pictures(scans, {"p0_0_mask.png": noise(1, 0)[0]})
    made = prepared(scans, tmp_path / "s")
    assert len(made) == 20
    assert [entry["source"] for entry in made.manifest.left_out] == ["p0_0_mask.png"]


def test_a_disk_that_cannot_hold_the_store_is_told_early(tmp_path, scans, reads, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage(20 * 64 - 1))
    with pytest.raises(UserError, match=r"would take 0\.00 MiB, but the disk of .* make room"):
        prepared(scans, tmp_path / "s")
    assert not reads
    (tmp_path / "s.partial").mkdir()
    (tmp_path / "s.partial" / "images.npy").write_bytes(b"\0" * 256)  # what is there already needs no room
    assert len(prepared(scans, tmp_path / "s")) == 20


def test_a_store_is_resized_and_keeps_what_is_known(tmp_path, scans):
    first = prepared(scans, tmp_path / "s", patient_regex="(p.)", heldout_patients=2.0, window=(0.0, 99.0))
    second = prepared(first.path, tmp_path / "t", size=(4, 4))
    assert second.manifest.shape == (4, 4, 1)
    assert second.manifest.patient_ids == "regex"
    for one, other in zip(first.items, second.items, strict=True):
        assert (one.source, one.patient, one.split, one.low, one.high) == (
            other.source,
            other.patient,
            other.split,
            other.low,
            other.high,
        )


def test_16_bit_and_8_bit_pictures_go_together(tmp_path):
    root = pictures(tmp_path / "in", {"a.png": noise(1, 0)[0]})
    deep = np.random.default_rng(0).integers(0, 65536, (8, 8), np.uint16)
    Pillow.fromarray(deep).save(root / "b.png")
    made = prepared(root, tmp_path / "s")
    assert made.manifest.dtype == "uint16"
    np.testing.assert_array_equal(made.images[0, ..., 0], noise(1, 0)[0])
    np.testing.assert_array_equal(made.images[1, ..., 0], deep)


def knee(path, slices, seed=0):
    """Write an MRNet exam whose values span 10 to 210; returns it as [rows, columns, slices]."""
    values = np.random.default_rng(seed).integers(10, 211, (slices, 9, 7), np.uint8)
    values[0, 4, 3], values[-1, 4, 3] = 10, 210
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, values)
    return np.moveaxis(values, 0, 2)


@pytest.mark.parametrize("slices", [3, 12])
def test_knees_as_the_published_code_made_them(tmp_path, slices):
    """Each volume to [-1, 1] by its own range first, then cut or padded with 0 around the centre."""
    exam = knee(tmp_path / "in" / "train" / "sagittal" / "0000.npy", slices).astype(np.float64)
    sagittal = ReadOptions(plane="sagittal")
    made = prepared(tmp_path / "in", tmp_path / "s", read=sagittal, size=(12, 5, 8), pad="middle", range_of="own")
    scaled = (exam - exam.min()) / (exam.max() - exam.min()) * 2 - 1
    expected = np.zeros((12, 5, 8))
    if slices == 3:
        expected[1:10, :, 2:5] = scaled[:, 1:6]
    else:
        expected[1:10] = scaled[:, 1:6, 2:10]
    np.testing.assert_allclose(made.unit_range(np.array([0]))[0, ..., 0], expected, atol=1e-6)
    assert (made.items[0].low, made.items[0].high) == (10, 210)
    assert made.manifest.preparation["pad"] == "middle" and made.manifest.preparation["range_of"] == "own"


def test_the_middle_of_whole_numbers_is_the_nearest_one(tmp_path):
    volume(tmp_path / "in" / "a.nii", np.array([0, 5], np.int16).reshape(2, 1, 1))
    made = prepared(tmp_path / "in", tmp_path / "s", size=(2, 3, 1), pad="middle")
    assert made.images[0, :, 0, 0, 0].tolist() == [2, 2]
    assert abs(made.unit_range(np.array([0]))[0, 0, 0, 0, 0]) <= 1 / 5


def test_floats_and_windows_have_their_exact_middle(tmp_path):
    volume(tmp_path / "in" / "a.nii", np.array([0, 5], np.float32).reshape(2, 1, 1))
    own = prepared(tmp_path / "in", tmp_path / "s", size=(2, 3, 1), pad="middle")
    assert own.images[0, :, 0, 0, 0].tolist() == [2.5, 2.5]
    windowed = prepared(tmp_path / "in", tmp_path / "t", size=(2, 3, 1), pad="middle", window=(-1000.0, 400.0))
    assert windowed.images[0, :, 0, 0, 0].tolist() == [-300, -300]
    volume(tmp_path / "bytes" / "a.nii", np.zeros((2, 1, 1), np.uint8))
    with pytest.raises(UserError, match=r"is uint8, in which --pad=middle has no value: between -1000 and 400"):
        prepared(tmp_path / "bytes", tmp_path / "u", size=(2, 3, 1), pad="middle", window=(-1000.0, 400.0))


def test_labels_are_not_filled_up_with_a_label_between(tmp_path):
    images = noise(1, 0, size=(6, 6, 2))
    images[..., 1] = 0
    images[:, 2, 2] = 0, 204
    np.savez(tmp_path / "x.npz", images=images, channels=np.array(["t1", "seg"]))
    made = prepared(tmp_path / "x.npz", tmp_path / "s", size=(8, 6), fit="centre", pad="middle")
    assert made.images[0, 0].tolist() == [[128, 0]] * 6


@pytest.mark.parametrize(
    ("asked", "dtype", "expected"),
    [
        ("auto", "uint8", (0, 255)),
        ("own", "uint8", (3, 40)),
        ("type", "uint8", (0, 255)),
        ("auto", "int16", (3, 40)),
        ("own", "int16", (3, 40)),
        ("type", "int16", (-32768, 32767)),
        ("type", "uint16", (0, 65535)),
        ("own", "float32", (3, 40)),
    ],
)
def test_whose_range_is_black_and_white(tmp_path, asked, dtype, expected):
    image = np.full((2, 3, 4), 7, dtype)
    image[0, 0, 0], image[1, 1, 1] = 3, 40
    volume(tmp_path / "in" / "a.nii", image)
    made = prepared(tmp_path / "in", tmp_path / "s", range_of=asked)
    assert (made.items[0].low, made.items[0].high) == expected
    # A store keeps its items' ranges, unless asked for others.
    again = prepared(made.path, tmp_path / "t", range_of="auto")
    assert (again.items[0].low, again.items[0].high) == expected
    own = prepared(made.path, tmp_path / "u", range_of="own")
    assert (own.items[0].low, own.items[0].high) == (3, 40)


def test_results_come_in_order_and_stop_at_an_error():
    def work(i):
        time.sleep(random.random() / 500)
        if i == 17:
            raise ValueError(i)
        return i * i

    seen = []
    with pytest.raises(ValueError, match="17"):
        seen.extend(prepare._in_order(work, range(100), 5))
    seen = [pair for pair, _ in zip(prepare._in_order(work, range(17), 5), range(17), strict=True)]
    assert seen == [(i, i * i) for i in range(17)]
