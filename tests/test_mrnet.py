import os
import random
from pathlib import Path

import numpy as np
import pytest

from memjax.data.readers.base import BadFile, Reader, ReadOptions
from memjax.data.readers.mrnet import MRNet, held_out_exams
from memjax.errors import UserError


def volume(exam: int, slices: int = 5) -> np.ndarray:
    return np.random.default_rng(exam).integers(0, 256, (slices, 6, 7), np.uint8)


@pytest.fixture
def root(tmp_path) -> Path:
    for part, exams in {"train": (3, 1, 1129), "valid": (1130,)}.items():
        for plane in ("axial", "coronal", "sagittal"):
            folder = tmp_path / part / plane
            folder.mkdir(parents=True)
            for exam in exams:
                np.save(folder / f"{exam:04d}.npy", volume(exam) + len(plane))
        for finding in ("abnormal", "acl", "meniscus"):
            lines = [f"{exam:04d},{int(finding == 'abnormal')}\n" for exam in exams if exam != 3]
            (tmp_path / f"{part}-{finding}.csv").write_text("".join(lines))
    return tmp_path


def test_the_split_is_the_papers():
    random.seed(26)
    exams = list(range(1130))
    random.shuffle(exams)
    assert held_out_exams() == set(exams[:226]) and len(held_out_exams()) == 226
    # Written down, so that no change of Python or of ours can move the split unnoticed.
    assert sorted(held_out_exams())[:8] == [7, 8, 12, 14, 17, 18, 20, 21]


def test_exams_labels_and_splits(root):
    reader = MRNet(root, ReadOptions(plane="sagittal"))
    assert isinstance(reader, Reader)
    units = reader.scan().units
    expected = [(f"train/sagittal/{exam:04d}.npy", f"{exam:04d}") for exam in (1, 3, 1129)]
    assert [(unit.name, unit.patient) for unit in units] == [*expected, ("valid/sagittal/1130.npy", "1130")]
    assert [unit.label for unit in units] == ["abnormal=1;acl=0;meniscus=0", ""] + ["abnormal=1;acl=0;meniscus=0"] * 2
    splits = ["val" if exam in held_out_exams() else "train" for exam in (1, 3, 1129)]
    assert [unit.split for unit in units] == [*splits, "test"]


def test_the_slices_come_last_and_the_plane_is_the_one_asked_for(root):
    reader = MRNet(root, ReadOptions(plane="coronal"))
    unit = reader.scan().units[0]
    spec = reader.probe(unit)
    assert (spec.space, spec.axes, spec.count, spec.dtype) == ((6, 7, 5), ("row", "column", "slice"), 1, np.uint8)
    (image,) = reader.read(unit)
    assert image.suffix == "" and image.image.shape == (6, 7, 5, 1)
    assert np.array_equal(image.image[..., 2, 0], volume(1)[2] + len("coronal"))


@pytest.mark.parametrize("layout", ["slices", "images"])
def test_slices(root, layout):
    reader = MRNet(root, ReadOptions(layout=layout))
    unit = reader.scan().units[0]
    spec, images = reader.probe(unit), reader.read(unit)
    assert (spec.space, spec.axes, spec.count) == ((6, 7), ("row", "column"), 5)
    assert [(image.suffix, image.slice) for image in images] == [(f"#{z}", z) for z in range(5)]
    assert np.array_equal(images[4].image[..., 0], volume(1)[4] + len("axial"))


def test_without_csv_there_are_no_labels(root):
    for path in root.glob("*.csv"):
        path.unlink()
    assert {unit.label for unit in MRNet(root, ReadOptions()).scan().units} == {""}


def test_bad_files_are_named_for_what_they_are(root):
    folder = root / "train" / "axial"
    np.save(folder / "0001.npy", volume(1)[0])
    (folder / "0003.npy").write_bytes((folder / "0003.npy").read_bytes()[:-7])
    np.save(folder / "1129.npy", np.array([{}], object))
    np.save(folder / "notes.npy", volume(1))
    np.save(folder / "0004.npy", np.full((2, 6, 7), np.nan))
    reader = MRNet(root, ReadOptions())
    scan = reader.scan()
    assert [entry["source"] for entry in scan.left_out] == ["train/axial/notes.npy"]
    flat, cut, nan, pickled = scan.units[:4]
    for unit, message in ((flat, r"shape \[6, 7\]"), (cut, "cut off"), (pickled, "pickled Python objects")):
        for look in (reader.probe, reader.read):
            with pytest.raises(BadFile, match=message):
                look(unit)
    with pytest.raises(BadFile, match="NaN"):
        reader.read(nan)


def test_what_is_no_mrnet_is_the_users_mistake(root, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no MRNet exam in train/axial"):
        MRNet(tmp_path / "empty", ReadOptions()).scan()
    with pytest.raises(UserError, match="plane is 'oblique'"):
        MRNet(root, ReadOptions(plane="oblique"))
    (root / "train-acl.csv").write_text("exam,value\n0001,1\n")
    with pytest.raises(UserError, match=r"train-acl\.csv is damaged"):
        MRNet(root, ReadOptions()).scan()


@pytest.mark.skipif("MEMJAX_REAL_DATA" not in os.environ, reason="MEMJAX_REAL_DATA is unset")
def test_the_real_layout():
    root = Path(os.environ["MEMJAX_REAL_DATA"]) / "samples" / "mrnet_layout" / "MRNet-v1.0"
    reader = MRNet(root, ReadOptions(plane="sagittal"))
    units = reader.scan().units
    assert [unit.patient for unit in units] == ["0000", "0001", "0002", "1130"]
    assert units[0].label == "abnormal=1;acl=0;meniscus=0"  # its csv are dummies
    for unit in units:
        (image,) = reader.read(unit)
        assert image.image.shape[:-1] == reader.probe(unit).space and image.image.shape[:2] == (256, 256)
