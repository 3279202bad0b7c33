"""What bad input gets from `prepare`: one clear sentence with the remedy, status 2, and nothing half-written."""

import pickle
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tifffile
from dicom_samples import dataset, save
from launching import files_below, launch, noise, pictures, store, truncate
from PIL import Image

from memjax.data.store import Store

ENDINGS = ("nii.gz", "nii", "png", "jpeg", "bmp", "tif", "dcm", "npz", "npy")


def write_image(path, array):
    """Write a grey uint8 image [rows, columns] in the format of the path's ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    match path.name.partition(".")[2]:
        case "nii.gz" | "nii":
            nib.save(nib.Nifti1Image(array[..., None], np.eye(4)), path)
        case "tif":
            tifffile.imwrite(path, array)
        case "dcm":
            save(path, dataset(array, Modality="CR"))
        case "npz":
            np.savez_compressed(path, array)
        case "npy":
            np.save(path, array)
        case _:
            Image.fromarray(array).save(path)


def four_images(folder, ending):
    """Write a.ENDING to d.ENDING, of which c is to be damaged; returns its path."""
    for name, array in zip("abcd", noise(4, 0, size=(24, 24)), strict=True):
        write_image(folder / f"{name}.{ending}", array)
    return folder / f"c.{ending}"


def empty(path):
    path.write_bytes(b"")


def garble(path):
    path.write_bytes(np.random.default_rng(0).bytes(2000))


def dangle(path):
    path.unlink()
    path.symlink_to("nowhere")


@pytest.mark.parametrize("damage", [truncate, empty, garble, dangle])
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_damaged_file_is_named_and_refused_or_left_out(tmp_path, ending, damage):
    bad = four_images(tmp_path / "in", ending)
    damage(bad)
    asked = [f"--input={bad.parent}", f"--out={tmp_path / 's'}"]
    assert launch("prepare", *asked).is_refusal(bad.name, "1 of its files cannot be used", "--skip_bad")
    assert not (tmp_path / "s").exists()
    run = launch("prepare", *asked, "--skip_bad")
    assert run.status == 0
    assert "left out 1 files" in run.said and bad.name in run.said
    assert len(Store.open(tmp_path / "s")) == 3


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_flipped_bit_never_ends_in_a_traceback(tmp_path, ending):
    bad = four_images(tmp_path / "in", ending)
    whole = bad.read_bytes()
    rng = np.random.default_rng(0)
    places = [*range(0, min(len(whole), 360), 24), *rng.integers(0, len(whole), 12).tolist()]
    size = ["--size=24,24"] if not ending.startswith("nii") else []
    refused = 0
    for place in places:
        bad.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << int(rng.integers(8)))]) + whole[place + 1 :])
        run = launch("prepare", f"--input={bad.parent}", f"--out={tmp_path / 's'}", *size)
        refused += run.status == 2 and run.is_refusal()
        assert run.status in (0, 2)
        shutil.rmtree(tmp_path / "s", ignore_errors=True)
        shutil.rmtree(tmp_path / "s.partial", ignore_errors=True)
    assert refused or ending not in ("nii.gz", "png", "npz")  # which have checksums


def objects(path):
    array = np.array([{"a": 1}], object)
    with path.open("wb") as file:
        (np.savez if path.suffix == ".npz" else np.save)(file, array)


def bare_pickle(path):
    path.write_bytes(pickle.dumps(np.zeros((24, 24))))


@pytest.mark.parametrize("make", [objects, bare_pickle])
@pytest.mark.parametrize("ending", ["npy", "npz"])
def test_pickles_are_never_opened(tmp_path, ending, make):
    bad = four_images(tmp_path / "in", ending)
    make(bad)
    run = launch("prepare", f"--input={bad.parent}", f"--out={tmp_path / 's'}")
    assert run.is_refusal(bad.name, "pickled", "save it as plain arrays")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("ending", ["nii.gz", "tif", "npz", "npy"])
def test_images_with_nan_or_inf_are_refused(tmp_path, ending, value):
    array = noise(1, 0, size=(24, 24))[0].astype(np.float32)
    write_image(tmp_path / "in" / f"a.{ending}", array)
    array[3, 4] = value
    write_image(tmp_path / "in" / f"b.{ending}", array)
    asked = [f"--input={tmp_path / 'in'}", f"--out={tmp_path / 's'}"]
    assert launch("prepare", *asked).is_refusal(f"b.{ending}", "NaN", "--skip_bad")
    assert launch("prepare", *asked, "--skip_bad").status == 0
    assert np.isfinite(Store.open(tmp_path / "s").images).all()


def test_a_series_of_volumes_is_refused(tmp_path):
    (tmp_path / "in").mkdir()
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4, 3), np.uint8), np.eye(4)), tmp_path / "in" / "fmri.nii.gz")
    run = launch("prepare", f"--input={tmp_path / 'in'}", f"--out={tmp_path / 's'}")
    assert run.is_refusal("fmri.nii.gz", "4 dimensions", "choose one volume")


def test_turned_and_flipped_affines_give_the_same_volume(tmp_path):
    ras = np.random.default_rng(0).integers(0, 256, (4, 5, 6), np.uint8)
    (tmp_path / "in").mkdir()
    stored = {"ras": (ras, "RAS"), "lps": (ras[::-1, ::-1], "LPS"), "sra": (ras.transpose(2, 0, 1), "SRA")}
    for name, (array, codes) in stored.items():
        affine = np.zeros((4, 4))
        for axis, code in enumerate(codes):
            affine["RAS".find(code) if code in "RAS" else "LPI".find(code), axis] = 1 if code in "RAS" else -1
        affine[3, 3] = 1
        nib.save(nib.Nifti1Image(array, affine), tmp_path / "in" / f"{name}.nii.gz")
    assert launch("prepare", f"--input={tmp_path / 'in'}", f"--out={tmp_path / 's'}").status == 0
    made = Store.open(tmp_path / "s")
    assert made.manifest.axes == ("R", "A", "S")
    for image in made.images:
        np.testing.assert_array_equal(image[..., 0], ras)


def mixed_sizes(root):
    pictures(root, {"a.png": noise(1, 0)[0], "b.png": noise(1, 0, size=(9, 9))[0]})


def mixed_channels(root):
    write_image(root / "a.nii", noise(1, 0)[0])
    rgb = np.zeros((8, 8, 1), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(rgb, np.eye(4)), root / "b.nii")


def mixed_kinds(root):
    write_image(root / "a.nii", noise(1, 0)[0])
    write_image(root / "b.png", noise(1, 0)[0])


def text_only(root):
    root.mkdir()
    (root / "readme.txt").write_text("no images here")


def a_text_file(root):
    root.write_text("no images here")


def unfinished(root):
    store(root, noise(3, 0)[..., None])
    for name in ("items.csv", "manifest.json"):
        (root / name).unlink()
    (root / "journal.jsonl").write_text("")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (mixed_sizes, ["2 different sizes (8x8, 9x9)", "--size=64,64"]),
        (mixed_channels, ["do not go together", "b.nii"]),
        (mixed_kinds, ["more than one kind", "--format"]),
        (text_only, ["holds no image that can be read"]),
        (a_text_file, ["holds no image that can be read"]),
        (Path.mkdir, ["holds no image that can be read"]),
        (lambda root: None, ["does not exist; give the folder or file"]),
        (lambda root: root.symlink_to("nowhere"), ["does not exist; give the folder or file"]),
        (unfinished, ["unfinished image store", "again"]),
    ],
)
def test_a_folder_that_cannot_be_one_set_is_refused(tmp_path, make, words):
    make(tmp_path / "in")
    run = launch("prepare", f"--input={tmp_path / 'in'}", f"--out={tmp_path / 's'}")
    assert run.is_refusal(str(tmp_path / "in"), *words)
    assert not list(tmp_path.glob("s*"))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--size=abc"], ["--size=abc", "whole numbers from 1 on"]),
        (["--size=0,0"], ["--size=0,0", "whole numbers from 1 on"]),
        (["--size=8.5,8"], ["--size=8.5,8", "whole numbers from 1 on"]),
        (["--size=8,8,8"], ["--size has 3 numbers", "2 spatial axes"]),
        (["--size=999999,999999"], ["GiB", "smaller --size"]),
        (["--window=5,1"], ["--window=5,1", "the smaller one first"]),
        (["--window=5"], ["--window=5", "two numbers"]),
        (["--window=nan,5"], ["--window=nan,5", "two numbers"]),
        (["--window=1,5", "--range=own"], ["--window and --range=own both", "give one"]),
        (["--range=mine"], ["--range=mine", "auto|own|type"]),
        (["--pad=white"], ["--pad=white", "background|middle"]),
        (["--pad=middle"], ["--pad=middle", "--fit=stretch fills nothing up"]),
        (["--centres_in=mm"], ["--centres_in=mm", "--centres, which is not given"]),
        (["--centres=nowhere.csv"], ["--centres needs the size", "--size=64,64,64"]),
        (["--centres=nowhere.csv", "--size=8", "--fit=crop"], ["--fit=crop does not apply", "leave it out"]),
        (["--centres=nowhere.csv", "--size=8"], ["--centres=nowhere.csv cannot be read", "give a csv"]),
        (["--window=-inf,5"], ["--window=-inf,5", "two numbers"]),
        (["--spacing_mm=1,nan"], ["--spacing_mm=1,nan", "numbers from 1e-06 on"]),
        (["--spacing_mm=1,inf"], ["--spacing_mm=1,inf", "numbers from 1e-06 on"]),
        (["--spacing_mm=1,1"], ["does not say its spacing"]),
        (["--format=jpg"], ["--format=jpg", "<auto|brats|nifti|dicom|images|array|mrnet|store>"]),
        (["--format=brats"], ["no BraTS case"]),
        (["--fit=squeeze"], ["--fit=squeeze", "stretch|crop|pad|centre"]),
        (["--patients=-1"], ["--patients=-1", "non-negative"]),
        (["--patients=99"], ["--patients=99, but there are 6 patients"]),
        (["--heldout_patients=-1"], ["--heldout_patients=-1", "non-negative"]),
        (["--heldout_patients=2.5"], ["--heldout_patients=2.5", "a whole number, or a share below 1"]),
        (["--heldout_patients=nan"], ["--heldout_patients=nan", "a whole number, or a share below 1"]),
        (["--heldout_patients=inf"], ["--heldout_patients=inf", "a whole number, or a share below 1"]),
        (["--heldout_patients=6"], ["--heldout_patients=6 of 6 patients", "both need at least one"]),
        (["--min_bright=nan"], ["--min_bright=nan", "must be a number"]),
        (["--min_bright=7"], ["--min_bright=7"]),
        (["--take_split=test"], ["'test'"]),
        (["--patient_regex=("], ["--patient_regex=(", "mend it"]),
        (["--patient_regex=x(.)"], ["--patient_regex=x(.)", "6 of 6 sources", "change it to fit all"]),
        (["--patient_csv=nowhere.csv"], ["nowhere.csv cannot be read", "give a csv"]),
        (["--patient_csv=a.csv", "--patient_regex=b"], ["not both"]),
        (["--sise=8,8"], ["Unknown command line flag 'sise'", "Did you mean", "size"]),
        (["--workdir=x"], ["Unknown command line flag 'workdir'", "see --help"]),
        (["stray"], ["'stray' is not a flag; write --flag=value"]),
    ],
)
def test_nonsense_in_flags_of_prepare(tmp_path, flags, words):
    root = pictures(tmp_path / "in", noise(6, 0))
    assert launch("prepare", f"--input={root}", f"--out={tmp_path / 's'}", *flags).is_refusal(*words)
    assert not (tmp_path / "s").exists()


def two_volumes(root):
    """Write x/a.nii and y/a.nii, of 4 x 5 x 6 voxels."""
    for seed, folder in enumerate("xy"):
        (root / folder).mkdir(parents=True)
        nib.save(nib.Nifti1Image(noise(1, seed, size=(4, 5, 6))[0], np.eye(4)), root / folder / "a.nii")


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("", ["has the columns (none)", "one of source, file, filename, image, and i,j,k or x,y,z"]),
        ("file,i,j\nx/a.nii,1,2", ["has the columns file, i, j", "i,j,k or x,y,z"]),
        ("i,j,k\n1,2,3", ["has the columns i, j, k", "source, file, filename, image"]),
        ("file,i,j,k", ["holds no point"]),
        ("file,i,j,k\nx/a.nii,1,2,3\nz/b.nii,1,2,3", ["line 3: 'z/b.nii': there is no such volume", "'x/a.nii'"]),
        ("file,i,j,k\na.nii,1,2,3", ["line 2: 'a.nii': 2 volumes have this name", "relative path"]),
        ("file,i,j,k\n,1,2,3", ["line 2: '': there is no such volume"]),
        ("file,i,j,k\nx/a.nii,1,two,3", ["line 2: the point of 'x/a.nii' is (1, two, 3)", "three numbers"]),
        ("file,i,j,k\nx/a.nii,1,2", ["line 2", "(1, 2, )", "three numbers"]),
        ("file;i;j;k\nx/a.nii;1,5;2;3", ["line 2", "(1,5, 2, 3)", "three numbers"]),
        ("file,i,j,k\nx/a.nii,nan,2,3", ["line 2", "(nan, 2, 3)", "three numbers"]),
        ("file,i,j,k\nx/a.nii,1,inf,3", ["line 2", "(1, inf, 3)", "three numbers"]),
        ("file,i,j,k\nx/a.nii,1,2,3\ny/a.nii,1,2,3\nx/a.nii,1.0,2,3", ["line 4: the same point", "in line 2"]),
        ("file,i,j,k\ny/a.nii,4,0,0", ["line 2: the point (4, 0, 0) lies outside y/a.nii", "4 x 5 x 6 voxels"]),
        ("file,i,j,k\ny/a.nii,-1,0,0", ["line 2: the point (-1, 0, 0) lies outside y/a.nii", "--centres_in"]),
    ],
)
def test_a_table_that_does_not_fit_is_refused_by_its_line(tmp_path, table, words):
    two_volumes(tmp_path / "in")
    (tmp_path / "points.csv").write_text(table)
    asked = [f"--input={tmp_path / 'in'}", f"--out={tmp_path / 's'}", f"--centres={tmp_path / 'points.csv'}"]
    for skip in ([], ["--skip_bad"]):
        assert launch("prepare", *asked, "--size=2", *skip).is_refusal("points.csv", *words)
        assert not list(tmp_path.glob("s*"))


def test_points_in_mm_are_named_with_their_voxel(tmp_path):
    two_volumes(tmp_path / "in")
    (tmp_path / "points.csv").write_text("file,x,y,z\nx/a.nii,1,2,3\ny/a.nii,1,2,60")
    asked = [f"--input={tmp_path / 'in'}", f"--out={tmp_path / 's'}", f"--centres={tmp_path / 'points.csv'}"]
    run = launch("prepare", *asked, "--size=2,2,2", "--centres_in=mm")
    assert run.is_refusal("line 3: the point (1, 2, 60), voxel (1, 2, 60) lies outside y/a.nii")
    (tmp_path / "points.csv").write_text("file,i,j,k\nx/a.nii,1,2,3")
    assert launch("prepare", *asked, "--size=2,2,2", "--centres_in=mm").is_refusal(
        "has the columns", "x,y,z for points"
    )


def test_points_are_in_volumes_that_are_files(tmp_path):
    pictures(tmp_path / "in", {"a.png": noise(1, 0)[0]})
    np.save(tmp_path / "many.npy", noise(3, 0, size=(10, 10, 10)))
    (tmp_path / "points.csv").write_text("file,i,j,k\na.png,1,2,3")
    asked = [f"--out={tmp_path / 's'}", f"--centres={tmp_path / 'points.csv'}", "--size=2"]
    run = launch("prepare", f"--input={tmp_path / 'in'}", *asked)
    assert run.is_refusal("--centres needs volumes, but a.png gives images of two axes (row, column)")
    run = launch("prepare", f"--input={tmp_path / 'many.npy'}", *asked)
    assert run.is_refusal("--centres needs one file or folder a volume", "many.npy[0:3] holds several")


def test_required_flags_are_named(tmp_path):
    assert launch("prepare", f"--input={tmp_path}").is_refusal("--out")
    assert launch("prepare", f"--input={tmp_path}", "--out=").is_refusal("--out is empty; give a path")
    assert launch("prepare", "--input=", f"--out={tmp_path / 's'}").is_refusal("--input is empty; give a path")


@pytest.mark.parametrize("place", ["file", "file/s", "in/s", "in", "taken"])
def test_a_store_is_never_written_where_it_would_do_harm(tmp_path, place):
    root = pictures(tmp_path / "in", noise(3, 0))
    (tmp_path / "file").write_text("mine")
    (tmp_path / "taken").mkdir()
    before = files_below(tmp_path)
    words = {"in/s": "would be read as images", "file/s": "is a file, not a folder"}.get(place, "exists already")
    assert launch("prepare", f"--input={root}", f"--out={tmp_path / place}").is_refusal(
        f"--out={tmp_path / place}", words
    )
    assert files_below(tmp_path) == before
