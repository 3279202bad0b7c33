"""The papers' claims, EMM and tau_mem on made-up studies: planted answers, either way, and what cannot be told."""

import dataclasses
import math

import numpy as np
import pytest
from scipy import stats
from small_studies import growth, memorization, row, scores

from memjax.audit.findings import Interval
from memjax.audit.wilson import wilson
from memjax.errors import UserError
from memjax.study.claims import CLAIMS, verdicts
from memjax.study.emm import effective_memorization
from memjax.study.onset import onsets
from memjax.study.pareto import best, places
from memjax.study.row import Row
from memjax.study.scaling_claims import emm_in_words
from memjax.study.shares import SHOWN, differ, over_seeds, share

UNTESTABLE = "not testable at this scale"


def outcome(key, rows):
    (verdict,) = verdicts([key], rows)
    return verdict.outcome


# Of each claim, two cells (or a cell, for one value): first what should copy more by the paper, then what less.
PAIRS = {
    "A1": ({"generator": "ddpm"}, {"generator": "stylegan2"}),
    "A2": ({"n_train": 64}, {"n_train": 256}),
    "A4": ({"source": "brain", "is_sliced": True}, {"source": "chest"}),
    "A6": ({"model_size": "large", "parameters": 4_000_000}, {"model_size": "small", "parameters": 100_000}),
    "B3": ({"augmentation": "none"}, {"augmentation": "flips"}),
    "B5": ({"n": 400}, {"n": 100}),
    "C1": ({"images_seen": 80_000}, {"images_seen": 20_000}),
    "C2": ({"duplicates": 8}, {"duplicates": 1}),
    "MITIGATION": ({"early_stop": False}, {"early_stop": True}),
}


@pytest.mark.parametrize("key", PAIRS)
def test_a_planted_difference_is_found_either_way(key):
    """Intervals apart as claimed, apart the other way, overlapping, and nothing copied at all."""
    more, less = PAIRS[key]

    def judged(one, other, spread):
        high, low = {"mem": 60, "spread": spread}, {"mem": 5, "spread": spread}
        mine, theirs = (high, low) if one > other else (low, high)
        return outcome(key, [row(one, **mine, **more), row(other, **theirs, **less)])

    assert judged(80, 20, 3) == "reproduced"
    assert judged(20, 80, 3) == "not reproduced"
    assert judged(80, 20, 45) == "not reproduced"
    assert outcome(key, [row(0, mem=0, **more), row(0, mem=0, **less)]) == UNTESTABLE
    assert outcome(key, [row(80, **more)]) == UNTESTABLE


def test_every_claim_of_the_design_is_there_and_an_unknown_one_is_refused():
    assert list(CLAIMS) == [
        *(f"A{i}" for i in range(1, 7)),
        *(f"B{i}" for i in range(1, 6)),
        "C1",
        "C2",
        "EMM",
        "TAU",
        "MITIGATION",
    ]
    assert all(verdict.outcome == UNTESTABLE and verdict.reason for verdict in verdicts(list(CLAIMS), []))
    with pytest.raises(UserError, match="'A9'"):
        verdicts(["A9"], [])


def test_a_failed_cell_makes_a_claim_untestable_and_is_named():
    failed = Row(cell="generator=stylegan2", axes={"generator": "stylegan2"}, status="failed", error="nan")
    (verdict,) = verdicts(["A1"], [row(80), failed])
    assert verdict.outcome == UNTESTABLE and "generator=stylegan2" in verdict.left_out


def test_contradicting_groups_are_not_reproduced():
    sizes = {64: (80, 20), 256: (90, 20), 1024: (20, 80)}  # the last the other way round
    rows = [
        row(copies, n_train=n, generator=name)
        for n, pair in sizes.items()
        for name, copies in zip(("ddpm", "stylegan2"), pair, strict=True)
    ]
    (verdict,) = verdicts(["A1"], rows)
    assert verdict.outcome == "not reproduced" and "2 of 3 comparisons" in verdict.reason
    assert outcome("A1", rows[:4]) == "reproduced"
    assert "ddpm 22.5 % (20.5 to 24.5 %) against stylegan2 5 % (3 to 7 %)" in verdict.sentence.replace("\u00a0", " ")


