"""The report of a study: what the page says and links to, that it is replaced whole, and how a browser shows it."""

import base64
import dataclasses
import os
import time

import numpy as np
import pytest
from browsers import MARKS, chromium
from pages import Page
from small_studies import growth, row, scores, study

from memjax.audit.report.theme import DARK, LIGHT
from memjax.errors import UserError
from memjax.study import report, words
from memjax.study.beside import beside
from memjax.study.claims import CLAIMS
from memjax.study.figures import planned
from memjax.study.palette import in_dark
from memjax.study.row import Row
from memjax.study.table import read_table

SHOWN = "return [...document.images].filter(i => i.offsetWidth).map(i => [i.className, i.naturalWidth])"
DRAWN = base64.b64encode(b"a picture of patients").decode()
ABOUT = {"title": "Sizes", "question": "Do small sets matter?", "hardware": "2 CPU cores", "command": "launch.study"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return the folder of a study's report with all claims, and a volume beside."""
    folder = tmp_path_factory.mktemp("study")
    report.write(folder, claims=list(CLAIMS), rows=study(), **ABOUT)
    return folder


def test_the_page_answers_first_and_says_what_is_behind_it(folder):
    page = Page((folder / "report.html").read_text(encoding="utf-8"))
    said = page.words.replace("\u00a0", " ")
    answer = said.index("Up to 87.8 % of a generator's images are copies of training images.")
    assert said.index("Do small sets matter?") < answer < said.index("A1: Diffusion against GAN")
    assert "Copies found in 20 of 24 cells" in said and "27 of 29" in said and "the loss is" not in said
    for shown in (
        "chest phantoms: drawn by this program",
        "the training stopped: its loss is not finite at step 1200; lower optim.rate.",
        "Akbar et al. 2025, figures 2 and 5: one pair each, not a mean",
        "arXiv 2402.01054 version 1, abstract",
        "Ours: chest phantoms (phantoms, drawn by this program), 32 × 32; on 2 CPU cores.",
        "FID was computed on as few as 64 images",
        "arXiv 2505.17638",
    ):
        assert shown in said, shown
    links = [link["href"] for link in page.all("a")]
    assert "cells/ddpm-64-80000-1/report.html" in links and "#failed" in links
    assert all(image["src"].startswith("data:image/svg+xml") for image in page.all("img"))
    assert len(read_table(folder)) == 29 and not list(folder.glob(".report-*"))


def test_each_planned_figure_is_on_the_page_and_in_its_files(folder):
    names = [one.name for one in planned(study())]
    assert names[:3] == ["memorization_generator", "memorization_n_train", "memorization_images_seen"]
    assert names[3:] == ["pareto", "scores_generators", "scores_sizes", "scores_unseen", "emm", "growth"]
    files = {path.name for path in (folder / "figures").iterdir()}
    assert files == {f"{name}.{kind}" for name in names for kind in ("png", "svg")}
    page = Page((folder / "report.html").read_text(encoding="utf-8"))
    assert len([image for image in page.all("img") if image["class"] == "light"]) == len(names)


def test_pictures_are_those_of_the_cells_own_reports_and_on_their_own_page(tmp_path):
    drawn = tmp_path / "stages/audit-1/figures/samples.png"
    drawn.parent.mkdir(parents=True)
    drawn.write_bytes(b"a picture of patients")
    rows = [
        row(12, n_train=64, report="stages/audit-1/report.html"),
        row(0, n_train=256, report="stages/audit-2/report.html"),
        Row(cell="later", axes=row(n_train=1024).axes, status="waiting"),
    ]
    report.write(tmp_path, claims=["A2"], rows=rows, **ABOUT)
    page = Page((tmp_path / "pictures.html").read_text(encoding="utf-8"))
    assert [image["src"] for image in page.all("img")] == [f"data:image/png;base64,{DRAWN}"]
    assert "12 of 400 are copies." in page.words and "Its report has no pictures." in page.words
    assert "1024" not in page.words, "a cell that is not finished"
    links = [link["href"] for link in page.all("a")]
    assert links == ["report.html", "stages/audit-1/report.html", "stages/audit-2/report.html"]
    answer = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert 'href="pictures.html"' in answer and "data:image/png;" not in answer


def test_a_cell_that_cannot_be_decided_is_told(tmp_path):
    clean = row(0, n_train=64)
    near = dataclasses.replace(clean, memorization=dataclasses.replace(clean.memorization, p_beyond=1e-6))
    sure = dataclasses.replace(clean, memorization=dataclasses.replace(clean.memorization, p_beyond=0.4))
    said = "1 cell no image can be called a copy, but the images are nearer"
    assert any(said in alert.text for alert in words.alerts([near, clean, sure]))
    assert not any("no image can be called" in alert.text for alert in words.alerts([clean, sure]))
    assert (words.found([near, clean], []), words.found([clean, sure], [])) == ("Undecided", "No copies found")


def test_a_new_report_replaces_the_old_one_and_leaves_the_rest(tmp_path):
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / "done.json").write_text("{}")
    abandoned = tmp_path / ".report-old"
    abandoned.mkdir()
    long_ago = time.time() - 7200
    os.utime(abandoned, (long_ago, long_ago))
    rng = np.random.default_rng(0)
    sizes = [row(80, n_train=n, scores=scores(rng, 0.2, n_train=n), growth=[growth(400, 20, n)]) for n in (64, 256)]
    report.write(tmp_path, claims=["A2"], rows=sizes, **ABOUT)
    assert (tmp_path / "figures" / "growth.png").exists()
    waiting = [Row(cell=one.cell, axes=one.axes, status="waiting") for one in sizes]
    page = report.write(tmp_path, claims=["A2"], rows=waiting, **ABOUT)
    assert "No cell is finished yet." in page.read_text(encoding="utf-8")
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["figures", "pictures.html", "report.html", "stages", "table.csv", "table.json"]
    assert not list((tmp_path / "figures").iterdir()) and (tmp_path / "stages" / "done.json").exists()


