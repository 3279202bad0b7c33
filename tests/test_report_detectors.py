"""Several detectors, the growth curve and readers in the report: every number with its rule, no section unasked."""

import csv
import dataclasses
import json
import math

import numpy as np
import pytest
from pages import Page
from PIL import Image
from small_findings import planted_findings, with_detectors

from memjax.audit.findings import Confusion, Growth, Interval
from memjax.audit.report import detector_charts, detectors_words, figures, growth_words, readers_words, report, words
from memjax.audit.report.detected import best_heldout, everyone
from memjax.audit.report.detectors_record import COLUMNS
from memjax.audit.report.missed import missed_matches
from memjax.audit.report.theme import LIGHT, style
from memjax.audit.wilson import wilson

SECTIONS = ("Several detectors", "What readers saw", "If more images were drawn")
NEW_FIGURES = {
    "agreement",
    "growth",
    "candidates",
    "candidates_2",
    "pixels_against_embedding",
    "pixels_against_embedding_2",
}


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """Three mirrored copies: the pixels as they lie show none of them, the other detectors do."""
    folder = tmp_path_factory.mktemp("several")
    findings = with_detectors(planted_findings(folder, constant=[7]))
    report.write(folder / "out", findings)
    return findings, folder / "out", Page((folder / "out" / "report.html").read_text(encoding="utf-8"))


@pytest.fixture
def undrawn(monkeypatch):
    """Spare the seconds that figures take where a test is about something else."""
    chart = figures.Chart(light=b"<svg/>", dark=b"<svg/>")
    monkeypatch.setattr(report.figures, "draw", lambda *_: dict.fromkeys(figures.CHARTS, chart))


def record_of(out):
    return json.loads((out / "report.json").read_text(encoding="ascii"))


def test_page_has_a_section_for_each_and_is_accessible(several):
    findings, _, page = several
    for heading in SECTIONS:
        assert heading in page.words
    for detector in everyone(findings):
        assert detector.title in page.words and detector.source in page.words
    assert "In equal sets" in page.words and "1.5 against 0" in page.words
    assert "(Bonferroni, which holds however alike the detectors are)" in page.words
    assert "the training images" in page.words and "images that it is not asked about: a control" in page.words
    assert "called by Pixel correlation, best orientation; Distance of embeddings by net" in page.words
    assert all(head.get("scope") in ("row", "col") for head in page.all("th"))
    assert all(image["alt"] for image in page.all("img"))
    assert "nan" not in page.words.lower().split() and "None" not in page.words
    assert "Landis" in page.words and "Colwell" in page.words and "2402.01054" in page.words


def test_every_number_is_in_the_record(several):
    findings, out, _ = several
    record = record_of(out)
    names = ["correlation", "correlation-unturned", "embedding-msd:net", "embedding-correlation:other"]
    assert [one["name"] for one in record["detectors"]] == record["agreement"]["names"] == names
    assert [one["n_copies"] for one in record["detectors"]] == findings.agreement.calls.sum(0).tolist()
    assert record["detectors"][0]["n_copies"] == record["n_copies"] == 3
    assert record["detectors"][0]["threshold"] == record["threshold"]
    called = {tuple(group["detectors"]): group["n"] for group in record["agreement"]["called_by"]}
    assert sum(called.values()) == 8
    for d, name in enumerate(names):
        assert sum(n for group, n in called.items() if name in group) == findings.agreement.calls[:, d].sum()
    own = record["detectors"][0]["tau"]
    best = findings.train_to_heldout.score.max(1)
    assert own["threshold"] == pytest.approx(np.percentile(best, 95))
    assert own["n_mem"] == (findings.train_to_synthetic.score[:, 0] > own["threshold"]).sum()
    assert own["n_copies"] == (findings.synthetic_to_train.score[:, 0] > own["threshold"]).sum()
    images, patients = record["growth"]
    assert (images["of"], images["found"], patients["of"], patients["found"]) == ("images", 3, "patients", 2)
    assert len(images["curve"]["drawn"]) == len(images["curve"]["high"]) and images["curve"]["drawn"][-1] == 80
    assert record["readers"]["names"] == ["Ada", "Blaise"] and record["readers"]["n_copy"] == 3
    assert record["readers"]["detectors"][0]["sensitivity"]["value"] == 1.0


