"""Keep a finished search on disk, named by what was searched, so that an interrupted audit does not repeat it."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from memjax import __version__
from memjax.audit.allpairs import AllPairs
from memjax.audit.describe import Descriptor
from memjax.audit.findings import Histogram, Neighbours
from memjax.digest import array_digest, settings_digest
from memjax.orientation import Orientation

_DIRECTIONS = ("query_to_gallery", "gallery_to_query")


def kept_pairs(
    folder: Path,
    digests: tuple[str, str],
    descriptor: Descriptor,
    group: tuple[Orientation, ...],
    k: int,
    search: Callable[[Path], AllPairs],
) -> AllPairs:
    """Return the search of these two stores from `folder`, or run and keep it.

    `search` is called with the path where it may keep what it has found before it ends.
    """
    mask = None if descriptor.mask is None else array_digest(descriptor.mask)
    names = [orientation.name for orientation in group]
    key = settings_digest([__version__, digests, descriptor.score, descriptor.channels, mask, names, k])
    path = folder / f"pairs-{key[:16]}.npz"
    if path.exists():
        with contextlib.suppress(Exception):  # damaged bytes may raise whatever they like; then search again
            return _load(path)
    pairs = search(path.with_suffix(".unfinished"))
    folder.mkdir(parents=True, exist_ok=True)
    _save(path, pairs)
    return pairs


def _save(path: Path, pairs: AllPairs) -> None:
    counted = pairs.histogram
    arrays: dict[str, Any] = (
        {} if counted is None else {name: np.asarray(value) for name, value in vars(counted).items()}
    )
    for direction in _DIRECTIONS:
        near: Neighbours = getattr(pairs, direction)
        arrays |= {f"{direction}_{name}": getattr(near, name) for name in ("score", "id", "orientation")}
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.savez(file, **arrays)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _load(path: Path) -> AllPairs:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        near = {
            direction: Neighbours(**{name: arrays[f"{direction}_{name}"] for name in ("score", "id", "orientation")})
            for direction in _DIRECTIONS
        }
        counted = None
        if "edges" in arrays:
            counted = Histogram(arrays["edges"], arrays["count"], is_sample=bool(arrays["is_sample"]))
        return AllPairs(**near, histogram=counted)
