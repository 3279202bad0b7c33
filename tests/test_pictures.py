import io
import os
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from PIL import ImageFile, ImageOps

from memjax.data.readers.base import BadFile, Reader, ReadOptions
from memjax.data.readers.colour import to_grey
from memjax.data.readers.picture_files import read_header, read_pages, upright
from memjax.data.readers.pictures import Pictures
from memjax.errors import UserError

ROWS, COLUMNS = 20, 31
EXIF_ORIENTATION = 0x0112


def noise(*shape: int, dtype=np.uint8, seed=0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.normal(size=shape).astype(dtype)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype, endpoint=True)


GREY, COLOUR = noise(ROWS, COLUMNS), noise(ROWS, COLUMNS, 3, seed=1)


def save(path: Path, array: np.ndarray, mode: str | None = None, **keywords) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Pillow.fromarray(array)
    (picture.convert(mode) if mode else picture).save(path, **keywords)
    return path


def only(path: Path) -> np.ndarray:
    """Read a file of one page, and check that its header told what came."""
    header, pages = read_header(path), read_pages(path)
    assert len(pages) == header.pages == 1
    assert pages[0].shape == (header.rows, header.columns, header.channels)
    assert pages[0].dtype == header.dtype
    return pages[0].squeeze(-1) if header.channels == 1 else pages[0]


def read_all(reader: Pictures) -> dict[str, np.ndarray]:
    """Read a whole input, and check each unit against its `probe`."""
    images = {}
    for unit in reader.scan().units:
        spec, read = reader.probe(unit), reader.read(unit)
        assert len(read) == spec.count
        for image in read:
            assert image.image.shape == (*spec.space, len(spec.channels)) and image.image.dtype == spec.dtype
            assert len(spec.axes) == len(spec.space)
            images[unit.name + image.suffix] = image.image
    return images


# One file, every kind: the bits are kept.


def test_8_bit_grey_and_colour_are_exact(tmp_path):
    for ending in ("png", "bmp", "tif"):
        assert np.array_equal(only(save(tmp_path / f"grey.{ending}", GREY)), GREY)
        assert np.array_equal(only(save(tmp_path / f"colour.{ending}", COLOUR)), COLOUR)


def test_16_bit_png_keeps_its_bits(tmp_path):
    grey, colour = noise(ROWS, COLUMNS, dtype=np.uint16), noise(ROWS, COLUMNS, 4, dtype=np.uint16)
    for name, array in {"grey": grey, "la": colour[..., :2], "rgb": colour[..., :3], "rgba": colour}.items():
        (tmp_path / name).write_bytes(imagecodecs.png_encode(np.ascontiguousarray(array)))
    assert np.array_equal(only(tmp_path / "grey"), grey)
    assert np.array_equal(only(tmp_path / "la"), colour[..., 0])
    assert np.array_equal(only(tmp_path / "rgb"), colour[..., :3])
    assert np.array_equal(only(tmp_path / "rgba"), colour[..., :3])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "packbits"])
def test_tiff_keeps_its_type_under_any_compression(tmp_path, dtype, compression):
    if compression == "packbits" and np.dtype(dtype).kind == "f":
        compression = "zstd"
    array = noise(ROWS, COLUMNS, dtype=dtype)
    tifffile.imwrite(tmp_path / "a.tif", array, compression=compression, byteorder=">")
    assert np.array_equal(only(tmp_path / "a.tif"), array)


