"""What bad input gets from `audit`: one clear sentence with the remedy, status 2, and no report that could mislead."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from launching import (
    ODD_NAMES,
    audit_flags,
    audit_folders,
    files_below,
    launch,
    launch_process,
    noise,
    pictures,
    read_pairs,
    store,
    truncate,
)


def leaves_nothing(out):
    """Say whether neither a store nor a report nor a half of one is there."""
    reports = [path for path in out.rglob("*") if path.name in ("report.html", "report.json", "pairs.csv")]
    assert not reports and not list(out.rglob(".report-*")), reports
    assert not out.exists() or {path.name for path in out.iterdir()} <= {"cache"}
    return True


@pytest.fixture
def folders(tmp_path):
    return audit_folders(tmp_path)


def test_required_flags_are_named():
    told = launch("audit")
    assert told.is_refusal("--train", "--synthetic", "--out")
    assert told.said.count("\n") == 1
    assert launch("audit", "--train=", "--synthetic=a", "--out=b").is_refusal("--train is empty; give a path")
    assert launch("audit", "--train=a", "--synthetic=b", "--out=").is_refusal("--out is empty; give a path")
    assert launch("audit", "--train=a", "--synthetic=b", "--heldout=", "--out=c").is_refusal("--heldout is empty")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--k=0"], ["--k=0", "positive"]),
        (["--k=13"], ["--k=13", "synthetic has images (12)", "--k=12 or less"]),
        (["--threshold=foo"], ["--threshold=foo", "fdr, p95, p99, or a score"]),
        (["--threshold=nan"], ["--threshold=nan", "from -1 to below 1"]),
        (["--threshold=95"], ["--threshold=95", "from -1 to below 1"]),
        (["--threshold=1"], ["--threshold=1", "from -1 to below 1"]),
        (["--threshold=0.9", "--score=msd"], ["--threshold=0.9", "from -4 to below 0"]),
        (["--rate=nan"], ["--rate=nan", "must be a number"]),
        (["--rate=5"], ["--rate=5"]),
        (["--channels=9"], ["--channels=9", "channels 0 to 0 (grey)"]),
        (["--channels=-1"], ["--channels=-1", "channels 0 to 0 (grey)"]),
        (["--channels=red"], ["--channels=red", "whole numbers"]),
        (["--devices=99"], ["--devices=99", "give 1 to "]),
        (["--devices=0"], ["--devices=0", "positive"]),
        (["--size=abc"], ["--size=abc"]),
        (["--window=5,1"], ["--window=5,1"]),
        (["--symmetry=some"], ["--symmetry=some", "<none|flips|all>"]),
        (["--score=ssim"], ["--score=ssim", "<correlation|msd>"]),
        (["--detectors=ratios"], ["no detector 'ratios'; did you mean ratio?", "tiled-l2"]),
        (["--embeddings=net"], ["--embeddings=net must be NAME=DIR"]),
        (["--crossfit=one"], ["--crossfit=one must be two runs"]),
        (["--descriptor="], ["--descriptor is empty"]),
        (["--labels=nowhere.sqlite"], ["nowhere.sqlite is not there", "launch.review"]),
        (["--train_split=test"], ["train", "'test'"]),
        (["--patient_regex=zzz"], ["--patient_regex=zzz", "30 of 30 sources"]),
    ],
)
def test_nonsense_in_flags_of_audit(tmp_path, folders, flags, words):
    assert launch("audit", *audit_flags(folders, tmp_path / "out"), *flags).is_refusal(*words)
    assert leaves_nothing(tmp_path / "out")


def mixed_kinds(root):
    np.save(pictures(root, noise(2, 0)) / "x.npy", noise(2, 0))


def swap_in(folders, role, path):
    return {**folders, role: path}


@pytest.mark.parametrize("pair", [("train", "synthetic"), ("train", "heldout"), ("heldout", "synthetic")])
def test_one_folder_given_twice(tmp_path, folders, pair):
    one, other = pair
    given = swap_in(folders, other, folders[one])
    run = launch("audit", *audit_flags(given, tmp_path / "out"))
    assert run.is_refusal(f"--{one} and --{other} are the same", "different folders")
    assert leaves_nothing(tmp_path / "out")


@pytest.mark.parametrize("role", ["train", "heldout", "synthetic"])
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (Path.mkdir, "holds no image that can be read"),
        (lambda root: None, "does not exist"),
        (lambda root: root.symlink_to("nowhere"), "does not exist"),
        (mixed_kinds, "--format"),
    ],
)
def test_a_role_without_images(tmp_path, folders, role, make, words):
    make(tmp_path / "bad")
    run = launch("audit", *audit_flags(swap_in(folders, role, tmp_path / "bad"), tmp_path / "out"))
    assert run.is_refusal(str(tmp_path / "bad"), words)
    assert leaves_nothing(tmp_path / "out")


def test_a_damaged_file_stops_an_audit_or_is_left_out(tmp_path, folders):
    bad = folders["synthetic"] / "s07.png"
    truncate(bad)
    asked = audit_flags(folders, tmp_path / "out")
    assert launch("audit", *asked).is_refusal("s07.png", "--skip_bad")
    assert leaves_nothing(tmp_path / "out")
    run = launch("audit", *asked, "--skip_bad", f"--release={tmp_path / 'release'}")
    assert run.status == 0
    assert {row["synthetic"] for row in read_pairs(tmp_path / "out")} == {
        path.name for path in folders["synthetic"].iterdir() if path != bad
    }
    assert not (tmp_path / "release" / "images" / "s07.png").exists()
    assert "s07.png,not compared: is damaged" in (tmp_path / "release" / "left_out.csv").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("--out={}/file", "is a file, not a folder"),
        ("--out={}/file/out", "is a file, not a folder"),
        ("--out={}/store", "is an image store; choose another folder"),
        ("--out={}/train", "would be read as images"),
        ("--out={}/synthetic/report", "would be read as images"),
        ("--cache={}/file", "is a file, not a folder"),
        ("--cache={}/heldout/cache", "would be read as images"),
        ("--release={}/file", "is a file, not a folder"),
        ("--release={}/store", "exists already"),
        ("--release={}/synthetic/clean", "would be read as images"),
        ("--release={}/out", "lies inside --release"),
        ("--release={}", "exists already"),
    ],
)
def test_an_audit_never_writes_where_it_would_do_harm(tmp_path, folders, place, words):
    store(tmp_path / "store", noise(3, 0)[..., None])
    (tmp_path / "file").write_text("mine")
    before = files_below(tmp_path)
    run = launch("audit", *audit_flags(folders, tmp_path / "out"), place.format(tmp_path))
    assert run.is_refusal(place.format(tmp_path), words)
    assert files_below(tmp_path) == before


def stores(tmp_path, **images):
    return {role: store(tmp_path / f"{role}_store", array).path for role, array in images.items()}


GREY = noise(12, 0)[..., None]


@pytest.mark.parametrize(
    ("synthetic", "words"),
    [
        (noise(12, 1, size=(8, 8, 8, 1)), ["2-D images", "3-D ones", "volumes against volumes"]),
        (noise(12, 1, size=(8, 8, 3)), ["1 channels", "has 3", "--colour=grey"]),
        (noise(12, 1, size=(8, 9, 1)), ["8 x 8", "8 x 9", "same --size"]),
        (noise(2, 1, size=(8, 8, 1)), ["--k=3", "(2)", "--k=2 or less"]),
    ],
)
def test_stores_that_do_not_go_together(tmp_path, synthetic, words):
    given = stores(tmp_path, train=GREY, synthetic=synthetic)
    run = launch("audit", *audit_flags(given, tmp_path / "out"))
    assert run.is_refusal(str(given["synthetic"]), *words)
    assert leaves_nothing(tmp_path / "out")


def flip_a_pixel(path):
    content = (path / "images.npy").read_bytes()
    (path / "images.npy").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def edit_a_patient(path):
    content = (path / "items.csv").read_text(encoding="utf-8")
    (path / "items.csv").write_text(content.replace(",,", ",someone,", 1), encoding="utf-8")


def edit_the_manifest(path):
    content = (path / "manifest.json").read_text(encoding="utf-8")
    (path / "manifest.json").write_text(content.replace('"none"', '"csv"'), encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (flip_a_pixel, ["train_store/11.png", "prepare the store again"]),
        (edit_a_patient, ["manifest.json or items.csv was changed"]),
        (edit_the_manifest, ["manifest.json or items.csv was changed"]),
        (lambda path: (path / "items.csv").unlink(), ["items.csv is missing"]),
        (lambda path: (path / "images.npy").unlink(), ["images.npy cannot be read"]),
        (lambda path: (path / "manifest.json").unlink(), ["it has no manifest.json"]),
        (lambda path: truncate(path / "manifest.json"), ["manifest.json cannot be read"]),
        (lambda path: truncate(path / "images.npy"), ["images.npy cannot be read"]),
    ],
)
def test_a_store_that_was_changed_is_refused(tmp_path, change, words):
    given = stores(tmp_path, train=GREY, synthetic=noise(12, 1)[..., None])
    change(given["train"])
    assert launch("audit", *audit_flags(given, tmp_path / "out")).is_refusal(str(given["train"]), *words)
    assert launch("prepare", f"--input={given['train']}", f"--out={tmp_path / 's'}").is_refusal(*words[:1])
    assert leaves_nothing(tmp_path / "out")
    assert leaves_nothing(tmp_path / "s")


def test_heldout_images_of_one_patient_are_no_reference(tmp_path, folders):
    for i, path in enumerate(sorted(folders["heldout"].iterdir())):
        path.rename(path.with_name(f"q7_{i}.png"))
    run = launch("audit", *audit_flags(folders, tmp_path / "out"))
    assert run.is_refusal("come from 1 patient(s)", "more patients", "leave --heldout away")
    assert leaves_nothing(tmp_path / "out")


def test_heldout_images_that_all_leaked_are_no_reference(tmp_path, folders):
    shutil.rmtree(folders["heldout"])
    shutil.copytree(folders["train"], folders["heldout"])
    for path in sorted(folders["heldout"].iterdir())[:6]:  # as many as in other tests
        path.unlink()
    run = launch("audit", *audit_flags(folders, tmp_path / "out"))
    assert run.is_refusal("come from 0 patient(s)", "leaks", "leave --heldout away")
    assert leaves_nothing(tmp_path / "out")


def strict_json(path):
    def refuse(constant):
        raise AssertionError(f"{path} holds {constant}")

    return json.loads(path.read_text(encoding="ascii"), parse_constant=refuse)


def test_leaks_are_reported_first_and_the_audit_goes_on(tmp_path, folders):
    shutil.copy(folders["train"] / "p0_0.png", folders["heldout"] / "q0_0.png")  # the same image
    (folders["heldout"] / "q1_0.png").rename(folders["heldout"] / "p3_99.png")  # the same patient
    shutil.copy(folders["heldout"] / "q2_0.png", folders["synthetic"] / "s00.png")
    run = launch("audit", *audit_flags(folders, tmp_path / "out"))
    assert run.status == 0
    assert "first: 3 images or patients are in more than one of the folders" in run.said
    found = strict_json(tmp_path / "out" / "report.json")
    assert {(leak["kind"], *leak["roles"]): leak["sources"] for leak in found["leaks"]} == {
        ("same image", "train", "heldout"): ["p0_0.png", "q0_0.png"],
        ("same patient", "train", "heldout"): ["p3_6.png", "p3_99.png"],
        ("same image", "heldout", "synthetic"): ["q2_0.png", "s00.png"],
    }
    assert found["null"]["n"] == 22
    assert sum(found["null"]["left_out"].values()) == 2


def test_images_without_contrast_are_reported_and_never_nan(tmp_path, folders):
    flat = np.full((8, 8), 77, np.uint8)
    for role, name in (("train", "p4_8.png"), ("heldout", "q5_0.png"), ("synthetic", "s03.png")):
        pictures(folders[role], {name: flat})
    run = launch("audit", *audit_flags(folders, tmp_path / "out"), f"--release={tmp_path / 'release'}")
    assert run.status == 0
    for role in ("30 train", "12 synthetic", "24 heldout"):
        assert f"1 of {role} images have no contrast" in run.said
    found = strict_json(tmp_path / "out" / "report.json")
    assert found["constant_images"] == {"train": ["p4_8.png"], "heldout": ["q5_0.png"], "synthetic": ["s03.png"]}
    assert found["leaks"] == []  # flat images are alike, but no evidence
    for row in read_pairs(tmp_path / "out"):
        assert not {"nan", "inf", "-inf"} & {value.lower() for value in row.values()}
        flat_row = row["synthetic"] == "s03.png"
        assert (row["train"] == "", row["score"] == "") == (flat_row, flat_row)
        assert row["train"] != "p4_8.png"
    assert not (tmp_path / "release" / "images" / "s03.png").exists()


@pytest.mark.parametrize("role", ["train", "synthetic"])
def test_a_set_without_any_contrast_is_refused(tmp_path, folders, role):
    for path in folders[role].iterdir():
        pictures(folders[role], {path.name: np.zeros((8, 8), np.uint8)})
    del folders["heldout"]
    run = launch("audit", *audit_flags(folders, tmp_path / "out"))
    assert run.is_refusal(folders[role].name, "has any contrast")
    assert leaves_nothing(tmp_path / "out")


def test_heldout_images_without_contrast_are_no_reference(tmp_path, folders):
    for path in folders["heldout"].iterdir():
        pictures(folders["heldout"], {path.name: np.zeros((8, 8), np.uint8)})
    assert launch("audit", *audit_flags(folders, tmp_path / "out")).is_refusal(
        folders["heldout"].name, "has any contrast"
    )


def test_names_in_any_script(tmp_path, folders):
    """In a process of its own, whose locale knows ASCII alone."""
    images = noise(len(ODD_NAMES), 7)
    pictures(folders["train"], dict(zip(ODD_NAMES, images, strict=True)))
    pictures(folders["synthetic"], dict(zip(ODD_NAMES, images, strict=True)))
    given = {role: path.rename(tmp_path / f"{role} 训练 \udce9") for role, path in folders.items()}
    del given["heldout"]
    out = tmp_path / os.fsdecode(b"r\xe9sultats")  # Latin-1
    run = launch_process(
        "audit", *audit_flags(given, out)[:-1], f"--release={tmp_path / 'чисто'}", environment={"LC_ALL": "C"}
    )
    assert run.status == 3, run.said
    assert "Traceback" not in run.said
    pairs = {row["synthetic"]: row["train"] for row in read_pairs(out) if row["copy"] == "true"}
    assert pairs == {name: name for name in ODD_NAMES}
    assert set(files_below(tmp_path / "чисто" / "images")) == {f"s{i:02d}.png" for i in range(12)}
