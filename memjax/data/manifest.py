"""What an image store says of itself: `manifest.json` (the set) and `items.csv` (one row an image).

The promises checked when a store is made: ids are dense (row number = id), sources are unique, a patient is in one
split only. `digest` names the images, so that equal sets have equal digests wherever they came from; `checksum` (in the
file alone) covers every other word of the two files too, so that a store that was edited is not read.
"""

import csv
import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from memjax.digest import file_digest, joint_digest, settings_digest
from memjax.errors import UserError

FORMAT = "memjax-image-store"
VERSION = 1
DTYPES = ("uint8", "uint16", "int16", "float32")  # what `StoreWriter` writes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Item:
    """One image of a store.

    `source` names the file it came from, relative to the folder that was prepared, with `#index` inside an array and
    `#z` for a slice. `patient` is "" where nobody knows it. `low` and `high` are the raw values for -1 and +1.
    """

    id: int
    source: str
    patient: str
    slice: int | None
    split: str
    label: str
    low: float
    high: float
    sha256: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """The set as a whole. `shape` is [*space, channels]; `axes` names the spatial axes.

    Axes are `("row", "column")` for pictures and letters of `("R", "A", "S")` for volumes and their slices: the letter
    says towards which side of the patient the index grows.

    Latents are images, too: each number of a latent is a channel. `latent` then holds `autoencoder` (the digest of its
    weights), `run` and `step` (where they were), `scale` (`codebook` or `std`), `views` (how often each image is
    encoded, differently augmented) and `image` (the manifest's words for the images: axes, shape, dtype, and so on).
    """

    axes: tuple[str, ...]
    channels: tuple[str, ...]
    n: int = 0  # n, shape, dtype, digest and made_by are the writer's to fill in
    shape: tuple[int, ...] = ()
    dtype: str = ""
    label_channels: tuple[int, ...] = ()
    spacing_mm: tuple[float, ...] | None = None
    patient_ids: str = "none"
    source_format: str = ""
    preparation: dict[str, Any] = dataclasses.field(default_factory=dict)
    left_out: tuple[dict[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    latent: dict[str, Any] | None = None  # of latents: which autoencoder's, their scale, and what images they are of
    digest: str = ""
    made_by: str = ""

    @property
    def is_volume(self) -> bool:
        """Whether the images have three spatial axes."""
        return len(self.axes) == 3

    @property
    def has_patients(self) -> bool:
        """Whether patient ids are known, so that equal ids in two stores mean the same person."""
        return self.patient_ids != "none"


def content_digest(manifest: Manifest, items: Sequence[Item]) -> str:
    """Return the digest that names a store: its shape and dtype, its images and their intensity maps in id order."""
    images = (f"{item.sha256} {item.low!r} {item.high!r}" for item in items)
    return joint_digest([f"{manifest.dtype} {manifest.shape}", *images])


def check_items(items: Sequence[Item]) -> None:
    """Raise `UserError` unless ids are dense, sources unique, and each known patient is in one split only."""
    for position, item in enumerate(items):
        if item.id != position:
            raise UserError(
                f"image ids must count 0, 1, 2, …; row {position} has id {item.id}; prepare the store again."
            )
    repeated = [source for source, count in Counter(item.source for item in items).items() if count > 1]
    if repeated:
        raise UserError(
            f"the source {repeated[0]!r} is listed more than once ({len(repeated)} such); give each its own name."
        )
    torn = torn_patients((item.patient, item.split) for item in items)
    if torn:
        raise UserError(f"{len(torn)} patients are in more than one split (the first: {torn[0]!r}); prepare it again.")


def torn_patients(patient_splits: Iterable[tuple[str, str]]) -> list[str]:
    """Return the patients who are in more than one split; "" is nobody in particular."""
    splits: dict[str, set[str]] = {}
    for patient, split in patient_splits:
        if patient:
            splits.setdefault(patient, set()).add(split)
    return sorted(patient for patient, names in splits.items() if len(names) > 1)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `manifest.json` beside a finished `items.csv`, in a folder not yet visible under its final name."""
    told = {"format": FORMAT, "version": VERSION, **dataclasses.asdict(manifest)}
    text = json.dumps({**told, "checksum": _checksum(folder, told)}, indent=2)
    (folder / "manifest.json").write_text(text + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> Manifest:
    """Read `manifest.json`, and check that neither it nor `items.csv` was changed since it was written.

    Raises:
      UserError: a file is missing or was changed, or the manifest is of another format or version.
    """
    path = folder / "manifest.json"
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{folder} is not an image store: it has no manifest.json; make one with launch.prepare."
        ) from None
    except (ValueError, OSError) as error:
        raise UserError(f"{path} cannot be read ({error}); prepare the store again.") from None
    if not isinstance(raw, dict) or raw.get("format") != FORMAT:
        raise UserError(f"{path} is not the manifest of an image store; give a folder that launch.prepare wrote.")
    if raw.get("version") != VERSION:
        raise UserError(f"{path} has version {raw.get('version')}, this program reads {VERSION}; prepare it again.")
    if not (folder / "items.csv").is_file():
        raise UserError(f"{folder / 'items.csv'} is missing; prepare the store again.")
    if raw.pop("checksum", None) != _checksum(folder, raw):
        raise UserError(f"{folder}: manifest.json or items.csv was changed after it was written; prepare it again.")
    names = {field.name for field in dataclasses.fields(Manifest)}
    return Manifest(**{key: _as_tuple(value) for key, value in raw.items() if key in names})


def write_items(folder: Path, items: Iterable[Item]) -> None:
    """Write `items.csv`, one row an image, in id order; file names that are not valid UTF-8 come back unchanged."""
    columns = [field.name for field in dataclasses.fields(Item)]
    with (folder / "items.csv").open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        table = csv.writer(file)
        table.writerow(columns)
        for item in items:
            values = (getattr(item, name) for name in columns)
            table.writerow(
                "" if value is None else repr(value) if isinstance(value, float) else value for value in values
            )


def read_items(folder: Path) -> list[Item]:
    """Read `items.csv`.

    Raises:
      UserError: the file is missing, a column is, or a value is not of its type.
    """
    path = folder / "items.csv"
    try:
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            return [
                Item(
                    id=int(row["id"]),
                    source=row["source"],
                    patient=row["patient"],
                    slice=int(row["slice"]) if row["slice"] else None,
                    split=row["split"],
                    label=row["label"],
                    low=float(row["low"]),
                    high=float(row["high"]),
                    sha256=row["sha256"],
                )
                for row in csv.DictReader(file)
            ]
    except FileNotFoundError:
        raise UserError(f"{path} is missing; prepare the store again.") from None
    except (KeyError, ValueError, TypeError, csv.Error) as error:
        raise UserError(f"{path} is damaged ({error!r}); prepare the store again.") from None


def intensity_range(image: np.ndarray) -> tuple[float, float]:
    """Return the raw values that stand for -1 and +1: the type's range for uint8, the image's own otherwise."""
    if image.dtype == np.uint8:
        return 0.0, 255.0
    return float(image.min()), float(image.max())


def _checksum(folder: Path, told: dict[str, Any]) -> str:
    return settings_digest([told, file_digest(folder / "items.csv")])


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
