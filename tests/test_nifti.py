"""The NIfTI reader: orientation, types and every way a file can be bad."""

import gzip
import itertools
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memjax.data.readers.base import RAS, BadFile, ReadOptions
from memjax.data.readers.nifti import Nifti, read_volume
from memjax.errors import UserError

REAL = Path(os.environ.get("MEMJAX_REAL_DATA", ""), "samples", "msd_hippocampus")
SHAPE = (3, 4, 5)


def ramp(dtype="int16", shape=SHAPE):
    """Values that are all different, so that no wrong order goes unseen."""
    return (np.arange(np.prod(shape)) - 7).reshape(shape).astype(dtype)


def save(path, array, affine=None, **header):
    image = nib.Nifti1Image(array, np.eye(4) if affine is None else affine)
    for key, value in header.items():
        image.header[key] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    return path


def read_one(path, **options):
    reader = Nifti(path, ReadOptions(**options))
    (unit,) = reader.scan().units
    spec = reader.probe(unit)
    images = reader.read(unit)
    assert spec.count == len(images)
    for image in images:
        assert image.image.shape == (*spec.space, len(spec.channels))
        assert image.image.dtype == spec.dtype
        assert image.image.flags.c_contiguous
    return spec, images


def bad(path, match):
    reader = Nifti(path, ReadOptions())
    (unit,) = reader.scan().units
    with pytest.raises(BadFile, match=match) as caught:
        reader.read(unit)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", ">i2", ">f4"])
def test_stored_types_are_kept_bit_for_bit(tmp_path, dtype):
    array = np.abs(ramp()).astype(dtype)
    spec, (image,) = read_one(save(tmp_path / "a.nii.gz", array))
    assert spec.dtype == np.dtype(dtype).newbyteorder("=")
    assert (spec.axes, spec.channels) == (RAS, ("grey",))
    np.testing.assert_array_equal(image.image[..., 0], array)


@pytest.mark.parametrize("dtype", ["float64", "int32", "uint32"])
def test_wide_types_become_float32(tmp_path, dtype):
    array = np.abs(ramp()).astype(dtype)
    spec, (image,) = read_one(save(tmp_path / "a.nii", array))
    assert spec.dtype == np.float32
    np.testing.assert_array_equal(image.image[..., 0], array)


def test_every_axis_aligned_affine_comes_out_the_same(tmp_path):
    """The same head stored in all 48 ways reads as one array and one spacing."""
    truth, spacing = ramp(), (1.0, 2.0, 3.5)
    for axes in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            stored = truth.transpose(axes)[tuple(slice(None, None, sign) for sign in signs)]
            affine = np.eye(4)
            affine[:3, :3] = 0
            for place, (axis, sign) in enumerate(zip(axes, signs, strict=True)):
                affine[axis, place] = sign * spacing[axis]
            spec, (image,) = read_one(save(tmp_path / "a.nii", stored, affine))
            assert spec.spacing_mm == pytest.approx(spacing)
            np.testing.assert_array_equal(image.image[..., 0], truth)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_oblique_affines_agree_with_nibabel(tmp_path_factory, seed):
    rng = np.random.default_rng(seed)
    affine = np.eye(4)
    affine[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0] * rng.uniform(0.5, 3, 3)
    path = save(tmp_path_factory.mktemp("oblique") / "a.nii", ramp(), affine)
    spec, (image,) = read_one(path)
    canonical = nib.as_closest_canonical(nib.load(path))
    np.testing.assert_array_equal(image.image[..., 0], np.asanyarray(canonical.dataobj))
    assert spec.spacing_mm == pytest.approx(canonical.header.get_zooms(), rel=1e-5)


def test_scaling_is_applied_as_float32(tmp_path):
    array = ramp()
    path = save(tmp_path / "a.nii.gz", array)
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[112:120] = np.array([0.5, -1024], "<f4").tobytes()  # scl_slope, scl_inter
    path.write_bytes(gzip.compress(content))
    spec, (image,) = read_one(path)
    assert spec.dtype == np.float32
    np.testing.assert_array_equal(image.image[..., 0], array * 0.5 - 1024)
    np.testing.assert_array_equal(image.image[..., 0], nib.load(path).get_fdata())


def test_without_qform_and_sform_nibabels_default_holds(tmp_path):
    path = save(tmp_path / "a.nii", ramp(), np.diag([2.0, 3.0, 4.0, 1.0]))
    image = nib.load(path)
    image.set_sform(None, 0)
    image.set_qform(None, 0)
    nib.save(image, tmp_path / "b.nii")
    spec, (read,) = read_one(tmp_path / "b.nii")
    np.testing.assert_array_equal(read.image[..., 0], ramp()[::-1])  # grows towards the left
    assert spec.spacing_mm == (2.0, 3.0, 4.0)


