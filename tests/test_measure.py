"""All scores of a synthetic set: planted sets are told apart as the definitions say; what is missing is said."""

import dataclasses
import math

import numpy as np
import pytest

from memjax.audit.fidelity import measure as module
from memjax.audit.fidelity.frechet import frechet_distance
from memjax.audit.fidelity.likelihood import Fld
from memjax.audit.fidelity.measure import measure
from memjax.audit.fidelity.quality import Quality
from memjax.errors import UserError

N, D = 240, 12
RNG = np.random.default_rng(0)


def people(n: int) -> np.ndarray:
    """Return features of real images: two kinds of them."""
    return np.float32(RNG.normal(size=(n, D)) + 3 * RNG.integers(0, 2, (n, 1)) + 1)


TRAIN, HELDOUT = people(N), people(N)


@pytest.fixture(scope="module")
def found() -> dict[str, Quality]:
    synthetic = {
        "copies": TRAIN[RNG.permutation(N)],
        "perfect": people(N),
        "noise": np.float32(RNG.normal(size=(N, D)) * 0.1 - 30),
        "collapsed": np.tile(people(1), (N, 1)) + np.float32(1e-3 * RNG.normal(size=(N, D))),
    }
    return {name: measure(TRAIN, part, HELDOUT, features="planted", seed=0) for name, part in synthetic.items()}


def test_copies_win_where_quality_is_measured_and_lose_where_copying_is(found):
    copies, perfect = found["copies"], found["perfect"]
    assert copies.fid < 1e-6 and 0.1 < perfect.fid < 1
    assert copies.fid_real == perfect.fid_real == pytest.approx(perfect.fid, rel=0.5)
    assert copies.kid < perfect.kid + perfect.kid_deviation
    assert copies.precision == copies.recall == copies.coverage == 1
    assert min(perfect.precision, perfect.recall) > 0.8 and perfect.coverage > 0.9
    assert copies.auth_pct == 0 and copies.mifid == 0  # that is FID, whatever it is divided by
    assert 35 < perfect.auth_pct < 75
    assert copies.c_t < -5 and abs(perfect.c_t) < 4
    assert copies.fld_gap < perfect.fld_gap - 10


def test_noise_and_collapse_are_far_away(found):
    for name in ("noise", "collapsed"):
        assert found[name].fid > 10 * found["perfect"].fid
        assert found[name].fid_heldout > 10 * found["perfect"].fid_heldout
        assert found[name].kid > found["perfect"].kid + 10 * found["perfect"].kid_deviation
        assert found[name].coverage < 0.1 and found[name].recall < 0.1
        assert found[name].fld > found["perfect"].fld
    assert found["noise"].precision == 0 and found["noise"].auth_pct == 100 and found["noise"].c_t > 5


def test_distances_that_are_compared_are_of_equally_many(monkeypatch):
    monkeypatch.setattr(module, "fld", lambda *_, **__: Fld(fld=0.0, gap=0.0, memorization=np.zeros(0)))  # is compiled
    synthetic, few = people(150), HELDOUT[:60]
    one = measure(TRAIN, synthetic, few, features="planted", seed=0)
    assert (one.n_train, one.n_synthetic, one.n_heldout, one.n_compared) == (N, 150, 60, 60)
    assert one.fid_all == pytest.approx(frechet_distance(TRAIN, synthetic)) and one.fid_all < one.fid
    assert one.fid_heldout == pytest.approx(frechet_distance(few, synthetic))
    assert one.fid_real == pytest.approx(frechet_distance(TRAIN, few))
    many = measure(TRAIN, synthetic[:60], HELDOUT, features="planted", seed=0)
    assert many.n_compared == 60 and many.fid == many.fid_all
    assert many.fid_real == pytest.approx(one.fid, rel=0.5) and many.fid_real > 1.2 * frechet_distance(TRAIN, HELDOUT)
    assert measure(TRAIN, synthetic, few, features="planted", seed=0) == one
    assert measure(TRAIN, synthetic, few, features="planted", seed=1).fid != one.fid


def test_what_few_images_cause_is_said(found):
    quality = found["perfect"]
    (said,) = [line for line in quality.warnings if "FID" in line]
    assert f"{N} images" in said and "2048" in said and f"{N // 2} training images" in said
    assert f"{quality.fid_halves:.3g}" in said
    assert quality.fid_halves > quality.fid_real / 2  # of unseen images nearly all of the distance is for being few


def test_all_that_was_asked_for_is_there():
    images = RNG.uniform(-1, 1, (60, 8, 8, 1)).astype(np.float32)
    quality = measure(
        TRAIN[:40],
        people(60),
        HELDOUT[:60],
        features="planted",
        probabilities=np.tile(np.eye(3), (20, 1)),
        images=(images[:40], lambda ids: images[ids]),
        infinity=True,
    )
    expected_nan = {"inception_score_deviation"}  # of one part
    scores = {f.name: v for f in dataclasses.fields(quality) if isinstance(v := getattr(quality, f.name), float)}
    assert {name for name, value in scores.items() if math.isnan(value)} == expected_nan
    assert quality.inception_score == pytest.approx(3) and quality.fid_infinity < quality.fid
    assert any("1 of its 5 scales" in line for line in quality.warnings)
    assert any("too low" in line for line in quality.warnings)


def test_what_is_missing_is_said():
    quality = measure(TRAIN[:3], people(1), None, features="planted", infinity=True)
    assert all(math.isnan(x) for x in (quality.fid, quality.kid, quality.coverage, quality.fid_infinity, quality.c_t))
    text = " ".join(quality.warnings)
    for word in ("Fréchet", "KID", "inception score", "Precision", "extrapolated", "held-out"):
        assert word in text
    broken = people(5)
    broken[3, 2] = np.nan
    with pytest.raises(UserError, match="1 synthetic images are not finite"):
        measure(TRAIN, broken, None, features="planted")
    with pytest.raises(UserError, match="0 synthetic"):
        measure(TRAIN, broken[:0], None, features="planted")
