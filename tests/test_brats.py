"""The BraTS reader: the paper's rules, planted so that each can be counted by hand."""

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from memjax.data.readers.base import RAS, BadFile, ReadOptions
from memjax.data.readers.brats import CHANNELS, Brats, looks_like_brats, scale_contrast, scale_labels
from memjax.errors import UserError

REAL = Path(os.environ.get("MEMJAX_REAL_DATA", ""))
SHAPE = (240, 240, 4)
SCALE = {"t1ce": 1000, "t1": 400, "flair": 77, "t2": 2000}


def volumes(shape=SHAPE, seed=0):
    """Four contrasts and an annotation; the T1 of slice z is bright on z quarters of the voxels."""
    rng = np.random.default_rng(seed)
    found = {name: rng.integers(-5, top + 1, shape).astype(np.int16) for name, top in SCALE.items()}
    found["t1"][:] = 0
    for z in range(shape[2]):
        found["t1"][:, : 60 * z, z] = 300
    found["t1"][0, 0, :] = SCALE["t1"]
    found["seg"] = rng.choice([0, 1, 2, 4], shape).astype(np.uint8)
    return found


def write_case(folder, case, arrays, separator="_", names=None, affine=None, ending=".nii"):
    folder.mkdir(parents=True, exist_ok=True)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) if affine is None else affine
    for name, array in arrays.items():
        path = folder / f"{case}{separator}{(names or {}).get(name, name)}{ending}"
        nib.save(nib.Nifti1Image(array, affine), path)


def read_all(root, **options):
    reader = Brats(root, ReadOptions(**options))
    for unit in reader.scan().units:
        spec = reader.probe(unit)
        for image in reader.read(unit):
            assert image.image.shape == (*spec.space, len(spec.channels))
            assert image.image.dtype == spec.dtype == np.uint8
            assert image.image.flags.c_contiguous
            yield unit, spec, image


def bad(root, match, **options):
    reader = Brats(root, ReadOptions(**options))
    unit = reader.scan().units[0]
    with pytest.raises(BadFile, match=match):
        reader.read(unit)


def small(**replaced):
    return {**volumes((6, 5, 4)), **replaced}


def test_slices_follow_the_papers_rules(tmp_path):
    arrays = volumes()
    write_case(tmp_path / "HGG" / "case_1", "case_1", arrays, ending=".nii.gz")
    found = list(read_all(tmp_path))
    assert [(unit.name, unit.patient, image.suffix, image.slice) for unit, _, image in found] == [
        ("HGG/case_1", "case_1", f"#{z}", z) for z in (1, 2, 3)
    ]  # a quarter of 240 * 240 is 22 % of 256 * 256; slice 0 has one bright pixel
    _, spec, _ = found[0]
    assert (spec.space, spec.axes, spec.channels) == ((256, 256), ("R", "A"), ("t1ce", "t1", "flair", "t2", "seg"))
    assert (spec.label_channels, spec.spacing_mm, spec.count) == ((4,), (1.0, 1.0), None)
    for _, _, image in found:
        inside = image.image[8:248, 8:248]
        assert image.image.sum() == inside.sum()  # eight zeros on every side
        for channel, name in enumerate(CHANNELS[:4]):
            stored = arrays[name][::-1, ::-1, image.slice].astype(float)  # stored LPS, read RAS
            expected = np.floor(np.clip(stored, 0, None) / arrays[name].max() * 255)
            np.testing.assert_array_equal(inside[..., channel], expected)
        np.testing.assert_array_equal(inside[..., 4], arrays["seg"][::-1, ::-1, image.slice] * 51)


def test_a_slice_needs_more_than_the_share_of_its_padded_pixels(tmp_path):
    arrays = volumes()
    arrays["t1"][:] = 0
    needed = round(0.25 * 256 * 256)
    for z in range(4):
        arrays["t1"][..., z].flat[: needed - 1 + z] = 100
    arrays["t1"][-1, -1, :] = 255 * 2  # 100 becomes 50, which does not exceed 50 …
    write_case(tmp_path / "a", "a", arrays)
    assert not list(read_all(tmp_path, min_bright=0.25))
    arrays["t1"][arrays["t1"] == 100] = 102  # … 102 becomes 51
    write_case(tmp_path / "a", "a", arrays)
    assert [image.slice for _, _, image in read_all(tmp_path, min_bright=0.25)] == [1, 2, 3]  # the peak is bright too


