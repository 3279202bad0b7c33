"""Embedding files: any order of rows is the store's order; every way in which a file can be wrong has its sentence."""

import csv
import json

import numpy as np
import pytest
from launching import ODD_NAMES

from memjax.data.embeddings import read_embeddings, write_embeddings
from memjax.data.manifest import Manifest
from memjax.data.store import NewItem, StoreWriter
from memjax.errors import UserError

SOURCES = ["b/2.png", "a/1, left.png", "c.npy#3", "d.png"]
VECTORS = np.random.default_rng(0).standard_normal((4, 3))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return written(tmp_path_factory.mktemp("embeddings") / "store", SOURCES)


def written(path, sources):
    images = np.random.default_rng(0).integers(0, 200, (len(sources), 3, 3, 1)).astype("uint8")
    with StoreWriter(path, shape=(3, 3, 1), dtype="uint8", settings="test") as writer:
        writer.add("all", [NewItem(image=i, source=s) for i, s in zip(images, sources, strict=True)])
        return writer.finish(Manifest(axes=("row", "column"), channels=("grey",)))


def put(folder, role="train", vectors=VECTORS, ids=SOURCES, head="id", about=None, encoding="utf-8"):
    folder.mkdir(exist_ok=True)
    np.save(folder / f"{role}.npy", vectors)
    with (folder / f"{role}.csv").open("w", newline="", encoding=encoding) as file:
        csv.writer(file).writerows([[head, "note"], *([id_, "x"] for id_ in ids)])
    if about is not None:
        (folder / "about.json").write_text(about if isinstance(about, str) else json.dumps(about))
    return folder