def test_a_difference_between_seeds_counts_as_uncertainty():
    sure = [row(80, seed=0), row(20, n_train=256, seed=0)]
    assert outcome("A2", sure) == "reproduced"
    assert outcome("A2", [*sure, row(10, seed=1)]) == "not reproduced"  # another seed of the small set copies little


def test_controls_are_no_generators():
    rows = [row(80, generator="ddpm"), row(400, generator="training"), row(0, generator="noise")]
    assert outcome("A1", rows) == UNTESTABLE


def test_nearness_to_training_is_corrected_for_the_sizes_of_the_sets():
    """A generator that favours neither set is nearer to the larger one more often, and copies nothing."""
    rng = np.random.default_rng(0)
    n_train, n_heldout, n = 300, 100, 400
    points = rng.random((n_train + n_heldout, n)).T  # similarity of each image to each real one

    def cell(is_copy):
        kept = scores(rng, 0.0, n_train=n_train)
        train = np.where(rng.random(n) < is_copy, 1.0, points[:, :n_train].max(1))
        kept.synthetic_to_train[:], kept.synthetic_to_heldout[:] = train, points[:, n_train:].max(1)
        return row(5, n_train=n_train, n_heldout=n_heldout, n=n, scores=kept)

    neutral, copier = cell(0.0), cell(0.5)
    assert (neutral.scores.synthetic_to_train > neutral.scores.synthetic_to_heldout).mean() > 0.7
    assert outcome("A3", [neutral]) == "not reproduced"
    assert outcome("A3", [copier]) == "reproduced"
    few = dataclasses.replace(copier.scores, n_nearest=5.0)  # it is few patients who are near to everything
    assert outcome("A3", [dataclasses.replace(copier, scores=few)]) == "not reproduced"


def test_volumes_are_told_by_their_edges():
    cube, slab = row(80, generator="latent", shape=(32, 32, 32, 1)), row(80, generator="latent", shape=(8, 64, 64, 1))
    assert (outcome("B1", [cube]), outcome("B2", [cube])) == ("reproduced", UNTESTABLE)
    assert (outcome("B1", [slab]), outcome("B2", [slab])) == (UNTESTABLE, "reproduced")
    assert outcome("B1", [row(0, generator="latent", shape=(32, 32, 32, 1))]) == "not reproduced"


def test_pixels_and_an_embedding_in_the_same_images():
    def cell(pixels, embedding):
        detectors = {
            "correlation-unturned": memorization(pixels, pixels, spread=4),
            "embedding-msd:own": memorization(embedding, embedding, spread=4),
        }
        return row(80, detectors=detectors)

    assert outcome("B4", [cell(10, 60)]) == "reproduced"
    assert outcome("B4", [cell(60, 10)]) == "not reproduced"
    assert outcome("B4", [row(80)]) == UNTESTABLE


def test_more_samples_by_the_growth_curve():
    assert outcome("B5", [row(80, growth=[growth(400, 60, 64)])]) == "reproduced"


def test_what_a_release_leaves_is_measured_by_another_detector():
    def cell(left, *, release):
        return row(0 if release else 80, release=release, detectors={"ssim": memorization(left, left, spread=4)})

    assert SHOWN.of(cell(20, release=True)).value == 20 / 400 and SHOWN.of(cell(20, release=False)).value == 80 / 400
    assert outcome("MITIGATION", [cell(80, release=False), cell(20, release=True)]) == "reproduced"
    assert outcome("MITIGATION", [cell(80, release=False), cell(79, release=True)]) == "not reproduced"


@pytest.mark.parametrize(("copier", "other", "expected"), [(2.0, 9.0, "reproduced"), (9.0, 2.0, "not reproduced")])
def test_quality_is_blind_if_it_prefers_the_copier(copier, other, expected):
    rows = [row(300, generator="training", fid=copier), row(0, generator="unseen", fid=other)]
    noise = row(0, generator="noise", fid=500.0)
    elsewhere = row(0, n_train=256, fid=0.1)  # its FID is to other images
    others = [row(0, seed=seed, fid=0.1) for seed in (1, 2, 3)]  # and theirs to those of other patients
    assert outcome("A5", [*rows, noise, elsewhere, *others]) == expected


