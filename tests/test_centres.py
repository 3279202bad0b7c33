"""Sub-volumes around points: the voxel that was pointed at comes to the middle, however its file is stored."""

import nibabel as nib
import numpy as np
import pytest
from dicom_samples import write_series
from launching import noise
from nibabel.affines import apply_affine
from preparing import prepared, volume, volumes

from memjax.data.centres import volume_source
from memjax.data.readers.base import ReadOptions
from memjax.data.readers.dicom import Dicom
from memjax.errors import UserError

SHAPE = (9, 11, 13)


def table(path, rows, header="file,i,j,k"):
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return str(path)


def grown(array, before, after, fill):
    """The reference: pad a whole volume on all sides with one value."""
    return np.pad(array, [(before, after)] * 3, constant_values=fill)


def affine_of(codes, spacing):
    """An affine for axes that point to these codes; the spacings are of R, A, S."""
    affine = np.zeros((4, 4))
    for axis, code in enumerate(codes):
        towards = next(i for i, pair in enumerate(("RL", "AP", "SI")) if code in pair)
        affine[towards, axis] = spacing[towards] * (1 if code in "RAS" else -1)
    affine[:, 3] = (-20, 7, 3, 1)
    return affine


def numbered(shape=SHAPE):
    """A volume in which every voxel has its own value, so that a part of it can be from one place only."""
    values = np.random.default_rng(0).permutation(int(np.prod(shape)))
    return (values.reshape(shape) + 1).astype(np.int16)


CODES = ["RAS", "LPS", "LAS", "SRA", "IPL", "ASR", "PIL", "SLP"]


@pytest.mark.parametrize("codes", CODES)
def test_the_voxel_of_the_file_is_the_middle_however_its_axes_lie(tmp_path, codes):
    stored, affine = numbered(), affine_of(codes, (0.5, 1.0, 2.0))
    assert nib.orientations.aff2axcodes(affine) == tuple(codes)
    (tmp_path / "in").mkdir()
    nib.save(nib.Nifti1Image(stored, affine), tmp_path / "in" / "a.nii.gz")
    points = [(4, 5, 6), (0, 0, 0), (8, 10, 12), (1, 9, 3)]
    made = prepared(
        tmp_path / "in",
        tmp_path / "s",
        size=(4, 3, 5),
        centres=table(tmp_path / "points.csv", [("a.nii.gz", *point) for point in points]),
    )
    ras = nib.as_closest_canonical(nib.Nifti1Image(stored, affine)).get_fdata()
    for item, found, point in zip(made.items, made.images[..., 0], points, strict=True):
        assert found[2, 1, 2] == stored[point]
        place = np.argwhere(ras == stored[point])[0]
        first = place + 6 - (2, 1, 2)
        expected = grown(ras, 6, 6, np.nan)[tuple(slice(at, at + n) for at, n in zip(first, (4, 3, 5), strict=True))]
        inside = np.isfinite(expected)
        np.testing.assert_array_equal(found[inside], expected[inside])
        assert (found[~inside] == expected[inside].min()).all()
        assert (item.low, item.high) == (expected[inside].min(), expected[inside].max())
    assert [item.source for item in made.items] == [f"a.nii.gz#point_{i}" for i in range(4)]
    assert made.manifest.axes == ("R", "A", "S")
    assert made.manifest.spacing_mm == pytest.approx((0.5, 1.0, 2.0))
    made.verify()


@pytest.mark.parametrize("tilt", [0.0, 0.3])
@pytest.mark.parametrize("codes", CODES)
def test_a_point_in_mm_is_where_the_affine_says(tmp_path, codes, tilt):
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]]
    stored, affine = numbered(), turn @ affine_of(codes, (0.5, 1.0, 2.0))
    (tmp_path / "in").mkdir()
    nib.save(nib.Nifti1Image(stored, affine), tmp_path / "in" / "a.nii")
    points = [(4, 5, 6), (0, 10, 2)]
    rows = [("a.nii", *apply_affine(affine, np.add(point, (0.3, -0.3, 0.2)))) for point in points]
    csv = table(tmp_path / "points.csv", rows, "file,x,y,z")
    made = prepared(tmp_path / "in", tmp_path / "s", size=(3, 3, 3), centres=csv, centres_in="mm")
    assert made.images[:, 1, 1, 1, 0].tolist() == [stored[point] for point in points]


def test_mm_need_a_file_that_says_where_it_lies(tmp_path):
    (tmp_path / "in").mkdir()
    image = nib.Nifti1Image(numbered(), np.eye(4))
    image.set_sform(None, 0)
    image.set_qform(None, 0)
    nib.save(image, tmp_path / "in" / "a.nii.gz")
    nib.save(nib.Nifti2Image(numbered(), np.eye(4)), tmp_path / "in" / "b.nii")
    csv = table(tmp_path / "points.csv", [("a.nii.gz", 1, 1, 1), ("b.nii", 1, 1, 1)], "file,x,y,z")
    with pytest.raises(UserError, match=r"a\.nii\.gz: does not say where it lies in mm.*--centres_in=voxel"):
        prepared(tmp_path / "in", tmp_path / "s", size=(3, 3, 3), centres=csv, centres_in="mm")
    made = prepared(tmp_path / "in", tmp_path / "s", size=(3, 3, 3), centres=csv, centres_in="mm", skip_bad=True)
    assert [item.source for item in made.items] == ["b.nii#point_0"]