@pytest.mark.parametrize("dtype", ["float32", "float64", ">f4"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_rows_come_in_the_order_of_the_store(store, tmp_path, dtype, encoding):
    order = [2, 0, 3, 1]
    put(tmp_path / "net", vectors=VECTORS[order].astype(dtype), ids=[SOURCES[i] for i in order], encoding=encoding)
    found = read_embeddings(tmp_path / "net", "train", store)
    np.testing.assert_array_equal(found.vectors, VECTORS.astype(np.float32))
    assert found.vectors.dtype == np.float32 and found.vectors.flags.writeable
    assert (found.name, found.invariant_to, found.trained_on) == ("net", (), "unknown")
    put(tmp_path / "other")
    assert read_embeddings(tmp_path / "other", "train", store).digest == found.digest


def test_what_is_said_of_the_network_is_read(store, tmp_path):
    about = {"name": "sscd", "invariant_to": ["flips", "blur"], "trained_on": "other"}
    put(tmp_path / "net", about=about)
    found = read_embeddings(tmp_path / "net", "train", store)
    assert (found.name, found.invariant_to, found.trained_on) == ("sscd", ("flips", "blur"), "other")
    assert read_embeddings(tmp_path / "net", "train", store, "mine").name == "mine"


def test_what_was_written_is_read(store, tmp_path):
    about = {"name": "run", "training_store": store.manifest.digest, "weights": "abc", "invariant_to": ("flips",)}
    for role in ("train", "synthetic", "train"):
        write_embeddings(tmp_path / "e", role, store, VECTORS.astype(np.float32), about)
    assert sorted(path.name for path in (tmp_path / "e").iterdir()) == [
        "about.json", "synthetic.csv", "synthetic.npy", "train.csv", "train.npy",
    ]  # fmt: skip
    train, synthetic = (read_embeddings(tmp_path / "e", role, store) for role in ("train", "synthetic"))
    np.testing.assert_array_equal(train.vectors, VECTORS.astype(np.float32))
    assert (train.name, train.invariant_to, train.trained_on) == ("run", ("flips",), "train")
    assert synthetic.trained_on == "unknown"  # that it is the same store says nothing of the audit's training images
    with pytest.raises(UserError, match=r"holds embeddings of another network \(synthetic.npy\); choose another"):
        write_embeddings(tmp_path / "e", "train", store, VECTORS.astype(np.float32), about | {"weights": "def"})


def test_odd_names_come_back(tmp_path):
    store = written(tmp_path / "store", ODD_NAMES)
    vectors = np.arange(12, dtype=np.float32).reshape(6, 2)
    write_embeddings(tmp_path / "e", "heldout", store, vectors, {})
    np.testing.assert_array_equal(read_embeddings(tmp_path / "e", "heldout", store).vectors, vectors)


BAD = [
    ({"ids": SOURCES[:3]}, r"train\.csv names 3 images, train\.npy holds 4 vectors"),
    ({"ids": [*SOURCES[:3], "b/2.png"]}, r"train\.csv names 1 image \('b/2\.png'\) more than once"),
    (
        {"ids": ["x", "y", *SOURCES[2:]]},
        r"ids in .*train\.csv are not those of .*: 2 images \('b/2\.png', 'a/1, left\.png'\) of .* missing, "
        r"2 images \('x', 'y'\) unknown there; ids are the `source`",
    ),
    ({"ids": [f"{i}.png" for i in range(4)]}, r"4 images \('b/2\.png', 'a/1, left\.png', 'c\.npy#3', …\) of"),
    ({"vectors": VECTORS[:3], "ids": SOURCES[:3]}, r": 1 image \('d\.png'\) of .* missing; ids"),
    ({"head": "source"}, r"train\.csv has no column `id`; its first line must name it"),
    ({"vectors": VECTORS[:, 0]}, r"train\.npy holds float64 \(4,\); give float32 or float64 \[images, numbers\]"),
    ({"vectors": VECTORS[:, :0]}, r"train\.npy holds float64 \(4, 0\)"),
    ({"vectors": VECTORS.astype(int)}, r"train\.npy holds int64 \(4, 3\)"),
    ({"vectors": VECTORS.astype(object)}, r"train\.npy cannot be read \(.*\); save an array"),
    (
        {"vectors": np.where(np.arange(12).reshape(4, 3) == 4, np.nan, VECTORS)},
        r"train\.npy is not finite for 1 image \('a/1, left\.png'\)",
    ),
    ({"vectors": np.where(np.arange(12).reshape(4, 3) > 6, 1e300, VECTORS)}, r"not finite for 2 images \('c\.npy#3'"),
    ({"about": "{"}, r"about\.json cannot be read \(.*\); mend it"),
    ({"about": []}, r"about\.json must look like"),
    ({"about": {"name": 3}}, r"about\.json must look like"),
    (
        {"about": {"invariant_to": "flips"}},
        r"about\.json: invariant_to 'flips' is not known; list any of flips, quarter",
    ),
    ({"about": {"invariant_to": ["flips", "love"]}}, r"invariant_to 'love' is not known"),
    ({"about": {"trained_on": "moon"}}, r"trained_on='moon' is not known; give train, other, unknown"),
]


@pytest.mark.parametrize(("given", "told"), BAD)
def test_bad_files_are_refused(store, tmp_path, given, told):
    with pytest.raises(UserError, match=told) as caught:
        read_embeddings(put(tmp_path / "e", **given), "train", store)
    assert "\n" not in str(caught.value)


def test_missing_and_broken_files_are_refused(store, tmp_path):
    with pytest.raises(UserError, match=r"e/train\.npy is missing; give the vectors"):
        read_embeddings(tmp_path / "e", "train", store)
    put(tmp_path / "e")
    (tmp_path / "e" / "train.csv").write_text("note,id\nx,b/2.png\ny\n")
    with pytest.raises(UserError, match=r"train\.csv: row 2 has no `id`"):
        read_embeddings(tmp_path / "e", "train", store)
    (tmp_path / "e" / "train.csv").unlink()
    with pytest.raises(UserError, match=r"train\.csv is missing; give a table"):
        read_embeddings(tmp_path / "e", "train", store)
    (tmp_path / "e" / "train.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(UserError, match=r"train\.npy cannot be read"):
        read_embeddings(tmp_path / "e", "train", store)


def test_sides_of_different_networks_are_refused(store, tmp_path):
    put(tmp_path / "e")
    put(tmp_path / "e", "synthetic", VECTORS[:, :2])
    with pytest.raises(UserError, match=r"train\.npy holds vectors of 3 numbers, synthetic\.npy of 2"):
        read_embeddings(tmp_path / "e", "train", store)
