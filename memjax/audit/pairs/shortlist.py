"""Each image's list of its best partners so far, on the host, fed with the few pairs that passed its threshold."""

import dataclasses
from typing import NamedTuple

import numpy as np

AMBIGUOUS = 64  # added to an orientation's index where another orientation scores the same within the slack


class Pairs(NamedTuple):
    """Any number of pairs: query and gallery id int64, score float32, orientation code int16."""

    query: np.ndarray
    gallery: np.ndarray
    score: np.ndarray
    code: np.ndarray

    @classmethod
    def none(cls) -> "Pairs":
        """Return no pairs."""
        return cls(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(0, np.int16))

    def and_also(self, other: "Pairs") -> "Pairs":
        """Return these pairs and the other ones."""
        return Pairs(*(np.concatenate(parts) for parts in zip(self, other, strict=True)))


@dataclasses.dataclass(frozen=True)
class Shortlist:
    """Lists of fixed width, best first: score float32, id int64 (-1: none), orientation code int16."""

    score: np.ndarray
    id: np.ndarray
    code: np.ndarray

    @classmethod
    def nothing(cls, n: int, width: int) -> "Shortlist":
        """Return empty lists."""
        return cls(
            np.full((n, width), -np.inf, np.float32), np.full((n, width), -1, np.int64), np.zeros((n, width), np.int16)
        )

    def floor(self, k: int) -> np.ndarray:
        """Return each list's k-th best score, -inf while it has fewer: float32 [n]."""
        return self.score[:, k - 1]

    def add(self, owner: np.ndarray, other: np.ndarray, score: np.ndarray, code: np.ndarray) -> None:
        """Add pairs to the lists of `owner`; of pairs that score the same the earlier added is the better one."""
        if not len(owner):
            return
        touched, row = np.unique(owner, return_inverse=True)
        old_row, old_place = np.nonzero(self.id[touched] >= 0)
        old = (touched[old_row], old_place)
        row = np.concatenate([old_row, row])
        columns = [
            np.concatenate([mine[old], new]) for mine, new in ((self.score, score), (self.id, other), (self.code, code))
        ]
        order = np.argsort(sort_key(row, columns[0]), kind="stable")
        row = row[order]
        rank = np.arange(len(row)) - np.searchsorted(row, np.arange(len(touched)))[row]
        kept = rank < self.score.shape[1]
        place = (touched[row[kept]], rank[kept])
        for mine, column in zip((self.score, self.id, self.code), columns, strict=True):
            mine[place] = column[order][kept]

    def part(self, start: int, stop: int) -> "Shortlist":
        """Return the lists start:stop; adding to them adds to these."""
        return Shortlist(self.score[start:stop], self.id[start:stop], self.code[start:stop])

    def copy(self) -> "Shortlist":
        """Return lists that may be added to without harm."""
        return Shortlist(self.score.copy(), self.id.copy(), self.code.copy())

    def merge(self, other: "Shortlist") -> None:
        """Take in another's lists of the same images; its ids are not below those already there."""
        row, place = np.nonzero(other.id >= 0)
        self.add(row, other.id[row, place], other.score[row, place], other.code[row, place])


def sort_key(row: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Return integers that sort by row, then by falling score."""
    bits = (score + np.float32(0)).view(np.int32).astype(np.int64)  # -0 becomes 0
    rising = np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)
    return (row.astype(np.int64) << 33) - rising