@pytest.mark.parametrize("orientation", [[1, 0, 0, 0, 1, 0], [-1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, -1]])
def test_dicom_points_are_column_row_and_slice(tmp_path, orientation):
    stored = numbered((5, 6, 7))  # slice, row, column
    write_series(tmp_path / "in", stored, orientation=orientation, order=[3, 0, 4, 1, 2])
    (unit,) = Dicom(tmp_path / "in", ReadOptions()).scan().units
    csv = table(tmp_path / "voxel.csv", [(unit.name, 6, 1, 3)])
    made = prepared(tmp_path / "in", tmp_path / "s", size=(3, 3, 3), centres=csv)
    assert made.images[0, 1, 1, 1, 0] == stored[3, 1, 6]
    across, down = np.array(orientation[:3]), np.array(orientation[3:])
    lps = across * 0.75 * 6 + down * 0.5 * 1 + np.cross(across, down) * 2.5 * 3
    csv = table(tmp_path / "mm.csv", [(unit.name, -lps[0], -lps[1], lps[2])], "file,x,y,z")
    in_mm = prepared(tmp_path / "in", tmp_path / "t", size=(3, 3, 3), centres=csv, centres_in="mm")
    np.testing.assert_array_equal(in_mm.images, made.images)


def test_arrays_count_in_their_own_order(tmp_path):
    (tmp_path / "in").mkdir()
    for name in "ab":
        np.save(tmp_path / "in" / f"{name}.npy", numbered((10, 11, 12)))
    csv = table(tmp_path / "points.csv", [("b.npy", 7, 2, 11)])
    made = prepared(tmp_path / "in", tmp_path / "s", size=(3,), centres=csv)
    assert made.manifest.shape == (3, 3, 3, 1)
    assert made.images[0, 1, 1, 1, 0] == numbered((10, 11, 12))[7, 2, 11]
    csv = table(tmp_path / "mm.csv", [("b.npy", 7, 2, 11)], "file,x,y,z")
    with pytest.raises(UserError, match="does not say where it lies in mm"):
        prepared(tmp_path / "in", tmp_path / "t", size=(3,), centres=csv, centres_in="mm")


def test_knees_count_slices_first_and_keep_the_papers_split(tmp_path):
    folder = tmp_path / "in" / "train" / "sagittal"
    folder.mkdir(parents=True)
    exams = {"0000": "train", "0007": "val"}
    for exam in exams:
        np.save(folder / f"{exam}.npy", noise(1, int(exam), size=(5, 9, 10))[0])
    csv = table(tmp_path / "points.csv", [(f"{exam}.npy", 4, 2, 9) for exam in exams])
    sagittal = ReadOptions(plane="sagittal")
    made = prepared(tmp_path / "in", tmp_path / "s", format="mrnet", read=sagittal, size=(3, 3, 3), centres=csv)
    for item, found, exam in zip(made.items, made.images[..., 0], exams, strict=True):
        assert found[1, 1, 1] == np.load(folder / f"{exam}.npy")[4, 2, 9]
        assert (item.patient, item.split) == (exam, exams[exam])


def test_points_follow_their_volume_to_its_spacing(tmp_path):
    block = np.zeros((8, 6, 5), np.int16)
    block[2:4, 4:6, 3] = 900
    volume(tmp_path / "in" / "a.nii", block, (0.5, 0.5, 2.0))
    csv = table(tmp_path / "points.csv", [("a.nii", 2, 5, 3)])
    made = prepared(tmp_path / "in", tmp_path / "s", size=(5, 5, 5), spacing_mm=(1.0, 1.0, 1.0), centres=csv)
    # Pairs of voxels of the first two axes become one; of the third each becomes two, and the upper one is taken.
    found = made.images[0, ..., 0]
    assert found[2, 2, 2] == found[2, 2, 1] == found.max() > 400
    assert made.manifest.spacing_mm == (1.0, 1.0, 1.0)


def test_labels_patients_and_what_is_left_out(tmp_path):
    root = volumes(tmp_path / "in", ["p1/a.nii", "p2/a.nii", "p3/c.nii", "p4/d.nii"])
    rows = [("p2/a.nii", 1, 1, 1, "calcified"), ("c.nii", 2, 2, 2, ""), ("./p2\\a.nii", 1, 1, 2, "soft")]
    csv = table(tmp_path / "points.csv", rows, "File,I,J,K,Label")
    made = prepared(root, tmp_path / "s", size=(2, 2, 2), centres=csv, patients_from="folder")
    told = [(item.source, item.patient, item.label) for item in made.items]
    assert told == [
        ("p2/a.nii#point_0", "p2", "calcified"),
        ("p2/a.nii#point_1", "p2", "soft"),
        ("p3/c.nii#point_0", "p3", ""),
    ]
    assert [entry["source"] for entry in made.manifest.left_out] == ["p1/a.nii", "p4/d.nii"]
    assert made.manifest.notes == ("2 volumes are left out, as --centres has no point in them",)
    assert made.manifest.preparation["centres"] == csv and made.manifest.preparation["centres_in"] == "voxel"


