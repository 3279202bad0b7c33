"""Go through all pairs of two sets by a plan, block by block: the loop behind `allpairs` and `above`."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array

from memjax.audit.describe import Descriptor, Images, multiply_as_bytes
from memjax.audit.pairs import blocks as cuts
from memjax.audit.pairs import plan as plans
from memjax.audit.pairs import symmetry
from memjax.audit.pairs.machine import Quick, available_bytes, quick_products
from memjax.audit.pairs.processes import file_of, together
from memjax.audit.pairs.resume import Progress
from memjax.audit.pairs.screen import How, LeaveOut, Screened, Side, describe_gallery, describe_queries, screen
from memjax.audit.pairs.shortlist import Pairs
from memjax.audit.pairs.sketch import Sketch, left_out
from memjax.audit.pairs.survivors import Survivors, TooManyError
from memjax.audit.pairs.symmetry import Group, Symmetry
from memjax.errors import UserError
from memjax.mesh import QUERY
from memjax.team import ALONE, Team

T = TypeVar("T")

_LOOKED_AT = 64  # gallery images on which sketches are tried
_SPARE = 4  # candidates kept beyond k, so that near-ties across the last place can be settled without a second pass


@dataclasses.dataclass(frozen=True, kw_only=True)
class Search:
    """What two sets are searched for, and how; see `allpairs` and `above` for the fields.

    Of several processes each searches its share of the gallery's blocks. The first one says how all of them cut it up,
    and, after its first block, whether a sketch rules out enough.
    """

    query: Images
    gallery: Images
    group: Group
    mesh: Mesh
    descriptor: Descriptor
    plan: plans.Kind | Literal["auto"]
    k: int = 0  # 0: all pairs from `threshold` on
    threshold: float = -np.inf
    bins: int = 0
    leave_out: LeaveOut = "nothing"
    team: Team = ALONE
    unfinished: Path | None = None
    progress: Callable[[int], object] = lambda pairs: None
    tell: Callable[[str], object] = lambda text: None

    def run(self) -> tuple[Progress, How]:
        """Search by the plan that is asked for or the cheapest; return what all have found, and by which plan.

        Raises:
          UserError: a group that the shape does not allow, more devices than queries, an image with NaN or infinity in
            it, images that change during the search, too little memory, or processes with other devices.
        """
        first, other = self.query.block(0, 1), self.gallery.block(0, 1)
        shape = first.shape[1:]
        assert shape == other.shape[1:], "the caller checks shapes"
        if self.mesh.size > (n := len(self.query)):
            raise UserError(f"{self.mesh.size} devices for {n} query images; use at most {n} (--devices={n}).")
        symmetry.check_group(self.group, shape[:-1])
        symmetry.check_mask(self.group, self.descriptor.mask)
        quick = quick_products(self.mesh)
        dtype = np.result_type(first.dtype, other.dtype)  # bytes, if both are the same kind of them
        work = plans.Work(
            queries=len(self.query),
            gallery=len(self.gallery),
            size=int(np.prod(shape)),
            n_axes=len(shape) - 1,
            itemsize=dtype.itemsize,
            group=self.group,
            k=self.k,
            of_halves=quick.halves,
            of_bytes=quick.bytes and multiply_as_bytes(self.descriptor.score, dtype, shape),
        )
        plan = plans.choose(self.plan, work, lambda block: left_out(_some(self.gallery), block))
        self.tell(plan.sentence)
        while True:
            how = How(
                kind=plan.kind,
                block=plan.block,
                score=self.descriptor.score,
                group=self.group,
                channels=self.descriptor.channels,
                k=self.k,
                bins=self.bins,
                limits=self.descriptor.limits,
                quick=quick,
                dtype=dtype.name,
                shape=shape,
                leave_out=self.leave_out,
                mesh=self.mesh,
            )
            how, blocks = self._agreed(how)
            try:
                mine = self._by(how, blocks, most=plan.most)
            except TooManyError:
                plan = plan.instead or plan  # of the first process, which `_agreed` tells
                self.tell(f"the sketches rule out too little; {plan.sentence}")
                continue
            found = together(mine, self.unfinished, self.team)
            if self.team.count > 1:
                self.progress(work.pairs - blocks.pairs)
            return found, how

    def _agreed(self, how: How) -> tuple[How, cuts.Blocks]:
        """Return how the first process searches, and this one's share of the blocks.

        Raises:
          UserError: there is too little memory, or this process has not as many devices.
        """
        told = None
        if self.team.index == 0:
            blocks = cuts.cut(how, len(self.query), len(self.gallery), available_bytes(self.mesh))
            told = [how.kind, how.block, how.quick, blocks, self.mesh.size]
        kind, block, quick, blocks, devices = self.team.follow(told)
        if devices != self.mesh.size:
            raise UserError(
                f"process {self.team.index} searches with {self.mesh.size} devices, process 0 with {devices}; use "
                "hosts with as many devices each, or give --devices."
            )
        how = dataclasses.replace(how, kind=kind, block=block, quick=Quick(*quick))
        return how, cuts.Blocks(*blocks).share(self.team.index, self.team.count)

    def _by(self, how: How, blocks: cuts.Blocks, *, most: float) -> Progress:
        """Go through a share of the pairs by one plan.

        Raises:
          TooManyError: the plan is sketched, and in the first block of all more than this share of the pairs is left.
        """
        sides = (len(self.query), len(self.gallery))
        transform = _transform(how, self.descriptor.mask)
        mask = self.descriptor.mask
        mask = None if mask is None else jax.device_put(mask, NamedSharding(how.mesh, P()))
        # Scores that another machine made, with a larger rounding error, must not be taken for those of this one.
        settings = [how.kind, how.block, self.threshold, how.mesh.size, how.slack, blocks]
        unfinished = file_of(self.unfinished, self.team.index, self.team)
        found = Progress.begin(unfinished, settings, *sides, how.k + _SPARE if how.k else 0, how.bins)
        # Whether a sketch will do is settled by the first block of all, which is the first process's.
        is_settled = how.kind != "sketched" or self.team.index > 0 or found.done > 0
        if how.kind == "sketched" and is_settled and not self.team.follow(True):
            raise TooManyError
        if not blocks.per_chunk:
            return found
        self.progress(blocks.pairs_before(found.done))
        try:
            for number, start, raw_queries in cuts.query_chunks(self.query, blocks, how.mesh, found.done):
                queries = describe_queries(how, transform, raw_queries, mask)
                _check_finite(self.query, queries)
                survivors = None
                if how.kind == "sketched":
                    survivors = Survivors(how, raw_queries, queries, self.descriptor, pairs=sides[0] * sides[1])
                # In a set against itself the blocks before the first query hold pairs that counted already.
                earlier = 0
                if how.leave_out == "earlier":
                    earlier = min(max(0, start // blocks.width - blocks.first), blocks.per_chunk)
                if number + earlier > found.done:
                    self.progress(blocks.pairs_before(number + earlier) - blocks.pairs_before(found.done))
                    found.done = number + earlier
                skip = found.done - number
                steps = (
                    (left, block, described, None if survivors else self._screened(how, found, queries, described, at))
                    for left, block in cuts.gallery_blocks(self.gallery, blocks, how.mesh, skip)
                    for described, at in [(describe_gallery(how, transform, block, mask), (start, left))]
                )
                for left, block, described, screened in _one_ahead(steps) if how.kind == "product" else steps:
                    _check_finite(self.gallery, described)
                    self.gallery.check_unchanged()
                    pairs = blocks.pairs_of(start, left)
                    if screened is not None and how.k:
                        _take(found, how, screened, start, left)
                    elif screened is not None:
                        _take_above(found, screened, start, left)
                    elif survivors:
                        first_fill = 2 * how.k * len(queries.id)  # pairs that fill empty lists say nothing
                        enough = math.inf if is_settled else most * pairs + first_fill
                        try:
                            if how.k:
                                survivors.take(found, block, described, start, left, most=enough)
                            else:
                                survivors.take_above(self.threshold, found, block, described, start, left, most=enough)
                        except TooManyError:
                            self.team.follow(False)
                            raise
                    found.end_block()
                    if not is_settled:
                        is_settled = self.team.follow(True)
                    self.progress(pairs)
            self.query.check_unchanged()
        except BaseException:
            found.rescue()
            raise
        return found

    def _screened(self, how: How, found: Progress, queries: Side, described: Side, at: tuple[int, int]) -> Screened:
        """Begin to score a block; `at` is the first query and the first gallery image."""
        lists = (found.query.floor(how.k), found.gallery.floor(how.k)) if how.k else (None, None)
        return screen(
            how,
            queries,
            described,
            *(
                self._floors(how, floor, first, len(side.id), spec)
                for floor, first, side, spec in zip(lists, at, (queries, described), (P(QUERY), P()), strict=True)
            ),
        )

    def _floors(self, how: How, floor: np.ndarray | None, first: int, rows: int, spec: P) -> Array:
        """Return the floors of `rows` lists from `first` on, or the threshold; padding lets nothing through."""
        part = np.full(rows, np.inf if how.k else self.threshold, np.float32)
        if floor is not None:
            part[: len(floor) - first] = floor[first : first + rows]
        return jax.device_put(part, NamedSharding(how.mesh, spec))


def _one_ahead(steps: Iterator[T]) -> Iterator[T]:
    """Yield steps one late, so that the devices work on the next while the caller is busy with one.

    The floors of a step are those from before the last one: lower, which is allowed. Where describing a block takes
    long, too, the two get in each other's way (volumes 5 % slower, bytes 8 % faster).
    """
    late = next(steps, None)
    while late is not None:
        now, late = late, next(steps, None)
        yield now


def _transform(how: How, mask: np.ndarray | None) -> Symmetry | Sketch:
    if how.kind == "sketched" and how.block > 1:
        n_channels = how.shape[-1] if how.channels is None else len(how.channels)
        return Sketch.of(how.group, how.shape[:-1], how.block, n_channels=n_channels)
    group = how.group[:1] if how.kind == "product" else how.group
    return Symmetry.of(group, how.shape, channels=how.channels, mask=mask)


def _some(images: Images) -> np.ndarray:
    """Return images from all over the set."""
    return images.gather(np.arange(0, len(images), -(-len(images) // _LOOKED_AT)))


def _take(found: Progress, how: How, screened: Screened, start: int, left: int) -> None:
    """Add the pairs that may belong to a list to it, and the block's scores to the histogram."""
    row, column, score, code = _passed(screened)
    found.begin_block()
    sides = (
        (found.query, row, column + left, screened.query_floor, start),
        (found.gallery, column, row + start, screened.gallery_floor, left),
    )
    for lists, owner, other, floor, first in sides:
        mine = score >= np.asarray(floor)[owner] - 2 * how.slack
        lists.add(owner[mine] + first, other[mine], score[mine], code[mine])
    found.count += np.asarray(screened.counted)


def _take_above(found: Progress, screened: Screened, start: int, left: int) -> None:
    """Add the pairs from the threshold on."""
    row, column, score, code = _passed(screened)
    found.begin_block()
    found.above = found.above.and_also(Pairs(row + start, column + left, score, code))


def _passed(screened: Screened) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the block's row, column, score and orientation code of the pairs that passed."""
    passed = np.flatnonzero(np.asarray(screened.passed))
    row, column = np.divmod(passed, screened.score.shape[1])
    score, code = (np.asarray(part).ravel()[passed] for part in (screened.score, screened.code))
    return row, column, score, code.astype(np.int16)


def _check_finite(images: Images, described: Side) -> None:
    bad = np.asarray(described.id)[~np.asarray(described.facts.finite) & (np.asarray(described.id) >= 0)]
    if len(bad):
        raise UserError(
            f"{images.name(int(bad[0]))} holds NaN or infinity ({len(bad)} such images in its block); "
            "mend or leave out such images."
        )
