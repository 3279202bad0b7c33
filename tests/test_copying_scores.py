"""C_T, AuthPct, MiFID and the likelihood gap: as defined, by loops; and right about generators whose truth is known."""

import math

import numpy as np
import pytest

from memjax.audit.fidelity import likelihood
from memjax.audit.fidelity import nearest as blocks
from memjax.audit.fidelity.copying import auth_pct, c_t
from memjax.audit.fidelity.likelihood import fld
from memjax.audit.fidelity.mifid import cosine_distance, mifid
from memjax.audit.fidelity.nearest import distinct, nearest

N, H, S, D = 400, 200, 150, 12
SPREAD = np.linspace(1, 3, D)


def draw(n, seed):
    """Draw features of n patients: correlated, of unequal scale, away from 0."""
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(99).normal(size=(D, D)) / 4 + np.eye(D)
    return (rng.normal(size=(n, D)) * SPREAD) @ mix + 10


TRAIN, TEST = draw(N, 0), draw(H, 1)


def generators():
    """Return synthetic sets of known truth: a memorizer, half of one, a perfect generator, and a poor one."""
    rng = np.random.default_rng(5)
    copied = TRAIN[rng.integers(N, size=S)]
    new = draw(S, 2)
    return {
        "exact copies": copied,
        "near copies": copied + 0.01 * rng.normal(size=copied.shape),
        "half copies": np.concatenate([copied[: S // 2], new[S // 2 :]]),
        "new": new,
        "noise": 10 + 12 * rng.normal(size=(S, D)),
    }


def turned(x):
    """Return features after one and the same rotation."""
    return x @ np.linalg.qr(np.random.default_rng(3).normal(size=(x.shape[1], x.shape[1])))[0]


def distance(x, y):
    return math.sqrt(sum((a - b) ** 2 for a, b in zip(x.tolist(), y.tolist(), strict=True)))


def closest(x, gallery, skip=-1):
    """Return the smallest distance and its place, by a loop."""
    return min((distance(x, y), i) for i, y in enumerate(gallery) if i != skip)


def test_nearest_by_loops_in_blocks(monkeypatch):
    monkeypatch.setattr(blocks, "_BLOCK_BYTES", 8 * N * 7)
    found, place = nearest(TEST[:40], TRAIN)
    for i in range(40):
        far, where = closest(TEST[i], TRAIN)
        assert place[i] == where and found[i] == pytest.approx(far, rel=1e-12)
    found, place = nearest(TRAIN[:20], TRAIN, own=np.arange(20))
    for i in range(20):
        far, where = closest(TRAIN[i], TRAIN, i)
        assert place[i] == where and found[i] == pytest.approx(far, rel=1e-12)
    exact = TRAIN.astype(np.float32)
    assert nearest(exact[::3], exact)[0].max() == 0


def naive_c_t(train, test, synthetic, cell_of, cells=3):
    total = weights = 0
    for cell in range(cells):
        known, unseen, made = ([x for x in part if cell_of(x) == cell] for part in (train, test, synthetic))
        if len(made) < 20 or not unseen:
            continue
        near = [[closest(x, known)[0] for x in part] for part in (made, unseen)]
        u = sum((a > b) + 0.5 * (a == b) for a in near[0] for b in near[1])
        s, h = len(made), len(unseen)
        total += h * (u - (s * h / 2 - 0.5)) / math.sqrt(s * h * (s + h + 1) / 12)
        weights += h
    return total / weights


def clustered(sizes, seed):
    """Draw features in three far groups of these sizes; the first coordinate tells which."""
    rng = np.random.default_rng(seed)
    groups = [rng.normal(size=(n, 4)) + np.array([100.0 * g, 0, 0, 0]) for g, n in enumerate(sizes)]
    return np.concatenate(groups)


def test_c_t_is_as_defined():
    train, test, synthetic = clustered((60, 50, 40), 0), clustered((20, 30, 40), 1), clustered((30, 20, 19), 2)
    synthetic[:3] = train[:3]
    test[:2] = train[5:7]  # ties at 0
    expected = naive_c_t(train, test, synthetic, lambda x: round(x[0] / 100))
    assert c_t(train, test, synthetic, seed=0) == pytest.approx(expected, rel=1e-9)
    with_one_more = np.concatenate([synthetic, synthetic[-1:]])  # now the third cell counts
    expected = naive_c_t(train, test, with_one_more, lambda x: round(x[0] / 100))
    assert c_t(train, test, with_one_more, seed=1) == pytest.approx(expected, rel=1e-9)
    near = synthetic + 0.001  # no ties here: a rotation rounds
    apart = clustered((20, 30, 40), 3)
    wide = [np.hstack([x, np.full((len(x), 90), 7.0)]) for x in (train, apart, near)]
    assert c_t(*map(turned, wide), seed=0) == pytest.approx(c_t(train, apart, near, seed=0), rel=1e-6)


def test_c_t_is_nan_where_no_cell_counts_and_takes_poor_sets():
    assert math.isnan(c_t(TRAIN, TEST, draw(19, 3), seed=0))
    assert math.isnan(c_t(*[np.ones((30, 100))] * 3, seed=0))
    same = np.ones((30, D))
    assert c_t(same, same, same, seed=0) == pytest.approx(0, abs=0.01)  # all ties: neither nearer nor farther


def naive_auth_pct(train, synthetic):
    found = []
    for x in synthetic:
        far, where = closest(x, train)
        found.append(far > closest(train[where], train, where)[0])
    return 100 * sum(found) / len(found)


def test_auth_pct_is_as_defined():
    made = generators()
    for name in ("half copies", "new", "noise"):
        some = made[name][60:90]
        assert auth_pct(TRAIN, some) == pytest.approx(naive_auth_pct(TRAIN, some))
    assert auth_pct(turned(TRAIN), turned(made["near copies"])) == 0
    assert auth_pct(turned(TRAIN), turned(made["new"])) == auth_pct(TRAIN, made["new"])


def test_of_new_images_a_third_is_authentic_in_one_dimension():
    """A point and its nearest are each other's nearest with probability 2/3 on a line, by the union of two balls."""
    rng = np.random.default_rng(0)
    assert auth_pct(rng.uniform(size=(4000, 1)), rng.uniform(size=(2000, 1))) == pytest.approx(100 / 3, abs=3)


def test_duplicates_in_training_do_not_hide_copies():
    """With every training image twice, a rule that lets them be each other's nearest would call all authentic."""
    near = generators()["near copies"]
    twice = np.concatenate([TRAIN, TRAIN])
    assert naive_auth_pct(twice, near[:10]) == 100
    assert auth_pct(twice, near) == auth_pct(TRAIN, near) == 0
    np.testing.assert_array_equal(distinct(twice), TRAIN)
    assert len(distinct(np.array([[0.0], [-0.0], [1.0]]))) == 2
    assert math.isnan(auth_pct(TRAIN[[0, 0]], near))


def test_mifid_is_as_defined():
    half = generators()["half copies"] - 10  # about 0, so that cosines differ
    train = TRAIN - 10
    length = [math.sqrt(float(x @ x)) for x in train]
    expected = float(
        np.mean(
            [
                min(1 - abs(float(x @ y)) / (math.sqrt(float(x @ x)) * n) for y, n in zip(train, length, strict=True))
                for x in half
            ]
        )
    )
    assert cosine_distance(train, half) == pytest.approx(expected, rel=1e-9)
    assert cosine_distance(turned(train), turned(half)) == pytest.approx(expected, rel=1e-9)
    assert mifid(train, half, fid=3.0, epsilon=expected * 1.01) == pytest.approx(3 / expected)
    assert mifid(train, half, fid=3.0, epsilon=expected * 0.99) == 3
    assert mifid(train, -2 * train[:5], fid=3.0) == pytest.approx(3e7)  # the sign and the length do not matter
    assert cosine_distance(train, np.zeros((2, D))) == 1


def naive_fld(train, test, synthetic, order, epochs=50):
    """Fit in float64 with Adam by hand; `order` is the permutation of the training images for the baseline."""
    mean, deviation = test.mean(0), test.std(0, ddof=1)
    train, test, synthetic = ((x - mean) / deviation for x in (train, test, synthetic))
    d = train.shape[1]

    def squared(x, y):
        return np.square(x[:, None] - y[None]).sum(-1)

    def density(distances, v):
        return -0.5 * distances / np.exp(v) - d / 2 * v - d / 2 * math.log(2 * math.pi)

    def log_sum(x):
        top = x.max(1, keepdims=True)
        return (top + np.log(np.exp(x - top).sum(1, keepdims=True)))[:, 0]

    def fit(x, centres):
        distances = np.hstack([squared(x, centres), 0.81 * squared(x, x.mean(0)[None])])
        v = np.append(np.log((distances[:, :-1].min(0) + 1e-3) / d), 0.0)
        weight = np.append(np.full(len(centres), -math.log(len(centres))), 0)
        first, second, losses = np.zeros_like(v), np.zeros_like(v), []
        for t in range(1, epochs + 1):
            joint = density(distances, v) + weight
            share = np.exp(joint - log_sum(joint)[:, None])
            gradient = -(share * (0.5 * distances / np.exp(v) - d / 2)).mean(0) / d
            first = 0.9 * first + 0.1 * gradient
            second = 0.999 * second + 0.001 * gradient**2
            v = v - 0.5 * (first / (1 - 0.9**t)) / (np.sqrt(second / (1 - 0.999**t)) + 1e-8)
            v = np.clip(v, -40, 40)
            losses.append(-np.mean(log_sum(joint)) / d)
            if t > 6 and max(losses[-5:]) < losses[-1] + 5e-4 and min(losses[-5:]) > losses[-1] - 5e-4:
                break
        return v[:-1]

    def nll(x, centres, v):
        return -np.mean(log_sum(density(squared(x, centres), v) - math.log(len(centres)))) / d

    v = fit(train, synthetic)
    half = min(len(synthetic), len(train) // 2)
    shuffled = train[order]
    baseline = nll(test, shuffled[:half], fit(shuffled[half:], shuffled[:half]))
    unseen = nll(test, synthetic, v)
    best = density(squared(train, synthetic), v).max(0) / d
    return 100 * (unseen - baseline), 100 * (nll(train, synthetic, v) - unseen), best


def test_fld_is_as_defined():
    rng = np.random.default_rng(7)
    rng.permutation(S)  # the choice of Gaussians comes first
    order = rng.permutation(N)
    for made in (generators()["new"], generators()["half copies"]):
        expected = naive_fld(TRAIN, TEST, made, order)
        found = fld(TRAIN, TEST, made, seed=7)
        assert found.fld == pytest.approx(expected[0], rel=1e-3, abs=1e-3)
        assert found.gap == pytest.approx(expected[1], rel=1e-3)
        np.testing.assert_allclose(found.memorization, expected[2], rtol=1e-3, atol=1e-3)
    again = fld(TRAIN * 3 + SPREAD, TEST * 3 + SPREAD, made * 3 + SPREAD, seed=7)
    assert again.gap == pytest.approx(found.gap, rel=1e-2)  # the scale of a feature does not matter


def test_fld_without_what_it_takes():
    constant = [np.hstack([x, np.ones((len(x), 1))]) for x in (TRAIN, TEST, generators()["new"])]
    assert fld(*constant, seed=0).gap == fld(TRAIN, TEST, generators()["new"], seed=0).gap
    for few in (fld(TRAIN, np.ones((9, D)), TRAIN[:5], seed=0), fld(TRAIN[:3], TEST, TRAIN[:5], seed=0)):
        assert math.isnan(few.fld) and math.isnan(few.gap) and np.isnan(few.memorization).all()


def test_fld_takes_many_images_in_parts(monkeypatch):
    monkeypatch.setattr(likelihood, "_MOST", 100)
    monkeypatch.setattr(likelihood, "_BLOCK", 100 * 7)
    found = fld(TRAIN, TEST, generators()["half copies"], seed=0)
    is_used = np.isfinite(found.memorization)
    assert is_used.sum() == 100
    is_copy = np.arange(S) < S // 2
    assert found.memorization[is_used & is_copy].min() > found.memorization[is_used & ~is_copy].max()


def test_planted_answers():
    made = generators()
    ct = {name: c_t(TRAIN, TEST, x, seed=0) for name, x in made.items()}
    assert ct["exact copies"] < -8 and ct["near copies"] < -8 and -6 < ct["half copies"] < -2
    assert abs(ct["new"]) < 2 and ct["noise"] > 5
    auth = {name: auth_pct(TRAIN, x) for name, x in made.items()}
    assert auth["exact copies"] == auth["near copies"] == 0 and 20 < auth["half copies"] < 32
    assert 40 < auth["new"] < 62 and auth["noise"] > 90
    gap = {name: fld(TRAIN, TEST, x, seed=0) for name, x in made.items()}
    assert gap["exact copies"].gap < -150 and gap["near copies"].gap < -100 and gap["half copies"].gap < -30
    assert abs(gap["new"].gap) < 10
    assert abs(gap["new"].fld) < 15 < gap["noise"].fld
    memorized = gap["half copies"].memorization
    assert memorized[: S // 2].min() > memorized[S // 2 :].max()
    penalised = {name: mifid(TRAIN - 10, x - 10, fid=1.0) for name, x in made.items()}
    assert penalised["exact copies"] == pytest.approx(1e7) and penalised["near copies"] > 1000 and penalised["new"] == 1