def test_volumes_are_neither_padded_nor_chosen(tmp_path):
    arrays = small()
    write_case(tmp_path / "a", "a", arrays)
    ((_, spec, image),) = read_all(tmp_path, layout="volumes")
    assert (spec.space, spec.axes, spec.count, image.suffix) == ((6, 5, 4), RAS, 1, "")
    for channel, name in enumerate(CHANNELS):
        scaled = (scale_labels if name == "seg" else scale_contrast)(arrays[name])
        np.testing.assert_array_equal(image.image[..., channel], scaled[::-1, ::-1])


def test_padding_is_centred_and_large_planes_are_kept(tmp_path):
    arrays = volumes((251, 300, 3))
    write_case(tmp_path / "a", "a", arrays)
    found = list(read_all(tmp_path, min_bright=0.0))
    assert {spec.space for _, spec, _ in found} == {(256, 300)}
    filled = np.flatnonzero(np.any([image.image.any(axis=(1, 2)) for _, _, image in found], axis=0))
    assert (filled[0], filled[-1]) == (2, 252)
    _, spec, _ = next(read_all(tmp_path, plane="sagittal", min_bright=0.0))
    assert (spec.space, spec.axes) == ((300, 256), ("A", "S"))


@pytest.mark.parametrize("dtype", ["int16", "uint16", "float32", "uint8"])
def test_contrasts_are_scaled_in_double_precision(dtype):
    """Against whole-number arithmetic: the floor of v * 255 / max, or one less where v / max rounds down."""
    for peak in (255, 254, 201, 100):
        volume = np.arange(peak + 1, dtype=dtype).reshape(1, 1, -1)
        scaled = scale_contrast(volume)
        assert scaled.dtype == np.uint8
        exact = np.arange(peak + 1) * 255 // peak
        np.testing.assert_array_equal(scaled.ravel(), (np.arange(peak + 1) / peak * 255).astype(int))
        assert np.isin(exact - scaled.ravel(), (0, 1)).all()


def test_negative_values_become_zero():
    np.testing.assert_array_equal(
        scale_contrast(np.array([[[-32768, -1, 0, 1, 2]]], np.int16)).ravel(), [0, 0, 0, 127, 255]
    )


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_labels_become_multiples_of_51(dtype):
    labels = np.array([[[0, 1, 2, 3, 4]]], dtype)
    np.testing.assert_array_equal(scale_labels(labels).ravel(), [0, 51, 102, 153, 204])


@pytest.mark.parametrize("value", [5, 255, -1, 1.5])
def test_other_labels_are_refused(tmp_path, value):
    seg = np.zeros((6, 5, 4), np.float32)
    seg[1, 1, 1] = value
    write_case(tmp_path / "a", "a", small(seg=seg))
    bad(tmp_path, f"a_seg.nii has the labels {value:g}; expected 0 to 4")


def test_the_names_of_2023_are_the_same_contrasts(tmp_path):
    arrays = small()
    names = {"t1ce": "t1c", "t1": "t1n", "t2": "t2w", "flair": "t2f"}
    write_case(tmp_path / "BraTS-GLI-00008-001", "BraTS-GLI-00008-001", arrays, "-", names)
    write_case(tmp_path / "BraTS-GLI-00008-000", "BraTS-GLI-00008-000", arrays)
    (_, _, old), (unit, _, new) = read_all(tmp_path, layout="volumes")
    np.testing.assert_array_equal(old.image, new.image)
    assert unit.patient == "BraTS-GLI-00008"  # two time points of one patient
    assert unit.name == "BraTS-GLI-00008-001"


def test_units_are_named_by_folder(tmp_path):
    write_case(tmp_path / "train" / "p_2", "p_2", small())
    write_case(tmp_path / "flat", "p_10", small())
    write_case(tmp_path / "flat", "p_9", small())
    units = Brats(tmp_path, ReadOptions()).scan().units
    assert [(unit.name, unit.patient, unit.split) for unit in units] == [
        ("flat/p_9", "p_9", ""),
        ("flat/p_10", "p_10", ""),
        ("train/p_2", "p_2", "train"),
    ]
    assert [unit.name for unit in Brats(tmp_path / "train" / "p_2", ReadOptions()).scan().units] == ["p_2"]


