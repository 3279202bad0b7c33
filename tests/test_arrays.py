import io
import os
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memjax.data.readers import arrays as arrays_module
from memjax.data.readers.array_axes import array_axes, counts_items
from memjax.data.readers.arrays import Arrays
from memjax.data.readers.base import BadFile, Image, Reader, ReadOptions
from memjax.errors import UserError


def noise(*shape: int, dtype=np.uint8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 100, shape).astype(dtype)


def read_all(reader: Arrays) -> dict[str, Image]:
    """Read a whole input by source, and check each unit against its `probe` and the promise of unique names."""
    units = reader.scan().units
    assert len({unit.name for unit in units}) == len(units)
    images = {}
    for unit in units:
        spec, read = reader.probe(unit), reader.read(unit)
        assert len(read) == spec.count
        for image in read:
            assert image.image.shape == (*spec.space, len(spec.channels)) and image.image.dtype == spec.dtype
            assert len(spec.axes) == len(spec.space)
            assert image.source not in images
            images[image.source] = image
    return images


def read_one(path: Path, **options) -> dict[str, np.ndarray]:
    return {source: image.image for source, image in read_all(Arrays(path, ReadOptions(**options))).items()}


# How shapes are read.


@pytest.mark.parametrize(
    ("shape", "has_items", "space", "channels", "channel_axis"),
    [
        ((50, 28, 30), True, (28, 30), 1, None),
        ((50, 28, 30, 3), True, (28, 30), 3, 2),
        ((50, 3, 28, 30), True, (28, 30), 3, 0),
        ((50, 5, 28, 8), True, (5, 28), 8, 2),
        ((50, 24, 28, 30), True, (24, 28, 30), 1, None),
        ((50, 24, 28, 30, 4), True, (24, 28, 30), 4, 3),
        ((50, 4, 24, 28, 30), True, (24, 28, 30), 4, 0),
        ((28, 30), False, (28, 30), 1, None),
        ((28, 30, 3), False, (28, 30), 3, 2),
        ((5, 28, 30), False, (5, 28, 30), 1, None),
        ((24, 28, 30, 2), False, (24, 28, 30), 2, 3),
        ((2, 24, 28, 30), False, (24, 28, 30), 2, 0),
    ],
)
def test_the_table_of_axes(shape, has_items, space, channels, channel_axis):
    axes = array_axes(shape, has_items=has_items, layout="auto")
    assert (axes.space, axes.channels, axes.channel_axis) == (space, channels, channel_axis)
    assert axes.names == (("depth", "row", "column") if len(space) == 3 else ("row", "column"))
    item = np.zeros(shape[1:] if has_items else shape)
    assert axes.channels_last(item).shape == (*space, channels)


def test_the_user_can_ask_for_volumes():
    assert array_axes((9, 20, 20, 8), has_items=True, layout="volumes").space == (20, 20, 8)
    with pytest.raises(BadFile, match="no volumes"):
        array_axes((9, 20, 20), has_items=True, layout="volumes")


@pytest.mark.parametrize("shape", [(9, 20), (9, 20, 20, 20, 20), (20,) * 6])
def test_shapes_outside_the_table_are_bad(shape):
    with pytest.raises(BadFile, match="--array_axis"):
        array_axes(shape, has_items=True, layout="auto")


def test_a_lone_array_counts_items_unless_it_is_one_picture_or_volume():
    assert counts_items((50, 28, 28), "auto") and counts_items((50, 28, 28, 3), "auto")
    assert not counts_items((28, 28), "auto") and not counts_items((28, 28, 3), "auto")
    assert not counts_items((50, 28, 28), "volumes")


# Files and folders.


def test_a_lone_npy_counts_items(tmp_path):
    stack = noise(7, 9, 10)
    np.save(tmp_path / "a.npy", stack)
    for root in (tmp_path, tmp_path / "a.npy"):
        images = read_one(root)
        assert list(images) == [f"a.npy#{i}" for i in range(7)]
        assert all(np.array_equal(images[f"a.npy#{i}"][..., 0], stack[i]) for i in range(7))


def test_channels_first_are_moved_last(tmp_path):
    stack = noise(4, 3, 9, 10)
    np.save(tmp_path / "a.npy", np.asfortranarray(stack))
    assert np.array_equal(read_one(tmp_path)["a.npy#2"], np.moveaxis(stack[2], 0, -1))


