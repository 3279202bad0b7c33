"""The detectors' trial judges by known answers, finds what detectors are made for, and refuses what it cannot use."""

import dataclasses
import json
import subprocess

import numpy as np
import pytest
from launching import ROOT, command, noise, store
from scipy import ndimage

from launch.benchmark import planted, planted_stores, trial
from launch.benchmark.detectors import Asked, caption, main
from launch.benchmark.parties import divide
from memjax.audit.findings import Neighbours
from memjax.data.embeddings import write_embeddings
from memjax.data.store import Store
from memjax.errors import UserError


def smooth_store(path, n=60, seed=0):
    """Write n smooth images, each of another patient."""
    rng = np.random.default_rng(seed)
    drawn = np.stack([ndimage.gaussian_filter(rng.normal(size=(16, 16)), 1.5) for _ in range(n)])
    drawn = (drawn - drawn.min()) / np.ptp(drawn)
    images = np.round(255 * drawn).astype(np.uint8)[..., None]
    return store(path, images, patient=[f"p{i}" for i in range(n)])


@dataclasses.dataclass(frozen=True)
class Oracle:
    """Stands for a detector: of what `judge` is told, no more."""

    name: str = "oracle"
    invariant_to: tuple[str, ...] = ("flips", "noise")
    law: str = "closeness"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    parties = divide(smooth_store(tmp_path_factory.mktemp("s") / "s", 120), 0.5, seed=0)
    return trial.plan(parties, planted.cells_of((16, 16), ("row", "column")), copies=20, seed=0)


def judged(made, score, id_):
    nearest = Neighbours(score=score[:, None], id=id_[:, None], orientation=np.zeros((len(score), 1), np.int16))
    found = trial.calibrate(made, Oracle(), nearest)
    return {(row["work"], row["label"]): row for row in trial.judge(made, found)}


def test_rows_are_those_of_known_scores(made):
    """Strangers have normal scores; each kind of copy lies where its numbers can be told beforehand."""
    rng = np.random.default_rng(0)
    score, id_ = rng.normal(0, 1, len(made.query)), np.full(len(made.query), -1)
    strangers = score[-made.n_unseen :]
    flips, shifts, turns = (made.parts[name] for name in ("flip row", "shift 4 %", "turn 90°"))
    score[flips], id_[flips] = 30, made.copied
    score[shifts], id_[shifts] = -30, made.copied
    score[turns] = strangers.mean()
    id_[turns.start : turns.start + 5] = made.copied[:5]
    score[made.parts["exact"]] = -np.inf
    rows = judged(made, score, id_)

    found = rows["flip", "row"]
    assert (found["auc"], found["auc_high"], found["sensitivity_1"], found["top1"], found["called"]) == (1, 1, 1, 1, 1)
    assert 0.8 < found["auc_low"] < 1 and found["n"] == 20 and found["false_discoveries"] == 0
    assert found["roc"] == [1.0] * len(trial.ROC_RATES)
    missed = rows["shift", "4 %"]
    assert (missed["auc"], missed["sensitivity_5"], missed["top1"], missed["called"]) == (0, 0, 1, 0)
    middling = rows["turn", "90°"]
    assert middling["auc"] == pytest.approx(np.mean(strangers < strangers.mean()))
    assert middling["top1"] == 0.25
    assert (rows["exact", ""]["auc"], rows["exact", ""]["top1"]) == (0, 0)

    declared = {place for place, row in rows.items() if row["is_declared"]}
    assert declared >= {("exact", ""), ("flip", "row"), ("noise", "5 %"), ("flip + noise", "strong")}
    assert not declared & {("shift", "4 %"), ("turn", "90°"), ("flip + rotation + contrast", "mild")}
    unseen = rows[trial.UNSEEN, ""]
    assert unseen["n"] == 30 and unseen["sensitivity_1"] <= unseen["sensitivity_5"] <= 0.2
    control, reference = score[made.parts[trial.UNSEEN]], score[made.parts["reference"]]
    assert unseen["auc"] == pytest.approx(np.mean(control[:, None] > reference))
    assert json.loads(json.dumps(list(rows.values())))


def test_thresholds_are_of_the_reference_and_false_positives_of_the_control(made):
    """Control patients that score higher than the reference are false positives; copies are measured by the latter."""
    rng = np.random.default_rng(0)
    score, id_ = rng.normal(0, 1, len(made.query)), np.zeros(len(made.query), int)
    score[made.parts[trial.UNSEEN]] += 8
    score[made.parts["exact"]] = 7
    rows = judged(made, score, id_)
    assert rows[trial.UNSEEN, ""]["sensitivity_1"] > 0.9
    assert rows["exact", ""]["sensitivity_1"] == 1
    assert rows["exact", ""]["auc"] == pytest.approx(
        np.mean(score[-made.n_unseen :] < 7), abs=1e-9
    )  # half of the strangers are above


