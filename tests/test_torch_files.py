"""Files of `torch.save`, read without PyTorch: what it wrote comes back, and nothing that is written inside is run.

`references/torch_archive.pth` and `torch_row.pth` are one state_dict, saved by PyTorch 2.13 in both of its forms:

    both = torch.arange(12, dtype=torch.float32)
    {"a.weight": torch.nn.Parameter(both.reshape(3, 4).T), "a.part": both[5:9],
     "b.double": torch.tensor([[0.1, -2.5]], dtype=torch.float64), "b.half": torch.tensor([1.5, -0.25]).half(),
     "n": torch.tensor(7), "empty": torch.zeros(0, 3), "note": "no tensor"}, with `_metadata` as modules add it
"""

import collections
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from memjax.data.readers.base import BadFile
from memjax.data.readers.torch_files import is_torch_file, read_torch

HERE = Path(__file__).parent / "references"
ARCHIVE, ROW = HERE / "torch_archive.pth", HERE / "torch_row.pth"


@pytest.mark.parametrize("path", [ARCHIVE, ROW], ids=lambda path: path.stem)
def test_what_torch_wrote_comes_back(path):
    assert is_torch_file(path)
    found = read_torch(path)
    wanted = {
        "a.weight": np.arange(12, dtype=np.float32).reshape(3, 4).T,
        "a.part": np.arange(5, 9, dtype=np.float32),
        "b.double": np.array([[0.1, -2.5]]),
        "b.half": np.array([1.5, -0.25], np.float16),
        "n": np.array(7),
        "empty": np.zeros((0, 3), np.float32),
    }
    assert list(found) == list(wanted)
    for name, array in wanted.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array, strict=True)


def archive_with(path: Path, changes: dict[str, bytes | None], compression: int = zipfile.ZIP_STORED) -> Path:
    """Write the archive again with other members, by their names in its folder; None leaves one out."""
    with zipfile.ZipFile(ARCHIVE) as old:
        members = {name.removeprefix("torch_archive/"): old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w", compression) as new:
        for name, content in (members | changes).items():
            if content is not None:
                new.writestr(f"torch_archive/{name}", content)
    return path


def pickle_of(path: Path = ARCHIVE) -> bytes:
    with zipfile.ZipFile(path) as archive:
        return archive.read("torch_archive/data.pkl")


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, place: Path):
        self.place = place

    def __reduce__(self):
        return os.mkdir, (str(self.place),)


@pytest.mark.parametrize("protocol", [2, 4])
def test_programs_are_not_run(tmp_path, protocol):
    victim = tmp_path / "was here"
    evil = pickle.dumps({"a": Evil(victim)}, protocol)
    row = b"".join(pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})) + evil
    (tmp_path / "row.pth").write_bytes(row)
    (tmp_path / "bare.pth").write_bytes(evil)
    archive = archive_with(tmp_path / "archive.pth", {"data.pkl": evil})
    assert pickle.loads(evil)["a"] is None and victim.is_dir()  # it would
    victim.rmdir()
    for path in (archive, tmp_path / "row.pth", tmp_path / "bare.pth"):
        with pytest.raises(
            BadFile, match=r"more than tensors in it|calls .*mkdir, which no tensors need|PyTorch wrote"
        ):
            read_torch(path)
        assert not victim.exists()


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (b"FloatStorage", b"BFloat16Storage", "of a kind that is not read .BFloat16Storage"),
        (b"torch\nHalfStorage", b"numpy\nHalfStorage", "of a kind that is not read"),
        (
            b"torch._utils\n_rebuild_tensor_v2",
            b"torch._utils\n_rebuild_sparse_tensor",
            "calls torch._utils._rebuild_sp",
        ),
        (b"collections\nOrderedDict", b"collections\ndefaultdict", "calls collections.defaultdict"),
        (b"K\x05K\x04", b"K\x09K\x04", "reaches beyond its numbers"),  # the offset of a.part
        (b"K\x05K\x04", b"K\x05J\xff\xff\xff\x7f", "reaches beyond its numbers"),  # its length
        (b"K\x04K\x03\x86q\nK\x01K\x04", b"J\0\0\0\x7fK\x03\x86q\nK\x00K\x04", "reaches beyond its numbers"),
        (b"K\x05K\x04", b"J\xff\xff\xff\xffK\x04", "a tensor has no shape"),  # -1
        (b"cpu", b"cpu", None),
    ],
)
def test_what_is_no_plain_tensor_is_refused(tmp_path, before, after, words):
    changed = pickle_of().replace(before, after)
    assert (changed != pickle_of()) == (words is not None)
    path = archive_with(tmp_path / "x.pth", {"data.pkl": changed})
    if words is None:
        assert len(read_torch(path)) == 6
    else:
        with pytest.raises(BadFile, match=words):
            read_torch(path)


def test_other_archives_and_pickles_are_told_apart(tmp_path):
    for changes, words in (
        ({"data.pkl": pickle.dumps([1, 2], 2)}, "holds no state_dict"),
        ({"data/0": b"abc"}, "is not the 48 bytes"),
        ({"data/0": None}, "damaged or cut off"),
        ({"data.pkl": None}, "is a zip archive, but none that PyTorch wrote"),
        ({"constants.pkl": b""}, "is a TorchScript program"),
        ({"byteorder": b"big"}, "big-endian"),
    ):
        with pytest.raises(BadFile, match=words):
            read_torch(archive_with(tmp_path / "x.pth", changes))
    with pytest.raises(BadFile, match="is a compressed archive"):
        read_torch(archive_with(tmp_path / "x.pth", {}, zipfile.ZIP_DEFLATED))
    plain = tmp_path / "plain.pkl"
    plain.write_bytes(pickle.dumps(collections.OrderedDict(a=1), 2))
    with pytest.raises(BadFile, match="is a pickle, but none that PyTorch wrote"):
        read_torch(plain)
    plain.write_bytes(b"abc")
    assert not is_torch_file(plain)
    with pytest.raises(BadFile, match="is no file that PyTorch wrote"):
        read_torch(plain)
    with pytest.raises(BadFile, match="does not exist"):
        is_torch_file(tmp_path / "nothing.pth")


def test_damage_anywhere_is_told_or_harmless(tmp_path):
    """Never another exception, never much memory: one byte changed, or the end cut off."""
    whole, path = ROW.read_bytes(), tmp_path / "x.pth"
    rng = np.random.default_rng(0)
    refused = 0
    for at in rng.permutation(len(whole))[:300]:
        damaged = bytearray(whole)
        damaged[at] ^= int(rng.integers(1, 256))
        for content in (damaged, whole[:at]):
            path.write_bytes(content)
            try:
                assert sum(array.size for array in read_torch(path).values()) < 100
            except BadFile:
                refused += 1
    assert refused > 400