@pytest.mark.parametrize(
    ("dtype", "kept"),
    [(np.int8, np.int16), (np.int32, np.float32), (np.uint32, np.float32), (np.float64, np.float32), (bool, np.uint8)],
)
def test_other_tiff_types_become_one_of_the_stores(tmp_path, dtype, kept):
    array = GREY > 99 if dtype is bool else (GREY // 2).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack")
    read = only(tmp_path / "a.tif")
    assert read.dtype == kept and np.array_equal(read, array * (255 if dtype is bool else 1))


def test_tiff_planes_alpha_inverted_grey_and_palette(tmp_path):
    def written(array, **keywords) -> np.ndarray:
        tifffile.imwrite(tmp_path / "a.tif", array, **keywords)
        return only(tmp_path / "a.tif")

    rgba = noise(ROWS, COLUMNS, 4)
    planes = np.ascontiguousarray(np.moveaxis(COLOUR, -1, 0))
    palette = noise(3, 256, dtype=np.uint16)
    assert np.array_equal(written(planes, photometric="rgb", planarconfig="separate"), COLOUR)
    assert np.array_equal(written(rgba, photometric="rgb", extrasamples=["unassalpha"]), rgba[..., :3])
    assert np.array_equal(written(GREY, photometric="miniswhite"), 255 - GREY)
    assert np.array_equal(written(GREY, photometric="palette", colormap=palette), (palette.T >> 8)[GREY])
    cmyk = Pillow.fromarray(rgba, "CMYK")
    assert np.array_equal(written(rgba, photometric="separated"), np.asarray(cmyk.convert("RGB")))


def test_jpeg_inside_tiff(tmp_path):
    smooth = np.add.outer(np.arange(64), np.arange(48))[..., None].astype(np.uint8).repeat(3, -1)
    tifffile.imwrite(tmp_path / "ycbcr.tif", smooth, photometric="rgb", compression="jpeg")  # so it is stored
    save(tmp_path / "rgb.tif", smooth, compression="jpeg", quality=95)
    for name in ("ycbcr.tif", "rgb.tif"):
        assert np.abs(only(tmp_path / name).astype(int) - smooth).max() < 8


@pytest.mark.parametrize("keywords", [{}, {"subsampling": 0}, {"progressive": True}, {"keep_rgb": True}], ids=str)
def test_jpeg_is_as_pillow_decodes_it(tmp_path, keywords):
    path = save(tmp_path / "a.jpg", COLOUR, **keywords)
    with Pillow.open(path) as picture:
        assert np.array_equal(only(path), np.asarray(picture))


def test_a_grey_jpeg_is_the_same_whether_saved_with_one_channel_or_three(tmp_path):
    smooth = np.add.outer(3 * np.arange(50), np.arange(70)).astype(np.uint8)
    save(tmp_path / "one.jpg", smooth, quality=80)
    save(tmp_path / "three.jpg", smooth, "RGB", quality=80)
    images = read_all(Pictures(tmp_path, ReadOptions()))
    assert np.array_equal(images["one.jpg"], images["three.jpg"])


def test_a_jpeg_that_only_its_thumbnail_ends_is_bad(tmp_path):
    thumbnail = b"Exif\0\0" + encoded("jpeg")
    path = save(tmp_path / "a.jpg", noise(200, 200), exif=thumbnail)
    assert read_pages(path)[0].shape == (200, 200, 1)
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(BadFile, match="damaged or cut off"):
        read_pages(path)


def test_other_modes_of_pillow(tmp_path):
    rgb = Pillow.fromarray(COLOUR)
    rgba = Pillow.fromarray(noise(ROWS, COLUMNS, 4, seed=2))
    palette = rgb.quantize(16)
    bits = Pillow.fromarray(GREY > 127)
    palette.save(tmp_path / "p.png", transparency=bytes(range(16)))
    bits.save(tmp_path / "1.png")
    rgba.save(tmp_path / "rgba.png")
    Pillow.merge("LA", (rgba.getchannel(0), rgba.getchannel(3))).save(tmp_path / "la.png")
    rgb.convert("CMYK").save(tmp_path / "cmyk.jpg", quality=100)
    assert np.array_equal(only(tmp_path / "p.png"), np.asarray(palette.convert("RGB")))
    assert np.array_equal(only(tmp_path / "1.png"), np.where(GREY > 127, 255, 0))
    assert np.array_equal(only(tmp_path / "rgba.png"), np.asarray(rgba)[..., :3])
    assert np.array_equal(only(tmp_path / "la.png"), np.asarray(rgba)[..., 0])
    with Pillow.open(tmp_path / "cmyk.jpg") as cmyk:
        assert np.array_equal(only(tmp_path / "cmyk.jpg"), np.asarray(cmyk.convert("RGB")))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(tmp_path, orientation):
    exif = Pillow.Exif()
    exif[EXIF_ORIENTATION] = orientation
    expected = np.asarray(ImageOps.exif_transpose(_with_exif(Pillow.fromarray(COLOUR), exif)))
    assert np.array_equal(upright(COLOUR, orientation), expected)
    save(tmp_path / "a.png", COLOUR, exif=exif)
    assert np.array_equal(only(tmp_path / "a.png"), expected)
    tifffile.imwrite(tmp_path / "a.tif", COLOUR, extratags=[(274, 3, 1, orientation, True)])
    assert np.array_equal(only(tmp_path / "a.tif"), expected)
    save(tmp_path / "a.jpg", GREY, exif=exif)
    assert only(tmp_path / "a.jpg").shape == expected.shape[:2]


def _with_exif(picture: Pillow.Image, exif: Pillow.Exif) -> Pillow.Image:
    picture.info["exif"] = exif.tobytes()
    return picture


# Bad files.


KINDS = ["png", "png16", "jpeg", "jpeg-rgb", "jpeg-progressive", "bmp", "tif-none", "tif-lzw", "tif-zlib"]


def encoded(kind: str) -> bytes:
    if kind == "png16":
        return imagecodecs.png_encode(noise(ROWS, COLUMNS, 3, dtype=np.uint16))
    buffer = io.BytesIO()
    if kind.startswith("tif"):
        stack = noise(4, ROWS, COLUMNS, dtype=np.uint16)
        compression = kind.removeprefix("tif-").replace("none", "") or None
        tifffile.imwrite(buffer, stack, photometric="minisblack", compression=compression, metadata=None)
    elif kind.startswith("jpeg-"):
        Pillow.fromarray(COLOUR).save(buffer, "jpeg", progressive=kind == "jpeg-progressive")
    else:
        Pillow.fromarray(GREY).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_file_cut_anywhere_is_bad_or_has_lost_no_pixel(tmp_path, kind, data):
    whole, path = encoded(kind), tmp_path / "a"
    path.write_bytes(whole)
    expected = read_pages(path)
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    try:
        pages = read_pages(path)
    except BadFile:
        return
    assert len(pages) == len(expected) and all(map(np.array_equal, pages, expected))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_flipped_bit_is_never_a_traceback_and_in_png_never_unnoticed(tmp_path, kind, data):
    whole, path = bytearray(encoded(kind)), tmp_path / "a"
    path.write_bytes(whole)
    expected = read_pages(path)
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(whole)
    try:
        read_header(path)
        pages = read_pages(path)
    except BadFile:
        return
    assert not kind.startswith("png") or np.array_equal(pages[0], expected[0])


def test_half_a_jpeg_is_bad_and_pillow_is_not_told_to_pad(tmp_path):
    path = save(tmp_path / "a.jpg", noise(200, 200))
    path.write_bytes(path.read_bytes()[:-3000])
    assert read_header(path).rows == 200
    with pytest.raises(BadFile, match="damaged or cut off"):
        read_pages(path)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


def bomb() -> bytes:
    header = (60_000).to_bytes(4, "big") * 2 + bytes([1, 0, 0, 0, 0])
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    packed = [
        len(body).to_bytes(4, "big") + name + body + zlib.crc32(name + body).to_bytes(4, "big") for name, body in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def test_other_bad_files_say_what_is_wrong(tmp_path):
    frames = [Pillow.fromarray(GREY), Pillow.fromarray(255 - GREY)]
    frames[0].save(tmp_path / "moving.png", save_all=True, append_images=frames[1:])
    for name, array in {"mixed": GREY, "five": noise(ROWS, COLUMNS, 5), "complex": noise(9, 9) + 1j}.items():
        tifffile.imwrite(tmp_path / f"{name}.tif", array, photometric="minisblack", planarconfig="contig")
    tifffile.imwrite(tmp_path / "mixed.tif", GREY[1:], append=True)
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.jpg").write_text("this is no image")
    (tmp_path / "gif.png").write_bytes(b"GIF89a" + bytes(20))
    (tmp_path / "bomb.png").write_bytes(bomb())
    (tmp_path / "nowhere.png").symlink_to(tmp_path / "gone.png")
    expected = {
        "moving.png": "an animation",
        "mixed.tif": "2 pages of 2 different shapes",
        "five.tif": "5 x uint8 in MINISBLACK",
        "complex.tif": "values of type complex",
        "empty.png": "is empty",
        "text.jpg": "is not a PNG",
        "gif.png": "is not a PNG",
        "bomb.png": "60000 x 60000 pixels",
        "nowhere.png": "does not exist",
    }
    for name, message in expected.items():
        for look in (read_header, read_pages):
            with pytest.raises(BadFile, match=message):
                look(tmp_path / name)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_inf_are_bad(tmp_path, value):
    array = noise(ROWS, COLUMNS, dtype=np.float32)
    array[3, 4] = value
    tifffile.imwrite(tmp_path / "a.tif", array)
    with pytest.raises(BadFile, match="NaN or Inf"):
        read_all(Pictures(tmp_path, ReadOptions()))


# Folders.


def test_units_names_splits_labels_and_masks(tmp_path):
    for name in ("train/NORMAL/10.png", "train/NORMAL/9.png", "Valid/PNEUMONIA/影.png", "train/NORMAL/9_mask.png"):
        save(tmp_path / name, GREY)
    reader = Pictures(tmp_path, ReadOptions())
    assert isinstance(reader, Reader)
    scan = reader.scan()
    assert [(unit.name, unit.split, unit.label) for unit in scan.units] == [
        ("train/NORMAL/9.png", "train", "NORMAL"),
        ("train/NORMAL/10.png", "train", "NORMAL"),
        ("Valid/PNEUMONIA/影.png", "val", "PNEUMONIA"),
    ]
    assert [entry["source"] for entry in scan.left_out] == ["train/NORMAL/9_mask.png"]
    assert "with_masks" in scan.left_out[0]["reason"]
    assert len(Pictures(tmp_path, ReadOptions(with_masks=True)).scan().units) == 4


def test_an_input_without_pictures_is_the_users_mistake(tmp_path):
    (tmp_path / "a.txt").touch()
    with pytest.raises(UserError, match=r"holds no \.png, "):
        Pictures(tmp_path, ReadOptions()).scan()
    save(tmp_path / "a_mask.png", GREY)
    with pytest.raises(UserError, match="with_masks"):
        Pictures(tmp_path, ReadOptions()).scan()


def test_the_input_may_be_one_file(tmp_path):
    path = save(tmp_path / "a.png", GREY)
    assert list(read_all(Pictures(path, ReadOptions()))) == ["a.png"]


def test_grey_saved_as_colour_stays_grey(tmp_path):
    save(tmp_path / "a.png", GREY)
    save(tmp_path / "b.png", GREY, "RGB")
    tinted = np.stack([np.minimum(GREY, 240) + shift for shift in (0, 8, 3)], -1).astype(np.uint8)
    save(tmp_path / "c.png", tinted)
    reader = Pictures(tmp_path, ReadOptions())
    images = read_all(reader)
    assert not reader.is_coloured()
    assert np.array_equal(images["a.png"], GREY[..., None]) and np.array_equal(images["b.png"], GREY[..., None])
    assert np.array_equal(images["c.png"][..., 0], np.asarray(Pillow.fromarray(tinted).convert("L")))


def test_one_coloured_file_of_the_sample_makes_the_set_coloured(tmp_path):
    save(tmp_path / "a.png", GREY)
    save(tmp_path / "b.png", COLOUR)
    reader = Pictures(tmp_path, ReadOptions())
    images = read_all(reader)
    assert reader.is_coloured()
    assert np.array_equal(images["a.png"], np.repeat(GREY[..., None], 3, -1))
    assert np.array_equal(images["b.png"], COLOUR)


def test_the_user_decides_on_colour(tmp_path):
    save(tmp_path / "a.png", COLOUR)
    grey = Pictures(tmp_path, ReadOptions(colour="grey"))
    assert not grey.is_coloured()
    assert np.array_equal(read_all(grey)["a.png"][..., 0], np.asarray(Pillow.fromarray(COLOUR).convert("L")))
    save(tmp_path / "a.png", GREY)
    assert read_all(Pictures(tmp_path, ReadOptions(colour="rgb")))["a.png"].shape == (ROWS, COLUMNS, 3)


def test_a_coloured_file_that_the_sample_missed_is_bad(tmp_path):
    for number in range(70):
        save(tmp_path / f"{number}.png", GREY, "RGB")
    save(tmp_path / "1.png", COLOUR)  # the sample takes every second or third
    reader = Pictures(tmp_path, ReadOptions())
    assert not reader.is_coloured()
    with pytest.raises(BadFile, match="--colour=rgb"):
        reader.read(reader.scan().units[1])


@given(place=st.tuples(st.integers(0, ROWS - 1), st.integers(0, COLUMNS - 1), st.integers(0, 2)))
@settings(max_examples=25, deadline=None)
def test_one_value_off_is_noticed_anywhere(place):
    image = np.repeat(GREY[..., None], 3, -1)
    assert np.array_equal(to_grey(image)[0], GREY[..., None])
    image[place] ^= 128
    assert to_grey(image)[1]


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.float32])
def test_the_colour_rule_is_relative_to_the_range(dtype):
    full = 1.0 if dtype is np.float32 else np.iinfo(dtype).max
    image = np.zeros((2, 2, 3))
    image[0, 0] = full
    assert not to_grey(image.astype(dtype))[1]
    image[1, 1, 2] = full * 7 / 255
    assert not to_grey(image.astype(dtype))[1]
    image[1, 1, 2] = full * 9 / 255
    grey, was_coloured = to_grey(image.astype(dtype))
    assert was_coloured and grey.dtype == dtype
    assert grey[0, 0, 0] == pytest.approx(full) and grey[1, 1, 0] == pytest.approx(0.114 * full * 9 / 255, abs=0.6)