def test_a_set_without_annotations_has_four_channels(tmp_path):
    arrays = small()
    del arrays["seg"]
    write_case(tmp_path / "a", "a", arrays)
    ((_, spec, _),) = read_all(tmp_path, layout="volumes")
    assert (spec.channels, spec.label_channels) == (("t1ce", "t1", "flair", "t2"), ())
    write_case(tmp_path / "b", "b", small())
    bad(tmp_path, "has no seg; found a_flair.nii, .*leave the patient out", layout="volumes")


def test_missing_and_doubled_contrasts_are_named(tmp_path):
    write_case(tmp_path / "a", "a", small())
    (tmp_path / "a" / "a_flair.nii").rename(tmp_path / "a" / "odd.nii")
    bad(tmp_path, "has no flair; rename odd.nii if that is it")
    assert [entry["source"] for entry in Brats(tmp_path, ReadOptions()).scan().left_out] == ["a/odd.nii"]
    write_case(tmp_path / "a", "a", {"t1": small()["t1"]}, ending=".nii.gz")
    bad(tmp_path, "has two files of t1, a_t1.nii and a_t1.nii.gz")


def test_contrasts_must_share_shape_and_affine(tmp_path):
    write_case(tmp_path / "a", "a", small(t2=np.ones((6, 5, 3), np.int16)))
    bad(tmp_path, r"t2 of shape \(6, 5, 3\) and t1ce of shape \(6, 5, 4\)")
    write_case(tmp_path / "a", "a", small())
    write_case(tmp_path / "a", "a", {"t2": small()["t2"]}, affine=np.diag([-1.0, 1.0, 1.0, 1.0]))
    bad(tmp_path, "affines of t2 and t1ce that differ by 2")
    reader = Brats(tmp_path, ReadOptions())
    with pytest.raises(BadFile, match="differ by 2"):
        reader.probe(reader.scan().units[0])


def test_bad_contrasts_are_named(tmp_path):
    write_case(tmp_path / "a", "a", small(flair=np.zeros((6, 5, 4), np.int16)))
    bad(tmp_path, "a_flair.nii is blank: its largest value is 0")
    write_case(tmp_path / "a", "a", small())
    path = tmp_path / "a" / "a_t2.nii"
    path.write_bytes(path.read_bytes()[:-1])
    bad(tmp_path, "a_t2.nii is cut off")


def test_scan_says_what_it_looked_for(tmp_path):
    with pytest.raises(UserError, match=r"CASE/CASE_t1\.nii\.gz"):
        Brats(tmp_path, ReadOptions()).scan()
    with pytest.raises(UserError, match="--layout"):
        Brats(tmp_path, ReadOptions(layout="images")).scan()


def test_looks_like_brats_wants_all_four_contrasts(tmp_path):
    assert not looks_like_brats(tmp_path)
    arrays = small()
    t1 = {"t1": arrays.pop("t1")}
    write_case(tmp_path / "deep" / "a", "a", arrays)
    write_case(tmp_path / "deep" / "b", "b", t1)
    assert not looks_like_brats(tmp_path)
    write_case(tmp_path / "deep" / "a", "a", t1)
    assert looks_like_brats(tmp_path)


@pytest.mark.skipif(not (REAL / "samples" / "brats_nifti").is_dir(), reason="MEMJAX_REAL_DATA is not set")
def test_the_sample_agrees_with_the_slices_made_elsewhere():
    """`dev/brats256_slices.npz` has the same patients under its own intensity and slice rules, stored LPS."""
    with np.load(REAL / "dev" / "brats256_slices.npz", allow_pickle=False) as file:
        theirs = dict(zip(zip(file["patient"].tolist(), file["z"].tolist(), strict=True), file["slices"], strict=True))
    compared = 0
    for unit, _, image in read_all(REAL / "samples" / "brats_nifti"):
        if (unit.patient, image.slice) not in theirs:
            continue
        other = theirs[unit.patient, image.slice][::-1, ::-1][..., [1, 0, 3, 2, 4]]
        compared += 1
        for channel in range(4):
            assert np.corrcoef(image.image[..., channel].ravel(), other[..., channel].ravel())[0, 1] > 0.99
        np.testing.assert_array_equal(image.image[..., 4] > 0, other[..., 4] > 0)
    assert compared > 60
