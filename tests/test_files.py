from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memjax.data.readers.files import find_files, looks_like_mask, natural_key, unit_name
from memjax.data.readers.folders import folder_labels, folder_split
from memjax.errors import UserError


def names(root: Path, *endings: str) -> list[str]:
    return [unit_name(path, root) for path in find_files(root, endings)]


def touch(root: Path, *relative: str) -> None:
    for name in relative:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_files_come_in_natural_order_with_any_case_of_compound_endings(tmp_path):
    touch(tmp_path, "b/10.nii.gz", "b/9.NII.GZ", "a/2.nii", "a/x.gz", "c.txt", "a/図.nii")
    assert names(tmp_path, ".nii.gz", ".nii") == ["a/2.nii", "a/図.nii", "b/9.NII.GZ", "b/10.nii.gz"]


def test_hidden_files_and_folders_are_left_out_but_a_hidden_root_is_not(tmp_path):
    touch(tmp_path, ".root/.hidden.png", ".root/.git/1.png", ".root/._2.png", ".root/3.png")
    assert names(tmp_path / ".root", ".png") == ["3.png"]


def test_a_file_can_be_the_root(tmp_path):
    touch(tmp_path, "1.npy")
    file = tmp_path / "1.npy"
    assert find_files(file, (".npy",)) == [file] and unit_name(file, file) == "1.npy"
    assert find_files(file, (".png",)) == []


def test_linked_folders_are_followed_once_and_loops_end(tmp_path):
    touch(tmp_path, "root/z/1.png", "outside/2.png")
    root = tmp_path / "root"
    (root / "z" / "up").symlink_to(root)
    (root / "a").symlink_to(root / "z")  # sorts before its target; the target's own name is reported
    (root / "far").symlink_to(tmp_path / "outside")
    (root / "self.png").symlink_to(root / "self.png")
    (root / "file.png").symlink_to(tmp_path / "outside" / "2.png")
    assert names(root, ".png") == ["far/2.png", "file.png", "self.png", "z/1.png"]


def test_a_missing_root_is_the_users_mistake(tmp_path):
    with pytest.raises(UserError, match="nowhere does not exist"):
        find_files(tmp_path / "nowhere", (".png",))


@pytest.mark.parametrize(
    "name",
    [
        "a_mask.png",
        "a/b-seg.nii.gz",
        "BraTS20_Training_001_seg.nii",
        "sub-01_dseg.nii.gz",
        "benign (4)_mask_1.png",
        "labelsTr/hippocampus_001.nii.gz",
        "x/Masks/1.png",
        "mask.npy",
        "a_Label.tif",
        "masks",
    ],
)
def test_masks_are_told_by_their_names(name):
    assert looks_like_mask(name)


@pytest.mark.parametrize(
    "name", ["a.png", "unmasked.png", "massage/1.png", "mask_of_zorro.png", "labelled/1.png", "seg-1/flair.nii.gz"]
)
def test_other_names_are_no_masks(name):
    assert not looks_like_mask(name)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 10**12), unique=True), st.text("ab_/.-", max_size=4))
def test_numbers_in_names_sort_as_numbers(numbers, prefix):
    texts = sorted((f"{prefix}{number}.png" for number in numbers), key=natural_key)
    assert texts == [f"{prefix}{number}.png" for number in sorted(numbers)]


def test_split_and_label_come_from_folders():
    files = ["set/Train/NORMAL/1.png", "set/Train/NORMAL/2.png", "set/VALIDATION/3.png", "4.png", "testing/x/5.png"]
    assert [folder_split(name) for name in files] == ["train", "train", "val", "", "test"]
    assert folder_labels(files) == ["NORMAL", "NORMAL", "", "", "x"]
    assert folder_labels(["p1/a.png", "p2/a.png"]) == ["", ""]  # a folder each: no classes