def test_the_arrays_of_a_folder_are_one_image_each(tmp_path):
    for name, array in {
        "train/a/10.npy": noise(9, 10),
        "train/a/9.npy": noise(9, 10),
        "b_mask.npy": noise(9, 10),
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / name, array)
    reader = Arrays(tmp_path, ReadOptions())
    assert isinstance(reader, Reader)
    scan = reader.scan()
    assert [(unit.name, unit.split, unit.label, unit.rows) for unit in scan.units] == [
        ("train/a/9.npy", "train", "a", None),
        ("train/a/10.npy", "train", "a", None),
    ]
    assert [entry["source"] for entry in scan.left_out] == ["b_mask.npy"]
    assert np.array_equal(read_one(tmp_path)["train/a/9.npy"][..., 0], noise(9, 10))
    assert len(read_one(tmp_path, with_masks=True)) == 3


def test_the_user_says_what_the_first_axis_counts(tmp_path):
    for name in "ab":
        np.save(tmp_path / f"{name}.npy", noise(12, 9, 10))
    assert list(read_one(tmp_path, array_axis="items"))[::11] == ["a.npy#0", "a.npy#11", "b.npy#10"]
    assert read_one(tmp_path)["b.npy"].shape == (12, 9, 10, 1)
    assert read_one(tmp_path / "a.npy", array_axis="space")["a.npy"].shape == (12, 9, 10, 1)


def test_volumes_are_cut_along_their_first_axis_of_space(tmp_path):
    volumes = noise(3, 11, 9, 10)
    np.save(tmp_path / "a.npy", volumes)
    for layout in ("slices", "images"):
        reader = Arrays(tmp_path, ReadOptions(layout=layout))
        images = read_all(reader)
        assert reader.probe(reader.scan().units[0]).axes == ("row", "column")
        assert len(images) == 33 and images["a.npy#2/10"].slice == 10
        assert np.array_equal(images["a.npy#2/10"].image[..., 0], volumes[2, 10])


def test_a_file_that_is_one_volume_is_cut_too(tmp_path):
    np.save(tmp_path / "a.npy", noise(11, 9, 10))
    images = read_one(tmp_path, array_axis="space", layout="slices")
    assert list(images) == [f"a.npy#{z}" for z in range(11)]


@pytest.mark.parametrize("run_bytes", [1, 500, 5000, 1 << 26])
def test_runs_of_rows_are_whole_and_in_order(tmp_path, monkeypatch, run_bytes):
    monkeypatch.setattr(arrays_module, "_RUN_BYTES", run_bytes)
    stack = noise(234, 4, 10)
    np.savez(tmp_path / "one.npz", images=stack)
    np.savez(tmp_path / "two.npz", train_images=stack, test_images=stack[::-1])
    one, two = read_one(tmp_path / "one.npz"), read_one(tmp_path / "two.npz")
    assert list(one) == [f"one.npz#{i}" for i in range(234)]
    assert list(two) == [f"two.npz#{part}_images/{i}" for part in ("train", "test") for i in range(234)]
    assert all(np.array_equal(image[..., 0], stack[i]) for i, image in enumerate(one.values()))
    assert np.array_equal(two["two.npz#test_images/0"][..., 0], stack[233])


# Number types.


@pytest.mark.parametrize(
    ("dtype", "kept"),
    [
        ("u1", "u1"),
        ("<u2", "u2"),
        (">u2", "u2"),
        (">i2", "i2"),
        ("i1", "i2"),
        ("i4", "f4"),
        ("i8", "f4"),
        ("u4", "f4"),
        ("f2", "f4"),
        ("f4", "f4"),
        (">f8", "f4"),
    ],
)
def test_number_types(tmp_path, dtype, kept):
    stack = noise(3, 9, 10, dtype=dtype)
    np.save(tmp_path / "a.npy", stack)
    image = read_one(tmp_path)["a.npy#1"]
    assert image.dtype == np.dtype(kept) and np.array_equal(image[..., 0], stack[1])


def test_booleans_become_0_and_255(tmp_path):
    stack = noise(3, 9, 10) > 50
    np.save(tmp_path / "a.npy", stack)
    assert np.array_equal(read_one(tmp_path)["a.npy#1"][..., 0], np.where(stack[1], 255, 0))


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_nan_and_inf_are_bad_and_the_row_is_named(tmp_path, value):
    stack = noise(30, 9, 10, dtype=np.float64)
    stack[17, 3, 4] = value
    np.save(tmp_path / "a.npy", stack)
    with pytest.raises(BadFile, match="NaN or Inf values in row 17"):
        read_one(tmp_path)