def test_pages_of_a_tiff_are_a_volume_or_slices(tmp_path):
    stack = noise(5, ROWS, COLUMNS, dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack", compression="lzw")
    for layout in ("auto", "volumes"):
        reader = Pictures(tmp_path, ReadOptions(layout=layout))
        assert reader.probe(reader.scan().units[0]).axes == ("row", "column", "slice")
        assert np.array_equal(read_all(reader)["a.tif"][..., 0], np.moveaxis(stack, 0, 2))
    for layout in ("slices", "images"):
        images = read_all(Pictures(tmp_path, ReadOptions(layout=layout)))
        assert list(images) == [f"a.tif#{z}" for z in range(5)]
        assert np.array_equal(images["a.tif#3"][..., 0], stack[3])


def test_pictures_of_a_folder_become_a_volume(tmp_path):
    for z in (10, 9, 1):
        save(tmp_path / f"train/sick/p1/{z}.png", np.full((4, 6), z, np.uint8))
        save(tmp_path / f"train/sick/p2/{z}.png", np.full((4, 6), z, np.uint8))
    save(tmp_path / "top.png", GREY)
    reader = Pictures(tmp_path, ReadOptions(layout="volumes"))
    units = {unit.name: (unit.split, unit.label) for unit in reader.scan().units}
    sick = ("train", "sick")
    assert units == {"*": ("", ""), "train/sick/p1/*": sick, "train/sick/p2/*": sick}
    images = read_all(reader)
    assert images["*"].shape == (ROWS, COLUMNS, 1, 1)
    assert images["train/sick/p1/*"].shape == (4, 6, 3, 1)
    assert images["train/sick/p1/*"][0, 0, :, 0].tolist() == [1, 9, 10]


def test_slices_that_differ_and_a_bad_slice_are_named(tmp_path):
    save(tmp_path / "1.png", GREY)
    save(tmp_path / "2.png", GREY[1:])
    reader = Pictures(tmp_path, ReadOptions(layout="volumes"))
    (unit,) = reader.scan().units
    for look in (reader.probe, reader.read):
        with pytest.raises(BadFile, match=r"first is 20 x 31 uint8, number 1 is 19 x 31"):
            look(unit)
    (tmp_path / "2.png").write_bytes(b"")
    with pytest.raises(BadFile, match=r"2\.png is empty"):
        reader.read(unit)


def test_reading_in_threads_gives_the_same_and_warns_of_nothing(tmp_path):
    for number in range(20):
        save(tmp_path / f"{number}.jpg", noise(50, 60, seed=number))
    reader = Pictures(tmp_path, ReadOptions())
    units = reader.scan().units
    with warnings.catch_warnings(), ThreadPoolExecutor(4) as pool:
        warnings.simplefilter("error")
        threaded = [images[0].image for images in pool.map(reader.read, units)]
    assert all(np.array_equal(image, reader.read(unit)[0].image) for image, unit in zip(threaded, units, strict=True))


@pytest.mark.skipif("MEMJAX_REAL_DATA" not in os.environ, reason="MEMJAX_REAL_DATA is unset")
def test_real_chest_x_rays_and_brain_slices():
    samples = Path(os.environ["MEMJAX_REAL_DATA"]) / "samples"
    chest = Pictures(samples / "kermany_original", ReadOptions())
    assert not chest.is_coloured() and len(read_all(chest)) == 18
    assert {unit.split for unit in chest.scan().units} == {"train"}
    brain = Pictures(samples / "lgg_tif", ReadOptions())
    assert brain.is_coloured() and len(read_all(brain)) == len(brain.scan().left_out) == 10
