"""Matrix products and convolutions in a compiled program: how many multiplications and additions, of which numbers.

On GPUs they are calls of cuBLAS and cuDNN, whose attributes say what they stand for.
"""

import math
import re
from typing import NamedTuple

from launch.planning.hlo import Array, Computation, Instruction, operand_shapes

KINDS = ("bf16", "f32", "f32 exact", "s8")  # "f32": as the machine does it by default; "f32 exact": precision highest


class Product(NamedTuple):
    """A product of numbers of one kind; a multiplication and an addition are two."""

    kind: str
    flops: float


def product_of(computation: Computation, one: Instruction) -> Product | None:
    """Return what an instruction multiplies; None if it is no product."""
    target = re.search(r'custom_call_target="([^"]*)"', one.rest) if one.opcode == "custom-call" else None
    if one.opcode == "dot" or (target and target[1].startswith("__cublas")):
        left = operand_shapes(computation, one)[0][0]
        contracted = re.search(r'lhs_contracting_dim(?:s=\{|ensions":\[)([\d,"]*)', one.rest)
        axes = re.findall(r"\d+", contracted[1]) if contracted else []
        return Product(_kind(left, one), 2.0 * one.shapes[0].numbers * math.prod(left.dims[int(axis)] for axis in axes))
    if one.opcode == "convolution" or (target and target[1].startswith("__cudnn$conv")):
        first, second = (shapes[0] for shapes in operand_shapes(computation, one)[:2])
        given, name = one.shapes[0], target[1] if target else ""
        if name == "__cudnn$convBackwardInput":
            x, kernel, y = given, second, first
        elif name == "__cudnn$convBackwardFilter":
            x, kernel, y = first, given, second
        else:
            x, kernel, y = first, second, given
        return Product(_kind(first, one), _convolution(x, kernel, y, one))
    return None


def _kind(array: Array, one: Instruction) -> str:
    if array.dtype in ("bf16", "f16"):
        return "bf16"
    if array.dtype in ("s8", "u8"):
        return "s8"
    is_exact = re.search(r'operand_precision(?:=\{|":\[")(?:high|HIGH)', one.rest)
    return "f32 exact" if is_exact or array.dtype == "f64" else "f32"


def _convolution(x: Array, kernel: Array, y: Array, one: Instruction) -> float:
    """Return the multiplications and additions of a convolution that meet no padding and no gap."""
    of_x, of_kernel, of_y = re.split("_|->", one.attribute("dim_labels"))
    window = dict(part.split("=") for part in one.attribute("window").split())
    axes = [label for label in of_y if label.isdecimal()]

    def each(name: str, default: int) -> list[int]:
        return [int(part) for part in window[name].split("x")] if name in window else [default] * len(axes)

    low = [int(part.split("_")[0]) for part in window["pad"].split("x")] if "pad" in window else [0] * len(axes)
    found = 2.0 * y.dims[of_y.index("b")] * y.dims[of_y.index("f")] * kernel.dims[of_kernel.index("i")]
    for axis in axes:
        place = int(axis)  # windows are written in the order of the labels' numbers
        found *= _meetings(
            x.dims[of_x.index(axis)],
            each("size", 1)[place],
            y.dims[of_y.index(axis)],
            stride=each("stride", 1)[place],
            low=low[place],
            gap=each("lhs_dilate", 1)[place],
            spread=each("rhs_dilate", 1)[place],
        )
    return found


def _meetings(n: int, taps: int, outputs: int, *, stride: int, low: int, gap: int, spread: int) -> int:
    """Return how many pairs of an output and a tap meet a number of the input, along one axis."""
    found = 0
    for tap in range(taps):
        first = tap * spread - low  # where the tap of output 0 lies in the input with its gaps
        for output in range(outputs):
            at = first + output * stride
            found += at >= 0 and at % gap == 0 and at // gap < n
    return found