def test_nothing_is_written_for_an_unknown_claim(tmp_path):
    with pytest.raises(UserError, match="'Z1'"):
        report.write(tmp_path / "out", claims=["Z1"], rows=[], **ABOUT)
    assert not (tmp_path / "out").exists()


def test_volumes_lengths_and_augmentation_have_their_figures():
    rng = np.random.default_rng(0)
    shape = {"shape": (32, 32, 32, 1), "generator": "latent", "data": "hippocampus"}
    rows = [
        row(copies, n=2000, n_train=n_train, images_seen=length, scores=scores(rng, 0.1, n_train=n_train), **shape)
        for n_train, onset in ((64, 2000), (256, 8000))
        for length in (1000, 4000, 16000)
        for copies in [round(100 * (length / onset) ** 0.5)]
    ]
    names = [one.name for one in planned(rows)]
    assert "onset" in names and "scores_training" in names and "pareto" not in names
    augmented = [row(copies, augmentation=name, **shape) for name, copies in (("none", 80), ("flips", 20))]
    (one,) = [line for line in beside(["MITIGATION"], augmented) if line.theirs == "41 %"]
    assert [text.replace("\u00a0", " ") for text in one.ours] == ["31.2 % (18.8 to 43.8 %)"]  # 20 of 64, with flips


def test_a_dark_chart_has_no_light_colour_left():
    colours = [LIGHT.paper, LIGHT.ink, LIGHT.synthetic, LIGHT.copy]
    dark = in_dark(" ".join(colours).encode()).decode().split()
    assert dark == [DARK.paper, DARK.ink, DARK.synthetic, DARK.copy]


class TestInABrowser:
    pytestmark = MARKS

    def test_the_page_fits_in_silence(self, folder, tmp_path):
        browser = chromium(tmp_path / "profile")
        try:
            for width, scheme in ((400, "dark"), (1200, "light")):
                size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
                browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
                features = [{"name": "prefers-color-scheme", "value": scheme}]
                browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "screen", "features": features})
                browser.get((folder / "report.html").as_uri())
                assert browser.get_log("browser") == []
                script = "const e = document.documentElement; return e.scrollWidth - e.clientWidth"
                assert browser.execute_script(script) == 0
                shown = browser.execute_script(SHOWN)
                assert {name for name, _ in shown} == {scheme} and min(width for _, width in shown) > 100
        finally:
            browser.quit()
