"""The sketched plan's way through a block: bounds rule nearly all pairs out, the rest is scored exactly.

First each list's most promising pairs (the largest bounds) are scored; the k-th best of a list with them is a floor.
Then every pair and orientation whose bound reaches the floor of its query or of its gallery image is scored, too.
A pair that is never scored has a bound, hence a score, below both floors: it is in nobody's list.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from memjax.audit.describe import Descriptor
from memjax.audit.pairs.exact import score_pairs, turned_queries
from memjax.audit.pairs.resume import Progress
from memjax.audit.pairs.screen import How, Raw, Screened, Side, above, pick, screen
from memjax.audit.pairs.shortlist import AMBIGUOUS, Pairs, Shortlist, sort_key
from memjax.mesh import QUERY

_SAMPLE = 20_000  # pairs counted by the histogram, over all blocks


def sample_rate(pairs: int) -> float:
    """Return the chance of a pair to be counted by a sampled histogram, of so many pairs in all."""
    return min(1.0, _SAMPLE / pairs)


class TooManyError(Exception):
    """A sketch rules out so little that multiplying everything out is cheaper."""


class Survivors:
    """A chunk of queries, sketched and in all orientations, ready for any number of gallery blocks."""

    def __init__(self, how: How, raw: Raw, queries: Side, descriptor: Descriptor, *, pairs: int):
        """Prepare a chunk of queries; `pairs` is the number of all pairs of the search."""
        self.how = how
        self.rate = sample_rate(pairs) if how.bins else 0.0
        self.queries = queries
        self.table = turned_queries(how.mesh, how.group, raw.raw, how.of_bytes)
        use = np.ones(raw.raw.shape[1:], bool)
        if descriptor.mask is not None:
            use &= descriptor.mask[..., None]
        if how.channels is not None:
            use &= np.isin(np.arange(use.shape[-1]), how.channels)
        self.use = None if use.all() else jax.device_put(use.ravel(), NamedSharding(how.mesh, P()))

    def take(
        self, found: Progress, block: Raw, described: Side, start: int, left: int, *, most: float = math.inf
    ) -> None:
        """Add all pairs of a block that may belong to somebody's k best to the lists.

        Raises:
          TooManyError: more than `most` exact scores would be needed; the lists are as they were.
        """
        how = self.how
        n_queries, n = len(self.queries.id), len(described.id)
        sides = (found.query.part(start, start + n_queries), found.gallery.part(left, left + n))
        floors = [_padded(lists.floor(how.k), rows) for lists, rows in zip(sides, (n_queries, n), strict=True)]
        screened = screen(how, self.queries, described, *self._placed([floor - 2 * how.slack for floor in floors]))
        exact = self._exact(block, described)

        sample = self._sample(screened, start, left)
        row, column = np.divmod(np.union1d(np.flatnonzero(np.asarray(screened.passed)), sample), n)
        turn = np.asarray(screened.code)[row, column].astype(np.int64) % AMBIGUOUS
        scores = exact(row, column, turn)
        floors = [
            _padded(_with(lists, owner, scores).floor(how.k), len(floor))
            for lists, owner, floor in zip(sides, (row, column), floors, strict=True)
        ]
        at = np.searchsorted(row * n + column, sample)
        rest = self._rest(screened, floors, (row, column, turn), (row[at], column[at], scores[at]))
        if len(row) + len(rest[0]) > most:
            raise TooManyError
        scores = np.concatenate([scores, exact(*rest)])
        row, column, turn = (np.concatenate(pair) for pair in zip((row, column, turn), rest, strict=True))
        row, column, score, code = _best(row, column, turn, scores, how.slack)
        found.begin_block()
        for lists, owner, other, floor in (
            (sides[0], row, column + left, floors[0]),
            (sides[1], column, row + start, floors[1]),
        ):
            mine = score >= floor[owner] - 2 * how.slack
            lists.add(owner[mine], other[mine], score[mine], code[mine])
        self._count(found, score[np.searchsorted(row * n + column, sample)])

    def take_above(
        self,
        threshold: float,
        found: Progress,
        block: Raw,
        described: Side,
        start: int,
        left: int,
        *,
        most: float = math.inf,
    ) -> None:
        """Add all pairs of a block from the threshold on.

        Raises:
          TooManyError: more than `most` exact scores would be needed; nothing was added.
        """
        how = self.how
        floors = [np.full(len(side.id), threshold, np.float32) for side in (self.queries, described)]
        screened = screen(how, self.queries, described, *self._placed(floors))
        nothing = np.zeros(0, np.int64)
        pairs = self._rest(screened, floors, (nothing, nothing, nothing), (nothing, nothing, np.zeros(0, np.float32)))
        if len(pairs[0]) > most:
            raise TooManyError
        row, column, score, code = _best(*pairs, self._exact(block, described)(*pairs), how.slack)
        high = score >= threshold - 2 * how.slack
        found.begin_block()
        found.above = found.above.and_also(Pairs(row[high] + start, column[high] + left, score[high], code[high]))

    def _exact(self, block: Raw, described: Side) -> Callable[..., np.ndarray]:
        """Return what scores pairs of the block, given as query, gallery image and orientation."""
        raw = jax.device_put(block.raw, NamedSharding(self.how.mesh, P()))
        facts = (self.queries.facts, described.facts)

        def score(row: np.ndarray, column: np.ndarray, turn: np.ndarray) -> np.ndarray:
            pairs = (row, column, turn)
            return score_pairs(
                self.how.mesh, self.how.score, self.table, facts[0], raw, facts[1], self.use, pairs, self.how.of_bytes
            )

        return score

    def _sample(self, screened: Screened, start: int, left: int) -> np.ndarray:
        """Draw pairs of the block (flattened places, rising), each pair of a search with the same chance."""
        if not self.rate:
            return np.zeros(0, np.int64)
        rng = np.random.default_rng([start, left])
        scored = np.flatnonzero(np.asarray(screened.score) > -np.inf)
        return np.sort(rng.choice(scored, rng.binomial(len(scored), self.rate), replace=False))

    def _count(self, found: Progress, score: np.ndarray) -> None:
        """Count the sample's scores; what rounds over an end belongs to the last bin."""
        if self.how.bins:
            found.count += np.histogram(np.clip(score, *self.how.limits), self.how.bins, self.how.limits)[0]

    def _rest(
        self,
        screened: Screened,
        floors: list[np.ndarray],
        done: tuple[np.ndarray, np.ndarray, np.ndarray],
        sample: tuple[np.ndarray, np.ndarray, np.ndarray],
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the pairs and orientations whose bound reaches a floor, without those scored already.

        A bound is never too low, a floor wrong by a slack at most, and scores within twice the slack of it are wanted.
        A pair of the sample has a floor of its own: the score that it has already, in one orientation.
        """
        n = screened.score.shape[1]
        floors = [floor - 3 * self.how.slack for floor in floors]
        row, column = np.divmod(np.flatnonzero(np.asarray(above(screened.score, *self._placed(floors)))), n)
        limit = np.minimum(floors[0][row], floors[1][column])
        row, column = np.concatenate([row, sample[0]]), np.concatenate([column, sample[1]])
        limit = np.concatenate([limit, sample[2] - 3 * self.how.slack])
        before = np.full(screened.score.shape, AMBIGUOUS, np.uint8)  # the orientation that is scored already
        before[done[0], done[1]] = done[2]
        turn, pair = np.nonzero(self._bounds(screened, row, column) >= limit)
        row, column = row[pair], column[pair]
        new = before[row, column] != turn
        return row[new], column[new], turn[new]

    def _bounds(self, screened: Screened, row: np.ndarray, column: np.ndarray) -> np.ndarray:
        """Return the bounds of some pairs in all orientations: [g, pairs]."""
        room = 1 << max(0, int(len(row) - 1).bit_length())  # few sizes: few compilations
        padded = (jnp.asarray(np.pad(index, (0, room - len(index)))) for index in (row, column))
        return np.asarray(pick(self.how, screened, *padded))[:, : len(row)]

    def _placed(self, floors: list[np.ndarray]) -> tuple[jax.Array, jax.Array]:
        query, gallery = floors
        mesh = self.how.mesh
        return (
            jax.device_put(query, NamedSharding(mesh, P(QUERY))),
            jax.device_put(gallery, NamedSharding(mesh, P())),
        )


def _padded(floor: np.ndarray, n: int) -> np.ndarray:
    """Return floors for n lists; those of padding let nothing through."""
    return np.concatenate([floor, np.full(n - len(floor), np.inf, np.float32)])


def _with(lists: Shortlist, owner: np.ndarray, score: np.ndarray) -> Shortlist:
    """Return a copy of lists with scores added whose other properties do not matter."""
    copy = lists.copy()
    copy.add(owner, np.zeros(len(owner), np.int64), score, np.zeros(len(owner), np.int16))
    return copy


def _best(
    row: np.ndarray, column: np.ndarray, turn: np.ndarray, score: np.ndarray, slack: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return each pair once, in order, with its best orientation (+ AMBIGUOUS if another is as good)."""
    pair = row * (int(column.max(initial=0)) + 1) + column
    order = np.argsort(sort_key(pair, score))
    pair = pair[order]
    same = pair[1:] == pair[:-1]
    close = np.zeros(len(pair), bool)
    close[:-1] = same & (score[order[:-1]] - score[order[1:]] <= slack)
    first = np.flatnonzero(np.r_[True, ~same][: len(pair)])
    chosen = order[first]
    code = turn[chosen] + np.where(close[first], AMBIGUOUS, 0)
    return row[chosen], column[chosen], score[chosen], code.astype(np.int16)
