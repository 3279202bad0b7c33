"""The image store: what goes in comes out, and nothing that interrupts its writing can damage it."""

import contextlib
import errno
import io
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from launching import ODD_NAMES, files_below, store

from memjax.data.manifest import DTYPES, Manifest
from memjax.data.store import NewItem, Store, StoreWriter, is_store
from memjax.digest import array_digest
from memjax.errors import UserError

MANIFEST = Manifest(axes=("row", "column"), channels=("grey",))
SHAPE = (4, 5, 1)
IMAGES = np.random.default_rng(0).integers(0, 256, (7, *SHAPE), np.uint8)


def writer(path, settings="a", shape=SHAPE, dtype="uint8"):
    return StoreWriter(path, shape=shape, dtype=dtype, settings=settings)


def new(i):
    return NewItem(image=IMAGES[i], source=f"{i}.png")


def write(path, names=range(7)):
    """Write all images, one a unit, taking up what is there."""
    with writer(path) as out:
        for i in names:
            if str(i) not in out.done:
                out.add(str(i), [new(i)])
        return out.finish(MANIFEST)


def interrupt(path, after=4):
    with contextlib.suppress(KeyboardInterrupt), writer(path) as out:
        for i in range(after):
            out.add(str(i), [new(i)])
        raise KeyboardInterrupt
    return path.with_name(path.name + ".partial")


def random_images(dtype, shape):
    rng = np.random.default_rng(1)
    if dtype == "float32":
        return rng.normal(0, 1e3, shape).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(4, 5, 1), (2, 3, 4, 2)])
def test_images_come_back_bit_for_bit(tmp_path, dtype, shape):
    images = random_images(dtype, (5, *shape))
    made = store(tmp_path / "s", images)
    for found in (made, Store.open(tmp_path / "s")):
        found.verify()
        assert (len(found), found.manifest.shape, found.manifest.dtype) == (5, shape, dtype)
        np.testing.assert_array_equal(found.images, images)
        np.testing.assert_array_equal(found.block(1, 3), images[1:3])
        np.testing.assert_array_equal(found.block(3, 99), images[3:])
        np.testing.assert_array_equal(found.gather(np.array([4, 0])), images[[4, 0]])
        assert [item.sha256 for item in found.items] == [array_digest(image) for image in images]
    np.testing.assert_array_equal(np.load(tmp_path / "s" / "images.npy", allow_pickle=False), images)
    assert sorted(files_below(tmp_path / "s")) == ["images.npy", "items.csv", "manifest.json"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_unit_range_is_each_images_own_map(tmp_path, dtype):
    images = random_images(dtype, (3, 4, 5, 1))
    images[1] = 7  # constant
    made = store(tmp_path / "s", images)
    ids = np.array([2, 0])
    values = images[ids].astype(np.float64)
    low, high = (
        (0, 255) if dtype == "uint8" else (values.min((1, 2, 3), keepdims=True), values.max((1, 2, 3), keepdims=True))
    )
    found = made.unit_range(ids)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, (values - low) / (high - low) * 2 - 1, atol=1e-6)
    assert np.isfinite(made.unit_range(np.array([1]))).all()


def test_a_given_range_clips(tmp_path):
    image = np.array([-2000, -1000, -300, 400, 3000], np.int16).reshape(1, 5, 1)
    with writer(tmp_path / "s", shape=(1, 5, 1), dtype="int16") as out:
        out.add("a", [NewItem(image=image, source="a", value_range=(-1000.0, 400.0))])
        made = out.finish(MANIFEST)
    np.testing.assert_allclose(made.unit_range(np.array([0])).ravel(), [-1, -1, 0, 1, 1], atol=1e-6)


@pytest.mark.parametrize("name", ODD_NAMES)
def test_sources_and_places_of_any_name(tmp_path, name):
    place = tmp_path / name.replace("/", "_")
    with writer(place) as out:
        out.add(name, [NewItem(image=IMAGES[0], source=name, patient=name, label=name)])
        out.finish(MANIFEST)
    (item,) = Store.open(place).items
    assert (item.source, item.patient, item.label) == (name, name, name)


