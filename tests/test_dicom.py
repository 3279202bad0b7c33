"""The DICOM reader: which files become which image, where their voxels lie, and what is said of bad ones."""

import io
import re
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pydicom
import pytest
from dicom_samples import AXIAL, bad, change, dataset, messages, ramp, read_all, save, write_series
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    BasicTextSRStorage,
    ComputedRadiographyImageStorage,
    EnhancedCTImageStorage,
    MRImageStorage,
    RTDoseStorage,
    SegmentationStorage,
)

from memjax.data.readers.base import RAS, ROW_COLUMN, BadFile, ReadOptions
from memjax.data.readers.dicom import Dicom, looks_like_dicom
from memjax.errors import UserError


def test_a_series_becomes_one_volume_in_ras(tmp_path):
    volume = ramp((5, 3, 4))
    write_series(tmp_path / "ct", volume, order=[3, 0, 4, 1, 2])
    ((unit, spec, (image,)),) = read_all(tmp_path)
    assert (unit.name, unit.patient, len(unit.files)) == ("ct/4", "P1", 5)
    assert (spec.space, spec.axes, spec.spacing_mm) == ((4, 3, 5), RAS, (0.75, 0.5, 2.5))
    assert spec.dtype == np.int16
    # Columns count to the left and rows to the back: both are turned around.
    np.testing.assert_array_equal(image.image[..., 0], volume.transpose(2, 1, 0)[::-1, ::-1])


@pytest.mark.parametrize(
    ("orientation", "to_ras", "spacing"),
    [
        # rows count downwards in coronal and sagittal planes
        ([1, 0, 0, 0, 0, -1], lambda v: v.transpose(2, 0, 1)[::-1, ::-1, ::-1], (0.75, 2.5, 0.5)),  # coronal
        ([0, 1, 0, 0, 0, -1], lambda v: v.transpose(0, 2, 1)[:, ::-1, ::-1], (2.5, 0.75, 0.5)),  # sagittal
        ([-1, 0, 0, 0, -1, 0], lambda v: v.transpose(2, 1, 0), (0.75, 0.5, 2.5)),  # axial, turned by 180 degrees
        ([0.98, 0.199, 0, -0.199, 0.98, 0], lambda v: v.transpose(2, 1, 0)[::-1, ::-1], (0.75, 0.5, 2.5)),  # oblique
    ],
)
def test_other_planes_come_to_ras_too(tmp_path, orientation, to_ras, spacing):
    """Coronal: normal = x cross -z = +y, so slices count to the back; sagittal: y cross -z = -x, to the right."""
    volume = ramp((5, 3, 4))
    write_series(tmp_path, volume, orientation=orientation)
    ((_, spec, (image,)),) = read_all(tmp_path)
    assert spec.spacing_mm == pytest.approx(spacing)
    np.testing.assert_array_equal(image.image[..., 0], to_ras(volume))


def test_slices_are_cut_along_the_plane(tmp_path):
    volume = ramp((5, 3, 4))
    write_series(tmp_path, volume)
    ((_, spec, images),) = read_all(tmp_path, layout="slices", plane="coronal")
    assert (spec.space, spec.axes, spec.spacing_mm) == ((4, 5), ("R", "S"), (0.75, 2.5))
    assert [(image.suffix, image.slice) for image in images] == [("#0", 0), ("#1", 1), ("#2", 2)]
    np.testing.assert_array_equal(images[0].image[..., 0], volume[:, -1, ::-1].T)


@pytest.mark.parametrize("modality", ["CR", "DX", "MG"])
def test_projections_are_pictures_one_a_file(tmp_path, modality):
    for index in range(2):
        elements = {"Modality": modality, "ImagePositionPatient": [0, 0, index], "ImageOrientationPatient": AXIAL}
        storage = ComputedRadiographyImageStorage
        save(
            tmp_path / f"x{index}",
            dataset(ramp((3, 4)) + index, storage=storage, ImagerPixelSpacing=[0.2, 0.1], **elements),
        )
    found = read_all(tmp_path)
    assert [unit.name for unit, _, _ in found] == ["x0", "x1"]
    for index, (_, spec, (image,)) in enumerate(found):
        assert (spec.space, spec.axes, spec.spacing_mm) == ((3, 4), ROW_COLUMN, (0.2, 0.1))
        np.testing.assert_array_equal(image.image[..., 0], ramp((3, 4)) + index)


