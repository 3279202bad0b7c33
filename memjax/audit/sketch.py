r"""A short vector for each image whose products bound the scores of all orientations from above.

Let P project an image on the means of blocks of a few pixels a side, and r = x - P x be what it leaves out. With the
norms of r on the cells b of a coarser grid (Cauchy and Schwarz, cell by cell),

    <x, g y> = <P x, P g y> + <r_x, r_gy> <= <P x, g P y> + sum_b |r_x,b| (g |r_y|)_b.                           (1)

P commutes with flips and turns if the blocks lie symmetrically and equal axes are cut equally; the grid of norms is an
image too, and turns with it. So both products go through the block-diagonal transform of `symmetry`, and since both
belong to the same group they add up representation by representation: the bound is *one* symmetric product of vectors
of D / block^2 numbers and a few. Images keep nearly all of their energy in their means, so the bound is close.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Shaped

from memjax.audit.describe import Facts, Score, values
from memjax.audit.symmetry import Group, Parts, Symmetry

_CELL = 4  # blocks a side of a cell of the coarse grid
_ROUNDING = 2e-6  # of a cell's energy: far above the float32 error of the difference of two sums


@functools.partial(jax.tree_util.register_dataclass, data_fields=["means", "rests"], meta_fields=["blocks", "cells"])
@dataclasses.dataclass(frozen=True)
class Sketch:
    """How images of one shape are sketched: sizes of the blocks along each axis, and of the cells in blocks."""

    means: Symmetry
    rests: Symmetry
    blocks: tuple[tuple[int, ...], ...]
    cells: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, group: Group, shape: tuple[int, ...], block: int, *, n_channels: int) -> "Sketch":
        """Prepare sketches of images [*shape, n_channels] with blocks of `block` pixels a side."""
        blocks = tuple(symmetric_cuts(length, block) for length in shape)
        cells = tuple(symmetric_cuts(len(sizes), _CELL) for sizes in blocks)
        return cls(
            means=Symmetry.of(group, (*map(len, blocks), n_channels)),
            rests=Symmetry.of(group, (*map(len, cells), 1)),
            blocks=blocks,
            cells=cells,
        )

    def describe(
        self, raw: Shaped[Array, "n *space c"], of: Facts, mask: Bool[Array, "..."] | None, *, score: Score
    ) -> Parts:
        """Sketch a block of images, inside jit: parts whose `symmetry.products` recombine to the bound (1)."""
        x = values(raw, of, score=score)
        x = x if mask is None else jnp.where(mask[..., None], x, 0)
        area = np.ones(())
        for sizes in self.blocks:
            area = np.multiply.outer(area, np.asarray(sizes, float))
        means = _sum_cells(x, self.blocks) / jnp.asarray(np.sqrt(area)[..., None], jnp.float32)
        energy = _sum_cells(_sum_cells(x * x, self.blocks), self.cells).sum(-1, keepdims=True)
        kept = _sum_cells(means * means, self.cells).sum(-1, keepdims=True)
        rest = jnp.sqrt(jnp.maximum(energy - kept, 0) + _ROUNDING * energy)
        flat = (image.reshape(len(image), -1) for image in (means, rest))
        parts = [
            part.split(image, lambda pixels: pixels) for part, image in zip((self.means, self.rests), flat, strict=True)
        ]
        return tuple(jnp.concatenate(pair, axis=2) for pair in zip(*parts, strict=True))


def symmetric_cuts(length: int, block: int) -> tuple[int, ...]:
    """Cut an axis into blocks that lie the same from both ends; the middle one takes up what is over.

    >>> symmetric_cuts(9, 2)
    (2, 2, 1, 2, 2)
    """
    side = length // block // 2
    middle = length - 2 * side * block
    return (block,) * side + ((middle,) if middle else ()) + (block,) * side


def _sum_cells(x: Float[Array, "n *space c"], cuts: Any) -> Float[Array, "n *cells c"]:
    """Sum over the cells of a grid, one axis after the other."""
    for axis, sizes in enumerate(cuts, start=1):
        x = _sum_runs(x, axis, sizes)
    return x


def _sum_runs(x: Array, axis: int, sizes: tuple[int, ...]) -> Array:
    """Sum over runs along an axis; all but the middle one are equally long."""

    def equal(part: Array, size: int) -> Array:
        shape = (*part.shape[:axis], -1, size, *part.shape[axis + 1 :])
        return part.reshape(shape).sum(axis + 1)

    if len(set(sizes)) == 1:
        return equal(x, sizes[0])
    side = len(sizes) // 2
    edge = side * sizes[0]
    left, middle, right = jnp.split(x, [edge, x.shape[axis] - edge], axis=axis)
    return jnp.concatenate([equal(left, sizes[0]), middle.sum(axis, keepdims=True), equal(right, sizes[0])], axis=axis)
