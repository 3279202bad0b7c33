"""The plan is the cheapest, says what it is, and knows where to turn."""

import math
from typing import get_args

import pytest

from memjax.audit.pairs import plan as plans
from memjax.audit.pairs.plan import Work, choose
from memjax.orientation import orientations

SMOOTH = {8: 0.06, 4: 0.02, 2: 0.006}  # radiographs at 224x224: what block means leave out of their energy


def work(queries, gallery, shape, *, symmetry="all", k=10, itemsize=1, halves=True):
    return Work(
        queries=queries,
        gallery=gallery,
        size=math.prod(shape),
        n_axes=len(shape),
        itemsize=itemsize,
        group=orientations(shape, symmetry),
        k=k,
        of_halves=halves,
        of_bytes=itemsize == 1,
    )


def never(block):
    raise AssertionError("sketches do not come into question")


@pytest.mark.parametrize("kind", get_args(plans.Kind))
def test_what_is_asked_for_is_done(kind):
    chosen = choose(kind, work(10, 20, (16, 16)), SMOOTH.__getitem__)
    assert chosen.kind == kind
    assert chosen.sentence.startswith(f"plan {kind}: 10 x 20 images of 256 numbers, 8 orientations, ")
    assert chosen.instead is None
    assert chosen.most == math.inf  # nothing to turn to


@pytest.mark.parametrize(
    ("asked", "kind"),
    [
        (work(1000, 5000, (64, 64), symmetry="none"), "product"),
        (work(20, 40, (48, 48, 48)), "product"),  # not worth a second of compiling
        (work(500, 1000, (48, 48, 48)), "symmetric"),
    ],
)
def test_the_cheapest_without_sketches(asked, kind):
    assert choose("auto", asked, {8: 0.21, 4: 0.09, 2: 0.03}.__getitem__).kind == kind


def test_small_work_does_not_look_at_the_images():
    choose("auto", work(100, 500, (64, 64)), never)


def test_large_smooth_images_are_sketched_and_there_is_a_way_out():
    asked = work(1000, 4732, (224, 224))
    chosen = choose("auto", asked, SMOOTH.__getitem__)
    assert (chosen.kind, chosen.block) == ("sketched", 4)
    assert "means of 4 pixels a side rule pairs out (they leave out 2.0%)" in chosen.sentence
    seen, last = [], chosen
    while last.instead is not None:
        assert plans._left(asked, SMOOTH.get(last.block, 0.0)) < last.most
        assert last.instead.price >= last.price
        seen.append(last.block)
        last = last.instead
    assert seen == sorted(seen, reverse=True)  # ever finer
    assert last.kind == "symmetric"


def test_images_without_smoothness_are_not_sketched():
    assert choose("auto", work(1000, 4732, (224, 224)), lambda block: 0.9).block in (0, 1)


def test_rounding_is_a_sketch_only_where_it_is_quick():
    for halves in (True, False):
        asked = work(1000, 500_000, (64, 64), halves=halves)
        assert choose("auto", asked, lambda block: 0.5).kind == ("sketched" if halves else "symmetric")


def test_bytes_make_products_cheaper():
    prices = [choose("product", work(9, 9, (64, 64), itemsize=size, symmetry="none"), never).price for size in (1, 4)]
    assert prices[0] < prices[1]


def test_above_a_threshold_sketches_leave_little():
    asked = work(5000, 5000, (48, 48, 48), k=0)
    assert plans._left(asked, 0.2) == plans._left(asked, 0.0) < 0.01