def test_units_of_length_are_heeded(tmp_path):
    path = save(tmp_path / "a.nii", ramp(), np.diag([100.0, 200.0, 300.0, 1.0]))
    image = nib.load(path)
    image.header.set_xyzt_units("micron")
    nib.save(image, tmp_path / "b.nii")
    assert read_one(tmp_path / "b.nii")[0].spacing_mm == pytest.approx((0.1, 0.2, 0.3))


def test_nifti_2_misnamed_gzip_and_several_gzip_members(tmp_path):
    nib.save(nib.Nifti2Image(ramp(), np.eye(4)), tmp_path / "two.nii")
    content = (tmp_path / "two.nii").read_bytes()
    (tmp_path / "plain.nii.gz").write_bytes(content)
    (tmp_path / "zipped.nii").write_bytes(gzip.compress(content))
    (tmp_path / "blocks.nii.gz").write_bytes(gzip.compress(content[:600]) + gzip.compress(content[600:]))
    for path in sorted(tmp_path.iterdir()):
        np.testing.assert_array_equal(read_one(path)[1][0].image[..., 0], ramp())


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 1), (3, 4, 1, 1), (3, 4, 1, 1, 1)])
def test_one_slice_is_a_volume_of_depth_one(tmp_path, shape):
    path = save(tmp_path / "a.nii", ramp(shape=shape))
    spec, _ = read_one(path)
    assert spec.space == (3, 4, 1)
    spec, (image,) = read_one(path, layout="slices")
    assert (spec.space, spec.axes, image.suffix) == ((3, 4), ("R", "A"), "#0")


@pytest.mark.parametrize(("plane", "axis", "axes"), [("sagittal", 0, "AS"), ("coronal", 1, "RS"), ("axial", 2, "RA")])
def test_slices_carry_their_index_in_ras(tmp_path, plane, axis, axes):
    array = ramp()
    path = save(tmp_path / "a.nii", array, np.diag([-1.0, -2.0, -3.0, 1.0]))
    spec, images = read_one(path, layout="slices", plane=plane)
    assert spec.axes == tuple(axes)
    assert spec.spacing_mm == tuple({"R": 1.0, "A": 2.0, "S": 3.0}[letter] for letter in axes)
    assert [(image.suffix, image.slice) for image in images] == [(f"#{z}", z) for z in range(SHAPE[axis])]
    for image in images:
        np.testing.assert_array_equal(image.image[..., 0], array[::-1, ::-1, ::-1].take(image.slice, axis))


def test_rgb_voxels_become_three_channels(tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (*SHAPE, 3)).astype(np.uint8)
    voxels = np.empty(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    for channel, name in enumerate("RGB"):
        voxels[name] = colours[..., channel]
    path = save(tmp_path / "a.nii.gz", voxels, np.diag([1.0, -1.0, 1.0, 1.0]))
    spec, (image,) = read_one(path)
    assert spec.channels == ("red", "green", "blue")
    np.testing.assert_array_equal(image.image, colours[:, ::-1])
    _, (grey,) = read_one(path, colour="grey")
    luma = colours[:, ::-1] @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(grey.image[..., 0], luma, atol=0.51)
    spec, (image,) = read_one(save(tmp_path / "b.nii", ramp()), colour="rgb")
    assert spec.channels == ("red", "green", "blue")


def test_series_of_volumes_are_refused_with_their_shape(tmp_path):
    path = save(tmp_path / "a.nii", ramp(shape=(3, 4, 5, 2)))
    bad(path, r"4 dimensions \(3, 4, 5, 2\).*choose one volume")
    reader = Nifti(path, ReadOptions())
    with pytest.raises(BadFile, match="choose one volume"):
        reader.probe(reader.scan().units[0])


def test_voxels_that_are_no_numbers_are_counted(tmp_path):
    array = ramp("float32")
    array[0, 0, 0], array[1, 1, 1] = np.nan, np.inf
    bad(save(tmp_path / "a.nii", array), "holds 2 NaN or infinite voxels of 60")
    bad(save(tmp_path / "b.nii", np.full(SHAPE, 1e300)), "holds 60 NaN or infinite")
    bad(save(tmp_path / "c.nii", ramp("complex64")), "complex64")


@pytest.mark.parametrize(
    ("affine", "match"),
    [(np.diag([1.0, 1.0, 0.0, 1.0]), "singular"), (np.diag([1.0, np.nan, 1.0, 1.0]), "NaN")],
)
def test_broken_affines_are_refused(tmp_path, affine, match):
    path = save(tmp_path / "a.nii", ramp())
    content = bytearray(path.read_bytes())
    content[280:328] = affine[:3].astype("<f4").tobytes()  # srow_x, srow_y, srow_z
    path.write_bytes(content)
    bad(path, match)


def test_small_voxels_are_no_singular_affine(tmp_path):
    assert read_one(save(tmp_path / "a.nii", ramp(), np.diag([1e-3, 1e-3, 1e-3, 1.0])))[0].space == SHAPE


def test_cut_files_are_refused(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, SHAPE).astype(np.uint8)
    for name in ("a.nii.gz", "a.nii"):
        path = save(tmp_path / name, noise)
        content = path.read_bytes()
        for length in (0, 1, 3, 100, len(content) // 2, len(content) - 9, len(content) - 1):
            path.write_bytes(content[:length])
            bad(path, "cut off|damaged|no readable NIfTI")
        path.write_bytes(b"not an image at all, but long enough" * 20)
        bad(path, "no readable NIfTI")


def test_every_flipped_byte_of_a_gzip_stream_is_found(tmp_path):
    """Deflate stream, CRC and length alike; the ten bytes before them carry no content."""
    path = save(tmp_path / "a.nii.gz", np.random.default_rng(0).integers(0, 255, SHAPE).astype(np.uint8))
    content = gzip.compress(gzip.decompress(path.read_bytes()))
    for place in [*range(10, len(content) - 8, 7), *range(len(content) - 8, len(content))]:
        flipped = bytearray(content)
        flipped[place] ^= 0x10
        path.write_bytes(flipped)
        bad(path, "damaged|cut off")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 347), st.integers(1, 255))
