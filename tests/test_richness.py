"""The growth curve: exact against enumeration, right on average in simulation, honest where there is little."""

import itertools

import numpy as np
import pytest

from memjax.audit.richness import Sightings, ace, chao1, extrapolated, growth, rarefied, sighted, standard_error


def counted(counts, drawn):
    """Return the sightings of groups seen so many times each."""
    return sighted(np.repeat(np.arange(len(counts)), counts), drawn)


def grown(counts, drawn, n_train=50, of="images"):
    """Return the growth curve of groups seen so many times each, in `drawn` images."""
    nearest = np.full(drawn, -1)
    copied = np.repeat(np.arange(len(counts)), counts)
    nearest[: len(copied)] = copied
    return growth(nearest, nearest >= 0, groups=np.arange(n_train), of=of)


@pytest.mark.parametrize("counts", [[1], [3, 1, 1], [2, 2, 1], [5], [1, 1, 1, 1]])
def test_rarefaction_is_the_mean_over_all_choices(counts):
    drawn = 8
    labels = np.full(drawn, -1)
    labels[: sum(counts)] = np.repeat(np.arange(len(counts)), counts)
    for m in range(drawn + 1):
        choices = itertools.combinations(labels.tolist(), m)
        seen = [len(set(choice) - {-1}) for choice in choices]
        assert rarefied(counted(counts, drawn), np.array([m]))[0] == pytest.approx(np.mean(seen), abs=1e-12)


def test_estimates_match_the_published_formulas():
    counts, n = [1] * 9 + [2] * 4 + [3, 3, 5, 8, 14, 40], 200
    found, f1, f2, k = len(counts), 9, 4, (n - 1) / n
    r = f1 / f2
    assert chao1(counted(counts, n))[0] == pytest.approx(found + k * f1**2 / (2 * f2))
    variance = f2 * (k * r**2 / 2 + k**2 * r**3 + k**2 * r**4 / 4)  # Chao 1987
    assert standard_error(chao1, counted(counts, n))[0] == pytest.approx(variance**0.5, rel=1e-6)

    once = [1] * 7 + [3, 4]
    total = len(once) + k * 7 * 6 / 2
    assert chao1(counted(once, n))[0] == pytest.approx(total)
    variance = k * 7 * 6 / 2 + k**2 * 7 * 13**2 / 4 - k**2 * 7**4 / (4 * total)  # the same where nothing was seen twice
    assert standard_error(chao1, counted(once, n))[0] == pytest.approx(variance**0.5, rel=1e-6)

    rare = [c for c in counts if c <= 10]
    coverage = 1 - f1 / sum(rare)
    pairs = sum(c * (c - 1) for c in rare) / (sum(rare) * (sum(rare) - 1))
    gamma2 = max(len(rare) / coverage * pairs - 1, 0)
    assert gamma2 > 0
    expected = (found - len(rare)) + len(rare) / coverage + f1 / coverage * gamma2
    assert ace(counted(counts, n))[0] == pytest.approx(expected)

    later = extrapolated(counted(counts, n), np.array([n, 2 * n, 10**9]))
    f0 = k * f1**2 / (2 * f2)
    assert later == pytest.approx([found, found + f0 * (1 - (1 - f1 / (n * f0 + f1)) ** n), found + f0])


@pytest.fixture(scope="module")
def simulated():
    """Repeated audits of a generator that copies 60 images, some often and some rarely, in a third of what it draws."""
    rng = np.random.default_rng(11)
    share = rng.gamma(0.8, size=60)
    share *= 0.35 / share.sum()
    drawn, n_train = 400, 100
    found = []
    for _ in range(300):
        times = rng.multinomial(drawn, [*share, 1 - share.sum()])[:-1]
        nearest = np.repeat(np.arange(60), times)
        nearest = np.concatenate([nearest, np.full(drawn - len(nearest), 99)])
        found.append(growth(nearest, nearest < 60, groups=np.arange(n_train), of="images"))
    return share, found


def truth(share, drawn):
    """Return the expected number of different images seen in so many draws."""
    return (1 - (1 - share[:, None]) ** np.asarray(drawn)).sum(0)


