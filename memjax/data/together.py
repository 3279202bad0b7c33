"""Several inputs to be compared: image stores as they are, raw folders prepared to the same shape and colour."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from memjax.data.formats import guess_format
from memjax.data.prepare import Inspection, Preparation, build, inspect
from memjax.data.store import Store
from memjax.digest import settings_digest
from memjax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Input:
    """A folder, file or store, and which of its splits ("": all)."""

    path: Path
    split: str = ""


def stores_together(inputs: Mapping[str, Input], how: Preparation, cache: Path, *, workers: int) -> dict[str, Store]:
    """Return one store per role, all of one shape if they can be brought to it.

    A store is taken as it is (after its digests were checked). Anything else is prepared into `cache`, once: to
    `how.size`, else to the shape of the stores, else to that of the synthetic images, else to that of the training
    images. Pictures become grey unless one of the sets is really coloured, or a store has three channels.

    Args:
      inputs: by role; the order is the order of work. Roles "synthetic" and "train" say whose shape is followed.
      how: the user's wishes; its `take_split` is each input's own.
      cache: where prepared stores are kept, named by what they were made from.
      workers: threads.

    Raises:
      UserError: one input is given twice, no common shape can be told, or an input cannot be prepared.
    """
    _check_distinct(inputs)
    stores = {role: Store.open(given.path) for role, given in inputs.items() if _is_ready(given, how)}
    for store in stores.values():
        store.verify(workers)
    raw = {role: given for role, given in inputs.items() if role not in stores}
    found = {role: _inspected(role, given, how, workers) for role, given in raw.items()}
    wanted = {store.manifest.channels for store in stores.values()} | {one.channels for one in found.values()}
    if how.read.colour == "auto" and len(wanted) > 1:
        how = dataclasses.replace(how, read=dataclasses.replace(how.read, colour="rgb"))
        found = {role: _inspected(role, given, how, workers) for role, given in raw.items()}
    how = dataclasses.replace(how, size=how.size or _common_size(stores, found))
    for role, given in raw.items():
        stores[role] = _prepared(role, found[role], dataclasses.replace(how, take_split=given.split), cache, workers)
    return {role: stores[role] for role in inputs}


def _check_distinct(inputs: Mapping[str, Input]) -> None:
    seen: dict[tuple[Path, str], str] = {}
    for role, given in inputs.items():
        place = (given.path.resolve(), given.split)
        if place in seen:
            raise UserError(
                f"--{seen[place]} and --{role} are the same ({given.path}); give the training images, the synthetic "
                "images and the held-out images as different folders."
            )
        seen[place] = role


def _is_ready(given: Input, how: Preparation) -> bool:
    """Say whether an input is a store that can be used as it is."""
    if given.split or not given.path.exists() or guess_format(given.path) != "store":
        return False
    return how.size is None or Store.open(given.path).manifest.shape[:-1] == how.size


def _inspected(role: str, given: Input, how: Preparation, workers: int) -> Inspection:
    one = dataclasses.replace(how, take_split=given.split)
    return inspect(given.path, one, workers=workers, title=f"look at {role}")


def _common_size(stores: Mapping[str, Store], found: Mapping[str, Inspection]) -> tuple[int, ...] | None:
    """Return the shape to prepare to; None if every input has its own already (and keeps it)."""
    for role in ("synthetic", "train", "heldout"):
        if role in stores:
            return stores[role].manifest.shape[:-1]
    for role in ("synthetic", "train"):
        if role in found and found[role].space is not None:
            return found[role].space
    return None


def _prepared(role: str, found: Inspection, how: Preparation, cache: Path, workers: int) -> Store:
    stamps = [(unit.name, [(f.stat().st_size, f.stat().st_mtime_ns) for f in unit.files]) for unit in found.units]
    key = settings_digest([str(found.root.resolve()), dataclasses.asdict(how), stamps])
    out = cache / f"{role}-{key[:16]}"
    if out.exists():
        store = Store.open(out)
        store.verify(workers)
        return store
    return build(found, out, how, workers=workers, title=f"prepare {role}")
