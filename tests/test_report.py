"""The report is one self-contained page, strict JSON, a complete table of pairs and stable figures, all or nothing."""

import csv
import dataclasses
import json
import math
import re
import stat
from pathlib import Path

import numpy as np
import pytest
from pages import Page
from PIL import Image
from small_findings import K, brute_force, make_findings, make_store, planted_findings

from memjax.audit.findings import Leak
from memjax.audit.report import figures, report
from memjax.audit.report.detectors_record import COLUMNS as DETECTOR_COLUMNS
from memjax.audit.report.matches import best_matches, most_copied
from memjax.audit.report.records import PAIR_COLUMNS
from memjax.errors import UserError
from memjax.orientation import orientations

DOCS = Path(__file__).parents[1] / "docs" / "report.md"
HOSTILE = (
    "<script>alert(1)</script>.png",
    'a" onerror="alert(2)',
    "&lt;b&gt;{{ 7 * 7 }}{% raw %}.png",
    "胸部/صورة/ภาพ/🫁.png",
    "not utf-8 \udcff\udc80.png",
    "right\u202etfel.png",
    'two\nlines,and "quotes".png',
    "$\\frac{1}{0}$ </style>.png",
    "long-" + "x" * 5000,
    "=1+1.png",
    " ",
    "]]><!--.png",
)


def written(out, findings, **more):
    report.write(out, findings, **more)
    return Page((out / "report.html").read_text(encoding="utf-8"))


