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
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Shaped

from memjax.audit.describe import Facts, Score, are_bytes, facts, facts_of_bytes, is_constant, rounded_mean, values
from memjax.audit.pairs.symmetry import Group, Parts, Symmetry

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
        self,
        raw: Shaped[Array, "n *space c"],
        ranges: Float[Array, "n 2"],
        mask: Bool[Array, "..."] | None,
        *,
        score: Score,
    ) -> tuple[Parts, Facts]:
        """Sketch a block of images, inside jit.

        Returns:
          Parts whose `symmetry.products` recombine to the bound (1), and the images' facts.
        """
        if score == "msd":
            of = facts(raw, ranges, mask, score=score)
            x = values(raw, of, score=score)
            x = x if mask is None else jnp.where(mask[..., None], x, 0)
            return self._parts(_sum_cells(x, self.blocks), _sum_cells(x * x, self._cell_pixels)), of
        return self._describe_centred(raw, mask)

    def _describe_centred(
        self, raw: Shaped[Array, "n *space c"], mask: Bool[Array, "..."] | None
    ) -> tuple[Parts, Facts]:
        """Sketch zero-mean unit images from two passes over the raw ones: sums of blocks, then squares about the mean.

        Bytes are summed as integers, without rounding and several times faster than floats: first about their rounded
        mean. Each pass must stay a loop of its own: fused with what it feeds, XLA repeats it for every number, several
        times slower.
        """
        apart = jax.lax.optimization_barrier
        inside = jnp.ones(raw.shape[1:], bool) if mask is None else jnp.broadcast_to(mask[..., None], raw.shape[1:])
        covered = _sum_cells(inside[None].astype(jnp.float32), self.blocks)
        size = covered.sum()

        def of_image(x: Shaped[Array, " n"]) -> Array:
            return x.reshape(-1, *(1,) * (raw.ndim - 1))

        def in_blocks(x: Array) -> Array:
            return apart(_sum_cells(x if mask is None else jnp.where(inside, x, 0), self.blocks))

        axes = tuple(range(1, raw.ndim))
        if are_bytes(raw.dtype, raw.shape[1:]):
            x = raw.astype(jnp.int32)
            sums = in_blocks(x)
            mean = rounded_mean(sums.sum(axes), size)
            squares = in_blocks((x - of_image(mean)) ** 2)
            of = facts_of_bytes(sums.sum(axes), squares, size)
            sums = (sums - of_image(mean) * covered.astype(jnp.int32)).astype(jnp.float32)
            rest = of.centre
        else:
            pivot = raw[(slice(None), *(dim // 2 for dim in raw.shape[1:]))].astype(jnp.float32)
            x = raw.astype(jnp.float32) - of_image(pivot)
            sums = in_blocks(x)
            mean = apart(sums.sum(axes) / size)
            squares = in_blocks((x - of_image(mean)) ** 2)
            square = squares.sum(axes)
            valid = ~is_constant(raw, None if mask is None else mask[None, ..., None])
            factor = jax.lax.rsqrt(jnp.where(valid & (square > 0), square, 1))
            finite = jnp.ones(len(raw), bool) if jnp.issubdtype(raw.dtype, jnp.integer) else jnp.isfinite(square)
            of = Facts(pivot, mean, factor, jnp.zeros_like(mean), valid, finite)
            sums, rest = sums - of_image(mean) * covered, jnp.zeros_like(mean)
        squares = _sum_cells(squares.astype(jnp.float32), self.cells)
        # Both about the mean itself: sum (x - m)^2 = sum (x - m + b)^2 - 2 b sum (x - m) - n b^2.
        sums = sums - of_image(rest) * covered
        in_cells = _sum_cells(sums, self.cells), _sum_cells(covered, self.cells)
        squares = squares - of_image(rest) * (2 * in_cells[0] + of_image(rest) * in_cells[1])
        return self._parts(sums * of_image(of.factor), squares * of_image(of.factor**2)), of

    def _parts(self, sums: Float[Array, "n *blocks c"], squares: Float[Array, "n *cells c"]) -> Parts:
        """Make the parts from the sums over blocks and the sums of squares over cells."""
        area = functools.reduce(np.multiply.outer, [np.asarray(sizes, float) for sizes in self.blocks])
        means = sums / jnp.asarray(np.sqrt(area)[..., None], jnp.float32)
        energy = squares.sum(-1, keepdims=True)
        kept = _sum_cells(means * means, self.cells).sum(-1, keepdims=True)
        rest = jnp.sqrt(jnp.maximum(energy - kept, 0) + _ROUNDING * energy)
        split = [
            part.split(image.reshape(len(image), -1), lambda pixels: pixels)
            for part, image in ((self.means, means), (self.rests, rest))
        ]
        return tuple(jnp.concatenate(pair, axis=2) for pair in zip(*split, strict=True))

    @property
    def _cell_pixels(self) -> tuple[tuple[int, ...], ...]:
        """The cells' sizes in pixels."""
        return tuple(
            tuple(int(run.sum()) for run in np.split(np.asarray(blocks), np.cumsum(cells)[:-1]))
            for blocks, cells in zip(self.blocks, self.cells, strict=True)
        )


def left_out(images: np.ndarray, block: int) -> float:
    """Return the part of the energy about the mean that block means leave out, over some images [n, *space, c]."""
    x = images.astype(np.float32)
    x = x - x.mean(tuple(range(1, x.ndim)), keepdims=True)
    sums, area = x, np.ones(())
    for axis, length in enumerate(x.shape[1:-1], start=1):
        sizes = symmetric_cuts(length, block)
        sums = np.add.reduceat(sums, np.cumsum((0, *sizes[:-1])), axis=axis)
        area = np.multiply.outer(area, sizes)
    energy = float(np.square(x).sum())
    return 1 - float((np.square(sums) / area[..., None]).sum()) / energy if energy > 0 else 1.0


def symmetric_cuts(length: int, block: int) -> tuple[int, ...]:
    """Cut an axis into blocks that lie the same from both ends; the middle one takes up what is over.

    >>> symmetric_cuts(9, 2)
    (2, 2, 1, 2, 2)
    """
    side = length // block // 2
    middle = length - 2 * side * block
    return (block,) * side + ((middle,) if middle else ()) + (block,) * side


def _sum_cells(x: Shaped[Array, "n *space c"], cuts: Any) -> Shaped[Array, "n *cells c"]:
    """Sum over the cells of a grid, one axis after the other."""
    for axis, sizes in enumerate(cuts, start=1):
        x = _sum_runs(x, axis, sizes)
    return x


def _sum_runs(x: Array, axis: int, sizes: tuple[int, ...]) -> Array:
    """Sum over runs along an axis; runs of one length that follow each other are summed together."""
    found, start = [], 0
    for size, same in itertools.groupby(sizes):
        runs = len(list(same))
        part = jax.lax.slice_in_dim(x, start, start + runs * size, axis=axis)
        start += runs * size
        found.append(part.reshape(*x.shape[:axis], runs, size, *x.shape[axis + 1 :]).sum(axis + 1))
    return found[0] if len(found) == 1 else jnp.concatenate(found, axis=axis)
