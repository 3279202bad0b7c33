"""The sentences state denominators, intervals and yardsticks, and never promise more than was compared."""

import dataclasses
import math
import re

import pytest
from small_findings import planted_findings

from memjax.audit.findings import Interval
from memjax.audit.report import numerals, words


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return planted_findings(tmp_path_factory.mktemp("found"))


@pytest.fixture(scope="module")
def unreferenced(tmp_path_factory):
    return planted_findings(tmp_path_factory.mktemp("bare"), n_copies=0, with_heldout=False, with_patients=False)


def all_words(findings):
    parts = [words.verdict_sentence(findings), *words.yardstick(findings), *words.meaning(findings)]
    parts += [*words.limits(findings), words.method(findings)]
    parts += [" ".join((h.part, h.whole, h.what, *h.notes)) for h in words.headlines(findings)]
    parts += [alert.text for alert in words.alerts(findings)]
    return parts


def with_decision(findings, **changes):
    return dataclasses.replace(findings, decision=dataclasses.replace(findings.decision, **changes))


def test_copies_are_stated_with_their_denominators(found):
    assert found.verdict == "copies found"
    assert words.verdict_sentence(found) == "3 of 8 synthetic images reproduce training images of 2 patients."
    copies, patients, memorized = words.headlines(found)
    assert (copies.part, copies.whole) == ("3", "8")
    assert copies.notes[0].replace("\u00a0", " ") == "37.5 % (95 % interval 22.5 to 56.2 %)"
    assert "0.4 of as many images of unseen patients" in copies.notes[1]
    assert (patients.part, patients.whole) == ("2", "6")
    assert (memorized.part, memorized.whole) == ("3", "12")
    assert "in sets of 3: synthetic images repeat about 1.5 training images, held-out ones none" in memorized.notes[1]


def test_no_more_than_chance_is_not_called_copies(found):
    chance = with_decision(found, is_clean=True, rule="p95", rate=0.05, n_copies_by_chance=2.6)
    assert chance.verdict == "no copies found"
    assert words.verdict_sentence(chance) == (
        "3 of 8 synthetic images are above the threshold, no more than chance explains: about 2.6 of as many images "
        "of unseen patients would be too."
    )
    assert any("5\u00a0% of the images of unseen patients exceed as well" in said for said in words.yardstick(chance))


def test_a_set_that_lies_too_near_is_not_said_to_be_free_of_copies(tmp_path):
    found = with_decision(planted_findings(tmp_path, n_copies=0), n_beyond=6, p_beyond=0.0009)
    assert found.verdict == "undecided" and found.is_clean
    assert words.verdict_sentence(found).startswith(
        "6 of 8 synthetic images are more like a training image than all images of 6 unseen patients are"
    )
    assert "give held-out images of more patients" in words.meaning(found)[1]
    assert any("nearer to the training images than chance" in alert.text for alert in words.alerts(found))
    assert not any("not closer" in said for said in all_words(found))
    assert with_decision(found, p_beyond=0.0011).verdict == "no copies found"
    assert with_decision(found, is_clean=False).verdict == "copies found"


def test_without_held_out_images_the_report_says_what_cannot_be_concluded(unreferenced):
    assert unreferenced.verdict == "no copies found"
    assert "cannot be said without held-out images" in words.verdict_sentence(unreferenced)
    assert "No held-out images were given" in words.yardstick(unreferenced)[0]
    assert any("Without held-out images it cannot be said" in said for said in words.limits(unreferenced))
    assert not any("nan" in said for said in all_words(unreferenced))


def test_unknown_patients_are_not_counted_as_people(unreferenced):
    patients = words.headlines(unreferenced)[1]
    assert patients.part == "not known" and patients.whole == ""
    assert "counts images, not people" in patients.notes[0]


def test_unknown_patients_leave_the_sentence_with_images(tmp_path):
    findings = planted_findings(tmp_path, with_patients=False, with_heldout=False)
    assert words.verdict_sentence(findings) == "3 of 8 synthetic images reproduce 3 training images."


def test_one_copy_is_said_in_the_singular(tmp_path):
    findings = planted_findings(tmp_path, n_synthetic=1, n_copies=1)
    assert words.verdict_sentence(findings) == "1 of 1 synthetic image reproduces training images of 1 patient."


@pytest.mark.parametrize("rule", ["fdr", "p95", "p99", "value", "identical"])
@pytest.mark.parametrize("is_clean", [True, False])
def test_nothing_is_ever_promised(found, unreferenced, rule, is_clean):
    for findings in (found, unreferenced, dataclasses.replace(found, score="msd", foreground_share=0.4)):
        text = " ".join(all_words(with_decision(findings, rule=rule, rate=0.05, is_clean=is_clean)))
        assert not re.search(r"\b(safe|anonym\w*|guarantee\w*|nan|inf)\b", text, re.IGNORECASE)
        assert "not a proof of privacy" in text


def test_alerts_come_from_leaks_duplicates_blank_images_and_warnings(tmp_path):
    findings = planted_findings(tmp_path, constant=[6, 7], duplicates=[(1, 2), (3, 4, 5)], warnings=("Few patients.",))
    assert [alert.text for alert in words.alerts(findings)] == [
        "The training set holds 5 images that are practically identical to another one of it.",
        "2 synthetic images have no contrast at all and could not be compared.",
        "Few patients.",
    ]


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (37.0, "37"), (9999, "9999"), (12345, "12\u202f345"), (0.4, "0.4"), (27.4, "27"), (math.nan, "unknown")],
)
def test_counts(number, text):
    assert numerals.count(number) == text


@pytest.mark.parametrize(
    ("share", "text"), [(0, "0"), (1, "100"), (0.037, "3.7"), (0.00042, "0.04"), (0.9999, "> 99.9"), (0.01, "1")]
)
def test_percentages(share, text):
    assert numerals.percent(share) == f"{text}\u00a0%"


def test_scores_p_values_and_intervals():
    assert numerals.score(-0.01234) == "\u22120.0123"
    assert numerals.score(-math.inf) == "none"
    assert [numerals.p_value(p) for p in (0.031, 1e-9, math.nan)] == ["p = 0.031", "p < 0.0001", ""]
    assert numerals.interval(Interval(value=3.0, low=1.0, high=5.0), 0).endswith("– to –\u00a0%")


def test_names_in_any_script_stay_and_hidden_characters_show():
    assert numerals.name("胸部/صورة 7.png") == "胸部/صورة 7.png"
    assert numerals.name("scan\udcff\u202egnp.exe\n") == "scan\\xff\\u202egnp.exe\\n"
    long = numerals.name("a" * 4000 + "z")
    assert len(long) < 100 and long.startswith("aaa") and long.endswith("z") and "…" in long
