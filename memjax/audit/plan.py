"""How a search of all pairs is done: every plan gives the same lists, at another price.

Prices are multiply-adds. A plain product tries the orientations one by one. The symmetric one transforms every image
once and pays `symmetry.multiply_adds` a pair, which is worth it as soon as there are enough pairs for the transform and
for the second that XLA takes to compile it. The sketched one pays that for the numbers of a sketch only, and the price
of exact scores for the pairs that the sketch cannot rule out. How many these are shows in the first block: if they are
too many, the search turns to the symmetric plan.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Literal

from memjax.audit.symmetry import Group, multiply_adds

Kind = Literal["product", "symmetric", "sketched"]
KINDS: tuple[Kind, ...] = ("product", "symmetric", "sketched")

BLOCKS = (8, 4, 2)  # sides of a sketch's blocks, in pixels

# Prices in multiply-adds, measured as times (BUILD_NOTES).
_DESCRIBE, _TRANSFORM, _SKETCH = 20.0, 100.0, 20.0  # of a pixel, once an image
_COMPILE = {"product": 0.0, "symmetric": 3e10, "sketched": 1e11}
_PAIR, _PIXEL_OF_PAIR = 1e5, 12.0  # of an exact score: a pair, and a pixel of it
_CLOSE = 0.03  # a sketch that leaves out no more of the energy is as good as any
_USELESS = 0.3  # one that leaves out more rules out nothing
_SURVIVORS, _ABOVE = 0.03, 0.001  # of the pairs, if all goes well: for lists, and above a threshold


@dataclasses.dataclass(frozen=True)
class Plan:
    """A plan, what a person is told of it, and for a sketched one the side of its blocks in pixels."""

    kind: Kind
    sentence: str
    block: int = 0


def choose(
    asked: Kind | Literal["auto"],
    *,
    queries: int,
    gallery: int,
    size: int,
    n_axes: int,
    group: Group,
    lists: bool,
    left_out: Callable[[int], float],
) -> Plan:
    """Return the cheapest plan, or the one that is asked for.

    Args:
      asked: "auto" or a kind.
      queries: number of query images.
      gallery: number of gallery images.
      size: numbers in an image.
      n_axes: number of its axes.
      group: the orientations.
      lists: whether everybody's best are wanted, or only pairs above a threshold.
      left_out: tells for blocks of some side how much of the images' energy their means leave out; asked only if a
        sketch comes into question.
    """
    pairs, images = queries * gallery, queries + gallery
    each = multiply_adds(group)
    price = {
        "product": len(group) * pairs * size + _DESCRIBE * images * size,
        "symmetric": each * pairs * size + _TRANSFORM * images * size + _COMPILE["symmetric"],
        "sketched": math.inf,
    }
    if len(group) == 1:
        price["symmetric"] = price["product"]  # they are the same
    block, rest = 0, 1.0
    if asked == "sketched" or (asked == "auto" and min(price.values()) > 2 * _COMPILE["sketched"]):
        for block in BLOCKS:
            rest = left_out(block)
            if rest <= _CLOSE:
                break
        if asked == "sketched" or rest < _USELESS:
            price["sketched"] = (
                pairs
                * (
                    each * size * 1.1 / block**n_axes
                    + (_SURVIVORS if lists else _ABOVE) * (_PAIR + _PIXEL_OF_PAIR * size)
                )
                + _SKETCH * images * size
                + _COMPILE["sketched"]
            )
    kind = min(KINDS, key=lambda kind: price[kind]) if asked == "auto" else asked
    how = {
        "product": "each orientation multiplied out",
        "symmetric": "all orientations in one block-diagonal product",
        "sketched": f"means of {block} pixels a side rule pairs out (they leave out {rest:.1%}), the rest exactly",
    }[kind]
    orientations = "one orientation" if len(group) == 1 else f"{len(group)} orientations"
    if len(group) == 1 and kind != "sketched":
        how = "multiplied out"
    sentence = (
        f"plan {kind}: {queries} x {gallery} images of {size} numbers, {orientations}, {how}; "
        f"about the price of {price[kind] / max(1, pairs * size):.2g} plain products"
    )
    return Plan(kind, sentence, block if kind == "sketched" else 0)


def most_survivors(pairs: int, size: int, group: Group) -> int:
    """Return from how many exact scores on the symmetric product of so many pairs is cheaper."""
    return int(multiply_adds(group) * pairs * size / (_PAIR + _PIXEL_OF_PAIR * size))