def rows_of(out):
    with (out / "pairs.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.DictReader(file))


def strict_json(out):
    def refuse(name):
        raise AssertionError(name)

    return json.loads((out / "report.json").read_text(encoding="ascii"), parse_constant=refuse)


@pytest.fixture
def undrawn(monkeypatch):
    """Spare the seconds that figures take where a test is about something else."""
    chart = figures.Chart(light=b"<svg/>", dark=b"<svg/>")
    monkeypatch.setattr(report.figures, "draw", lambda *_: dict.fromkeys(figures.CHARTS, chart))


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("found")
    findings = planted_findings(folder, constant=[7])
    out = folder / "out"
    return findings, out, written(out, findings, command="python -m launch.audit --out=<here>")


def test_page_loads_nothing_and_is_accessible(found):
    _, _, page = found
    assert page.all("html") == [{"lang": "en"}]
    assert not page.all("script")
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            target = attributes.get(name, "")
            assert target.startswith(("data:", "#")) or not target, (tag, target)
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
    css = " ".join((Path(report.__file__).parent / "report.css").read_text().split())
    assert "url(" not in css and "@import" not in css
    assert all(image["alt"] for image in page.all("img"))
    assert all(head.get("scope") in ("row", "col") for head in page.all("th"))
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert all(link["href"][1:] in ids for link in page.all("a"))


def test_page_states_the_verdict_first_and_every_section(found):
    findings, _, page = found
    words = page.words
    assert (
        words.index("Copies found") < words.index("3 of 8 synthetic images reproduce") < words.index("What was found")
    )
    for heading in ("How sure it is", "What it means", "What it does not mean", "What was compared", "Method"):
        assert heading in words
    assert findings.train.store.manifest.digest in words
    assert "arXiv 2305.07644" in words and "arXiv 2307.01148" in words
    assert "python -m launch.audit --out=<here>" in words
    assert "Read first" in words and "no contrast at all" in words


def test_pairs_table_has_every_pair_in_the_documented_columns(found):
    findings, out, _ = found
    rows = rows_of(out)
    assert tuple(rows[0]) == PAIR_COLUMNS
    assert PAIR_COLUMNS[:8] == (
        "synthetic",
        "train",
        "rank",
        "score",
        "orientation",
        "p_value",
        "copy",
        "train_patient",
    )
    n = len(findings.synthetic.store)
    assert [(int(row["synthetic_id"]), int(row["rank"])) for row in rows] == [
        (s, rank) for s in range(n) for rank in range(1, K + 1)
    ]
    reference = brute_force(findings.synthetic.store, findings.train.store, orientations((8, 8), "flips"))
    for row in rows:
        s, rank = int(row["synthetic_id"]), int(row["rank"]) - 1
        assert row["synthetic"] == findings.synthetic.store.items[s].source
        if s == 7:
            assert row["train"] == row["score"] == row["orientation"] == row["p_value"] == row["train_patient"] == ""
            assert row["copy"] == "false"
            continue
        match = findings.train.store.items[reference.id[s, rank]]
        assert (row["train"], row["train_patient"]) == (match.source, match.patient)
        assert float(row["score"]) == pytest.approx(reference.score[s, rank], rel=1e-8)
        assert row["orientation"] == findings.orientations[reference.orientation[s, rank]]
        assert row["copy"] == ("true" if s < 3 and rank == 0 else "false")
        assert bool(row["p_value"]) == (rank == 0)
    assert [row["train_id"] for row in rows if row["copy"] == "true"] == ["0", "1", "2"]
    assert {row["orientation"] for row in rows if row["copy"] == "true"} == {"rot180"}


def test_json_is_strict_and_has_the_documented_keys(found):
    findings, out, _ = found
    record = strict_json(out)
    tables = DOCS.read_text(encoding="utf-8").partition("## Figures")[0]
    described = set(re.findall(r"^\| `(\w+)` \|", tables, re.MULTILINE))
    assert set(record) <= described, set(record) - described
    columns = {*PAIR_COLUMNS, *DETECTOR_COLUMNS}
    assert columns <= described <= set(record) | columns, described - set(record) - columns
    assert record["version"] == 1 and record["verdict"] == "copies found" and record["clean"] is False
    assert (record["n_train"], record["n_synthetic"], record["n_heldout"]) == (12, 8, 6)
    assert (record["n_copies"], record["n_mem"], record["patients_memorized"]) == (3, 3, 2)
    assert record["patients_memorized_ids"] == ["patient 0", "patient 1"]
    assert record["null"]["n"] == 6 and record["null"]["quantiles"]["1.0"] == findings.null.score.max()
    assert record["digests"]["heldout"] == findings.heldout.store.manifest.digest
    assert sum(record["all_pairs"]["count"]) == 8 * 12 - 12, "the constant image makes no pairs"
    assert record["all_pairs"]["is_sample"] is False
    assert record["constant_images"] == {"train": [], "synthetic": ["synthetic/0007.png"], "heldout": []}
    assert record["copies_by_orientation"] == {"rot180": 3}


def test_figures_have_stable_names_and_open(found):
    _, out, _ = found
    names = sorted(path.name for path in (out / "figures").iterdir())
    expected = ("max_correlation", "train_best", "all_pairs", "samples", "matches", "patients")
    assert names == sorted(f"{name}.{kind}" for name in expected for kind in ("png", "svg"))
    for path in (out / "figures").glob("*.png"):
        with Image.open(path) as image:
            assert np.asarray(image.convert("L")).std() > 1, path
    for path in (out / "figures").glob("*.svg"):
        assert path.read_text(encoding="utf-8").startswith("<?xml")


def test_matches_are_one_per_training_image_and_best_first(tmp_path):
    findings = planted_findings(tmp_path, n_copies=3)
    twice = make_store(
        tmp_path / "twice",
        np.concatenate([findings.synthetic.store.images[:3], findings.train.store.images[:1]]),
    )
    shown = best_matches(make_findings(findings.train.store, twice, findings.heldout.store))
    assert (shown[0].train, shown[0].synthetic, shown[0].orientation) == (0, 3, "identity")
    assert sorted(match.train for match in shown) == [0, 1, 2]
    assert [m.score for m in shown] == sorted((m.score for m in shown), reverse=True)
    (first, second) = most_copied(make_findings(findings.train.store, twice, findings.heldout.store))
    assert (first.patient, first.n_copies, first.train, first.synthetic) == ("patient 0", 3, 0, (3, 0))
    assert (second.patient, second.n_copies, second.train, second.synthetic) == ("patient 1", 1, 2, (2,))


def test_neighbouring_slices_are_of_the_same_patient_and_file(tmp_path, undrawn):
    rng = np.random.default_rng(5)
    images = rng.integers(0, 256, (7, 8, 8, 1), np.uint8)
    train = make_store(
        tmp_path / "train",
        images,
        sources=["a/t1.nii#4", "a/t1.nii#5", "a/t1.nii#6", "a/t2.nii#5", "b/t1.nii#6", "b/t1.nii#8", "c/lone.png"],
        patients=["a", "a", "a", "a", "b", "b", "c"],
        slices=[4, 5, 6, 5, 6, 8, 9],
        axes=("R", "A"),
    )
    shown = best_matches(make_findings(train, make_store(tmp_path / "synthetic", images, axes=("R", "A"))))
    beside = {match.train: (match.before, match.after) for match in shown}
    assert beside == {
        0: (None, 1),
        1: (0, 2),
        2: (1, None),
        3: (0, 2),
        4: (None, None),
        5: (None, None),
        6: (None, None),
    }
    page = written(tmp_path / "out", make_findings(train, make_store(tmp_path / "again", images, axes=("R", "A"))))
    assert "training, slice before" in page.words and "less like its neighbours" in page.words


def test_hostile_names_are_shown_as_text_and_survive_in_the_table(tmp_path, undrawn):
    findings = planted_findings(tmp_path, sources=HOSTILE, warnings=("<b>bold</b>",), duplicates=[tuple(range(12))])
    leaks = [Leak(kind="same image", roles=("train", "synthetic"), ids=(i, i), patient=HOSTILE[i]) for i in range(8)]
    page = written(tmp_path / "out", dataclasses.replace(findings, leaks=leaks), command="--out='\udcff<i>'")
    assert not page.all("script") and not page.all("b") and not page.all("i")
    assert "<script>alert(1)</script>.png" in page.words and "{{ 7 * 7 }}" in page.words
    assert "not utf-8 \\xff\\x80.png" in page.words and "right\\u202etfel.png" in page.words
    assert {row["synthetic"] for row in rows_of(tmp_path / "out")} == set(HOSTILE[:8])
    assert strict_json(tmp_path / "out")["duplicates"] == [list(HOSTILE)]


def test_leaks_duplicates_and_warnings_come_before_the_verdict(tmp_path, undrawn):
    leaks = [
        Leak(kind="same patient", roles=("train", "heldout"), ids=(i % 12, i % 6), patient=f"p{i}") for i in range(14)
    ]
    findings = planted_findings(tmp_path, leaks=leaks, duplicates=[(0, 4), (1, 2, 3)], warnings=("Few patients.",))
    words = written(tmp_path / "out", findings).words
    assert words.index("14 images or patients are in two of the folders") < words.index("Copies found")
    assert words.index("Few patients.") < words.index("Copies found")
    assert "The first 10; all 14 are in report.json." in words
    record = strict_json(tmp_path / "out")
    assert record["duplicates"] == [["train/0000.png", "train/0004.png"], [f"train/000{i}.png" for i in (1, 2, 3)]]
    assert record["leaks"][1] == {
        "kind": "same patient",
        "roles": ["train", "heldout"],
        "sources": ["train/0001.png", "heldout/0001.png"],
        "patient": "p1",
        "score": None,
    }


def test_without_held_out_and_without_patients(tmp_path, undrawn):
    findings = planted_findings(tmp_path, with_heldout=False, with_patients=False)
    words = written(tmp_path / "out", findings).words
    record = strict_json(tmp_path / "out")
    assert "Without held-out images it cannot be said" in words and "not known" in words
    assert "Training images copied most often" in words and "nan" not in words
    assert record["null"] is None and record["n_heldout"] == 0 and record["digests"]["heldout"] is None
    assert record["expected_by_chance"] == {"n_copies": None, "n_mem_heldout": None} and record["rate"] is None
    assert record["patients_memorized_ids"] == [f"train/000{i}.png" for i in range(3)]
    assert all(row["p_value"] == row["train_patient"] == "" for row in rows_of(tmp_path / "out"))


def test_no_copies_show_the_closest_pairs_as_such(tmp_path):
    words = written(tmp_path / "out", planted_findings(tmp_path, n_copies=0)).words
    assert "No copies found" in words and "Closest pair 1, not called a copy" in words
    assert not list((tmp_path / "out/figures").glob("patients*"))
    assert strict_json(tmp_path / "out")["verdict"] == "no copies found"


@pytest.mark.parametrize(
    "case",
    [
        {"n_synthetic": 8, "n_copies": 8},
        {"n_synthetic": 1, "n_copies": 1, "with_heldout": False, "with_patients": False},
        {"n_synthetic": 1, "n_copies": 0, "symmetry": "none"},
        {"n": 2, "n_synthetic": 2, "n_copies": 1},
        {"n_synthetic": 2, "n_copies": 0, "constant": [0, 1]},
        {"shape": (8, 8, 5), "store": {"axes": ("R", "A"), "label_channels": (4,)}},
        {"shape": (8, 8, 3), "store": {"channels": ("red", "green", "blue")}, "symmetry": "all"},
        {"score": "msd", "threshold": 0.95},
    ],
    ids=lambda case: " ".join(f"{key}={value}" for key, value in case.items()),
)
def test_unusual_audits_are_reported_whole(tmp_path, case):
    findings = planted_findings(tmp_path, **case)
    page = written(tmp_path / "out", findings)
    assert len(rows_of(tmp_path / "out")) == len(findings.synthetic.store) * K
    assert strict_json(tmp_path / "out")["n_copies"] == int(findings.decision.is_copy.sum())
    assert f"of {len(findings.synthetic.store)}" in page.words
    assert (tmp_path / "out/figures/max_correlation.svg").exists()


def test_volumes_are_shown_in_three_planes(tmp_path):
    findings = planted_findings(
        tmp_path, shape=(6, 7, 8, 1), store={"axes": ("R", "A", "S"), "spacing_mm": (1.0, 1.0, 2.0)}
    )
    words = written(tmp_path / "out", findings).words
    for plane in ("axial", "coronal", "sagittal"):
        assert f"synthetic, {plane}" in words and f"training, {plane}" in words
    assert "mirrored left–right and front–back and head–foot" in words
    assert (tmp_path / "out/figures/planes.png").exists() and not (tmp_path / "out/figures/matches.png").exists()


def test_foreground_stands_beside_the_whole_image(tmp_path, undrawn):
    findings = planted_findings(tmp_path)
    fewer = dataclasses.replace(findings.decision, threshold=0.8125)
    findings = dataclasses.replace(
        findings,
        foreground=fewer,
        foreground_null=findings.null,
        foreground_share=0.44,
        foreground_score=np.array([math.nan, *np.linspace(0, 1, 7)]),
    )
    words = written(tmp_path / "out", findings).words
    assert "Foreground only (44 % of the pixels) 0.8125" in words
    assert strict_json(tmp_path / "out")["foreground"]["decision"]["threshold"] == 0.8125
    rows = rows_of(tmp_path / "out")
    assert [row["score_foreground"] for row in rows if row["synthetic_id"] in "01"] == ["", "", "", "0", "", ""]


def test_a_report_replaces_an_older_one_whole(tmp_path, undrawn):
    out = tmp_path / "out"
    report.write(out, planted_findings(tmp_path / "a"))
    (out / "notes.txt").write_text("mine")
    (out / "figures" / "patients.png").write_bytes(b"of the older report")
    report.write(out, planted_findings(tmp_path / "b", n_copies=0))
    assert not list((out / "figures").iterdir())
    assert strict_json(out)["n_copies"] == 0
    names = [path.name for path in out.iterdir()]
    assert sorted(names) == ["figures", "notes.txt", "pairs.csv", "report.html", "report.json"]


def test_same_findings_same_bytes(found, tmp_path):
    findings, out, _ = found
    report.write(tmp_path, findings, command="python -m launch.audit --out=<here>")
    for path in sorted(out.rglob("*.*")):
        assert path.read_bytes() == (tmp_path / path.relative_to(out)).read_bytes(), path


def test_what_fails_half_way_leaves_the_older_report_and_no_rubbish(tmp_path, undrawn, monkeypatch):
    out = tmp_path / "out"
    report.write(out, planted_findings(tmp_path / "a"))
    before = {path: path.read_bytes() for path in out.rglob("*.*")}

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report.records, "write_record", full)
    with pytest.raises(UserError, match="No space left on device"):
        report.write(out, planted_findings(tmp_path / "b", n_copies=0))
    assert {path: path.read_bytes() for path in out.rglob("*.*")} == before


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    findings = planted_findings(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        report.write(tmp_path / "file", findings)
    with pytest.raises(UserError, match="cannot be written"):
        report.write(tmp_path / "file" / "below", findings)
    assert stat.S_ISREG((tmp_path / "file").stat().st_mode)


def test_every_figure_file_is_documented():
    text = DOCS.read_text(encoding="utf-8")
    assert all(f"`{name}`" in text for name in {Path(file).stem for file in figures.FILES})
