"""What readers said: the file that keeps it, what they agree on, and every detector against them."""

import dataclasses
import os
import sqlite3
import subprocess
import sys

import numpy as np
import pytest
from launching import ROOT
from reviews import audit_folder, new_review, other_detector, say
from small_findings import planted_findings

from memjax.audit.agreement import cohens_kappa
from memjax.audit.findings import Confusion
from memjax.audit.labels import read_labels
from memjax.audit.review_file import LABELS, Label, Pair, ReviewFile
from memjax.errors import UserError

N = 8


@pytest.fixture
def reviewed(tmp_path):
    """An audit of 8 synthetic images of which 0, 1, 2 are called copies, and its 8 pairs without labels."""
    out, findings = audit_folder(tmp_path, n_synthetic=N, n_copies=3)
    return new_review(out), findings


def by_synthetic(review, findings):
    """Return each pair's number by its synthetic image's id."""
    ids = {item.source: item.id for item in findings.synthetic.store.items}
    return {ids[pair.synthetic]: number for number, pair in enumerate(review.pairs)}


def labelled(said):
    return dict(enumerate(LABELS[index] for index in said))


def test_kappa_of_a_worked_example():
    """Two readers of 50: both yes 20, both no 15, the first alone yes 5, the second alone 10; p_o 0.7, p_e 0.5."""
    first = np.repeat([0, 0, 1, 1], [20, 5, 10, 15])
    second = np.repeat([0, 1, 0, 1], [20, 5, 10, 15])
    assert cohens_kappa(first, second) == pytest.approx(0.4)


def test_kappa_is_one_minus_observed_over_expected_disagreement():
    rng = np.random.default_rng(0)
    for _ in range(20):
        first, second = rng.integers(0, 3, (2, 40))
        table = np.zeros((3, 3))
        np.add.at(table, (first, second), 1)
        expected = np.outer(table.sum(1), table.sum(0)) / 40
        differ = ~np.eye(3, dtype=bool)
        assert cohens_kappa(first, second) == pytest.approx(1 - table[differ].sum() / expected[differ].sum())


def test_kappa_without_information_is_unknown():
    assert np.isnan(cohens_kappa(np.zeros(0, int), np.zeros(0, int)))
    assert np.isnan(cohens_kappa(np.zeros(5, int), np.zeros(5, int)))
    assert cohens_kappa(np.array([0, 1]), np.array([1, 0])) == -1


def test_consensus_and_every_detector_against_it(reviewed):
    review, findings = reviewed
    number = by_synthetic(review, findings)
    # Copies 0, 1 and 5 in both readers' eyes, 2, 3, 4 novel, 6 unsure for one, 7 of different opinion.
    anna = dict(zip(range(N), ("copy", "copy", "novel", "novel", "novel", "copy", "unsure", "copy"), strict=True))
    ben = {**anna, 6: "copy", 7: "novel"}
    for name, said in (("Anna", anna), ("Ben", ben)):
        say(review, name, {number[i]: label for i, label in said.items()})
    nearest = findings.synthetic_to_train.id[:, 0].copy()
    nearest[1] += 1  # calls 1 a copy of somebody else
    called = np.array([True, True, False, False, False, True, True, True])
    other = other_detector(findings, called=called, nearest=nearest)
    found = read_labels(review.path, dataclasses.replace(findings, detectors=[other]))

    assert (found.readers, found.n_pairs, found.n_both) == (["Anna", "Ben"], N, N)
    assert (found.n_copy, found.n_novel, found.n_open) == (3, 3, 2)
    # p_o = 6/8; Anna says 4, 3, 1 and Ben 4, 4, 0 of 8: p_e = (16 + 12) / 64.
    assert found.kappa == pytest.approx((6 / 8 - 28 / 64) / (1 - 28 / 64))
    assert dict(zip(found.synthetic.tolist(), found.is_copy.tolist(), strict=True)) == {
        **dict.fromkeys((0, 1, 5), True),
        **dict.fromkeys((2, 3, 4), False),
    }
    np.testing.assert_array_equal(found.train, findings.synthetic_to_train.id[found.synthetic, 0])
    assert list(found.confusions) == [  # the audit's own calls 0, 1, 2
        Confusion(name="correlation", both_copy=2, only_detector=1, only_readers=1, both_novel=2),
        Confusion(name="embedding-msd:planted", both_copy=2, only_detector=0, only_readers=1, both_novel=3),
    ]


def test_labels_are_of_images_not_of_names(reviewed, tmp_path):
    review, findings = reviewed
    say(review, "Anna", labelled([0] * N))
    say(review, "Ben", labelled([0] * N))
    renamed = planted_findings(tmp_path / "renamed", n_synthetic=N, sources=[f"renamed {i}" for i in range(12)])
    np.testing.assert_array_equal(read_labels(review.path, renamed).train, read_labels(review.path, findings).train)


