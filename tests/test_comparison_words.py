"""The sentences of a comparison rank only what differs beyond its uncertainty, and say what else may explain it."""

import dataclasses

import numpy as np
import pytest
from small_findings import planted_generators

from memjax.audit.findings import Interval
from memjax.audit.report import comparison_words
from memjax.audit.report.compared import Audited


def audited(found, **more):
    return {name: Audited(findings=one, **more) for name, one in found.items()}


def with_copies(one, value, low, high, **changes):
    decision = dataclasses.replace(
        one.decision,
        n_copies=Interval(value=float(value), low=float(low), high=float(high)),
        is_copy=np.arange(len(one.decision.is_copy)) < value,
        is_clean=value == 0,
        **changes,
    )
    return dataclasses.replace(one, decision=decision)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    return planted_generators(tmp_path_factory.mktemp("two"), {"StyleGAN2": 2, "DDPM": 30})


def test_overlapping_intervals_are_not_ranked(two):
    close = audited({"A": with_copies(two["DDPM"], 20, 15, 26), "B": with_copies(two["DDPM"], 14, 9, 20)})
    said = comparison_words.sentence(close)
    assert (
        said
        == "Which generator copies most cannot be told: 20 of 40 images from A and 14 of 40 images from B are copies."
    )
    assert comparison_words.conclusions(close)[0] == "Too close to say which of the two copies more: A and B."
    apart = audited({"A": with_copies(two["DDPM"], 20, 15, 26), "B": with_copies(two["DDPM"], 10, 6, 14)})
    assert comparison_words.sentence(apart).startswith("A copies more than B: 20 of 40 images")
    assert "From most to fewest copies: A, B." in comparison_words.conclusions(apart)[0]


def test_none_found_is_not_taken_for_none(two):
    none, few = with_copies(two["DDPM"], 0, 0, 0), with_copies(two["DDPM"], 2, 1, 4)
    found = audited({"A": none, "B": few})
    assert found["A"].copied == Interval(value=0.0, low=0.0, high=3 / 40)
    assert not found["B"].copies_more_than(found["A"]), "0 and 2 of 40 may be the same rate"
    assert any("up to 7.5\u00a0% of its images may be copies" in said for said in comparison_words.limits(found))
    many = audited({"A": none, "B": with_copies(two["DDPM"], 20, 15, 25)})
    assert many["B"].copies_more_than(many["A"]) and not many["A"].copies_more_than(many["B"])


def test_a_set_that_lies_too_near_is_undecided_though_nothing_is_called(two):
    near, far = (with_copies(two["DDPM"], 0, 0, 0, n_beyond=20, p_beyond=p) for p in (1e-6, 0.3))
    found = audited({"A": near, "B": far})
    assert comparison_words.verdict(found) == "Undecided"
    assert "the images from A lie nearer to the training images than chance" in comparison_words.sentence(found)
    assert "give held-out images of more patients" in " ".join(comparison_words.conclusions(found))
    assert comparison_words.verdict(audited({"A": far, "B": far})) == "No copies found"
    copying = audited({"A": near, "B": with_copies(two["DDPM"], 20, 15, 26)})
    assert comparison_words.verdict(copying) == "Copies found: B"


def test_own_thresholds_alone_do_not_rank(two):
    few_above = with_copies(two["StyleGAN2"], 20, 15, 26)
    many_above = with_copies(two["DDPM"], 10, 6, 14)
    one, other = audited({"A": few_above, "B": many_above}).values()
    assert one.n_above_p99 < other.n_above_p99
    assert not one.copies_more_than(other), "the line that is one for all says the contrary"


def test_length_of_training(two):
    def said(a, b):
        found = {"A": Audited(findings=two["DDPM"], images_seen=a), "B": Audited(findings=two["DDPM"], images_seen=b)}
        return " ".join(comparison_words.limits(found))

    assert "not trained equally long (images seen: A 32\u202f000 and B 96\u202f000)" in said(32_000, 96_000)
    assert "How long each generator was trained is not known" in said(32_000, None)
    assert "trained" not in said(32_000, 32_016).replace("One trained model", "")


def test_images_unlike_any_are_named(two):
    unlike = dataclasses.replace(
        two["StyleGAN2"].synthetic_to_train, score=two["StyleGAN2"].synthetic_to_train.score - 1
    )
    found = audited(
        {"StyleGAN2": dataclasses.replace(two["StyleGAN2"], synthetic_to_train=unlike), "DDPM": two["DDPM"]}
    )
    said = " ".join(comparison_words.limits(found)).replace("\u00a0", " ")
    assert "Half of the images from StyleGAN2 are less like any training image than 95 % of" in said
    assert "Half of the images" not in " ".join(comparison_words.limits(audited(two)))
