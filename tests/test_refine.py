"""What float32 gets wrong is put right: each test hands over lists that are wrong within the rounding slack."""

import numpy as np
import pytest

from memjax.audit.describe import ArrayImages, Descriptor
from memjax.audit.pairs.refine import refine
from memjax.audit.pairs.screen import rounding_slack
from memjax.audit.pairs.shortlist import AMBIGUOUS, Shortlist
from memjax.orientation import orientations

GROUP = orientations((6, 6), "all")
SIZE = 36


def sets(seed=0, n=12):
    rng = np.random.default_rng(seed)
    query = rng.integers(0, 256, (1, 6, 6, 1)).astype(np.uint8)
    gallery = rng.integers(0, 256, (n, 6, 6, 1)).astype(np.uint8)
    return ArrayImages(query, np.float32([[0, 255]])), ArrayImages(gallery, np.tile(np.float32([0, 255]), (n, 1)))


def truth(query, gallery):
    """Best score and orientation of each gallery image by `np.corrcoef`."""
    x = query.images[0].ravel()
    scores = np.array([[np.corrcoef(x, turn.apply(y).ravel())[0, 1] for turn in GROUP] for y in gallery.images])
    return scores.max(1), scores.argmax(1)


def refined(candidates, query, gallery, k):
    return refine(
        candidates,
        query=query,
        gallery=gallery,
        k=k,
        group=GROUP,
        descriptor=Descriptor(),
        by_query=True,
        own=None,
        slack=rounding_slack(SIZE),
    )


def given(score, ids, code):
    return Shortlist(np.float32([score]), np.int64([ids]), np.int16([code]))


def test_near_ties_are_ordered_by_their_exact_scores():
    query, gallery = sets()
    gallery.images[3] = gallery.images[7]
    gallery.images[3, 0, 0] ^= 1  # a score next to that of 7
    score, code = truth(query, gallery)
    order = np.argsort(-score, kind="stable")
    blurred = score.copy()
    middle = (score[3] + score[7]) / 2
    blurred[[3, 7]] = middle  # float32 cannot tell them apart,
    wrong = np.array(order)
    a, b = np.flatnonzero(np.isin(order, [3, 7]))
    wrong[[a, b]] = wrong[[b, a]]  # and lists them the wrong way round
    assert abs(score[3] - score[7]) < 1e-2
    blurred = np.where(np.isin(np.arange(12), [3, 7]), middle, blurred)
    found = refined(given(blurred[wrong], wrong, code[wrong]), query, gallery, 12)
    np.testing.assert_array_equal(found.id[0], order)
    np.testing.assert_allclose(found.score[0], score[order], atol=1e-6)


def test_ambiguous_orientations_are_settled():
    query, gallery = sets(1)
    score, code = truth(query, gallery)
    order = np.argsort(-score)
    wrong = (code[order] + 1) % len(GROUP) + AMBIGUOUS
    found = refined(given(score[order], order, wrong), query, gallery, 12)
    np.testing.assert_array_equal(found.orientation[0], code[order])


@pytest.mark.parametrize("gap", [0.5, 4.0])
def test_a_dropped_candidate_is_found_if_the_last_place_is_uncertain(gap):
    """The best image is missing from the list. Only a last place within twice the slack of the k-th tells that
    something may be missing: with half the slack between them the list is made again, with four times it is trusted
    (so a slack that is too small for the kernel's error would lose this image)."""
    query, gallery = sets(2)
    score, code = truth(query, gallery)
    order = np.argsort(-score)
    kept = order[1:5]  # the best one was dropped
    blurred = score[kept].copy()
    blurred[-1] = blurred[1] - gap * rounding_slack(SIZE)
    blurred[2] = (blurred[1] + blurred[-1]) / 2
    found = refined(given(blurred, kept, code[kept]), query, gallery, 2)
    assert (found.id[0, 0] == order[0]) == (gap < 2)


def test_exact_copies_score_one():
    query, gallery = sets(3)
    gallery.images[5] = np.rot90(query.images[0])
    score, code = truth(query, gallery)
    order = np.argsort(-score)
    found = refined(given(score[order] - 3e-7, order, code[order]), query, gallery, 3)
    assert found.score[0, 0] == pytest.approx(1, abs=1e-12)
