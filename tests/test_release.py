"""The release: exactly the images that were not called, and nothing that tells of training images or patients."""

import csv
import dataclasses
import json

import numpy as np
import pytest
from launching import ODD_NAMES, files_below, noise, pictures
from small_findings import planted_findings

from memjax.audit.release import check_release, release
from memjax.data.store import Store
from memjax.errors import UserError

NAMES = [f"a/{i}.png" if i % 2 else f"b {i}.png" for i in range(8)]  # images 0 to 2 are copies


def findings_of(folder, sources=tuple(NAMES), **about):
    """Findings of 8 synthetic images, the first 3 copies, as if made from files of these names."""
    found = planted_findings(folder, sources=[*sources, *(f"more {i}" for i in range(4))], **about)
    assert found.decision.is_copy.tolist() == [True] * 3 + [False] * 5
    return found


def listed(out):
    with (out / "left_out.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("names", [NAMES, [*NAMES[:2], *ODD_NAMES]])
def test_files_that_are_no_copies_come_out_unchanged_under_their_names(tmp_path, names):
    given = pictures(tmp_path / "synthetic", dict(zip(names, noise(8, 0), strict=True)))
    assert release(tmp_path / "out", findings_of(tmp_path / "stores", names), given) == 5
    assert files_below(tmp_path / "out" / "images") == {name: (given / name).read_bytes() for name in names[3:]}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["images", "left_out.csv", "release.json"]
    assert [row["synthetic"] for row in listed(tmp_path / "out")] == names[:3]
    summary = json.loads((tmp_path / "out" / "release.json").read_text(encoding="utf-8"))
    assert (summary["images"], summary["left_out"], summary["heldout_images"]) == (5, 3, 6)


def test_what_is_no_file_of_its_own_becomes_a_store(tmp_path):
    found = findings_of(tmp_path / "stores", [f"all.npz#{i}" for i in range(8)])
    assert release(tmp_path / "out", found, tmp_path / "all.npz") == 5
    made = Store.open(tmp_path / "out" / "images")
    made.verify()
    assert [item.source for item in made.items] == [f"all.npz#{i}" for i in range(3, 8)]
    np.testing.assert_array_equal(made.images, found.synthetic.store.images[3:])
    for item, given in zip(made.items, found.synthetic.store.items[3:], strict=True):
        assert (item.low, item.high) == (given.low, given.high)


def test_one_missing_file_makes_all_a_store(tmp_path):
    given = pictures(tmp_path / "synthetic", dict(zip(NAMES, noise(8, 0), strict=True)))
    (given / NAMES[7]).unlink()
    assert release(tmp_path / "out", findings_of(tmp_path / "stores"), given) == 5
    assert len(Store.open(tmp_path / "out" / "images")) == 5


def test_a_store_never_hands_out_its_own_files(tmp_path):
    """A source may be called like one of them: `images.npy` holds every image, the copies too."""
    found = findings_of(tmp_path / "stores", [*NAMES[:7], "images.npy"])
    decision = dataclasses.replace(found.decision, is_copy=np.arange(8) != 7)
    found = dataclasses.replace(found, decision=decision)
    assert release(tmp_path / "out", found, found.synthetic.store.path) == 1
    assert len(Store.open(tmp_path / "out" / "images")) == 1


def test_nothing_tells_of_training_images_patients_or_places(tmp_path):
    found = findings_of(tmp_path / "stores", [f"all.npz#{i}" for i in range(8)])
    private = {"patient_csv": "/home/secret/patients.csv", "patient_regex": "secret", "size": [8, 8]}
    manifest = dataclasses.replace(found.synthetic.store.manifest, patient_ids="csv", preparation=private)
    store = Store(found.synthetic.store.path, manifest, found.synthetic.store.items)
    found = dataclasses.replace(found, synthetic=dataclasses.replace(found.synthetic, store=store))
    release(tmp_path / "out", found, tmp_path / "all.npz")
    told = b"".join(content for name, content in files_below(tmp_path / "out").items() if name != "images/images.npy")
    for word in ("secret", "patient 0", "unseen", "more 0", str(tmp_path)):
        assert word.encode() not in told
    made = Store.open(tmp_path / "out" / "images").manifest
    assert not made.has_patients
    assert made.preparation == {"size": [8, 8]}


def test_images_without_contrast_stay_back(tmp_path):
    given = pictures(tmp_path / "synthetic", dict(zip(NAMES, noise(8, 0), strict=True)))
    assert release(tmp_path / "out", findings_of(tmp_path / "stores", constant=[7]), given) == 4
    last = listed(tmp_path / "out")[-1]
    assert last == {"synthetic": NAMES[7], "reason": "without contrast: it cannot be judged", "score": ""}
    assert not (tmp_path / "out" / "images" / NAMES[7]).exists()


def test_a_call_on_the_foreground_keeps_back_too(tmp_path):
    given = pictures(tmp_path / "synthetic", dict(zip(NAMES, noise(8, 0), strict=True)))
    found = findings_of(tmp_path / "stores")
    front = dataclasses.replace(found.decision, is_copy=np.arange(8) == 5)
    assert release(tmp_path / "out", dataclasses.replace(found, foreground=front), given) == 4
    assert {row["synthetic"]: row["reason"] for row in listed(tmp_path / "out")} == {
        **dict.fromkeys(NAMES[:3], "a copy of a training image"),
        NAMES[5]: "a copy of a training image, by its foreground",
    }
    assert not (tmp_path / "out" / "images" / NAMES[5]).exists()


def test_files_that_were_never_compared_are_listed(tmp_path):
    given = pictures(tmp_path / "synthetic", dict(zip(NAMES, noise(8, 0), strict=True)))
    found = findings_of(tmp_path / "stores")
    skipped = ({"source": "torn.png", "reason": "is damaged"},)
    manifest = dataclasses.replace(found.synthetic.store.manifest, left_out=skipped)
    store = Store(found.synthetic.store.path, manifest, found.synthetic.store.items)
    found = dataclasses.replace(found, synthetic=dataclasses.replace(found.synthetic, store=store))
    assert release(tmp_path / "out", found, given) == 5
    assert listed(tmp_path / "out")[-1] == {"synthetic": "torn.png", "reason": "not compared: is damaged", "score": ""}
    assert json.loads((tmp_path / "out" / "release.json").read_text(encoding="utf-8"))["not_compared"] == 1


def test_where_all_are_copies_nothing_goes_out(tmp_path):
    given = pictures(tmp_path / "synthetic", dict(zip(NAMES, noise(8, 0), strict=True)))
    found = findings_of(tmp_path / "stores")
    decision = dataclasses.replace(found.decision, is_copy=np.ones(8, bool))
    assert release(tmp_path / "out", dataclasses.replace(found, decision=decision), given) == 0
    assert not list(tmp_path.glob("out/images/**/*.png"))
    assert len(listed(tmp_path / "out")) == 8


def test_an_unfinished_release_is_made_again(tmp_path, monkeypatch):
    given = pictures(tmp_path / "synthetic", dict(zip(NAMES, noise(8, 0), strict=True)))
    found = findings_of(tmp_path / "stores")
    with monkeypatch.context() as patch:
        patch.setattr(json, "dumps", lambda *rest, **more: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            release(tmp_path / "out", found, given)
    assert not (tmp_path / "out").exists()
    check_release(tmp_path / "out")
    release(tmp_path / "out", found, given)
    assert not (tmp_path / "out.partial").exists()


def test_a_place_that_is_taken_is_refused(tmp_path):
    check_release(tmp_path / "out")
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match=r"--release=.*out exists already; remove it or choose another folder"):
        check_release(tmp_path / "out")


@pytest.mark.parametrize("make", [lambda path: path.write_text("x"), lambda path: pictures(path, noise(1, 0))])
def test_anothers_partial_folder_is_never_removed(tmp_path, make):
    make(tmp_path / "out.partial")
    with pytest.raises(UserError, match=r"out\.partial exists and is no unfinished release; move it away"):
        check_release(tmp_path / "out")