def test_an_unfinished_store_has_another_name(tmp_path):
    path = tmp_path / "s"
    with writer(path) as out:
        out.add("0", [new(0)])
        assert not path.exists()
        out.finish(MANIFEST)
        assert path.exists()
    assert not path.with_name("s.partial").exists()


@pytest.mark.parametrize("after", [0, 1, 4, 7])
def test_an_interrupted_writer_goes_on(tmp_path, after):
    write(tmp_path / "whole")
    partial = interrupt(tmp_path / "s", after)
    assert not (tmp_path / "s").exists()
    with writer(tmp_path / "s") as out:
        assert list(out.done) == [str(i) for i in range(after)]
        assert len(out.items) == after
    write(tmp_path / "s")
    assert not partial.exists()
    assert files_below(tmp_path / "s") == files_below(tmp_path / "whole")


def test_a_journal_cut_anywhere_is_taken_up_to_its_last_whole_line(tmp_path):
    write(tmp_path / "whole")
    partial = interrupt(tmp_path / "s")
    journal = (partial / "journal.jsonl").read_bytes()
    lines = journal.count(b"\n")
    assert lines == 4
    for cut in [*range(0, len(journal), 97), len(journal) - 1]:
        place = tmp_path / f"cut{cut}"
        shutil.copytree(partial, f"{place}.partial")
        os.truncate(f"{place}.partial/journal.jsonl", cut)
        with writer(place) as out:
            assert len(out.done) == journal[:cut].count(b"\n") < lines
        write(place)
        assert files_below(place) == files_below(tmp_path / "whole")


@pytest.mark.parametrize("garbage", [b"\0" * 50, b"{}", b"[]", b'{"unit": "x", "left_out": "", "items": [1]}'])
def test_garbage_in_the_journal_ends_what_is_taken_up(tmp_path, garbage):
    write(tmp_path / "whole")
    partial = interrupt(tmp_path / "s")
    lines = (partial / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (partial / "journal.jsonl").write_bytes(b"".join([*lines[:2], garbage + b"\n", *lines[2:]]))
    with writer(tmp_path / "s") as out:
        assert list(out.done) == ["0", "1"]
    write(tmp_path / "s")
    assert files_below(tmp_path / "s") == files_below(tmp_path / "whole")


def test_images_that_did_not_last_are_written_again(tmp_path):
    write(tmp_path / "whole")
    partial = interrupt(tmp_path / "s")
    os.truncate(partial / "images.npy", (partial / "images.npy").stat().st_size - 1)
    with writer(tmp_path / "s") as out:
        assert list(out.done) == ["0", "1", "2"]
    write(tmp_path / "s")
    assert files_below(tmp_path / "s") == files_below(tmp_path / "whole")


@pytest.mark.parametrize("other", [{"settings": "b"}, {"shape": (5, 4, 1)}, {"dtype": "int16"}])
def test_with_other_settings_it_is_begun_anew(tmp_path, other):
    interrupt(tmp_path / "s")
    with writer(tmp_path / "s", **other) as out:
        assert not out.done
        assert not out.items


def test_what_was_left_out_and_what_gave_nothing_is_remembered(tmp_path):
    for _ in range(2):
        with writer(tmp_path / "s") as out:
            if not out.done:
                out.add("bad", [], left_out="is torn")
                out.add("dark", [])
                out.add("0", [new(0)])
            assert out.done == {"bad": "is torn", "dark": "", "0": ""}
            assert out.imageless == ["dark"]


def test_a_place_that_is_taken_is_refused(tmp_path):
    write(tmp_path / "s")
    before = files_below(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("s", "link"):
        with pytest.raises(UserError, match="exists already"), writer(tmp_path / name):
            pass
    assert files_below(tmp_path) == before


def test_only_our_own_files_are_ever_removed(tmp_path):
    (tmp_path / "s.partial").mkdir()
    (tmp_path / "s.partial" / "thesis.doc").write_text("two years")
    with pytest.raises(UserError, match=r"holds 'thesis\.doc'.*move it away"), writer(tmp_path / "s"):
        pass
    assert (tmp_path / "s.partial" / "thesis.doc").read_text() == "two years"


@pytest.mark.parametrize("place", ["file/s", "s"])
def test_a_place_that_cannot_be_a_folder_is_refused(tmp_path, place):
    (tmp_path / "file").write_text("")
    (tmp_path / "s.partial").write_text("")
    with pytest.raises(UserError, match="is no folder"), writer(tmp_path / place):
        pass


def test_two_writers_at_once_would_mix_their_images(tmp_path):
    with writer(tmp_path / "s") as out:
        out.add("0", [new(0)])
        with pytest.raises(UserError, match="another process is writing"), writer(tmp_path / "s"):
            pass
        out.add("1", [new(1)])
    write(tmp_path / "s").verify()


class SmallDisk(io.FileIO):
    """A file on a disk that has room for so many bytes."""

    room = 0

    def write(self, data):
        if self.tell() + len(data) > self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data)


@pytest.mark.parametrize("file", ["images.npy", "journal.jsonl", "items.csv", "manifest.json"])
def test_a_full_disk_is_told_and_work_goes_on_once_there_is_room(tmp_path, monkeypatch, file):
    write(tmp_path / "whole")
    open_ = Path.open

    def tight(path, mode="r", *rest, **kwargs):
        if path.name != file or mode not in ("r+b", "w", "a"):
            return open_(path, mode, *rest, **kwargs)
        disk = SmallDisk(path, mode.removesuffix("b"))
        return io.BufferedRandom(disk) if mode == "r+b" else io.TextIOWrapper(io.BufferedWriter(disk), "utf-8")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", tight)
        patch.setattr(SmallDisk, "room", 256 + 3 * 20 if file == "images.npy" else 10)
        with pytest.raises(UserError, match=f"the disk of {tmp_path} is full .*run the same command again"):
            write(tmp_path / "s")
    assert not (tmp_path / "s").exists()
    write(tmp_path / "s")
    assert files_below(tmp_path / "s") == files_below(tmp_path / "whole")


def test_other_troubles_of_a_disk_come_through(tmp_path, monkeypatch):
    def broken(handle):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", broken)
        with pytest.raises(OSError, match="Input/output error"):
            write(tmp_path / "s")
    write(tmp_path / "s").verify()


def test_a_changed_image_is_named(tmp_path):
    write(tmp_path / "s")
    with (tmp_path / "s" / "images.npy").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        (last,) = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last ^ 1]))
    found = Store.open(tmp_path / "s")
    with pytest.raises(UserError, match=r"1 of 7 images .*id 6, '6\.png'.*prepare the store again"):
        found.verify()


