"""The audit as a whole, on phantoms and on real images, against what is known of them."""

import dataclasses
import itertools
import os
from pathlib import Path

import numpy as np
import pytest
from small_findings import make_store

from memjax.audit.audit import Question, audit
from memjax.audit.decide import Criterion
from memjax.audit.detectors.detector import make_detectors
from memjax.audit.detectors.embedded import Embedding
from memjax.audit.findings import ImageSet
from memjax.data.copies import stand_in_generator
from memjax.data.phantoms import draw
from memjax.errors import UserError
from memjax.mesh import audit_mesh

needs_real_data = pytest.mark.skipif("MEMJAX_REAL_DATA" not in os.environ, reason="real images are not at hand")


def image_set(folder, role, images, patients=None, **keywords):
    store = make_store(folder / role, images, patients=patients, **keywords)
    return ImageSet(role=role, given=role, store=store)


def audited(tmp_path, train, synthetic, heldout, question=None, devices=8):
    return audit(train, synthetic, heldout, question or Question(), mesh=audit_mesh(devices), kept=tmp_path / "kept")


def phantom_sets(folder, kind, size, *, train, heldout, novel, per_kind, seed=0):
    """Stores of phantoms with planted copies, and the truth."""
    ends = np.cumsum([0, train, heldout, novel]).tolist()
    drawn = [draw(kind, range(a, b), seed=seed, size=size) for a, b in itertools.pairwise(ends)]
    planted = stand_in_generator(
        drawn[0].images, drawn[2].images, copies_per_kind=per_kind, seed=seed, label_channels=drawn[0].label_channels
    )
    about = {"axes": drawn[0].axes, "channels": drawn[0].channels, "label_channels": drawn[0].label_channels}
    sets = (
        image_set(folder, "train", drawn[0].images, drawn[0].patient, slices=drawn[0].slice, **about),
        image_set(folder, "synthetic", planted.images, **about),
        image_set(folder, "heldout", drawn[1].images, drawn[1].patient, slices=drawn[1].slice, **about),
    )
    return sets, planted


@pytest.mark.parametrize(
    ("kind", "size", "counts"),
    [
        ("chest", (32, 32), {"train": 80, "heldout": 60, "novel": 40, "per_kind": 4}),
        ("vessel", (16, 16, 16), {"train": 40, "heldout": 40, "novel": 20, "per_kind": 2}),
    ],
)
def test_planted_copies_are_found_with_their_orientation(tmp_path, kind, size, counts):
    sets, planted = phantom_sets(tmp_path, kind, size, **counts)
    findings = audited(tmp_path, *sets)
    copies = planted.train_id >= 0
    nearest = findings.synthetic_to_train
    np.testing.assert_array_equal(nearest.id[copies, 0], planted.train_id[copies])
    names = np.array(findings.orientations)[nearest.orientation[:, 0]]
    np.testing.assert_array_equal(names[copies], np.array(planted.orientation)[copies])
    assert findings.decision.is_copy[copies].mean() >= 0.9
    assert findings.decision.is_copy[~copies].mean() <= 0.05
    assert not findings.decision.is_clean
    owners = {sets[0].store.items[i].patient for i in planted.train_id[copies & findings.decision.is_copy]}
    assert owners <= set(findings.decision.patients_memorized)


def test_answers_do_not_depend_on_devices_and_are_kept(tmp_path):
    sets, _ = phantom_sets(tmp_path, "chest", (24, 24), train=30, heldout=20, novel=10, per_kind=1)
    one = audited(tmp_path / "one", *sets, devices=1)
    eight = audited(tmp_path / "eight", *sets, devices=8)
    again = audited(tmp_path / "one", *sets, devices=1)  # from the kept searches
    for other in (eight, again):
        np.testing.assert_array_equal(one.synthetic_to_train.id, other.synthetic_to_train.id)
        np.testing.assert_array_equal(one.train_to_synthetic.id, other.train_to_synthetic.id)
        np.testing.assert_allclose(one.synthetic_to_train.score, other.synthetic_to_train.score, atol=1e-6)
        assert one.decision.threshold == pytest.approx(other.decision.threshold, abs=1e-6)


def test_background_is_reported_beside_the_whole_image(tmp_path):
    """Brain slices in a black frame: the same decision on the foreground alone, with lower scores for strangers."""
    sets, _ = phantom_sets(tmp_path, "brain", (24, 24, 20), train=12, heldout=10, novel=6, per_kind=1)
    findings = audited(tmp_path, *sets)
    assert 0.1 < findings.foreground_share < 0.95
    assert findings.foreground is not None
    assert np.median(findings.foreground_null.score) < np.median(findings.null.score)


