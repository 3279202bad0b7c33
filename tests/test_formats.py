"""Which reader an input gets, and what is said where none fits."""

import nibabel as nib
import numpy as np
import pytest
from dicom_samples import dataset, ramp, save
from launching import noise, pictures, store

from memjax.data.formats import FORMATS, guess_format, open_reader
from memjax.data.readers.base import Reader, ReadOptions
from memjax.errors import UserError


def array(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, noise(4, 0))
    return path


def nifti(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4)), path)


def brats(root):
    for contrast in ("t1", "t1ce", "t2", "flair"):
        nifti(root / "case1" / f"case1_{contrast}.nii.gz")
    return root


def nifti_folder(root):
    nifti(root / "a" / "scan.nii.gz")
    nifti(root / "b.nii")
    return root


def dicom(root):
    save(root / "IM0001", dataset(ramp((4, 4))))
    return root


LAYOUTS = {
    "brats": brats,
    "nifti": nifti_folder,
    "dicom": dicom,
    "images": lambda root: pictures(root, {"x/y/1.PNG": noise(1, 0)[0], "2.jpg": noise(1, 1)[0]}),
    "array": lambda root: array(root / "x.npy").parent,
    "mrnet": lambda root: array(root / "MRNet-v1.0" / "train" / "axial" / "0000.npy").parents[3],
    "store": lambda root: store(root, noise(2, 0)[..., None]).path,
}


def test_every_format_has_a_case_here():
    assert {*LAYOUTS, "auto"} == set(FORMATS)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_folders_layout_tells_its_format(tmp_path, name):
    root = LAYOUTS[name](tmp_path / "data")
    assert guess_format(root) == name
    for asked in ("auto", name):
        reader = open_reader(root, asked, ReadOptions())
        assert isinstance(reader, Reader)
        assert reader.scan().units


@pytest.mark.parametrize(("make", "name"), [(array, "array"), (lambda path: nifti(path) or path, "nifti")])
def test_a_single_file_is_enough(tmp_path, make, name):
    path = make(tmp_path / {"array": "x.npy", "nifti": "x.nii"}[name])
    assert guess_format(path) == name
    assert len(open_reader(path, "auto", ReadOptions()).scan().units) == 1


@pytest.mark.parametrize("name", ["auto", "images", "store"])
def test_what_does_not_exist_is_told(tmp_path, name):
    with pytest.raises(UserError, match="nowhere does not exist; give the folder or file"):
        open_reader(tmp_path / "nowhere", name, ReadOptions())


@pytest.mark.parametrize("content", [[], ["notes.txt", ".hidden.png"]])
def test_what_holds_no_image_is_told(tmp_path, content):
    for name in content:
        (tmp_path / name).write_text("nothing")
    with pytest.raises(UserError, match=r"holds no image that can be read \(NIfTI, DICOM, PNG"):
        guess_format(tmp_path)


def test_two_kinds_at_once_are_told(tmp_path):
    array(pictures(tmp_path, noise(3, 0)) / "x.npy")
    with pytest.raises(UserError, match=r"more than one kind of image \(3 images, 1 array\); say .* --format"):
        guess_format(tmp_path)
    assert len(open_reader(tmp_path, "images", ReadOptions()).scan().units) == 3


def test_an_unknown_format_is_told(tmp_path):
    with pytest.raises(UserError, match=r"--format=png is not known; choose one of auto, brats"):
        open_reader(tmp_path, "png", ReadOptions())


def test_a_foreign_manifest_does_not_make_a_store(tmp_path):
    (pictures(tmp_path, noise(3, 0)) / "manifest.json").write_text('{"made": "elsewhere"}')
    assert guess_format(tmp_path) == "images"


def test_an_unfinished_store_is_no_input(tmp_path):
    folder = tmp_path / "s.partial"
    array(folder / "images.npy")
    (folder / "journal.jsonl").write_text("")
    with pytest.raises(UserError, match="is an unfinished image store; run the command that makes it again"):
        guess_format(folder)
