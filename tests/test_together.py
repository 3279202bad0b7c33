"""Sets to be compared: stores as they are, raw folders brought to their shape, once."""

import os
from pathlib import Path

import numpy as np
import pytest
from launching import files_below, noise, pictures, store
from preparing import names_read

from memjax.data.preparation import Preparation
from memjax.data.readers.base import ReadOptions
from memjax.data.readers.pictures import Pictures
from memjax.data.readers.stores import Stores
from memjax.data.together import Input, stores_together
from memjax.errors import UserError


def together(cache, how=None, **paths):
    inputs = {role: given if isinstance(given, Input) else Input(Path(given)) for role, given in paths.items()}
    return stores_together(inputs, how or Preparation(), cache, workers=2)


@pytest.fixture
def folders(tmp_path):
    return {
        role: pictures(tmp_path / role, noise(4, seed)) for seed, role in enumerate(("train", "heldout", "synthetic"))
    }


@pytest.fixture
def reads(monkeypatch):
    """The names of the units that are read from now on, of pictures and of stores."""
    return names_read(monkeypatch, Pictures, Stores)


def test_stores_are_taken_as_they_are(tmp_path, reads):
    made = {role: store(tmp_path / role, noise(3, seed)[..., None]) for seed, role in enumerate(("train", "synthetic"))}
    found = together(tmp_path / "cache", train=made["train"].path, synthetic=made["synthetic"].path)
    assert {role: one.path for role, one in found.items()} == {role: one.path for role, one in made.items()}
    assert not reads
    assert not (tmp_path / "cache").exists()


def test_a_changed_store_is_refused(tmp_path, folders):
    path = store(tmp_path / "s", noise(3, 9)[..., None]).path / "images.npy"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(UserError, match=r"id 2, 's/2\.png'"):
        together(tmp_path / "cache", train=path.parent, synthetic=folders["synthetic"])


def test_folders_are_prepared_once_and_roles_keep_their_order(tmp_path, folders, reads):
    first = together(tmp_path / "cache", **folders)
    assert list(first) == ["train", "heldout", "synthetic"]
    assert len(reads) == 12
    before = files_below(tmp_path / "cache")
    again = together(tmp_path / "cache", **folders)
    assert len(reads) == 12
    assert files_below(tmp_path / "cache") == before
    for role, images in zip(first, (noise(4, 0), noise(4, 1), noise(4, 2)), strict=True):
        assert again[role].path == first[role].path
        np.testing.assert_array_equal(again[role].images[..., 0], images)


def test_a_changed_file_or_another_wish_is_prepared_anew(tmp_path, folders, reads):
    first = together(tmp_path / "cache", **folders)
    pictures(folders["train"], {"000.png": noise(1, 77)[0]})
    os.utime(folders["train"] / "000.png", ns=(5, 5))
    second = together(tmp_path / "cache", **folders)
    assert len(reads) == 16
    np.testing.assert_array_equal(second["train"].images[0, ..., 0], noise(1, 77)[0])
    assert second["heldout"].path == first["heldout"].path
    together(tmp_path / "cache", Preparation(size=(4, 4)), **folders)
    assert len(reads) == 28


def test_a_changed_patient_table_is_heeded(tmp_path, folders):
    table = tmp_path / "patients.csv"
    how = Preparation(patient_csv=str(table))
    for patient in ("Ada", "Bob"):
        table.write_text("file,patient\n" + "".join(f"{i:03d}.png,{patient}\n" for i in range(4)))
        found = together(tmp_path / "cache", how, **folders)
        assert {item.patient for item in found["train"].items} == {patient}


def test_a_damaged_cache_is_made_again(tmp_path, folders, reads):
    first = together(tmp_path / "cache", **folders)
    images = noise(4, 0)
    (first["train"].path / "items.csv").unlink()
    path = first["heldout"].path / "images.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    again = together(tmp_path / "cache", **folders)
    assert len(reads) == 20
    np.testing.assert_array_equal(again["train"].images[..., 0], images)
    np.testing.assert_array_equal(again["heldout"].images[..., 0], noise(4, 1))


def sized(tmp_path, **sizes):
    return {role: pictures(tmp_path / role, noise(3, 0, size=(side, side))) for role, side in sizes.items()}


@pytest.mark.parametrize(
    ("sizes", "asked", "expected"),
    [
        ({"train": 12, "heldout": 9, "synthetic": 6}, None, 6),
        ({"train": 12, "heldout": 9, "synthetic": 6}, (5, 5), 5),
        ({"train": 12, "synthetic": 12}, None, 12),
    ],
)
def test_all_get_one_size(tmp_path, sizes, asked, expected):
    found = together(tmp_path / "cache", Preparation(size=asked), **sized(tmp_path, **sizes))
    assert {one.manifest.shape for one in found.values()} == {(expected, expected, 1)}


