"""Single stages of a study: what a release takes out, where a training goes on, what the table wants of an audit."""

import dataclasses

import numpy as np
import pytest
from small_findings import make_findings, make_store, planted_findings

from configs.studies import base
from launch.studying import outcome, perform
from launch.studying.asked import check_asked, check_sources
from launch.studying.grid import Cell
from launch.studying.stage import Stage
from memjax.audit.findings import Agreement
from memjax.data.store import Store
from memjax.errors import UserError


def test_a_release_leaves_what_only_the_other_detectors_call(tmp_path, monkeypatch):
    """They are to judge what is left, so that they must have no say in it."""
    found = planted_findings(tmp_path / "stores", sources=[f"{i}.png" for i in range(12)])
    n = len(found.synthetic.store)
    all_, square = np.ones(n, bool), np.ones((2, 2))
    calls = Agreement(
        names=("correlation", "ratio"), calls=np.ones((n, 2), bool), p_value=np.zeros((n, 2)), combined_p=np.zeros(n),
        is_copy=all_, rate=0.05, kappa=square, n_patients_memorized=3,
    )  # fmt: skip
    monkeypatch.setattr(perform, "_findings", lambda *_: dataclasses.replace(found, agreement=calls))
    sample = Stage(kind="sample", settings={})
    audited = Stage(kind="audit", settings={}, after={"sample": sample})
    stage = Stage(kind="release", settings={}, after={"audit": audited})
    perform.perform(stage, tmp_path)
    assert len(Store.open(stage.folder(tmp_path) / "images")) == n - found.decision.is_copy.sum() > 0


def test_a_shorter_training_has_a_folder_of_its_own_where_a_longer_one_went_past_it(tmp_path):
    assert perform._run_folder(tmp_path, 10).name == "run"
    (tmp_path / "run" / "checkpoints" / "15").mkdir(parents=True)  # interrupted, before there were weights
    assert perform._run_folder(tmp_path, 20).name == perform._run_folder(tmp_path, 15).name == "run"
    assert perform._run_folder(tmp_path, 10).name == "run-10"
    (tmp_path / "run" / "weights").mkdir()
    (tmp_path / "run" / "weights" / "step_00000010.safetensors").touch()
    assert perform._run_folder(tmp_path, 10).name == "run"


def test_nearest_real_images_count_by_their_patients(tmp_path):
    """Four of five synthetic images are nearest to one held-out patient's: 25 / (16 + 1) patients in effect."""
    images = np.random.default_rng(0).integers(0, 255, (6, 8, 8, 1), np.uint8)
    train = make_store(tmp_path / "train", images[:2], patients=["a", "b"])
    heldout = make_store(tmp_path / "heldout", images[2:], patients=["c", "c", "d", "e"])
    synthetic = make_store(tmp_path / "synthetic", images[[2, 3, 2, 2, 0]])
    group = make_findings(synthetic=synthetic, train=heldout).synthetic_to_train
    found = dataclasses.replace(make_findings(train, synthetic, heldout), synthetic_to_heldout=group)
    assert outcome._n_nearest(found) == pytest.approx(25 / 17)
    assert np.isnan(outcome._n_nearest(dataclasses.replace(found, synthetic_to_heldout=None)))


@pytest.mark.parametrize(
    ("part", "changes", "told"),
    [
        (None, {"claims": ("A9",)}, "config.claims names 'A9'"),
        ("audit", {"threshold": "p90"}, "config.audit.threshold='p90' is none of fdr"),
        ("audit", {"rate": 5}, "config.audit.rate=5 must be"),
        ("audit", {"detectors": ("ratios",)}, "did you mean ratio"),
        ("audit", {"detectors": ("embedding-msd:descriptor",)}, "there is no detector"),
        ("quality", {"features": "vgg"}, "config.quality.features='vgg' is none of random"),
        ("quality", {"weights": "file.pth"}, "is for features inception"),
        ("quality", {"features": "inception"}, "as --config.quality.weights"),
        ("quality", {"features": "inception", "weights": "nowhere.pth"}, "nowhere.pth"),
    ],
)
def test_what_there_is_not_is_told_before_anything_is_trained(part, changes, told):
    c = base.base("A study", "Does it?", ("A2",)).to_dict()
    check_asked(c)
    (c[part] if part else c).update(changes)
    with pytest.raises(UserError, match=told):
        check_asked(c)


def test_a_longer_training_took_what_the_shorter_ones_took_that_it_goes_on_from(tmp_path):
    for mark, seconds, run in ((10, 3.0, "run"), (15, 50.0, "run-15"), (20, 5.0, "run"), (30, 100.0, "run")):
        stage = Stage(kind="train", settings={}, mark=mark)
        stage.folder(tmp_path).mkdir(parents=True, exist_ok=True)
        stage.finish(tmp_path, seconds, {"run": run})
    assert outcome._seconds(Stage(kind="train", settings={}, mark=20), tmp_path) == 8


def test_a_damaged_audit_is_told(tmp_path):
    (tmp_path / "memorization.json").write_text("{")
    (tmp_path / "scores.npz").write_text("")
    for read, name in ((outcome.read_json, "memorization.json"), (outcome._scores, "scores.npz")):
        with pytest.raises(UserError, match="to do it again"):
            read(tmp_path / name)


def test_scores_that_failed_do_not_hide_what_the_audit_found(tmp_path):
    found = planted_findings(tmp_path / "stores")
    data = Stage(kind="data", settings={})
    sample = Stage(kind="sample", settings={}, after={"data": data})
    after = {"data": data, "sample": sample}
    parts = {"data": data, "sample": sample, "audit": Stage(kind="audit", settings={}, after=after)}
    parts["quality"] = Stage(kind="quality", settings={}, after=after)
    cell = Cell(name="all", axes={"generator": "training"}, parts=parts)
    told = {"name": "chest", "is_phantom": True, "is_sliced": False, "shape": [8, 8, 1], "n_heldout": 6}
    facts = {"data": told | {"n_train": 12, "n_train_patients": 6}, "audit": {"n_synthetic": 8}}
    for name in ("data", "sample", "audit"):
        parts[name].folder(tmp_path).mkdir(parents=True)
        parts[name].finish(tmp_path, 1.0, facts.get(name, {}))
    audit = parts["audit"].folder(tmp_path)
    outcome.keep(audit, found)
    (audit / "report.json").write_text('{"growth": []}')

    def row(failed):
        return outcome.row(cell, tmp_path, failed=failed, beside=tmp_path)

    assert row({}).status == "waiting"
    scored = row({parts["quality"].name: "memory ran out"})
    assert (scored.status, scored.error, scored.quality) == ("done", "memory ran out", None)
    assert scored.memorization and scored.memorization.n_copies.value == found.decision.is_copy.sum()


def test_images_that_changed_since_they_were_prepared_are_refused(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    (images / "one.png").write_bytes(b"1")
    source = Stage(kind="source", settings={"input": {"path": str(images)}}, aside={"path": str(images)})
    cell = Cell(name="all", axes={}, parts={"data": source})
    source.folder(tmp_path).mkdir(parents=True)
    source.finish(tmp_path, 1.0, {"look": perform.outward_look(images)})
    check_sources([cell], tmp_path)
    (images / "two.png").write_bytes(b"2")
    with pytest.raises(UserError, match="images changed since it became"):
        check_sources([cell], tmp_path)