def test_without_heldout_only_identical_images_are_called(tmp_path):
    (train, synthetic, _), planted = phantom_sets(
        tmp_path, "chest", (32, 32), train=40, heldout=2, novel=20, per_kind=2
    )
    findings = audited(tmp_path, train, synthetic, None)
    called = {planted.kind[i] for i in np.flatnonzero(findings.decision.is_copy)}
    assert {"exact", "flipped", "rotated"} <= called
    assert "" not in called
    assert findings.null is None
    assert "nothing can be concluded" in findings.warnings[0]


def test_leaked_heldout_images_are_no_reference(tmp_path):
    """With training images among the held-out ones the null would reach 1, and nothing could be called."""
    (train, synthetic, heldout), planted = phantom_sets(
        tmp_path, "chest", (32, 32), train=60, heldout=40, novel=20, per_kind=2
    )
    retouched = train.store.images[10:15].copy()
    retouched[:, 0, 0] += 9
    images = np.concatenate([heldout.store.images, train.store.images[:10], retouched])
    patients = [item.patient for item in heldout.store.items] + [f"new-{i}" for i in range(15)]
    leaky = image_set(tmp_path / "leaky", "heldout", images, patients)
    findings = audited(tmp_path, train, synthetic, leaky)
    kinds = [leak.kind for leak in findings.leaks if leak.roles == ("train", "heldout")]
    assert kinds.count("same image") == 10
    assert kinds.count("near-identical image") == 5
    assert len(findings.null.id) == 40
    assert sum(findings.null.left_out.values()) == 15
    assert findings.decision.is_copy[np.array(planted.kind) == "exact"].all()


def test_sets_that_do_not_go_together_are_refused(tmp_path):
    rng = np.random.default_rng(0)
    small = image_set(tmp_path / "a", "train", rng.integers(0, 256, (5, 6, 6, 1)).astype(np.uint8))
    wide = image_set(tmp_path / "b", "synthetic", rng.integers(0, 256, (5, 6, 7, 1)).astype(np.uint8))
    colour = image_set(tmp_path / "c", "synthetic", rng.integers(0, 256, (5, 6, 6, 3)).astype(np.uint8))
    volume = image_set(
        tmp_path / "d", "synthetic", rng.integers(0, 256, (5, 6, 6, 6, 1)).astype(np.uint8), axes=("R", "A", "S")
    )
    same = image_set(tmp_path / "e", "synthetic", rng.integers(0, 256, (2, 6, 6, 1)).astype(np.uint8))
    for other, words in ((wide, "--size"), (colour, "channels"), (volume, "3-D"), (same, "--k=2")):
        with pytest.raises(UserError, match=words):
            audited(tmp_path, small, other, None)
    with pytest.raises(UserError, match="channels 0 to 0"):
        audited(tmp_path, small, same, None, Question(k=1, channels=(1,)))


def means(images):
    """A stand-in for a network: the means of quarters, which know no flips."""
    array = images.block(0, len(images)).astype(np.float32)
    mirrored = array + array[:, ::-1] + array[:, :, ::-1] + array[:, ::-1, ::-1]
    return mirrored.reshape(len(array), 8, 4, 8, 4).mean((2, 4)).reshape(len(array), -1)


@dataclasses.dataclass(frozen=True)
class Refuses:
    """A detector that must not be asked again."""

    detector: object

    def __getattr__(self, name):
        return getattr(self.detector, name)

    def search(self, query, gallery, setting):
        raise AssertionError(f"{self.detector.name} was asked again")


