"""What a search has found so far, on disk, so that a killed one goes on after its last whole block."""

import dataclasses
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from memjax.audit.pairs.shortlist import Pairs, Shortlist
from memjax.digest import settings_digest

Arrays = dict[str, Any]  # of numpy, by name: what was found

_SAVE_S = 2.0  # a kill costs at most so much work, or one block
_SAVE_SHARE = 0.05  # of the time may go into saving


@dataclasses.dataclass
class Progress:
    """A search under way: the lists of both sides or the pairs above a threshold, the histogram, the blocks done."""

    query: Shortlist
    gallery: Shortlist
    above: Pairs
    count: np.ndarray
    done: int
    path: Path | None
    key: str
    saved: int = 0
    due: float = 0.0
    is_whole: bool = True  # False while the lists hold a part of a block

    @classmethod
    def begin(
        cls, path: Path | None, settings: Any, n_queries: int, n_gallery: int, width: int, bins: int
    ) -> "Progress":
        """Take up the search kept at `path` if it was cut up by the same settings, or begin anew.

        Damaged bytes are as good as none: the search begins anew.
        """
        key = settings_digest([settings, n_queries, n_gallery, width, bins])
        found = cls(
            query=Shortlist.nothing(n_queries, width),
            gallery=Shortlist.nothing(n_gallery, width),
            above=Pairs.none(),
            count=np.zeros(bins, np.int64),
            done=0,
            path=path,
            key=key,
            due=time.monotonic() + _SAVE_S,
        )
        kept = None if path is None else read_arrays(path, key)
        if kept is not None:
            found._take_up(kept)
        return found

    @classmethod
    def of(cls, parts: Sequence[Arrays]) -> "Progress":
        """Return what several searches found together; each went through gallery images of its own, in rising order."""
        whole = cls(
            query=Shortlist.nothing(*parts[0]["query_id"].shape),
            gallery=Shortlist.nothing(*parts[0]["gallery_id"].shape),
            above=Pairs.none(),
            count=np.sum([part["count"] for part in parts], axis=0),
            done=0,
            path=None,
            key="",
        )
        for part in parts:
            for name, lists in (("query", whole.query), ("gallery", whole.gallery)):
                lists.merge(Shortlist(*(part[f"{name}_{column}"] for column in ("score", "id", "code"))))
            whole.above = whole.above.and_also(Pairs(*(part[f"above_{column}"] for column in Pairs._fields)))
        return whole

    def begin_block(self) -> None:
        """Note that the lists are about to hold a part of a block."""
        self.is_whole = False

    def end_block(self) -> None:
        """Note that a block is done; save now and then."""
        self.done += 1
        self.is_whole = True
        if time.monotonic() >= self.due:
            self.save()

    def rescue(self) -> None:
        """Save what is whole and not saved yet, before the work ends ahead of its time."""
        if self.is_whole and self.saved < self.done:
            self.save()

    def save(self) -> None:
        """Write everything, all or nothing."""
        if self.path is None:
            return
        start = time.monotonic()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_name(self.path.name + ".partial")
        with partial.open("wb") as file:
            np.savez(file, **self.arrays(), key=np.array(self.key), done=np.array(self.done))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self.path)
        self.saved = self.done
        now = time.monotonic()
        self.due = now + max(_SAVE_S, (now - start) / _SAVE_SHARE)

    def arrays(self) -> Arrays:
        """Return what is found, by name."""
        lists = {
            f"{side}_{name}": getattr(getattr(self, side), name)
            for side in ("query", "gallery")
            for name in ("score", "id", "code")
        }
        return lists | {"count": self.count} | {f"above_{name}": part for name, part in self.above._asdict().items()}

    def _take_up(self, kept: Arrays) -> None:
        mine = self.arrays()
        for name in mine:
            if not name.startswith("above_"):
                mine[name][...] = kept[name]
        self.above = Pairs(*(kept[f"above_{name}"] for name in Pairs._fields))
        self.done = self.saved = int(kept["done"])


def read_arrays(path: Path, key: str) -> Arrays | None:
    """Return the arrays of a search that was saved, `done` among them; None: nothing whole, or another search's."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            kept = {name: arrays[name] for name in arrays.files}  # a checksum is behind each
    except Exception:  # damaged bytes may raise whatever they like
        return None
    return kept if str(kept.pop("key", "")) == key else None