def test_the_first_patients_are_of_those_with_a_point(tmp_path):
    root = volumes(tmp_path / "in", [f"p{i}.nii" for i in range(8)])
    csv = table(tmp_path / "points.csv", [(f"p{i}.nii", 1, 1, 1) for i in range(1, 8, 2)])
    made = prepared(root, tmp_path / "s", size=(2, 2, 2), centres=csv, n_patients=3, heldout_patients=1.0)
    assert sorted(item.split for item in made.items) == ["heldout", "train", "train", "train"]


@pytest.mark.parametrize("seed", range(3))
def test_all_points_of_a_volume_are_held_out_or_none_also_where_patients_are_unknown(tmp_path, seed):
    root = volumes(tmp_path / "in", [f"{i}.nii" for i in range(6)])
    csv = table(tmp_path / "points.csv", [(f"{i}.nii", 1, 1, z) for z in range(4) for i in range(6)])
    made = prepared(root, tmp_path / "s", size=(2, 2, 2), centres=csv, heldout_patients=0.5, seed=seed)
    sides = {}
    for item in made.items:
        sides.setdefault(volume_source(item.source), set()).add(item.split)
    assert len(sides) == 6 and all(len(side) == 1 for side in sides.values())
    again = prepared(made.path, tmp_path / "t", heldout_patients=0.5, seed=seed, keep_splits=False)
    assert [item.split for item in again.items] == [item.split for item in made.items]


def test_a_patient_table_names_volumes(tmp_path):
    root = volumes(tmp_path / "in", ["a.nii", "b.nii"])
    people = tmp_path / "people.csv"
    people.write_text("file,patient\na.nii,Ann\nb.nii,Bob\n")
    csv = table(tmp_path / "points.csv", [("a.nii", 1, 1, 1), ("b.nii", 0, 0, 0), ("a.nii", 2, 2, 2)])
    made = prepared(root, tmp_path / "s", size=(2, 2, 2), centres=csv, patient_csv=str(people))
    assert [item.patient for item in made.items] == ["Ann", "Ann", "Bob"]


def test_a_changed_table_is_cut_anew(tmp_path):
    array = numbered()
    volume(tmp_path / "in" / "a.nii", array)
    points = tmp_path / "points.csv"
    table(points, [("a.nii", 1, 1, 1)])
    with pytest.raises(UserError, match="finds no patient"):  # after the cutting; the unfinished store stays
        prepared(tmp_path / "in", tmp_path / "s", size=(3,), centres=str(points), patient_regex="q(.)")
    table(points, [("a.nii", 5, 6, 7)])
    made = prepared(tmp_path / "in", tmp_path / "s", size=(3,), centres=str(points))
    assert made.images[0, 1, 1, 1, 0] == array[5, 6, 7]


def test_the_number_of_workers_changes_nothing(tmp_path):
    root = volumes(tmp_path / "in", [f"{i}.nii" for i in range(9)])
    csv = table(tmp_path / "points.csv", [(f"{i}.nii", i % 4, j, 1) for i in range(9) for j in range(3)])
    one, many = (prepared(root, tmp_path / str(n), workers=n, size=(3,), centres=csv) for n in (1, 5))
    assert one.manifest.digest == many.manifest.digest


def test_a_volume_with_nan_is_refused_though_the_points_are_elsewhere(tmp_path):
    array = noise(1, 0, size=(8, 8, 8))[0].astype(np.float32)
    array[7, 7, 7] = np.nan
    volume(tmp_path / "in" / "a.nii", array)
    csv = table(tmp_path / "points.csv", [("a.nii", 1, 1, 1)])
    with pytest.raises(UserError, match=r"a\.nii: holds 1 NaN"):
        prepared(tmp_path / "in", tmp_path / "s", size=(2,), centres=csv)


def test_outside_begins_half_a_voxel_beyond_the_last(tmp_path):
    volume(tmp_path / "in" / "a.nii", numbered())
    edge = table(tmp_path / "edge.csv", [("a.nii", -0.49, 10.49, 12.49)])
    made = prepared(tmp_path / "in", tmp_path / "s", size=(1,), centres=edge)
    assert made.images.ravel().tolist() == [numbered()[0, 10, 12]]
    beyond = table(tmp_path / "beyond.csv", [("a.nii", 1, 1, 1), ("a.nii", 0, 10.5, 12)])
    with pytest.raises(UserError, match=r"line 3: the point \(0, 10.5, 12\) lies outside a\.nii.*9 x 11 x 13 voxels"):
        prepared(tmp_path / "in", tmp_path / "t", size=(1,), centres=beyond)
