"""The manifest and the items: what is written comes back unchanged, and what was changed is refused."""

import dataclasses
import json
import string

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from launching import ODD_NAMES

from memjax.data.manifest import (
    Item,
    Manifest,
    check_items,
    content_digest,
    intensity_range,
    read_items,
    read_manifest,
    torn_patients,
    write_items,
    write_manifest,
)
from memjax.errors import UserError


def item(id_=0, **about):
    known = {"source": f"{id_}.png", "patient": "", "slice": None, "split": "", "label": "", "low": 0.0, "high": 255.0}
    return Item(id=id_, sha256=f"{id_:064x}", **(known | about))


MANIFEST = Manifest(
    axes=("row", "column"),
    channels=("grey",),
    n=2,
    shape=(8, 8, 1),
    dtype="uint8",
    label_channels=(0,),
    spacing_mm=(0.5, 1e-7),
    patient_ids="regex",
    source_format="pictures",
    preparation={"size": [8, 8], "seed": 3},
    left_out=({"source": ODD_NAMES[-1], "reason": "is empty"},),
    notes=("a note",),
    digest="d",
    made_by="memjax",
)


def written(folder, items=None, manifest=MANIFEST):
    write_items(folder, items or [item(0, patient="a"), item(1, patient="b")])
    write_manifest(folder, manifest)
    return folder


def test_a_manifest_comes_back_as_it_was(tmp_path):
    assert read_manifest(written(tmp_path)) == MANIFEST


@pytest.mark.parametrize("name", ODD_NAMES)
def test_items_of_any_name_come_back_as_they_were(tmp_path, name):
    items = [item(0, source=name, patient=name, split=name, label=name, slice=0), item(1)]
    assert read_items(written(tmp_path, items)) == items
    read_manifest(tmp_path)


@settings(max_examples=30, deadline=None)
@given(
    low=st.floats(allow_nan=False, allow_infinity=False),
    high=st.floats(allow_nan=False, allow_infinity=False),
    text=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8),
)
def test_numbers_and_texts_come_back_exactly(tmp_path_factory, low, high, text):
    items = [item(0, low=low, high=high, label=text)]
    folder = tmp_path_factory.mktemp("items")
    write_items(folder, items)
    assert read_items(folder) == items


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("items.csv", "0.png,a", "0.png,c"),
        ("items.csv", "1.png,b", "1.png,a"),
        ("items.csv", "a,,,,0.0,255.0", "a,,,,0.0,254.0"),
        ("items.csv", f"{1:064x}\r\n", ""),
        ("manifest.json", '"patient_ids": "regex"', '"patient_ids": "none"'),
        ("manifest.json", '"row"', '"column"'),
        ("manifest.json", '"n": 2', '"n": 1'),
        ("manifest.json", '"checksum"', '"check"'),
    ],
)
def test_what_was_edited_is_refused(tmp_path, file, old, new):
    path = written(tmp_path) / file
    content = path.read_bytes().decode()
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, new).encode())
    with pytest.raises(UserError, match="was changed after it was written; prepare it again"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "is not an image store: it has no manifest.json; make one with launch.prepare"),
        (b"{", "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
        (b"[]", "is not the manifest of an image store"),
        (b'{"format": "another"}', "is not the manifest of an image store"),
        (b'{"format": "memjax-image-store", "version": 99}', "version 99, this program reads 1"),
    ],
)
def test_what_is_no_manifest_is_refused(tmp_path, content, said):
    written(tmp_path)
    (tmp_path / "manifest.json").unlink()
    if content is not None:
        (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(UserError, match=said):
        read_manifest(tmp_path)


def test_missing_items_are_named(tmp_path):
    (written(tmp_path) / "items.csv").unlink()
    with pytest.raises(UserError, match=r"items\.csv is missing"):
        read_manifest(tmp_path)
    with pytest.raises(UserError, match=r"items\.csv is missing"):
        read_items(tmp_path)


@pytest.mark.parametrize("row", ["x,a,,,,,0,1,d", "0,a,,x,,,0,1,d", "0,a,,,,,low,1,d", "0,a"])
def test_damaged_rows_are_refused(tmp_path, row):
    header = ",".join(field.name for field in dataclasses.fields(Item))
    (tmp_path / "items.csv").write_text(f"{header}\n{row}\n", encoding="utf-8")
    with pytest.raises(UserError, match="is damaged"):
        read_items(tmp_path)


def test_a_later_version_may_add_fields(tmp_path):
    told = json.loads((written(tmp_path) / "manifest.json").read_text(encoding="utf-8"))
    assert {field.name for field in dataclasses.fields(Manifest)} < told.keys()
    assert told["format"] == "memjax-image-store"
    assert told["version"] == 1


@pytest.mark.parametrize(
    ("items", "said"),
    [
        ([item(1)], "row 0 has id 1"),
        ([item(0), item(0)], "row 1 has id 0"),
        ([item(0), item(1, source="0.png")], "'0.png' is listed more than once"),
        ([item(0, patient="p", split="train"), item(1, patient="p", split="test")], "in more than one split .*'p'"),
    ],
)
def test_items_that_break_a_promise_are_refused(items, said):
    with pytest.raises(UserError, match=said):
        check_items(items)


def test_nobody_in_particular_may_be_in_two_splits():
    check_items([item(0, split="train"), item(1, split="test"), item(2, patient="p", split="test")])


@given(st.lists(st.tuples(st.sampled_from(["", "a", "b", "c"]), st.sampled_from(["x", "y"])), max_size=8))
def test_torn_patients_are_those_with_several_splits(rows):
    told = {patient: {split for other, split in rows if other == patient} for patient, _ in rows if patient}
    assert torn_patients(rows) == sorted(patient for patient, splits in told.items() if len(splits) == 2)


def test_the_digest_names_the_images_and_nothing_else():
    items = [item(0), item(1)]
    digest = content_digest(MANIFEST, items)
    assert set(digest) <= set(string.hexdigits)
    same = dataclasses.replace(MANIFEST, axes=("A", "S"), notes=(), n=0)
    assert content_digest(same, [dataclasses.replace(one, patient="p", source=f"x{one.id}") for one in items]) == digest
    others = [
        content_digest(MANIFEST, items[:1]),
        content_digest(MANIFEST, items[::-1]),
        content_digest(MANIFEST, [item(0), item(1, high=254.0)]),
        content_digest(MANIFEST, [item(0), item(1, low=1.0)]),
        content_digest(dataclasses.replace(MANIFEST, dtype="int16"), items),
        content_digest(dataclasses.replace(MANIFEST, shape=(8, 1, 8)), items),
    ]
    assert len({digest, *others}) == 7


def test_bytes_span_their_type_and_other_types_their_image():
    assert intensity_range(np.array([3, 9], np.uint8)) == (0, 255)
    assert intensity_range(np.array([-3, 9], np.int16)) == (-3, 9)
    assert intensity_range(np.array([0.25, 0.25], np.float32)) == (0.25, 0.25)