def test_one_reader_is_no_consensus(reviewed):
    review, findings = reviewed
    say(review, "Anna", labelled([0, 1, 2]))
    found = read_labels(review.path, findings)
    assert (found.readers, found.n_both, found.n_open, len(found.is_copy)) == (["Anna"], 0, 0, 0)
    assert np.isnan(found.kappa)


def test_readers_of_different_pairs_have_nothing_in_common(reviewed):
    review, findings = reviewed
    say(review, "Anna", {0: "copy"})
    say(review, "Ben", {1: "copy"})
    found = read_labels(review.path, findings)
    assert (found.n_both, found.n_copy) == (0, 0)


def test_of_three_readers_the_two_who_labelled_most_count(reviewed):
    review, findings = reviewed
    say(review, "Anna", labelled([0, 1]))
    say(review, "Cleo", labelled([0, 1, 1, 1]))
    say(review, "Ben", labelled([0, 0, 0]))
    found = read_labels(review.path, findings)
    assert (found.readers, found.n_both, found.n_open) == (["Cleo", "Ben"], 3, 2)


def test_bad_reviews_are_told(reviewed, tmp_path):
    review, findings = reviewed
    with pytest.raises(UserError, match="holds no labels yet"):
        read_labels(review.path, findings)
    _, other = audit_folder(tmp_path / "other", n_synthetic=N, n_copies=2)
    with pytest.raises(UserError, match="of another audit") as told:
        read_labels(review.path, other)
    for one in (findings, other):
        assert one.synthetic.store.manifest.digest[:12] in str(told.value)
    with pytest.raises(UserError, match="is not there"):
        read_labels(tmp_path / "missing.sqlite", findings)
    (tmp_path / "text.sqlite").write_text("not a database, however long this text goes on\n" * 99)
    with pytest.raises(UserError, match="damaged or not a review"):
        read_labels(tmp_path / "text.sqlite", findings)
    sqlite3.connect(tmp_path / "strange.sqlite").execute("CREATE TABLE labels (x)").connection.close()
    with pytest.raises(UserError, match="is not a review"):
        read_labels(tmp_path / "strange.sqlite", findings)
    with pytest.raises(UserError, match="something else than a review"):
        ReviewFile.create(tmp_path / "strange.sqlite", {}, [])


def test_names_of_any_bytes_and_a_second_drawing_leave_the_first(tmp_path):
    names = {"synthetic": os.fsdecode(b"\xff/'; DROP.png"), "train": "脑\n図"}
    odd = Pair(**names, synthetic_id=7, train_id=9, orientation="fliplr", stratum="called", weight=2.5)
    first = ReviewFile.create(tmp_path / "a b%20#?.sqlite", {"train": "x"}, [odd])
    assert first.pairs == (odd,)
    again = ReviewFile.create(first.path, {"train": "y"}, [])
    assert (again.pairs, again.about) == ((odd,), {"train": "x"})
    assert sorted(path.name for path in tmp_path.iterdir()) == [first.path.name]


def test_the_later_label_counts(reviewed):
    review, _ = reviewed
    early, late = "2026-01-01T00:00:00.000+00:00", "2026-01-02T00:00:00.000+00:00"
    say(review, "Anna", {0: "copy"}, time=late)
    assert review.save([Label(reader="Anna", pair=0, label="novel", time=early)]) == 0
    assert [one.label for one in review.labels("Anna")] == ["copy"]
    say(review, "Anna", {0: "unsure"}, time=late)
    assert [one.label for one in review.labels()] == ["unsure"]
    with pytest.raises(sqlite3.IntegrityError):
        say(review, "Anna", {1: "copy", 2: "perhaps"})
    assert len(review.labels()) == 1  # all or none


def test_a_reader_is_one_however_the_name_is_typed(reviewed):
    review, _ = reviewed
    assert review.known_name("  Anna  B. ") == "Anna B."
    say(review, "Anna B.", {0: "copy"})
    assert review.known_name("ANNA b.") == "Anna B."
    for bad in ("", "  ", "x" * 61, "a\0b"):
        with pytest.raises(UserError, match="1 to 60 letters"):
            review.known_name(bad)


SAVES = """
import sys
from pathlib import Path
from memjax.audit.review_file import Label, ReviewFile, now
review = ReviewFile(Path(sys.argv[1]))
for round in range(5):
    for pair in range(8):
        review.save([Label(reader=sys.argv[2], pair=pair, label="copy", time=now())])
"""


def test_two_processes_write_one_review(reviewed):
    review, _ = reviewed
    both = [subprocess.Popen([sys.executable, "-c", SAVES, review.path, name], cwd=ROOT) for name in ("Anna", "Ben")]
    assert [process.wait() for process in both] == [0, 0]
    assert [(label.reader, label.pair) for label in review.labels()] == [
        (name, pair) for name in ("Anna", "Ben") for pair in range(N)
    ]