def test_mixed_synthetic_sizes_follow_the_training_images(tmp_path):
    given = sized(tmp_path, train=12, synthetic=6)
    pictures(given["synthetic"], {"odd.png": noise(1, 0, size=(7, 5))[0]})
    found = together(tmp_path / "cache", **given)
    assert {one.manifest.shape for one in found.values()} == {(12, 12, 1)}


def test_mixed_sizes_everywhere_need_a_choice(tmp_path):
    given = sized(tmp_path, train=12, synthetic=6)
    for folder in given.values():
        pictures(folder, {"odd.png": noise(1, 0, size=(7, 5))[0]})
    with pytest.raises(UserError, match=r"2 different sizes .*--size"):
        together(tmp_path / "cache", **given)


def test_folders_follow_a_finished_store_and_a_store_follows_the_users_size(tmp_path, folders):
    train = store(tmp_path / "s", noise(3, 0, size=(10, 10))[..., None]).path
    found = together(tmp_path / "cache", train=train, synthetic=folders["synthetic"])
    assert found["synthetic"].manifest.shape == (10, 10, 1)
    found = together(tmp_path / "cache", Preparation(size=(8, 8)), train=train, synthetic=folders["synthetic"])
    assert found["train"].manifest.shape == (8, 8, 1)
    assert found["train"].path.parent == tmp_path / "cache"


def test_the_users_format_is_that_of_the_raw_folders(tmp_path, folders):
    np.save(folders["synthetic"] / "x.npy", noise(1, 0))
    train = store(tmp_path / "s", noise(3, 0)[..., None]).path
    how = Preparation(format="images", size=(6, 6))
    found = together(tmp_path / "cache", how, train=train, synthetic=folders["synthetic"])
    assert [len(found["train"]), len(found["synthetic"])] == [3, 4]


def coloured(path, seed=0):
    return pictures(path, noise(3, seed, size=(8, 8, 3)))


def test_grey_folders_become_coloured_where_another_is(tmp_path, folders):
    found = together(tmp_path / "cache", **{**folders, "train": coloured(tmp_path / "rgb")})
    assert {one.manifest.shape for one in found.values()} == {(8, 8, 3)}
    np.testing.assert_array_equal(found["synthetic"].images, noise(4, 2)[..., None].repeat(3, -1))


def test_grey_folders_become_coloured_where_a_store_is(tmp_path, folders):
    train = store(tmp_path / "s", noise(3, 0, size=(8, 8, 3))).path
    found = together(tmp_path / "cache", train=train, synthetic=folders["synthetic"])
    assert found["synthetic"].manifest.shape == (8, 8, 3)


def test_a_grey_store_whose_channel_has_another_name_stays_grey_company(tmp_path, folders):
    train = store(tmp_path / "s", noise(3, 0)[..., None]).path
    found = together(tmp_path / "cache", train=train, synthetic=folders["synthetic"])
    assert found["train"].manifest.channels != found["synthetic"].manifest.channels
    assert {one.manifest.shape for one in found.values()} == {(8, 8, 1)}


def test_the_users_colour_is_heeded(tmp_path, folders):
    how = Preparation(read=ReadOptions(colour="grey"))
    found = together(tmp_path / "cache", how, **{**folders, "train": coloured(tmp_path / "rgb")})
    assert {one.manifest.shape for one in found.values()} == {(8, 8, 1)}


def test_one_folder_in_two_roles_is_refused(tmp_path, folders):
    (tmp_path / "link").symlink_to(folders["train"])
    for other in (folders["train"], tmp_path / "link", tmp_path / "heldout" / ".." / "train"):
        with pytest.raises(UserError, match=r"--train and --synthetic are the same .* different folders"):
            together(tmp_path / "cache", train=folders["train"], synthetic=other)
    assert not (tmp_path / "cache").exists()


def test_two_splits_of_one_store_are_two_sets(tmp_path, folders):
    given = store(tmp_path / "s", noise(6, 0)[..., None], patient=list("abcdef"), split=["train", "test"] * 3).path
    found = together(
        tmp_path / "cache",
        train=Input(given, "train"),
        heldout=Input(given, "test"),
        synthetic=folders["synthetic"],
    )
    assert [item.patient for item in found["train"].items] == ["a", "c", "e"]
    assert [item.patient for item in found["heldout"].items] == ["b", "d", "f"]
    assert found["train"].manifest.has_patients
    assert len(found["synthetic"]) == 4


def test_synthetic_images_are_asked_for_no_patient(tmp_path, folders):
    train = pictures(tmp_path / "named", {f"p{i}.png": image for i, image in enumerate(noise(4, 0))})
    how = Preparation(patient_regex=r"(p\d)")
    found = together(tmp_path / "cache", how, train=train, synthetic=folders["synthetic"])
    assert found["train"].manifest.patient_ids == "regex"
    assert found["synthetic"].manifest.patient_ids == "none"