def test_table_of_detectors_has_every_image_and_detector(several):
    findings, out, _ = several
    with (out / "detectors.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS == ("synthetic", "detector", "train", "score", "p_value", "copy", "train_patient")
    assert len(rows) == 8 * 4
    for row in rows:
        s = int(row["synthetic"].split("/")[1].split(".")[0])
        one = next(one for one in everyone(findings) if one.name == row["detector"])
        assert row["copy"] == ("true" if one.decision.is_copy[s] else "false")
        id_ = one.synthetic_to_train.id[s, 0]
        if id_ < 0:
            assert row["train"] == row["score"] == row["p_value"] == row["train_patient"] == ""
            continue
        item = findings.train.store.items[id_]
        assert (row["train"], row["train_patient"]) == (item.source, item.patient)
        assert float(row["score"]) == pytest.approx(one.synthetic_to_train.score[s, 0], rel=1e-8)
        assert float(row["p_value"]) == pytest.approx(one.decision.p_value[s], rel=1e-8)


def test_figures_are_drawn_and_open(several):
    _, out, _ = several
    names = {path.stem for path in (out / "figures").iterdir()}
    assert names >= NEW_FIGURES and {f"{name}.svg" for name in names} <= set(figures.FILES)
    for name in NEW_FIGURES:
        with Image.open(out / "figures" / f"{name}.png") as image:
            assert np.asarray(image.convert("L")).std() > 1, name


def test_one_detector_leaves_no_empty_section(tmp_path, undrawn):
    report.write(tmp_path, planted_findings(tmp_path / "data"))
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert not any(heading in page.words for heading in SECTIONS)
    assert "called by" not in page.words and "detectors.csv" not in page.words
    assert not (tmp_path / "detectors.csv").exists()
    record = record_of(tmp_path)
    assert (record["detectors"], record["agreement"], record["growth"], record["readers"]) == ([], None, [], None)


def test_an_older_table_of_detectors_does_not_stay(tmp_path, undrawn):
    findings = planted_findings(tmp_path / "data")
    report.write(tmp_path / "out", with_detectors(findings))
    assert (tmp_path / "out" / "detectors.csv").exists()
    report.write(tmp_path / "out", findings)
    assert not (tmp_path / "out" / "detectors.csv").exists()


def test_what_only_others_find_is_said_first_and_shown(tmp_path, undrawn):
    findings = with_detectors(planted_findings(tmp_path / "data", threshold=2.0), readers=False)
    assert not findings.decision.is_copy.any() and findings.growth == []
    missed = missed_matches(findings)
    assert {(match.synthetic, match.train) for match in missed} >= {(0, 0), (1, 1), (2, 2)}
    for match in missed[:3]:
        assert match.orientation == "rot180" and match.correlation > 0.9, "turned as the pixels fit"
        assert match.found_by in findings.detectors and match.found_by.title in match.called_by
    report.write(tmp_path / "out", findings)
    page = Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    said = page.words
    more = int(findings.agreement.is_copy.sum())
    assert more >= 3 and f"together call {more} more images copies that the numbers below do not count." in said
    assert said.index("the numbers below do not count") < said.index("Copies found")
    assert f"{more} of 8 synthetic images are copies by all 4 detectors together, though not by correlation" in said
    assert "missed" in {attributes.get("id") for _, attributes in page.tags}
    assert "Called copies by other detectors, alone or together" in said and "pixel correlation 0.9" in said
    assert "If more images were drawn" not in said


def test_without_held_out_images_nothing_is_said_of_them(several, tmp_path, undrawn):
    findings, _, _ = several
    unknown = {"null": None, "heldout_to_train": None, "train_to_heldout": None}
    nowhere = {
        "n_mem_size_matched": math.nan,
        "n_mem_heldout": math.nan,
        "n_copies_by_chance": math.nan,
        "n_matched": 0,
    }
    bare = dataclasses.replace(findings.decision, **nowhere)
    others = [
        dataclasses.replace(one, **unknown, tau=math.nan, decision=dataclasses.replace(one.decision, **nowhere))
        for one in findings.detectors
    ]
    bare = dataclasses.replace(findings, **unknown, heldout=None, decision=bare, detectors=others, agreement=None)
    report.write(tmp_path, bare)
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "Several detectors" in page.words and "In equal sets" not in page.words and "τ" not in page.words
    assert "All together" not in page.words and "nan" not in page.words.lower().split()
    assert record_of(tmp_path)["detectors"][1]["tau"]["threshold"] is None
    assert len(detector_charts.candidates(others[1], dataclasses.replace(bare, labelled=None), LIGHT).axes) == 1


def test_own_detector_is_not_listed_twice(several):
    findings, _, _ = several
    again = dataclasses.replace(findings.detectors[0], name="correlation")
    twice = dataclasses.replace(findings, detectors=[again, *findings.detectors])
    assert [one.name for one in everyone(twice)] == [one.name for one in everyone(findings)]


def test_held_out_images_that_leaked_do_not_count(several):
    findings, _, _ = several
    nearest = findings.train_to_heldout
    used = np.setdiff1d(np.arange(6), nearest.id[0, 0])
    assert best_heldout(nearest, used)[0] == nearest.score[0, 1]
    assert best_heldout(None, used).size == 0


def test_combinations_of_detectors_are_bars_with_dots(several):
    findings, _, _ = several
    calls = np.array([[1, 1, 0, 0]] * 3 + [[0, 0, 0, 1]] * 2 + [[1, 1, 1, 1]] + [[0, 0, 0, 0]] * 2, bool)
    agreed = dataclasses.replace(findings.agreement, calls=calls)
    figure = detector_charts.agreement(dataclasses.replace(findings, agreement=agreed), LIGHT)
    bars, dots = figure.axes
    assert [patch.get_height() for patch in bars.patches] == [3, 2, 1]
    joined = [line.get_ydata().tolist() for line in dots.lines if line.get_linestyle() == "-"]
    assert joined == [[0, 1], [3], [0, 1, 2, 3]]
    assert [text.get_text().split("  ")[-1] for text in dots.get_yticklabels()] == ["4", "4", "1", "3"]


def test_distances_are_drawn_as_distances(several):
    findings, _, _ = several
    msd = next(one for one in findings.detectors if one.name == "embedding-msd:net")
    assert detectors_words.threshold(msd).startswith("below 0.")
    with style(LIGHT):
        figure = detector_charts.candidates(msd, findings, LIGHT)
    titles = [axes.get_title("left") for axes in figure.axes]
    assert titles[2:] == ["Pairs that both readers call copies", "Pairs that both readers call novel"]
    assert "3 pairs" in [text.get_text() for text in figure.axes[2].texts]
    copies = [patch for patch in figure.axes[2].patches if patch.get_height() > 0]
    novel = [patch for patch in figure.axes[3].patches if patch.get_height() > 0]
    assert max(patch.get_x() for patch in copies) < min(patch.get_x() for patch in novel), "copies are nearer"
    unread = detector_charts.candidates(msd, dataclasses.replace(findings, labelled=None), LIGHT)
    assert len(unread.axes) == 2
    points = detector_charts.pixels_against_embedding(msd, findings, LIGHT).axes[0]
    labels = [text.get_text() for text in points.get_legend().get_texts()]
    assert labels == ["not called a copy", "copy, flipped or turned"] and points.yaxis_inverted()


def test_growth_is_said_in_plain_words():
    growth = Growth(
        of="patients",
        n_drawn=1000,
        n_copies=40,
        n_train=65,
        found=17,
        drawn=np.array([1000, 10000]),
        expected=np.array([17, 36.6]),
        low=np.array([14, 25.2]),
        high=np.array([20, 60.8]),
        tenfold=Interval(value=36.6, low=25.2, high=60.8),
        chao1=Interval(value=38.0, low=22.0, high=65.0),
        ace=Interval(value=41.0, low=25.0, high=65.0),
    )

    first, cap = growth_words.sentences([growth])
    assert first.replace("\u202f", "") == (
        "The 40 copies among 1000 synthetic images show 17 different training patients. Drawing 10 times as many "
        "images (10000) would reveal about 37 (25 to 61) of the 65 training patients. However many are drawn, about 38 "
        "(22 to 65) or more can be shown (Chao1); a second estimate is 41 (25 to 65) (ACE)."
    )
    assert cap == "Estimates end at 65, all training patients that there are."


def test_sensitivity_and_specificity_are_of_the_readers():
    """The follow-up's published labels (MRNet, first model): 34, 6, 2, 58."""
    published = Confusion(name="x", both_copy=34, only_detector=6, only_readers=2, both_novel=58)
    row = readers_words.row(published, "title")
    assert [text.replace("\u00a0", " ") for text in row.sensitivity] == ["94.4 %", "81.9 to 98.5 %"]
    assert [text.replace("\u00a0", " ") for text in row.specificity] == ["90.6 %", "81 to 95.6 %"]
    z, n, p = 1.959964, 36, 34 / 36
    middle, half = (p + z * z / (2 * n)), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    interval = wilson(34, 36)
    assert (interval.low, interval.high) == pytest.approx(
        ((middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)), abs=1e-6
    )
    assert math.isnan(wilson(0, 0).value)
    nothing = Confusion(name="x", both_copy=0, only_detector=1, only_readers=0, both_novel=2)
    assert readers_words.row(nothing, "title").sensitivity == ("–", "")


def test_one_reader_is_no_consensus(several, tmp_path, undrawn):
    findings, _, _ = several
    alone = dataclasses.replace(
        findings.labelled,
        readers=("<b>Ada</b>",),
        n_both=0,
        kappa=math.nan,
        synthetic=np.array([], int),
        train=np.array([], int),
        is_copy=np.array([], bool),
    )
    report.write(tmp_path, dataclasses.replace(findings, labelled=alone))
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "Without a second reader there is no consensus" in page.words and "<b>Ada</b>" in page.words
    assert "Sensitivity" not in page.words and not page.all("b")


def test_nothing_more_is_promised(several):
    findings, _, _ = several
    said = [
        *detectors_words.introduction(findings),
        detectors_words.followup(findings),
        detectors_words.combined(findings.agreement, findings),
        detectors_words.agreement_sentence(findings.agreement),
        *growth_words.sentences(findings.growth),
        *growth_words.cautions(),
        *readers_words.sentences(findings.labelled),
        *(alert.text for alert in words.alerts(findings)),
    ]
    for text in said:
        assert not any(word in text.lower() for word in ("safe", "anonym", "guarantee", "nan", "proven")), text
    assert said[0].startswith("One way of comparing images is one opinion. So 3 other detectors were asked")
