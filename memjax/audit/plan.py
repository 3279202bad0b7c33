"""How a search of all pairs is done: every plan gives the same answer, at another price.

Prices are multiply-adds. A plain product tries the orientations one by one; the symmetric one transforms every image
once and pays `symmetry.multiply_adds` a pair, which is worth it as soon as there are enough pairs for the transform and
for the second or two that XLA takes to compile it.
"""

import dataclasses
import math
from typing import Literal

from memjax.audit.symmetry import Group, multiply_adds

Kind = Literal["product", "symmetric", "sketched"]
KINDS: tuple[Kind, ...] = ("product", "symmetric", "sketched")

_DESCRIBE = 20.0  # of a pixel, once an image; the price of converting and centring it (BUILD_NOTES)
_TRANSFORM = 100.0  # the same with the transform
_COMPILE = 3e10  # multiply-adds in the time that the transform's longer compilation takes


@dataclasses.dataclass(frozen=True)
class Plan:
    """A plan and its price, in plain products of one orientation."""

    kind: Kind
    price: float
    sentence: str


def choose(asked: Kind | Literal["auto"], *, queries: int, gallery: int, size: int, group: Group) -> Plan:
    """Return the cheapest plan, or the one that is asked for.

    Args:
      asked: "auto" or a kind.
      queries: number of query images.
      gallery: number of gallery images.
      size: numbers in an image.
      group: the orientations.
    """
    pairs, images = queries * gallery, queries + gallery
    price = {
        "product": len(group) * pairs * size + _DESCRIBE * images * size,
        "symmetric": multiply_adds(group) * pairs * size + _TRANSFORM * images * size + _COMPILE,
        "sketched": math.inf,
    }
    if len(group) == 1:
        price["symmetric"] = price["product"]  # they are the same
    kind = min(KINDS, key=lambda kind: price[kind]) if asked == "auto" else asked
    plain = price[kind] / max(1, pairs * size)
    how = {
        "product": "each orientation multiplied out",
        "symmetric": "all orientations in one block-diagonal product",
        "sketched": "bounded by sketches, the rest exactly",
    }[kind]
    orientations = "one orientation" if len(group) == 1 else f"{len(group)} orientations"
    sentence = (
        f"plan {kind}: {queries} x {gallery} images of {size} numbers, {orientations}"
        f"{'' if len(group) == 1 else ', ' + how}; the price of {plain:.2g} plain products"
    )
    return Plan(kind, plain, sentence)
