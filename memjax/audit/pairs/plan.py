"""How a search of all pairs is done: every plan gives the same lists, at another price.

Prices are float32 multiply-adds. A plain product tries the orientations one by one. The symmetric one transforms every
image once and pays `symmetry.multiply_adds` a pair, which is worth it as soon as there are enough pairs for the
transform and for the second that XLA takes to compile it. The sketched one pays that for the numbers of a sketch only,
and the price of exact scores for the pairs that the sketch cannot rule out. The finest sketch is the image itself,
rounded to bfloat16, where products of those are quicker. How many pairs a sketch leaves shows in the first block: if
they are too many, the search turns to the next best plan.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Literal

from memjax.audit.pairs.symmetry import Group, multiply_adds

Kind = Literal["product", "symmetric", "sketched"]

BLOCKS = (8, 4, 2, 1)  # sides of a sketch's blocks, in pixels; 1: rounded images

# Prices in multiply-adds, measured as times (BUILD_NOTES).
_DESCRIBE = {"product": 40.0, "symmetric": 130.0}  # of a pixel, once an image
_SKETCH = {8: 100.0, 4: 100.0, 2: 350.0, 1: 190.0}  # the same, by the side of the blocks
_TURN = {2: 17.0, 3: 250.0}  # of a query's pixel in each orientation, by axes
_COMPILE = {"product": (0.0, 0.0), "symmetric": (0.0, 1e10), "sketched": (4e10, 1e10)}  # all in all, an orientation
_PAIR, _BYTE_OF_PAIR = 5e4, 8.0  # of an exact score: a pair, and a byte of an image
_BYTES, _HALVES = 1.5, 1.8  # how much faster products of int8 and bfloat16 are, where they are
# Pairs that a sketch leaves: so many times those that are in somebody's list, and a part of the energy it leaves out.
_LISTED, _LEFT_OUT, _LEFT_OUT_OF_ONE = 1.3, 1.7, 0.8  # for all orientations, or for one
_ABOVE = 0.001  # above a threshold


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work:
    """What is searched."""

    queries: int
    gallery: int
    size: int  # numbers in an image
    n_axes: int
    itemsize: int  # bytes of a number as it is stored
    group: Group
    k: int  # 0: pairs above a threshold
    of_bytes: bool  # whether images are bytes, and products of those are quick
    of_halves: bool  # whether products of bfloat16 are

    @property
    def pairs(self) -> int:
        """All of them."""
        return self.queries * self.gallery


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """A plan, and for a sketched one the side of its blocks, and what to do if too many pairs are left."""

    kind: Kind
    block: int = 0
    sentence: str
    price: float
    instead: "Plan | None" = None
    most: float = math.inf  # share of the pairs with exact scores from which on `instead` is cheaper


def choose(asked: Kind | Literal["auto"], work: Work, left_out: Callable[[int], float]) -> Plan:
    """Return the cheapest plan, or the one that is asked for.

    Args:
      asked: "auto" or a kind.
      work: what is searched.
      left_out: tells for blocks of some side how much of the images' energy their means leave out; asked only if a
        sketch comes into question.
    """
    plans = [_plan(work, "product")]
    if len(work.group) > 1 or asked == "symmetric":  # for one orientation they are the same, but for bytes
        plans.append(_plan(work, "symmetric"))
    if asked == "sketched" or (asked == "auto" and min(plan.price for plan in plans) > 2 * _compile(work, "sketched")):
        plans += [
            _plan(work, "sketched", block, left_out(block) if block > 1 else 0.0)
            for block in BLOCKS
            if block > 1 or work.of_halves
        ]
    if asked != "auto":
        return min((plan for plan in plans if plan.kind == asked), key=lambda plan: plan.price)
    return _with_way_out(work, plans)


def _with_way_out(work: Work, plans: list[Plan]) -> Plan:
    """Return the cheapest plan; for a sketched one with the cheapest of the finer ones to turn to."""
    best = min(plans, key=lambda plan: plan.price)
    if best.kind != "sketched":
        return best
    instead = _with_way_out(work, [plan for plan in plans if plan.block < best.block])
    most = (instead.price - _before_pairs(work, "sketched", best.block)) / (work.pairs * _of_pair(work))
    return dataclasses.replace(best, instead=instead, most=most)


def _plan(work: Work, kind: Kind, block: int = 0, rest: float = 0.0) -> Plan:
    price = _before_pairs(work, kind, block)
    if kind == "sketched":
        price += work.pairs * _left(work, rest) * _of_pair(work)
    how = {
        "product": "each orientation multiplied out" if len(work.group) > 1 else "multiplied out",
        "symmetric": "all orientations in one block-diagonal product" if len(work.group) > 1 else "multiplied out",
        "sketched": f"means of {block} pixels a side rule pairs out (they leave out {rest:.1%}), the rest exactly",
    }[kind]
    if block == 1:
        how = "a product of rounded numbers rules pairs out, the rest exactly"
    orientations = "one orientation" if len(work.group) == 1 else f"{len(work.group)} orientations"
    sentence = (
        f"plan {kind}: {work.queries} x {work.gallery} images of {work.size} numbers, {orientations}, {how}; "
        f"about the price of {(price - _compile(work, kind)) / max(1, work.pairs * work.size):.2g} plain products"
    )
    return Plan(kind=kind, block=block, sentence=sentence, price=price)


def _before_pairs(work: Work, kind: Kind, block: int) -> float:
    """Return the price of everything but exact scores of pairs."""
    images = (work.queries + work.gallery) * work.size
    each = {"product": float(len(work.group)), "symmetric": multiply_adds(work.group)}
    if work.of_bytes:
        each["product"] /= _BYTES
    price = (_SKETCH[block] if kind == "sketched" else _DESCRIBE[kind]) * images + _compile(work, kind)
    if kind != "sketched":
        return price + work.pairs * work.size * each[kind]
    numbers = work.size * (1.1 if block > 1 else 1.0) / block**work.n_axes
    price += _TURN[work.n_axes] * work.queries * len(work.group) * work.size
    return price + work.pairs * numbers * each["symmetric"] / (_HALVES if work.of_halves else 1)


def _compile(work: Work, kind: Kind) -> float:
    """Return how long XLA takes for a plan."""
    once, each = _COMPILE[kind]
    return once + each * len(work.group)


def _left(work: Work, rest: float) -> float:
    """Return the share of the pairs that a sketch which leaves out `rest` of the energy is expected to leave."""
    if not work.k:
        return _ABOVE
    listed = work.k / work.queries + work.k / work.gallery
    return min(1.0, _LISTED * listed + (_LEFT_OUT if len(work.group) > 1 else _LEFT_OUT_OF_ONE) * rest)


def _of_pair(work: Work) -> float:
    """Return the price of an exact score."""
    return _PAIR + _BYTE_OF_PAIR * work.itemsize * work.size