def test_a_series_without_positions_is_pictures(tmp_path):
    for index in range(3):
        save(tmp_path / f"{index}.dcm", dataset(ramp((3, 4))))
    assert [(unit.name, spec.axes) for unit, spec, _ in read_all(tmp_path)] == [
        (f"{i}.dcm", ROW_COLUMN) for i in range(3)
    ]
    with pytest.raises(UserError, match="3 of its files: is a picture without a position"):
        Dicom(tmp_path, ReadOptions(layout="volumes")).scan()


def test_layout_images_takes_every_frame_alone(tmp_path):
    volume = ramp((3, 3, 4))
    write_series(tmp_path, volume)
    save(tmp_path / "multi", dataset(volume, NumberOfFrames=3))
    found = read_all(tmp_path, layout="images")
    assert [unit.name for unit, _, _ in found] == ["IM0", "IM1", "IM2", "multi"]
    assert [image.suffix for image in found[3][2]] == ["#0", "#1", "#2"]
    np.testing.assert_array_equal(found[3][2][1].image[..., 0], volume[1])
    np.testing.assert_array_equal(found[1][2][0].image[..., 0], volume[1])


def frame_groups(positions, slopes=None):
    groups = []
    for index, position in enumerate(positions):
        plane, scale, group = Dataset(), Dataset(), Dataset()
        plane.ImagePositionPatient = position
        group.PlanePositionSequence = Sequence([plane])
        if slopes:
            scale.RescaleSlope, scale.RescaleIntercept = slopes[index], 0
            group.PixelValueTransformationSequence = Sequence([scale])
        groups.append(group)
    return Sequence(groups)


def shared_groups():
    plane, measures, group = Dataset(), Dataset(), Dataset()
    plane.ImageOrientationPatient = AXIAL
    measures.PixelSpacing, measures.SliceThickness = [0.5, 0.75], 9
    group.PlaneOrientationSequence, group.PixelMeasuresSequence = Sequence([plane]), Sequence([measures])
    return Sequence([group])


def enhanced(volume, heights, slopes=None):
    return dataset(
        volume,
        storage=EnhancedCTImageStorage,
        NumberOfFrames=len(volume),
        SharedFunctionalGroupsSequence=shared_groups(),
        PerFrameFunctionalGroupsSequence=frame_groups([[0, 0, z] for z in heights], slopes),
    )


def test_enhanced_frames_are_sorted_and_rescaled_one_by_one(tmp_path):
    volume = ramp((3, 2, 4))
    save(tmp_path / "e", enhanced(volume, [4, 0, 2], slopes=["1", "2", "0.5"]))
    ((unit, spec, (image,)),) = read_all(tmp_path)
    assert (unit.name, spec.space, spec.spacing_mm, spec.dtype) == ("e", (4, 2, 3), (0.75, 0.5, 2.0), np.float32)
    expected = np.stack([volume[1] * 2.0, volume[2] * 0.5, volume[0]])
    np.testing.assert_array_equal(image.image[..., 0], expected.transpose(2, 1, 0)[::-1, ::-1])
    save(tmp_path / "e", enhanced(volume, [0, 2, 0]))
    bad(tmp_path, "slices at positions already taken")


def test_enhanced_files_of_one_frame_form_a_series(tmp_path):
    volume = ramp((3, 2, 4))
    for z in range(3):
        save(tmp_path / f"{z}", enhanced(volume[z : z + 1], [3 * z]))
    ((unit, spec, (image,)),) = read_all(tmp_path)
    assert (unit.name, spec.spacing_mm) == ("4", (0.75, 0.5, 3.0))
    np.testing.assert_array_equal(image.image[..., 0], volume.transpose(2, 1, 0)[::-1, ::-1])


def test_frames_without_positions_keep_their_order(tmp_path):
    volume = ramp((3, 2, 4))
    save(tmp_path / "a", dataset(volume, NumberOfFrames=3))
    ((_, spec, (image,)),) = read_all(tmp_path)
    assert (spec.axes, spec.space, spec.spacing_mm) == (RAS, (4, 2, 3), None)
    np.testing.assert_array_equal(image.image[..., 0], volume.transpose(2, 1, 0)[::-1, ::-1])
    save(tmp_path / "a", dataset(volume, NumberOfFrames=3, PixelSpacing=[1, 2], SpacingBetweenSlices=3))
    assert read_all(tmp_path)[0][1].spacing_mm == (2.0, 1.0, 3.0)