def test_together_the_surest_speaks_and_pays_for_the_others(made):
    rng = np.random.default_rng(0)
    size, exact, flips = len(made.query), made.parts["exact"], made.parts["flip row"]
    one, two = (
        trial.Calibrated(name="", declared=(words,), score=-p, p_value=p, nearest=np.full(size, i))
        for i, (p, words) in enumerate(
            (rng.uniform(0.2, 1, size), frozenset(needs)) for needs in (["flips"], ["noise", "blur"])
        )
    )
    one.p_value[exact], two.p_value[flips] = 0.004, 0.006
    both = trial.together([one, two])
    assert both.p_value[exact].tolist() == [0.008] * 20 and both.p_value[flips].tolist() == [0.012] * 20
    assert set(both.nearest[exact]) == {0} and set(both.nearest[flips]) == {1}
    assert both.p_value.max() == 1 and (both.score[exact] > both.score[flips]).all()
    rows = {(row["work"], row["label"]): row for row in trial.judge(made, both)}
    assert rows["exact", ""]["sensitivity_1"] == 1
    assert (rows["flip", "row"]["sensitivity_1"], rows["flip", "row"]["sensitivity_5"]) == (0, 1)
    assert rows["noise", "5 %"]["is_declared"] and rows["flip", "row"]["is_declared"]
    assert not rows["flip + noise", "mild"]["is_declared"]  # none of the two sees through both


def test_queries_lie_where_the_parts_say(made):
    gallery = made.parties.gallery
    np.testing.assert_array_equal(made.query[made.parts["exact"]], gallery.images[made.copied])
    np.testing.assert_array_equal(made.query[made.parts["flip row"]], gallery.images[made.copied][:, ::-1])
    np.testing.assert_array_equal(made.query[made.parts["resampler"]], gallery.images[made.resampled])
    np.testing.assert_array_equal(made.query[made.parts["reference"]], made.parties.reference.images)
    np.testing.assert_array_equal(made.query[-len(made.parties.control) :], made.parties.control.images)
    assert len(set(made.source)) == len(made.source) == len(made.query) == list(made.parts.values())[-1].stop


def test_a_twin_in_the_gallery_is_the_right_source_too(made):
    """The first copy is of image 0, whose nearest is image 1, the same byte for byte; the others' nearest is wrong."""
    gallery = made.parties.gallery
    copied, digest = made.copied.copy(), gallery.sha256.copy()
    copied[0], digest[1] = 0, digest[0]
    gallery = dataclasses.replace(gallery, sha256=digest)
    twins = dataclasses.replace(made, copied=copied, parties=dataclasses.replace(made.parties, gallery=gallery))
    score, id_ = np.random.default_rng(0).normal(0, 1, len(made.query)), np.full(len(made.query), -1)
    id_[made.parts["exact"].start] = 1
    assert judged(twins, score, id_)["exact", ""]["top1"] == 1 / 20


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trial")
    smooth_store(folder / "s", 80)
    asked = Asked(
        data=folder / "s",
        heldout=0.5,
        out=folder / "new" / "trial.json",
        only=["correlation-unturned", "correlation"],
        stores=folder / "stores",
        copies=20,
    )
    main(asked)
    return asked


def test_detectors_find_what_they_are_made_for(finished):
    told = json.loads(finished.out.read_text())
    rows = {(row["detector"], row["work"], row["label"]): row for row in told["rows"]}
    assert {detector for detector, *_ in rows} == {"correlation", "correlation-unturned", "together"}
    for work, label in (("exact", ""), ("flip", "row"), ("turn", "90°"), ("noise", "2 %"), ("contrast", "10 %")):
        row = rows["correlation", work, label]
        assert (row["sensitivity_1"], row["top1"], row["called"]) == (1, 1, 1), work
        assert row["auc"] == 1
    unturned = [rows["correlation-unturned", "flip", name] for name in ("row", "column")]
    assert all(row["sensitivity_1"] < 0.2 and row["auc"] < 0.8 for row in unturned)
    assert rows["correlation-unturned", "exact", ""]["sensitivity_1"] == 1
    for name in ("correlation", "correlation-unturned"):
        assert rows[name, "resampler", ""]["called"] == 1 and rows[name, "resampler", ""]["top1"] == 1
        assert rows[name, "noise image", ""]["sensitivity_1"] == 0
        unseen = rows[name, "unseen patients", ""]
        assert unseen["sensitivity_1_low"] <= 0.01 and unseen["called"] == 0
    about = told["about"]
    assert (about["gallery_patients"], about["reference_patients"], about["control_patients"]) == (40, 20, 20)
    assert about["copies"] == 20


def test_the_map_holds_every_number_and_name(finished):
    svg = finished.out.with_suffix(".svg").read_text()
    assert finished.out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    for words in ("Pixel correlation, unturned", "flip", "+ rotation", "90°", "unseen patients", "false positives"):
        assert words in svg, words
    assert "from 20 unseen patients" in svg