# What an .npz tells.


def test_medmnist(tmp_path):
    parts = {"train": 5, "val": 3, "test": 2}
    content = {f"{part}_images": noise(n, 28, 28, seed=n) for part, n in parts.items()}
    content |= {f"{part}_labels": np.arange(2 * n).reshape(n, 2) for part, n in parts.items()}
    np.savez_compressed(tmp_path / "pneumoniamnist.npz", **content)
    reader = Arrays(tmp_path, ReadOptions())
    assert [unit.split for unit in reader.scan().units] == ["train", "val", "test"]
    images = read_all(reader)
    assert len(images) == 10
    image = images["pneumoniamnist.npz#val_images/2"]
    assert image.label == "4;5" and np.array_equal(image.image[..., 0], content["val_images"][2])


def test_companions(tmp_path):
    np.savez(
        tmp_path / "a.npz",
        slices=noise(4, 9, 10, 5),
        masks=noise(4, 9, 10),
        other=noise(4, 9, 10),
        Patient=np.array([b"a", b"a", b"b", b"c"]),
        z=np.array([18, 20, 1, 2], np.int16),
        labels=np.array([[1], [0], [1], [1]], np.uint8),
        split=np.array(["training", "Valid", "test", "mine"]),
        subject=np.array([1]),
        channels=np.array(["T1", "T1Gd", "T2", "FLAIR", "seg"]),
    )
    reader = Arrays(tmp_path, ReadOptions())
    scan = reader.scan()
    spec = reader.probe(scan.units[0])
    assert spec.channels == ("T1", "T1Gd", "T2", "FLAIR", "seg") and spec.label_channels == (4,)
    told = [(image.patient, image.slice, image.label, image.split) for image in read_all(reader).values()]
    assert told == [("a", 18, "1", "train"), ("a", 20, "0", "val"), ("b", 1, "1", "test"), ("c", 2, "1", "mine")]
    assert [entry["source"] for entry in scan.left_out] == ["a.npz#masks", "a.npz#other"]
    assert "a.npz#masks/3" in read_one(tmp_path, with_masks=True)


def test_the_only_array_with_three_axes_is_the_images(tmp_path):
    np.savez(tmp_path / "a.npz", anything=noise(4, 9, 10), ages=np.arange(4))
    assert list(read_one(tmp_path)) == [f"a.npz#{i}" for i in range(4)]
    np.savez(tmp_path / "a.npz", anything=noise(4, 9, 10), else_=noise(4, 9, 10))
    with pytest.raises(BadFile, match=r"call one `images` \(it holds anything \[4, 9, 10\], else_"):
        read_one(tmp_path)


def test_a_folder_of_npz_with_a_volume_each(tmp_path):
    for name in "ab":
        np.savez(tmp_path / f"{name}.npz", data=noise(12, 9, 10))
    assert {name: image.shape for name, image in read_one(tmp_path).items()} == {
        "a.npz": (12, 9, 10, 1),
        "b.npz": (12, 9, 10, 1),
    }


def test_an_npz_is_decompressed_once_whatever_the_threads(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays_module, "_RUN_BYTES", 500)
    loads = []
    read_npz = arrays_module.read_npz
    monkeypatch.setattr(arrays_module, "read_npz", lambda file, key: loads.append(key) or read_npz(file, key))
    stack = noise(200, 9, 10)
    np.savez_compressed(tmp_path / "a.npz", images=stack, patient=np.arange(200))
    reader = Arrays(tmp_path, ReadOptions())
    with ThreadPoolExecutor(4) as pool:
        images = [image for part in pool.map(reader.read, reader.scan().units) for image in part]
    assert np.array_equal(np.stack([image.image[..., 0] for image in images]), stack)
    assert [image.patient for image in images] == [str(i) for i in range(200)]
    assert sorted(loads) == ["images", "patient"]


# Bad files.