def test_the_curve_is_right_on_average(simulated):
    share, found = simulated
    grid = found[0].drawn
    expected = np.mean([one.expected for one in found], axis=0)
    true = truth(share, grid)
    spread = np.std([one.expected for one in found], axis=0) / len(found) ** 0.5
    seen = grid <= 400
    assert np.abs(expected - true)[seen].max() <= 4 * spread[seen].max(), "rarefaction has no bias"
    assert np.abs(expected / true - 1)[(grid > 400) & (grid <= 800)].max() < 0.02
    assert -0.2 < expected[-1] / true[-1] - 1 < 0, "ten times as far, too low rather than too high"


def test_intervals_hold_the_truth(simulated):
    share, found = simulated
    for at in (200, 400, 800):
        place = int(np.argmin(np.abs(found[0].drawn - at)))
        true = truth(share, found[0].drawn[place])
        inside = np.mean([one.low[place] <= true <= one.high[place] for one in found])
        assert 0.9 <= inside <= 1.0, (at, inside)
    whole = len(share)
    assert np.mean([one.chao1.value for one in found]) <= whole + 0.5, "a lower bound"
    assert np.mean([one.chao1.value for one in found]) > np.mean([one.found for one in found]) + 2
    for name in ("chao1", "ace"):
        inside = np.mean([getattr(one, name).low <= whole <= getattr(one, name).high for one in found])
        assert inside > 0.6, (name, inside)


def test_curves_rise_bend_and_stay_within_their_bands(simulated):
    for one in simulated[1][:20]:
        assert (np.diff(one.drawn) > 0).all() and one.drawn[0] == 1 and one.drawn[-1] == 10 * one.n_drawn
        slopes = np.diff(one.expected) / np.diff(one.drawn)
        assert (slopes >= -1e-12).all() and (np.diff(slopes) <= 1e-9).all()
        assert (one.low <= one.expected).all() and (one.expected <= one.high).all() and one.high.max() <= one.n_train
        assert one.expected[one.drawn == one.n_drawn] == pytest.approx(one.found)
        assert one.found <= one.tenfold.low <= one.tenfold.value <= one.tenfold.high


def test_nothing_found_still_has_an_upper_limit():
    one = grown([], 300, n_train=5000)
    assert (one.found, one.n_copies, one.tenfold.value, one.tenfold.low) == (0, 0, 0.0, 0.0)
    assert one.tenfold.high == pytest.approx(3000 * (1 - 0.025 ** (1 / 300)))  # 36.7: the rule of three, two-sided
    assert (one.chao1.low, one.chao1.high) == (0.0, 5000.0) and (one.expected == 0).all()


def test_images_seen_once_only_may_be_any_number_up_to_all():
    one = grown([1] * 12, 100, n_train=40)
    assert one.chao1.value == one.ace.value == one.chao1.high == 40
    assert 12 < one.chao1.low < 40 and one.tenfold.high == 40 and one.expected.max() <= 40


def test_all_found_many_times_leaves_nothing_to_reveal():
    one = grown([9, 12, 30], 100, n_train=3)
    assert one.tenfold.value == one.chao1.value == one.ace.value == 3
    assert (one.expected[one.drawn >= 100] == 3).all() and one.chao1.high == 3


def test_one_copy_of_one_image():
    one = grown([1], 1, n_train=1)
    assert one.found == 1 and one.expected.tolist() == [1.0] * len(one.drawn)
    two = grown([1], 50)
    assert two.found == 1 and np.isfinite([*two.low, *two.high, two.chao1.high, two.ace.high]).all()


def test_patients_are_fewer_than_images():
    rng = np.random.default_rng(0)
    nearest, is_copy = rng.integers(0, 40, 120), rng.random(120) < 0.5
    by_image = growth(nearest, is_copy, groups=np.arange(40), of="images")
    by_patient = growth(nearest, is_copy, groups=np.arange(40) // 4, of="patients")
    assert by_patient.n_train == 10 and by_patient.n_copies == by_image.n_copies == is_copy.sum()
    assert (by_patient.expected[by_patient.drawn <= 120] <= by_image.expected[by_image.drawn <= 120]).all()
    assert by_patient.found == len(np.unique(nearest[is_copy] // 4))


def test_wrong_use_is_refused():
    with pytest.raises(ValueError, match="no synthetic images"):
        growth(np.array([], int), np.array([], bool), groups=np.arange(3), of="images")
    with pytest.raises(ValueError, match="without a nearest"):
        growth(np.array([-1]), np.array([True]), groups=np.arange(3), of="images")


def test_an_empty_count_has_no_error():
    nothing = Sightings(10, np.array([], np.int64), np.array([]))
    assert standard_error(chao1, nothing).tolist() == [0.0]
