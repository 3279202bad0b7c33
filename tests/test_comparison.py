"""Audits of several generators side by side: the same numbers as their own reports, and no more said than is known."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
from pages import Page
from PIL import Image
from small_findings import make_findings, make_store, planted_findings, planted_generators

from memjax.audit.report import comparison, comparison_words, figures, report
from memjax.audit.report.compared import Audited
from memjax.errors import UserError

DOCS = Path(__file__).parents[1] / "docs"


def audited(found, **more):
    return {name: Audited(findings=one, **more) for name, one in found.items()}


def written(out, generators, **more):
    page = comparison.write(out, generators, **more)
    assert page == out / "report.html"
    return Page(page.read_text(encoding="utf-8")), strict_json(out / "comparison.json")


def strict_json(path):
    def refuse(name):
        raise AssertionError(name)

    return json.loads(path.read_text(encoding="ascii"), parse_constant=refuse)


@pytest.fixture
def undrawn(monkeypatch):
    """Spare the seconds that figures take where a test is about something else."""
    chart = figures.Chart(light=b"<svg/>", dark=b"<svg/>")
    monkeypatch.setattr(comparison.figures, "draw_comparison", lambda *_: chart)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    return planted_generators(tmp_path_factory.mktemp("two"), {"StyleGAN2": 2, "DDPM": 30})


@pytest.fixture(scope="module")
def shown(two, tmp_path_factory):
    out = tmp_path_factory.mktemp("shown")
    generators = {
        name: Audited(findings=one, link=f"{name.lower()} run/report.html", images_seen=3000)
        for name, one in two.items()
    }
    return out, *written(out, generators, command="python -m launch.demo --out=<here>")


def test_planted_copies_are_counted_by_generator(shown):
    _, page, record = shown
    words = page.words
    assert record["verdict_sentence"] == "DDPM copies more than StyleGAN2: 30 of 40 images are copies, against 2 of 40."
    assert record["verdict_sentence"] in words and "Copies found: StyleGAN2 and DDPM" in words
    assert record["copies_more_than"] == {"StyleGAN2": [], "DDPM": ["StyleGAN2"]}
    assert record["order"] == ["StyleGAN2", "DDPM"]
    assert {name: one["n_copies"] for name, one in record["generators"].items()} == {"StyleGAN2": 2, "DDPM": 30}
    assert {name: one["patients_memorized"] for name, one in record["generators"].items()} == {
        "StyleGAN2": 1,
        "DDPM": 15,
    }


def test_numbers_are_those_of_each_own_report(two, shown, tmp_path, monkeypatch):
    monkeypatch.setattr(
        report.figures, "draw", lambda *_: dict.fromkeys(figures.CHARTS, figures.Chart(light=b"", dark=b""))
    )
    _, _, record = shown
    for name, one in two.items():
        report.write(tmp_path / name, one, command="python -m launch.demo --out=<here>")
        own = strict_json(tmp_path / name / "report.json")
        assert {key: record["generators"][name][key] for key in own} == own


def test_numbers_that_only_a_comparison_has(two, shown):
    _, _, record = shown
    for name, one in two.items():
        told, best = record["generators"][name], one.synthetic_to_train.score[:, 0]
        assert told["median_score"] == np.median(best)
        assert told["n_above_p99"] == sum(best > one.null.p99) >= told["n_copies"]
        assert told["images_seen"] == 3000 and told["link"] == f"{name.lower()} run/report.html"
        copies = one.decision.n_copies
        assert told["copied_share"] == {"value": copies.value / 40, "low": copies.low / 40, "high": copies.high / 40}


def test_every_key_is_documented(shown):
    _, _, record = shown
    of_comparison, of_report = (
        set(re.findall(r"^\| `(\w+)` \|", (DOCS / name).read_text(encoding="utf-8"), re.MULTILINE))
        for name in ("comparison.md", "report.md")
    )
    assert set(record) | (set(record["generators"]["DDPM"]) - of_report) == of_comparison


def test_table_sets_every_number_beside_the_held_out_images(two, shown):
    _, page, _ = shown
    null = two["DDPM"].null
    above = [int((one.synthetic_to_train.score[:, 0] > null.p99).sum()) for one in two.values()]
    words = page.words.replace("\u00a0", " ")
    assert "StyleGAN2 DDPM Held-out (real)" in words
    assert "Images compared 40 40 20" in words
    assert "Images seen in training 3000 each about 100 times 3000 each about 100 times –" in words
    assert "Training patients shown by copies 1 of 15 6.7 %" in words
    medians = [f"{np.median(one.synthetic_to_train.score[:, 0]):.4f}" for one in two.values()]
    assert f"closest training image {' '.join(medians)} {np.median(null.score):.4f}" in words
    shares = " ".join(f"{n} of 40 {100 * n / 40:.3g} %" for n in above)
    assert f"Images above {null.p99:.4f}, one threshold for all {shares} 1 of 20 5 %" in words
    assert "40 training images" not in words and "the same 30 training images of 15 patients" in words


def test_page_loads_nothing_and_leads_to_the_full_reports(shown):
    _, page, _ = shown
    assert not page.all("script")
    assert {link["href"] for link in page.all("a")} == {"stylegan2%20run/report.html", "ddpm%20run/report.html"}
    assert all(image["src"].startswith("data:") and image["alt"] for image in page.all("img"))
    assert all(head.get("scope") in ("row", "col") for head in page.all("th"))
    alts = [image["alt"] for image in page.all("img")]
    for name in ("Real: training images", "StyleGAN2: synthetic images", "DDPM: synthetic images"):
        assert sum(alt.startswith(name) for alt in alts) == 12
    assert sum(": synthetic image" in alt and "correlation" in alt for alt in alts) == 2 + 6
    assert sum(": training image" in alt and "correlation" in alt for alt in alts) == 2 + 6


def test_figure_shows_the_copies_on_the_right(shown):
    out, _, _ = shown
    assert sorted(path.name for path in (out / "figures").iterdir()) == ["comparison.png", "comparison.svg"]
    svg = (out / "figures" / "comparison.svg").read_text(encoding="utf-8")
    for text in ("StyleGAN2", "DDPM", "Held-out", "40 images", "20 images", "threshold 0.9000"):
        assert text in svg
    with Image.open(out / "figures" / "comparison.png") as image:
        assert np.asarray(image.convert("L")).std() > 1


@pytest.mark.parametrize("n", [1, 2, 6])
def test_one_to_six_generators(tmp_path, n):
    found = planted_generators(tmp_path, {f"G{i}": 6 * i for i in range(n)})
    page, record = written(tmp_path / "out", audited(found))
    assert list(record["generators"]) == [f"G{i}" for i in range(n)]
    assert sum(len(image["alt"]) > 0 for image in page.all("img")) == len(page.all("img")) > 12 * n
    svg = (tmp_path / "out/figures/comparison.svg").read_text(encoding="utf-8")
    assert svg.count("40 images") == n and svg.count("20 images") == 1
    if n == 1:
        assert record["verdict"] == "No copies found" and "is more like a training image than" in page.words
        assert "One trained model of each kind" not in page.words
    if n == 6:
        assert record["verdict_sentence"].startswith("Which generator copies most cannot be told:"), "30 and 24 overlap"


def test_all_clean(tmp_path, undrawn):
    found = planted_generators(tmp_path / "a", {"StyleGAN2": 0, "DDPM": 0})
    page, record = written(tmp_path / "out", audited(found))
    assert record["verdict"] == "No copies found"
    assert record["verdict_sentence"].startswith("Neither of the two generators made more images")
    assert "Nothing was called a copy; these came closest." in page.words and "From most to fewest" not in page.words


def test_differing_numbers_of_images_are_told(tmp_path, undrawn):
    sizes = {"StyleGAN2": 40, "DDPM": 12}
    found = planted_generators(tmp_path / "a", {"StyleGAN2": 4, "DDPM": 9}, n_synthetic=sizes)
    page, record = written(tmp_path / "out", audited(found))
    assert {name: one["n_synthetic"] for name, one in record["generators"].items()} == sizes
    assert "Different numbers of images were looked at (40 from StyleGAN2 and 12 from DDPM)" in page.words
    assert "As many as 3 images from each would repeat training images: about 1.5 from StyleGAN2" in page.words
    other = dataclasses.replace(found["DDPM"].decision, n_matched=12)
    found["DDPM"] = dataclasses.replace(found["DDPM"], decision=other)
    assert not any("As many as" in said for said in comparison_words.limits(audited(found)))


def test_without_held_out_images_and_patients(tmp_path, undrawn):
    found = planted_generators(tmp_path / "a", {"A": 0, "B": 0}, with_heldout=False, with_patients=False)
    page, record = written(tmp_path / "out", audited(found))
    assert "cannot be said without held-out images" in record["verdict_sentence"]
    assert "Held-out (real)" not in page.words and "nan" not in page.words and "one threshold for all" not in page.words
    assert "Training patients shown by copies not known not known" in page.words
    assert record["generators"]["A"]["n_above_p99"] is None and record["generators"]["A"]["images_seen"] is None


def test_without_held_out_images_the_figure_has_no_yardstick(tmp_path):
    found = planted_generators(tmp_path, {"A": 3, "B": 0}, with_heldout=False)
    figures.draw_comparison(tmp_path, found)
    assert "Held-out" not in (tmp_path / "comparison.svg").read_text(encoding="utf-8")


def test_volumes_and_turned_copies(tmp_path, undrawn):
    space = {"axes": ("R", "A", "S"), "spacing_mm": (1.0, 1.0, 2.0)}
    found = planted_generators(tmp_path / "a", {"A": 3, "B": 0}, shape=(5, 6, 7, 1), n_synthetic=6, store=space)
    written(tmp_path / "volumes", audited(found))
    turned = planted_findings(tmp_path / "b")
    page, _ = written(tmp_path / "turned", {"A": Audited(findings=turned)})
    assert "training, turned by 180°" in page.words


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda a, b: {"train": b.train},
            r"the training set differs: /data/train \(digest \w{12}…\) for A, /data/train",
        ),
        (lambda a, b: {"heldout": b.heldout}, "the held-out set differs"),
        (lambda a, b: {"heldout": None}, r"the held-out set differs: /data/heldout \(.*\) for A, none for B"),
        (lambda a, b: {"score": "msd"}, "the score differs: correlation for A, msd for B"),
        (lambda a, b: {"orientations": ("identity",)}, "orientation differs"),
        (
            lambda a, b: {"decision": dataclasses.replace(a.decision, rate=0.2)},
            "calling copies differs: fdr 0.01 for A, fdr 0.2 for B",
        ),
        (lambda a, b: {"null": dataclasses.replace(a.null, score=a.null.score / 2)}, "score differently"),
    ],
)
def test_audits_of_other_images_or_questions_are_refused(two, tmp_path, change, message):
    one = two["DDPM"]
    rng = np.random.default_rng(1)
    train, heldout = (make_store(tmp_path / n, rng.integers(0, 256, (5, 8, 8, 1), np.uint8)) for n in ("t", "h"))
    other = make_findings(train, one.synthetic.store, heldout)
    changed = dataclasses.replace(one, **change(one, other))
    with pytest.raises(UserError, match=message):
        comparison.write(tmp_path / "out", audited({"A": one, "B": changed}))
    assert not (tmp_path / "out").exists()


def test_what_all_audits_warn_of_is_told_once(two, tmp_path, undrawn):
    common = {name: dataclasses.replace(one, warnings=("Few patients.",)) for name, one in two.items()}
    common["DDPM"] = dataclasses.replace(common["DDPM"], warnings=("Few patients.", "Grey."), duplicates=[(0, 1)])
    page, _ = written(tmp_path / "out", audited(common, link="own/report.html"))
    assert page.words.count("Few patients.") == 1 and "DDPM: Grey." in page.words
    assert "own/report.html#duplicates" in {link["href"] for link in page.all("a")}


def test_hostile_names_are_shown_as_text(two, tmp_path):
    names = ("<script>alert(1)</script>", "$\\frac{1}{0}$ {{ 7 * 7 }}")
    page, record = written(tmp_path / "out", audited(dict(zip(names, two.values(), strict=True))))
    assert not page.all("script") and all(name in page.words for name in names)
    assert tuple(record["generators"]) == names


def test_a_report_of_either_kind_replaces_the_other_whole(two, tmp_path, undrawn, monkeypatch):
    monkeypatch.setattr(
        report.figures, "draw", lambda *_: dict.fromkeys(figures.CHARTS, figures.Chart(light=b"", dark=b""))
    )
    out = tmp_path / "out"
    report.write(out, two["DDPM"])
    (out / "ddpm").mkdir()
    (out / "ddpm" / "report.html").write_text("its own")
    comparison.write(out, audited(two))
    assert sorted(path.name for path in out.iterdir()) == ["comparison.json", "ddpm", "figures", "report.html"]
    report.write(out, two["DDPM"])
    names = ["ddpm", "figures", "pairs.csv", "report.html", "report.json"]
    assert sorted(path.name for path in out.iterdir()) == names
    assert (out / "ddpm" / "report.html").read_text() == "its own"


def test_what_fails_half_way_leaves_the_older_report(two, tmp_path, undrawn, monkeypatch):
    out = tmp_path / "out"
    comparison.write(out, audited(two))
    before = {path: path.read_bytes() for path in out.rglob("*.*")}

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(comparison.comparison_page, "render", full)
    with pytest.raises(UserError, match="No space left on device"):
        comparison.write(out, audited(dict(reversed(two.items()))))
    assert {path: path.read_bytes() for path in out.rglob("*.*")} == before


def test_same_findings_same_bytes(two, shown, tmp_path):
    out, _, _ = shown
    generators = {
        name: Audited(findings=one, link=f"{name.lower()} run/report.html", images_seen=3000)
        for name, one in two.items()
    }
    comparison.write(tmp_path, generators, command="python -m launch.demo --out=<here>")
    for path in sorted(out.rglob("*.*")):
        assert path.read_bytes() == (tmp_path / path.relative_to(out)).read_bytes(), path