def test_detectors_are_calibrated_alike_and_put_together(tmp_path):
    """Leaked and constant images count for none of them; searches are kept; tau is the follow-up's."""
    (train, synthetic, heldout), planted = phantom_sets(
        tmp_path, "chest", (32, 32), train=60, heldout=40, novel=30, per_kind=3
    )
    images = np.concatenate([synthetic.store.images, np.full((1, 32, 32, 1), 7, np.uint8)])
    synthetic = image_set(tmp_path / "flat", "synthetic", images)
    images = np.concatenate([heldout.store.images, train.store.images[:5], np.full((1, 32, 32, 1), 7, np.uint8)])
    patients = [*(item.patient for item in heldout.store.items), *(f"new-{i}" for i in range(6))]
    leaky = image_set(tmp_path / "leaky", "heldout", images, patients)
    detectors = make_detectors(
        ["correlation-unturned", "correlation", "ratio", "ssim", "embedding-msd:means"],
        {"means": Embedding(embed=means, invariant_to=("flips",), is_control=True)},
    )
    question = Question(detectors=detectors, symmetry="flips", foreground=False, plan="product")
    findings = audited(tmp_path, train, synthetic, leaky, question, devices=1)
    by_name = {found.name: found for found in findings.detectors}
    assert list(by_name) == ["correlation-unturned", "ratio", "ssim", "embedding-msd:means"]  # without the audit's own
    kind = np.array([*planted.kind, "flat"])
    for found in findings.detectors:
        np.testing.assert_array_equal(found.null.id, np.arange(40))
        assert dict(found.null.left_out) == dict(findings.null.left_out)
        assert found.synthetic_to_train.id[-1, 0] == -1
        assert np.isnan(found.decision.p_value[-1])
        assert found.decision.is_copy[kind == "exact"].all()
        assert found.decision.is_copy[kind == ""].sum() <= 2
        allowed = ~np.isin(found.train_to_heldout.id, np.arange(40, 46))
        best = np.where(allowed, found.train_to_heldout.score, -np.inf).max(1)
        tau = np.percentile(best[np.isfinite(best)], 95)
        assert found.tau == pytest.approx(tau)
        assert found.tau_n_mem == (found.train_to_synthetic.score[:, 0] > tau).sum() > 0
        assert found.tau_n_copies == (found.synthetic_to_train.score[:, 0] > tau).sum()
    assert not by_name["correlation-unturned"].decision.is_copy[kind == "flipped"].any()
    assert by_name["embedding-msd:means"].decision.is_copy[kind == "flipped"].all()

    agreed = findings.agreement
    assert agreed.names == ("correlation", *by_name)
    assert agreed.is_copy[np.isin(kind, ["exact", "flipped"])].all()
    assert agreed.is_copy[kind == ""].sum() <= 2
    assert not agreed.is_copy[-1]
    assert {growth.of for growth in findings.growth} == {"images", "patients"}

    refusing = dataclasses.replace(question, detectors=[Refuses(detector) for detector in detectors])
    again = audited(tmp_path, train, synthetic, leaky, refusing, devices=1)
    for one, two in zip(findings.detectors, again.detectors, strict=True):
        np.testing.assert_array_equal(one.decision.p_value, two.decision.p_value)

    alone = audited(tmp_path, train, synthetic, None, question, devices=1)
    thresholds = {found.name: found.decision.threshold for found in alone.detectors}
    assert thresholds["ratio"] == -1 / 3
    assert thresholds["embedding-msd:means"] == 0
    assert all(np.isnan(found.tau) for found in alone.detectors)
    assert alone.agreement is None


def kermany(size=None):
    with np.load(Path(os.environ["MEMJAX_REAL_DATA"], "dev", "cxr64_kermany_trainval.npz"), allow_pickle=False) as z:
        return z["images"][..., None], z["patient"]


@needs_real_data
def test_kermanys_24_groups_of_equal_radiographs(tmp_path):
    images, patient = kermany()
    train = image_set(tmp_path, "train", images, patient.tolist())
    synthetic = image_set(tmp_path, "synthetic", images[:3] // 2)
    findings = audited(tmp_path, train, synthetic, None, Question(symmetry="none"))
    assert len(findings.duplicates) == 24
    assert sum(map(len, findings.duplicates)) == 50
    for group in findings.duplicates:
        assert all((images[i] == images[group[0]]).all() for i in group)


@needs_real_data
@pytest.mark.parametrize("rule", ["fdr", "p95"])
def test_a_generator_of_unseen_patients_is_called_clean(tmp_path, rule):
    """Real radiographs of patients in no other set, ten different draws: at most one may be called by mistake."""
    images, patient = kermany()
    patients = np.unique(patient)
    wrong = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        order = rng.permutation(patients)
        pools = [np.flatnonzero(np.isin(patient, order[a:b])) for a, b in ((0, 200), (200, 400), (400, 550))]
        parts = [pool[:n] for pool, n in zip(pools, (200, 200, 150), strict=True)]  # one size: nothing compiles twice
        train, heldout, novel = (images[part][:, ::2, ::2] for part in parts)
        folder = tmp_path / str(seed)
        findings = audited(
            folder,
            image_set(folder, "train", train, patient[parts[0]].tolist()),
            image_set(folder, "synthetic", novel),
            image_set(folder, "heldout", heldout, patient[parts[1]].tolist()),
            Question(criterion=Criterion(rule=rule), foreground=False),
        )
        wrong += not findings.decision.is_clean
    assert wrong <= 2  # 0.5 expected; P(more than 2) = 0.012


def test_training_images_that_are_the_same_in_another_orientation_or_after_saving_again_are_duplicates(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 200, (12, 8, 8, 1)).astype(np.uint8)
    images[4] = np.rot90(images[1])
    images[7] = images[1] + 50  # brighter: the same correlation
    images[9] = images[2]
    train = image_set(tmp_path, "train", images)
    synthetic = image_set(tmp_path, "synthetic", rng.integers(0, 200, (3, 8, 8, 1)).astype(np.uint8))
    findings = audited(tmp_path, train, synthetic, None)
    assert findings.duplicates == [[1, 4, 7], [2, 9]]