def test_anybodys_embeddings_take_part(finished, tmp_path):
    """A network that sees nothing but means, given as files, of the images that the trial kept."""
    stores = {role: Store.open(finished.stores / role) for role in ("train", "synthetic", "heldout")}
    for role, its in stores.items():
        flat = its.gather(np.arange(len(its))).reshape(len(its), -1).astype(np.float32)
        quarters = np.stack([part.mean(1) for part in np.array_split(np.sort(flat, axis=1), 8, axis=1)], 1)
        write_embeddings(tmp_path / "emb", role, its, quarters, {"invariant_to": ["flips"]})
    asked = dataclasses.replace(
        finished, out=tmp_path / "e.json", only=["embedding-msd:q"], embeddings=[f"q={tmp_path / 'emb'}"]
    )
    main(asked)
    rows = {(row["work"], row["label"]): row for row in json.loads(asked.out.read_text())["rows"]}
    for place in (("exact", ""), ("flip", "row"), ("turn", "90°")):
        assert rows[place]["sensitivity_1"] == 1 and rows[place]["top1"] == 1
    assert rows["flip", "row"]["is_declared"] and not rows["turn", "90°"]["is_declared"]
    with pytest.raises(UserError, match="with --stores=FOLDER"):
        main(dataclasses.replace(asked, stores=None))
    with pytest.raises(UserError, match="must look like NAME=FOLDER"):
        main(dataclasses.replace(asked, embeddings=["q"]))


def test_stores_of_another_trial_are_refused(made, finished):
    manifest = Store.open(finished.stores / "train").manifest
    with pytest.raises(UserError, match="holds images of another trial"):
        planted_stores.keep(made, finished.stores, manifest)


def test_what_cannot_be_tried_is_refused(finished, tmp_path):
    with pytest.raises(UserError, match="did you mean correlation"):
        main(dataclasses.replace(finished, only=["correlatoin"]))
    few = store(tmp_path / "few", noise(12, 0)[..., None], patient=["p"] * 12)
    with pytest.raises(UserError, match="takes 40 patients or more"):
        main(dataclasses.replace(finished, data=few.path))
    with pytest.raises(UserError, match="prepare both with the same --size"):
        main(dataclasses.replace(finished, heldout=few.path))


def test_the_command_line_says_what_is_missing():
    for arguments, words in (
        (["detectors", "--out=x.json"], "--data is missing"),
        (["detectors", "--data=s", "--out=x.png"], "names no JSON file"),
        (["detectors", "--data=s", "--out=x.json", "--heldout=1.5"], "must be a share of the patients"),
    ):
        done = subprocess.run(command("bench", *arguments), cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr, done.stderr


def test_the_caption_counts(made):
    assert "20 copies of images of 60 patients (60 images)" in caption(made)


@dataclasses.dataclass(frozen=True)
class SomeFacts:
    """What is known of a run's embedding, where a run itself would take a training."""

    patients: frozenset[str] | None
    saw_train: bool | None
    digest: str = "weights"
    invariant_to: tuple[str, ...] = ("flips",)

    @property
    def trained_on(self):
        return self


def test_patients_that_a_descriptor_has_seen_take_no_part(finished, tmp_path, monkeypatch):
    seen = frozenset(f"p{i}" for i in range(20))
    asked_for = []

    def embedder_of(facts):
        def embed(images):
            asked_for.append(len(images))
            flat = np.sort(images.block(0, len(images)).reshape(len(images), -1), axis=1)
            return np.stack([part.mean(1) for part in np.array_split(flat, 8, axis=1)], 1).astype(np.float32)

        return lambda run, cache, mesh, train: (run.name, embed, facts)

    asked = dataclasses.replace(
        finished, out=tmp_path / "d.json", only=[], stores=None, descriptors=[str(tmp_path / "mine")], copies=10
    )
    monkeypatch.setattr("launch.embedding.embedder_of", embedder_of(SomeFacts(seen, None)))
    main(dataclasses.replace(asked, only=["embedding-correlation:mine"]))
    told = json.loads(asked.out.read_text())
    assert sum(told["about"][f"{group}_patients"] for group in ("gallery", "reference", "control")) == 60
    assert [d["invariant_to"] for d in told["about"]["detectors"]] == [["flips"]]
    assert told["about"]["notes"] == [] and len(asked_for) == 2

    monkeypatch.setattr("launch.embedding.embedder_of", embedder_of(SomeFacts(None, True)))
    with pytest.raises(UserError, match="on which of its patients is not known"):
        main(asked)
    monkeypatch.setattr("launch.embedding.embedder_of", embedder_of(SomeFacts(None, None)))
    with pytest.raises(UserError, match="two of the runs are called 'mine'"):
        main(dataclasses.replace(asked, descriptors=[*asked.descriptors, *asked.descriptors]))
