"""Keep a finished search on disk, named by what was searched, so that an interrupted audit does not repeat it."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from memjax import __version__
from memjax.audit.describe import Descriptor
from memjax.audit.findings import Histogram, Neighbours
from memjax.audit.pairs.above import ScoredPairs
from memjax.audit.pairs.allpairs import AllPairs
from memjax.digest import array_digest, settings_digest
from memjax.orientation import Orientation
from memjax.team import ALONE, Team, wait_to_see

_DIRECTIONS = ("query_to_gallery", "gallery_to_query")


def kept_pairs(
    folder: Path,
    digests: tuple[str, str],
    descriptor: Descriptor,
    group: tuple[Orientation, ...],
    k: int | tuple[int, int],
    search: Callable[[Path], AllPairs],
    *,
    team: Team = ALONE,
) -> AllPairs:
    """Return the search of these two stores from `folder`, or run and keep it.

    `k` is how many neighbours are listed, and how many of them are settled if not all. `search` is called with the path
    where it may keep what it has found before it ends. All of a `team` call this alike, and search together or not at
    all.
    """
    asked = [digests, *_described(descriptor, group), k]
    arrays = _kept(folder, "pairs", asked, lambda unfinished: _of_pairs(search(unfinished)), _to_pairs, team)
    return _to_pairs(arrays)


def kept_above(
    folder: Path,
    digest: str,
    descriptor: Descriptor,
    group: tuple[Orientation, ...],
    threshold: float,
    search: Callable[[Path], ScoredPairs],
    *,
    team: Team = ALONE,
) -> ScoredPairs:
    """Return the search of this store for its own duplicates from `folder`, or run and keep it."""
    asked = [digest, *_described(descriptor, group), threshold]
    arrays = _kept(
        folder, "within", asked, lambda unfinished: vars(search(unfinished)), lambda kept: ScoredPairs(**kept), team
    )
    return ScoredPairs(**arrays)


def kept_lists(
    folder: Path, asked: Any, search: Callable[[], tuple[Neighbours, Neighbours]], *, team: Team = ALONE
) -> tuple[Neighbours, Neighbours]:
    """Return both sides' lists of a detector from `folder`, or run and keep its search.

    `asked` is everything that decides them: digests and settings, as JSON knows them.
    """

    def run(unfinished: Path) -> dict[str, Any]:
        return _of_pairs(AllPairs(**dict(zip(_DIRECTIONS, search(), strict=True)), histogram=None))

    pairs = _to_pairs(_kept(folder, "detector", asked, run, _to_pairs, team))
    return pairs.query_to_gallery, pairs.gallery_to_query


def _described(descriptor: Descriptor, group: tuple[Orientation, ...]) -> list[Any]:
    mask = None if descriptor.mask is None else array_digest(descriptor.mask)
    return [descriptor.score, descriptor.channels, mask, [orientation.name for orientation in group]]


def _kept(
    folder: Path,
    name: str,
    asked: Any,
    search: Callable[[Path], dict[str, Any]],
    check: Callable[[dict[str, Any]], object],
    team: Team,
) -> dict[str, Any]:
    """Return the arrays kept for what was asked, if they are whole and of the right names; or search and keep them.

    Of a team the first process looks whether they are, and keeps them.
    """
    path = folder / f"{name}-{settings_digest([__version__, asked])[:16]}.npz"
    kept = _whole(path, check) if team.index == 0 else None
    if team.follow(kept is not None):
        return kept or wait_to_see(lambda: _whole(path, check), f"process 0 has found {path}")
    arrays = search(path.with_suffix(".unfinished"))
    if team.index > 0:
        return arrays
    folder.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.savez(file, **arrays)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    return arrays


def _whole(path: Path, check: Callable[[dict[str, Any]], object]) -> dict[str, Any] | None:
    """Return the arrays of a file; None: there is none, or it is damaged."""
    if not path.exists():
        return None
    with contextlib.suppress(Exception):  # damaged bytes may raise whatever they like; then search again
        with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            arrays = {key: kept[key] for key in kept.files}
        check(arrays)
        return arrays
    return None


def _of_pairs(pairs: AllPairs) -> dict[str, Any]:
    counted = {} if pairs.histogram is None else vars(pairs.histogram)
    arrays = {name: np.asarray(value) for name, value in counted.items()}
    for direction in _DIRECTIONS:
        near: Neighbours = getattr(pairs, direction)
        arrays |= {f"{direction}_{name}": getattr(near, name) for name in ("score", "id", "orientation")}
    return arrays


def _to_pairs(arrays: dict[str, Any]) -> AllPairs:
    near = {
        direction: Neighbours(**{name: arrays[f"{direction}_{name}"] for name in ("score", "id", "orientation")})
        for direction in _DIRECTIONS
    }
    counted = None
    if "edges" in arrays:
        counted = Histogram(arrays["edges"], arrays["count"], is_sample=bool(arrays["is_sample"]))
    return AllPairs(**near, histogram=counted)