def test_a_damaged_header_never_ends_in_a_traceback(tmp_path_factory, place, mask):
    path = save(tmp_path_factory.mktemp("header") / "a.nii", ramp())
    content = bytearray(path.read_bytes())
    content[place] ^= mask
    path.write_bytes(content)
    reader = Nifti(path, ReadOptions())
    (unit,) = reader.scan().units
    try:
        spec = reader.probe(unit)
        (image,) = reader.read(unit)
    except BadFile:
        return
    assert image.image.shape == (*spec.space, 1)


def test_scan_leaves_masks_out_and_says_so(tmp_path):
    for name in ("imagesTr/a_10.nii.gz", "imagesTr/a_2.nii.gz", "labelsTr/a_2.nii.gz", "train/deep/b.nii", ".c.nii"):
        save(tmp_path / name, ramp())
    scan = Nifti(tmp_path, ReadOptions()).scan()
    assert [unit.name for unit in scan.units] == ["imagesTr/a_2.nii.gz", "imagesTr/a_10.nii.gz", "train/deep/b.nii"]
    assert [unit.split for unit in scan.units] == ["", "", "train"]
    assert [entry["source"] for entry in scan.left_out] == ["labelsTr/a_2.nii.gz"]
    assert len(Nifti(tmp_path, ReadOptions(with_masks=True)).scan().units) == 4


def test_scan_says_what_it_missed(tmp_path):
    with pytest.raises(UserError, match="holds no NIfTI file"):
        Nifti(tmp_path, ReadOptions()).scan()
    save(tmp_path / "a_mask.nii", ramp())
    with pytest.raises(UserError, match="--with_masks"):
        Nifti(tmp_path, ReadOptions()).scan()
    with pytest.raises(UserError, match="--layout"):
        Nifti(tmp_path, ReadOptions(layout="images")).scan()


def test_a_file_that_went_away_is_a_bad_file(tmp_path):
    path = save(tmp_path / "a.nii.gz", ramp())
    reader = Nifti(tmp_path, ReadOptions())
    (unit,) = reader.scan().units
    path.unlink()
    for method in (reader.probe, reader.read):
        with pytest.raises(BadFile, match="No such file"):
            method(unit)


def test_threads_read_the_same(tmp_path):
    for index in range(8):
        save(tmp_path / f"{index}.nii.gz", ramp() + index)
    reader = Nifti(tmp_path, ReadOptions())
    with ThreadPoolExecutor(8) as pool:
        images = list(pool.map(reader.read, reader.scan().units))
    for index, (image,) in enumerate(images):
        np.testing.assert_array_equal(image.image[..., 0], ramp() + index)


@pytest.mark.skipif(not REAL.is_dir(), reason="MEMJAX_REAL_DATA is not set")
def test_the_hippocampus_sample_reads_as_nibabel_does():
    reader = Nifti(REAL, ReadOptions())
    scan = reader.scan()
    assert (len(scan.units), len(scan.left_out)) == (12, 12)
    for unit in scan.units:
        _, volume = read_volume(unit.files[0])
        canonical = nib.as_closest_canonical(nib.load(unit.files[0]))
        np.testing.assert_array_equal(volume[..., 0], np.asanyarray(canonical.dataobj))
        assert reader.probe(unit).spacing_mm == (1.0, 1.0, 1.0)