def test_pickles_are_refused_and_never_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "boom"),)

    bomb = np.array([Bomb()], object)
    np.save(tmp_path / "a.npy", bomb)
    np.savez(tmp_path / "b.npz", images=bomb)
    np.savez(tmp_path / "c.npz", images=noise(1, 9, 10), patient=bomb)
    bomb.dump(tmp_path / "d.npy")
    for name in ("a.npy", "b.npz", "c.npz", "d.npy"):
        with pytest.raises(BadFile, match="pickled Python objects, which can run code"):
            read_one(tmp_path / name)
    assert not (tmp_path / "boom").exists()


def test_other_bad_files_say_what_is_wrong(tmp_path):
    (tmp_path / "empty.npy").touch()
    (tmp_path / "text.npz").write_text("no zip at all")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "link.npy").symlink_to(tmp_path / "gone.npy")
    np.save(tmp_path / "text.npy", np.full((4, 9, 10), "x"))
    np.save(tmp_path / "record.npy", np.zeros((4, 9, 10), [("a", "u1")]))
    with pytest.warns(UserWarning, match="format 3.0"):
        np.save(tmp_path / "version.npy", np.zeros((4, 9, 10), [("λ", "u1")]))
    np.save(tmp_path / "hollow.npy", np.zeros((0, 9, 10)))
    np.savez(tmp_path / "letters.npz", images=noise(2, 9, 10), slice=np.array(["one", "two"]))
    with zipfile.ZipFile(tmp_path / "lies.npz", "w") as archive:
        head = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            head, {"descr": "|u1", "fortran_order": False, "shape": (10**6, 10**4, 10**3)}
        )
        archive.writestr("images.npy", head.getvalue() + bytes(10))
    expected = {
        "empty.npy": "is empty",
        "text.npz": "not a NumPy file",
        "folder": "does not exist",
        "text.npy": "values of type <U1",
        "record.npy": "values of type .*'a', 'u1'",
        "version.npy": "version 3.0 .records with named fields",
        "hollow.npy": "holds no values",
        "letters.npz": "numbers a slice 'one'",
        "lies.npz": "cut off: .1000000, 10000, 1000. uint8 needs",
    }
    for name, message in expected.items():
        with pytest.raises(BadFile, match=message):
            read_one(tmp_path / name)


@pytest.mark.parametrize("kind", ["npy", "npz", "compressed.npz"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_is_never_a_traceback_and_in_npz_never_unnoticed(tmp_path, kind, data):
    path = tmp_path / f"a.{kind}"
    stack = noise(12, 9, 10)
    if kind == "npy":
        np.save(path, stack)
    else:
        (np.savez if kind == "npz" else np.savez_compressed)(path, images=stack)
    whole = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        del whole[data.draw(st.integers(0, len(whole) - 1)) :]
        is_noticed = True
    else:
        whole[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        is_noticed = kind != "npy"  # a .npy has no checksum
    path.write_bytes(whole)
    try:
        images = read_one(path)
    except BadFile:
        return
    assert not is_noticed or np.array_equal(np.stack(list(images.values()))[..., 0], stack)


def test_an_input_without_arrays_is_the_users_mistake(tmp_path):
    with pytest.raises(UserError, match=r"holds no \.npy, \.npz file"):
        Arrays(tmp_path, ReadOptions()).scan()
    np.save(tmp_path / "a_mask.npy", noise(9, 10))
    with pytest.raises(UserError, match="with_masks"):
        Arrays(tmp_path, ReadOptions()).scan()
    assert list(read_one(tmp_path / "a_mask.npy")) == ["a_mask.npy"]  # named by the user, so wanted


@pytest.mark.skipif("MEMJAX_REAL_DATA" not in os.environ, reason="MEMJAX_REAL_DATA is unset")
@pytest.mark.parametrize(
    ("name", "count", "shape", "patients"),
    [
        ("cxr28_pneumoniamnist_trainval", 5232, (28, 28, 1), 0),
        ("cxr64_kermany_trainval", 5232, (64, 64, 1), None),
        ("hippocampus48_dev", 167, (48, 64, 48, 1), 109),
        ("lgg64_dev", 1940, (64, 64, 3), 55),
        ("brats256_slices", 116, (256, 256, 5), 2),
    ],
)
def test_real_archives(name, count, shape, patients):
    images = read_all(Arrays(Path(os.environ["MEMJAX_REAL_DATA"]) / "dev" / f"{name}.npz", ReadOptions()))
    assert len(images) == count and {image.image.shape for image in images.values()} == {shape}
    if patients is not None:
        assert len({image.patient for image in images.values()} - {""}) == patients