def cut_off(path):
    os.truncate(path, path.stat().st_size - 1)


def pickled(path):
    np.save(path, np.array([{}], object), allow_pickle=True)


def zipped(path):
    with path.open("wb") as file:
        np.savez(file, images=IMAGES)


def other_shape(path):
    np.save(path, IMAGES[:, :2])


@pytest.mark.parametrize("damage", [cut_off, pickled, zipped, other_shape, Path.unlink])
def test_a_damaged_images_file_is_refused(tmp_path, damage):
    write(tmp_path / "s")
    damage(tmp_path / "s" / "images.npy")
    with pytest.raises(UserError, match=r"images\.npy .*prepare the store again"):
        Store.open(tmp_path / "s")


def test_a_file_that_shrinks_while_it_is_read_is_told(tmp_path):
    found = write(tmp_path / "s")
    assert found.images.shape == (7, *SHAPE)
    cut_off(tmp_path / "s" / "images.npy")
    with pytest.raises(UserError, match="ends before image 7"):
        found.block(0, 7)


@pytest.mark.parametrize("lost", ["manifest.json", "items.csv", "images.npy"])
def test_a_store_that_lost_a_file_is_still_meant_to_be_one(tmp_path, lost):
    write(tmp_path / "s")
    (tmp_path / "s" / lost).unlink()
    assert is_store(tmp_path / "s")
    with pytest.raises(UserError, match=lost):
        Store.open(tmp_path / "s")


def test_other_programs_write_a_manifest_too(tmp_path):
    (tmp_path / "manifest.json").write_text('{"format": "DICOM export"}', encoding="utf-8")
    assert not is_store(tmp_path)
    assert not is_store(tmp_path / "manifest.json")
    assert not is_store(tmp_path / "nothing")
