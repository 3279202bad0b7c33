"""Several inputs to be compared: image stores as they are, raw folders prepared to the same shape and colour."""

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path

from memjax import __version__
from memjax.data.manifest import read_manifest
from memjax.data.preparation import Preparation
from memjax.data.prepare import Inspection, build, inspect, stamp
from memjax.data.store import Store, is_store
from memjax.digest import file_digest, settings_digest
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
    stores = {role: _whole_store(given.path, workers) for role, given in inputs.items() if _is_ready(given, how)}
    raw = {role: given for role, given in inputs.items() if role not in stores}
    found = {role: _inspected(role, given, how, workers) for role, given in raw.items()}
    if how.read.colour == "auto" and _need_colour(stores, found):
        how = dataclasses.replace(how, read=dataclasses.replace(how.read, colour="rgb"))
        found = {role: _inspected(role, given, how, workers) for role, given in raw.items()}
    how = dataclasses.replace(how, size=how.size or _common_size(stores, found, how))
    for role, given in raw.items():
        stores[role] = _prepared(role, found[role], _for_role(role, given, how), cache, workers)
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
    if given.split or not is_store(given.path):
        return False
    return how.size is None or read_manifest(given.path).shape[:-1] == how.size


def _whole_store(path: Path, workers: int) -> Store:
    store = Store.open(path)
    store.verify(workers)
    return store


def _inspected(role: str, given: Input, how: Preparation, workers: int) -> Inspection:
    return inspect(given.path, _for_role(role, given, how), workers=workers, title=f"look at {role}")


def _for_role(role: str, given: Input, how: Preparation) -> Preparation:
    """Adapt the user's wishes to one input: stores are stores, and synthetic images show nobody in particular."""
    how = dataclasses.replace(how, take_split=given.split, format="store" if is_store(given.path) else how.format)
    if role == "synthetic":
        how = dataclasses.replace(how, patient_regex="", patient_csv="", patients_from="none")
    return how


def _need_colour(stores: Mapping[str, Store], found: Mapping[str, Inspection]) -> bool:
    """Say whether grey pictures must become coloured ones; finished stores cannot."""
    prepared = {len(store.manifest.channels) for store in stores.values()}
    return prepared <= {3} and prepared | {len(one.channels) for one in found.values()} == {1, 3}


def _common_size(
    stores: Mapping[str, Store], found: Mapping[str, Inspection], how: Preparation
) -> tuple[int, ...] | None:
    """Return the shape to prepare to; None if no input says one, so that each must have its own."""
    for role in ("synthetic", "train", "heldout"):
        if role in stores:
            return stores[role].manifest.shape[:-1]
    for role in ("synthetic", "train"):
        spaces = found[role].spaces(how.spacing_mm) if role in found else []
        if len(spaces) == 1:
            return spaces[0]
    return None


def _prepared(role: str, found: Inspection, how: Preparation, cache: Path, workers: int) -> Store:
    """Return the store of an inspected input from the cache, made now if it is not there or not whole."""
    table = file_digest(Path(how.patient_csv)) if how.patient_csv else ""
    stamps = [stamp(unit) for unit in found.units]
    key = settings_digest([__version__, str(found.root.resolve()), dataclasses.asdict(how), table, stamps])
    out = cache / f"{role}-{key[:16]}"
    if out.exists():
        try:
            return _whole_store(out, workers)
        except UserError:
            shutil.rmtree(out)
    return build(found, out, how, workers=workers, title=f"prepare {role}")
