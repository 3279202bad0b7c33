"""The text of a compiled program, read: computations, their instructions, and the shapes of what those give.

XLA's text is the same for processors, GPUs and TPUs but for layouts and for what is called by name; only what costs are
counted from is read (`launch.planning.tally`).
"""

import dataclasses
import functools
import math
import re
from collections.abc import Mapping, Sequence

_BITS = {"pred": 8, "token": 0, "opaque": 0, "bf16": 16, "tf32": 32}  # others end with how many they are
_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(")
_LINE = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = ")
_ARRAY = re.compile(r"([a-z]\w*)\[([\d,<=]*)\](?:\{([^}]*)\})?")
_NAME = re.compile(r"%([\w.\-]+)")


@dataclasses.dataclass(frozen=True)
class Array:
    """The shape of one array, and how it lies in memory."""

    dtype: str
    dims: tuple[int, ...]
    order: tuple[int, ...] = ()  # of the axes, the one whose neighbours lie side by side first
    tile: tuple[int, ...] = ()  # TPU: to a multiple of which the last axes are filled up
    space: int = 0  # 0: the device's main memory; others are on the chip

    @property
    def numbers(self) -> int:
        """How many it has."""
        return math.prod(self.dims)

    @property
    def size_bytes(self) -> int:
        """Without padding."""
        return self.numbers * bits(self.dtype) // 8

    @property
    def held_bytes(self) -> int:
        """In main memory, with what fills up tiles; 0 if it lies elsewhere."""
        if self.space:
            return 0
        dims = [self.dims[axis] for axis in self.order] if len(self.order) == len(self.dims) else [*self.dims[::-1]]
        for place, tile in enumerate(self.tile[::-1][: len(dims)]):
            dims[place] = -(-dims[place] // tile) * tile
        return math.prod(dims) * bits(self.dtype) // 8


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line: `%name = shapes opcode(operands), rest`."""

    name: str
    shapes: tuple[Array, ...]  # of a tuple, all of its arrays
    opcode: str
    inside: str  # the parentheses' text
    rest: str
    is_root: bool

    @functools.cached_property
    def operands(self) -> tuple[str, ...]:
        """Names of what it takes."""
        return tuple(_NAME.findall(self.inside))

    def attribute(self, name: str) -> str:
        """Return the text of `name={text}` or `name=text`; "" if there is none."""
        found = re.search(rf"\b{name}=(?:\{{((?:[^{{}}]|\{{[^{{}}]*\}})*)\}}|([^,\s]+))", self.rest)
        return (found[1] if found[1] is not None else found[2]) if found else ""

    def called(self, *names: str) -> tuple[str, ...]:
        """Return the computations that these attributes name."""
        return tuple(one for name in names for one in _NAME.findall(self.attribute(name)))


Computation = Mapping[str, Instruction]  # by name, in order


@dataclasses.dataclass(frozen=True)
class Module:
    """A program: computations by name, and which one is the whole."""

    computations: Mapping[str, Computation]
    entry: str


def read_module(text: str) -> Module:
    """Return a compiled program, given its text."""
    found: dict[str, dict[str, Instruction]] = {}
    entry = current = ""
    without_comments = re.sub(r"/\*.*?\*/", "", text)  # they number the parts of long tuples
    for line in map(str.rstrip, without_comments.splitlines()):
        if line.startswith("}"):
            current = ""
        elif current and (at := _LINE.match(line)):
            one = _instruction(line[at.end() :], name=at[2], is_root=bool(at[1]))
            found[current][one.name] = one
        elif line.endswith("{") and (head := _HEAD.match(line)):
            current = head[2]
            found[current] = {}
            entry = current if head[1] else entry
    return Module(found, entry)


def bits(dtype: str) -> int:
    """Return how many bits a number of this type has."""
    if dtype in _BITS:
        return _BITS[dtype]
    digits = re.match(r"[a-z]+(\d+)", dtype)
    return int(digits[1]) if digits else 0


def arrays(text: str) -> tuple[Array, ...]:
    """Return the arrays of a shape, or of a tuple of shapes."""
    found = []
    for dtype, dims, layout in _ARRAY.findall(text):
        order, _, tiling = layout.partition(":")
        tile = re.search(r"T\(([\d,]+)\)", tiling)
        space = re.search(r"S\((\d+)\)", tiling)
        found.append(
            Array(
                dtype,
                integers(dims.replace("<=", "")),
                integers(order),
                integers(tile[1]) if tile else (),
                int(space[1]) if space else 0,
            )
        )
    return tuple(found)


def integers(text: str) -> tuple[int, ...]:
    """Return the numbers of `2,4`; of nothing, none."""
    return tuple(int(one) for one in text.split(",") if one)


def _instruction(text: str, *, name: str, is_root: bool) -> Instruction:
    end = _closing(text, 0) + 1 if text.startswith("(") else text.index(" ")
    opening = text.index("(", end)
    closing = _closing(text, opening)
    return Instruction(
        name=name,
        shapes=arrays(text[:end]),
        opcode=text[end:opening].strip(),
        inside=text[opening + 1 : closing],
        rest=text[closing + 1 :],
        is_root=is_root,
    )


def _closing(text: str, opening: int) -> int:
    """Return where the parenthesis that opens here closes."""
    depth = 0
    for place in range(opening, len(text)):
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        if depth == 0:
            return place
    return len(text) - 1


def operand_shapes(computation: Computation, one: Instruction) -> Sequence[tuple[Array, ...]]:
    """Return the shapes of what an instruction takes."""
    return [computation[name].shapes for name in one.operands if name in computation]