@pytest.mark.parametrize(
    ("elements", "match"),
    [
        ({"ImagePositionPatient": [0, 0, 6.5]}, "has a gap of 4 mm between slices 1 and 2 where 2.5 mm is usual"),
        ({"ImagePositionPatient": [0, 0, 2.5]}, r"slices at positions already taken \(1; the first at 2.5 mm"),
        ({"ImagePositionPatient": None}, "has 1 of 5 slices without ImagePositionPatient"),
        ({"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}, "several orientations"),
        ({"PixelSpacing": [1, 1]}, "different PixelSpacing"),
        ({"PatientID": "P2"}, "has slices of 2 patients"),
        ({"Rows": 2, "PixelData": bytes(16)}, r"different shapes, \(2, 4\) and \(3, 4\)"),
        ({"PixelData": bytes(10)}, "IM2 has pixels .* cannot be decoded .*less than expected"),
        ({"PixelData": None}, "IM2 has no pixels"),
        ({"BitsStored": 99}, "BitsStored = 99"),
        ({"NumberOfFrames": 2**31 - 1}, "NumberOfFrames = 2147483647"),
    ],
)
def test_what_does_not_fit_in_a_series_is_said(tmp_path, elements, match):
    write_series(tmp_path, ramp((5, 3, 4)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        change(tmp_path / "IM2", **elements)
    assert re.search(match, messages(tmp_path))


def test_a_missing_slice_is_a_gap(tmp_path):
    write_series(tmp_path, ramp((6, 3, 4)))
    (tmp_path / "IM3").unlink()
    bad(tmp_path, "has a gap of 5 mm between slices 2 and 3 where 2.5 mm is usual")


def test_rounded_positions_are_even(tmp_path):
    write_series(tmp_path, ramp((5, 3, 4)), gap=0.625)
    for z in range(5):
        change(tmp_path / f"IM{z}", ImagePositionPatient=[0, 0, round(0.625 * z, 2)])
    ((_, spec, _),) = read_all(tmp_path)
    assert spec.spacing_mm == pytest.approx((0.75, 0.5, 0.625), abs=0.01)


def test_a_value_that_is_no_number_is_named(tmp_path):
    write_series(tmp_path, ramp((3, 3, 4)), gap=2.5)
    content = (tmp_path / "IM1").read_bytes()
    assert content.count(b"0.0\\0.0\\2.5") == 1
    for value, match in (
        (b"0.0\\0.0\\2,5", "expected 3 finite numbers"),
        (b"0.0\\0.0\\inf", "expected 3 finite numbers"),
        (b"0.0\\0.0    ", "expected 3 finite numbers"),
    ):
        (tmp_path / "IM1").write_bytes(content.replace(b"0.0\\0.0\\2.5", value))
        assert match in messages(tmp_path)


def test_two_series_in_one_folder_are_told_apart(tmp_path):
    for place, uid in enumerate(("1.2.5.1", "1.2.6.1", "1.2.6.2")):
        write_series(tmp_path / f"s{place}", ramp((2, 3, 4)), SeriesInstanceUID=uid, PatientID=uid)
        for path in sorted((tmp_path / f"s{place}").iterdir()):
            path.rename(tmp_path / f"s{place}-{path.name}")
    units = Dicom(tmp_path, ReadOptions()).scan().units
    assert [(unit.name, unit.patient) for unit in units] == [
        ("1.2.5.1", "1.2.5.1"),
        ("1.2.6.1", "1.2.6.1"),
        ("2", "1.2.6.2"),
    ]


def test_what_is_no_image_is_left_out_and_listed(tmp_path):
    write_series(tmp_path, ramp((2, 3, 4)))
    report = dataset(ramp((3, 4)), storage=BasicTextSRStorage)
    for keyword in ("PixelData", "Rows", "Columns"):
        delattr(report, keyword)
    save(tmp_path / "report", report)
    save(tmp_path / "dose", dataset(ramp((3, 4)), storage=RTDoseStorage))
    save(tmp_path / "seg", dataset(ramp((3, 4), "uint8"), storage=SegmentationStorage, SeriesInstanceUID="1.9"))
    (tmp_path / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "notes.txt").write_text("hello")
    scan = Dicom(tmp_path, ReadOptions()).scan()
    assert [unit.name for unit in scan.units] == ["4"]
    assert {entry["source"]: entry["reason"] for entry in scan.left_out} == {
        "report": "holds no image (Basic Text SR Storage)",
        "dose": "holds no image (RT Dose Storage)",
        "seg": "its name says that it is a mask (read with --with_masks)",
        "notes.txt": "is no DICOM file",
    }
    (tmp_path / "seg").rename(tmp_path / "other")
    assert {"source": "other", "reason": "is a segmentation (read with --with_masks)"} in Dicom(
        tmp_path, ReadOptions()
    ).scan().left_out
    assert len(Dicom(tmp_path, ReadOptions(with_masks=True)).scan().units) == 2


def test_an_image_without_rows_is_bad_and_not_left_out(tmp_path):
    save(tmp_path / "a", dataset(ramp((3, 4))))
    change(tmp_path / "a", Rows=None)
    bad(tmp_path, "has 0 rows and 4 columns")


def test_scan_says_what_it_found_instead(tmp_path):
    with pytest.raises(UserError, match="holds no DICOM image"):
        Dicom(tmp_path, ReadOptions()).scan()
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(UserError, match="1 of its files: is no DICOM file"):
        Dicom(tmp_path, ReadOptions()).scan()


@pytest.mark.parametrize("implicit", [True, False])
def test_files_without_preamble_are_read_by_their_ending(tmp_path, implicit):
    ds = dataset(ramp((3, 4)), Modality="DX")
    del ds.file_meta
    buffer = io.BytesIO()
    ds.save_as(buffer, implicit_vr=implicit, little_endian=True)
    (tmp_path / "a.DCM").write_bytes(buffer.getvalue())
    (tmp_path / "b").write_bytes(buffer.getvalue())
    ((unit, _, (image,)),) = read_all(tmp_path)
    assert unit.name == "a.DCM"
    np.testing.assert_array_equal(image.image[..., 0], ramp((3, 4)))


def test_invalid_values_neither_warn_nor_end_reading(tmp_path):
    odd = {
        "PatientID": "P" * 100,
        "PatientWeight": "12.3456789012345678901234567890",
        "StudyDate": "yesterday",
        "SpecificCharacterSet": "ISO_IR 999",
        "PatientName": "Jörg",
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE
        try:
            save(tmp_path / "a", dataset(ramp((3, 4)), storage=MRImageStorage, SeriesInstanceUID="not.a.uid", **odd))
        finally:
            pydicom.config.settings.writing_validation_mode = None
    ((unit, _, (image,)),) = read_all(tmp_path)
    assert unit.patient == "P" * 100
    np.testing.assert_array_equal(image.image[..., 0], ramp((3, 4)))


def test_a_missing_patient_is_nobody(tmp_path):
    for name, patient in (("a", ""), ("b", None), ("c", " P7 ")):
        save(tmp_path / name, dataset(ramp((3, 4)), Modality="DX", PatientID=patient))
    units = Dicom(tmp_path, ReadOptions()).scan().units
    assert [unit.patient for unit in units] == ["", "", "P7"]


def test_cut_files_are_refused(tmp_path):
    whole = save(tmp_path / "a.dcm", dataset(ramp((16, 16)), Modality="DX")).read_bytes()
    for length in [0, 100, 132, 140, *range(200, len(whole) - 1, 37), len(whole) - 1]:
        (tmp_path / "a.dcm").write_bytes(whole[:length])
        bad(tmp_path, "is no readable DICOM|no pixels|cannot be decoded|rows and")
    (tmp_path / "a.dcm").write_bytes(b"garbage " * 200)
    bad(tmp_path, "is no readable DICOM")


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**9), st.integers(1, 255))
def test_a_damaged_file_never_ends_in_a_traceback(tmp_path_factory, place, mask):
    folder = tmp_path_factory.mktemp("flip")
    path = save(folder / "a.dcm", enhanced(ramp((2, 3, 4)), [0, 2]))
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= mask
    path.write_bytes(content)
    for layout in ("auto", "images"):
        reader = Dicom(folder, ReadOptions(layout=layout))
        try:
            for unit in reader.scan().units:
                spec = reader.probe(unit)
                for image in reader.read(unit):
                    assert image.image.shape == (*spec.space, len(spec.channels))
        except (BadFile, UserError):
            pass


def test_threads_read_the_same(tmp_path):
    for index in range(8):
        write_series(tmp_path / str(index), ramp((4, 8, 8)) + index, SeriesInstanceUID=f"1.2.{index}")
    reader = Dicom(tmp_path, ReadOptions())
    with ThreadPoolExecutor(8) as pool:
        images = list(pool.map(reader.read, reader.scan().units))
    for index, (image,) in enumerate(images):
        np.testing.assert_array_equal(image.image[..., 0], (ramp((4, 8, 8)) + index).transpose(2, 1, 0)[::-1, ::-1])


def test_looks_like_dicom(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    (tmp_path / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    assert not looks_like_dicom(tmp_path)
    path = save(tmp_path / "b" / "anything", dataset(ramp((3, 4))))
    assert looks_like_dicom(tmp_path)
    assert looks_like_dicom(path)