def test_emm_lies_where_the_share_passes_nine_tenths():
    """Linear in log N: from 1.0 at 64 to 0.8 at 256, 0.9 is passed at the geometric mean, 128."""
    ladder = {64: 1.0, 256: 0.8, 1024: 0.1}
    rows = [row(10, n_train=n, f_ratio=share_, n=4000) for n, share_ in ladder.items()]
    (found,) = effective_memorization(rows)
    assert found.value == pytest.approx(128) and (found.low, found.high) == (64, 256) and found.is_sure
    assert outcome("EMM", rows) == "reproduced"
    shorter = [row(10, n_train=n, f_ratio=0.3, n=4000, images_seen=1000) for n in ladder]
    assert effective_memorization([*shorter, *rows])[0].value == pytest.approx(128)  # the best length counts
    (below,) = effective_memorization(rows[1:])
    (above,) = effective_memorization([rows[0], row(10, n_train=256, f_ratio=0.95, n=4000)])
    assert (below.low, below.high) == (0, 256) and (above.low, above.high) == (256, math.inf)
    assert emm_in_words(below) == "below the smallest training set, 256"
    assert emm_in_words(above) == "above the largest training set, 256"
    assert outcome("EMM", rows[1:]) == UNTESTABLE


@pytest.mark.parametrize("power", [1.0, 0.0, 2.0])
def test_the_onset_of_memorization_has_the_planted_slope(power):
    """Memorization passes 5 % after 1000 (N / 64) ** power images; the measured lengths are factors of 1.3 apart."""
    rows = []
    for n_train in (64, 256, 1024):
        tau = 1000 * (n_train / 64) ** power
        for length in 200 * 1.3 ** np.arange(30):
            copied = 0.05 * (length / tau) ** 2
            rows.append(row(round(4000 * min(1.0, copied)), n=4000, n_train=n_train, images_seen=round(length)))
    (found,) = onsets(rows)
    planted = [1000 * 4 ** (power * step) for step in range(3)]
    assert [onset.value for onset in found.onsets] == pytest.approx(planted, rel=0.05)
    assert found.slope.value == pytest.approx(power, abs=0.05) and found.slope.low < power < found.slope.high
    assert outcome("TAU", rows) == ("reproduced" if power == 1.0 else "not reproduced")


def test_an_onset_outside_the_measured_lengths_is_no_number():
    early = [row(copies, n=400, images_seen=length) for length, copies in ((1000, 100), (2000, 200))]
    never = [row(copies, n=400, n_train=256, images_seen=length) for length, copies in ((1000, 0), (2000, 4))]
    (found,) = onsets([*early, *never])
    assert [(onset.low, onset.high) for onset in found.onsets] == [(0, 1000), (2000, math.inf)]
    assert found.slope is None and outcome("TAU", [*early, *never]) == UNTESTABLE


@pytest.mark.parametrize(("part", "whole"), [(0, 7), (3, 7), (7, 7), (250, 1000)])
def test_the_interval_of_a_share_is_wilsons(part, whole):
    known = stats.binomtest(part, whole).proportion_ci(method="wilson")
    found = wilson(part, whole)
    assert (found.low, found.high) == pytest.approx((known.low, known.high), abs=1e-12)


def test_shares_have_a_width_where_none_or_all_were_found():
    none, every = (share(Interval(value=k, low=k, high=k), 100) for k in (0.0, 100.0))
    assert (none.low, none.high, every.low, every.high) == (0, 0.03, 0.97, 1)
    together = over_seeds([none, every])
    assert (together.value, together.low, together.high) == (0.5, 0, 1)
    assert (differ(every, none), differ(none, every), differ(none, together)) == (1, -1, 0)


def test_the_pareto_front_against_a_naive_search():
    rng = np.random.default_rng(0)
    fids = rng.integers(1, 30, 40)
    rows = [row(int(200 / fid + rng.integers(0, 20)), fid=float(fid), model_size=f"m{i}") for i, fid in enumerate(fids)]
    rows.append(row(0, fid=0.1, generator="unseen", model_size="m0"))  # a control beats all, and is not in the front
    (found,) = places(rows).values()
    trained = [(one.fid, one.copied.value) for one in found if not one.is_control]
    naive = {mine for mine in trained if not any(o[0] <= mine[0] and o[1] <= mine[1] and o != mine for o in trained)}
    assert {(one.fid, one.copied.value) for one in best(found)} == naive and 1 < len(naive) < 20
