"""Raw files to an image store: look at all headers, settle one shape, then read, fit and write, unit by unit.

`inspect` reads headers only, so that mixed sizes, colours or formats are known before any long work; `build` does the
work, in parallel over units, in an order that does not depend on the number of workers, and continues where a killed
run stopped.
"""

import dataclasses
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from tqdm import tqdm

from memjax.data.formats import open_reader
from memjax.data.manifest import DTYPES, Item, Manifest, torn_patients
from memjax.data.patients import PatientRule, make_rule
from memjax.data.readers.base import BadFile, Image, Reader, ReadOptions, Spec, Unit
from memjax.data.split import first_patients, last_patients
from memjax.data.store import NewItem, Store, StoreWriter
from memjax.data.transforms import Fit, fit, resize, spaced_size
from memjax.errors import UserError

_IN_FLIGHT = 4  # units read ahead per worker

_In = TypeVar("_In")
_Out = TypeVar("_Out")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preparation:
    """What a user may ask of a preparation; all of it is written into the manifest.

    format: one of `formats.FORMATS`.
    read: how files become images.
    size: the spatial shape of the store; None: the images' own, if they have one.
    fit: how images get that shape; None: `stretch` for pictures and slices, `centre` for volumes.
    spacing_mm: resample to this spacing first (formats that know theirs).
    window: raw values for -1 and +1 in every image; None: the range of uint8, each other image's own range.
    patient_regex, patient_csv, patients_from: see `patients.make_rule`.
    n_patients: only so many patients, a prefix of the seed's permutation (0: all), so that smaller sets nest in larger.
    heldout_patients: number or share (below 1) of patients to hold out (0: none).
    keep_splits: whether the source's own splits are kept (if no patient is in two of them).
    take_split: only the images of this split ("": all).
    seed: of the permutation of patients.
    skip_bad: leave out files that cannot be used (they are listed), instead of stopping.
    """

    format: str = "auto"
    read: ReadOptions = dataclasses.field(default_factory=ReadOptions)
    size: tuple[int, ...] | None = None
    fit: Fit | None = None
    spacing_mm: tuple[float, ...] | None = None
    window: tuple[float, float] | None = None
    patient_regex: str = ""
    patient_csv: str = ""
    patients_from: Literal["auto", "folder", "none"] = "auto"
    n_patients: int = 0
    heldout_patients: float = 0
    keep_splits: bool = True
    take_split: str = ""
    seed: int = 0
    skip_bad: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inspection:
    """An input whose headers were all read. `bad` lists what cannot be used: unit name and reason."""

    root: Path
    reader: Reader
    units: Sequence[Unit]
    specs: Sequence[Spec]
    left_out: Sequence[dict[str, str]]
    bad: Sequence[tuple[str, str]]

    @property
    def space(self) -> tuple[int, ...] | None:
        """The one spatial shape of all images, None if they have several."""
        shapes = {spec.space for spec in self.specs}
        return shapes.pop() if len(shapes) == 1 else None

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels' names (all units agree, or `inspect` has refused)."""
        return self.specs[0].channels

    @property
    def is_volume(self) -> bool:
        """Whether images have three spatial axes."""
        return len(self.specs[0].axes) == 3

    @property
    def dtype(self) -> np.dtype:
        """The smallest store dtype that holds every unit's values exactly, float32 if none does."""
        joint = np.result_type(*{spec.dtype for spec in self.specs})
        return joint if joint.name in DTYPES else np.dtype(np.float32)


def inspect(root: Path, how: Preparation, *, workers: int, title: str = "look at") -> Inspection:
    """Find an input's units and read their headers.

    Raises:
      UserError: there is nothing to read, bad files are found and not to be skipped, or the images do not go together.
    """
    reader = open_reader(root, how.format, how.read)
    scan = reader.scan()
    units = [unit for unit in scan.units if how.take_split in ("", unit.split) or not unit.split]
    units = _chosen_patients(units, how)
    specs, good, bad = [], [], []
    with _bar(title, len(units), "file") as bar:
        for unit, spec in _in_order(lambda unit: _tried(reader.probe, unit), units, workers):
            bar.update()
            if isinstance(spec, BadFile):
                bad.append((unit.name, str(spec)))
            else:
                good.append(unit)
                specs.append(spec)
    if bad and not how.skip_bad:
        raise UserError(_bad_files_text(root, bad))
    if not good:
        raise UserError(f"{root}: none of the {len(units)} files can be used; the first: {bad[0][0]}: {bad[0][1]}.")
    _check_kinds(root, good, specs)
    return Inspection(root=root, reader=reader, units=good, specs=specs, left_out=scan.left_out, bad=bad)


def build(found: Inspection, out: Path, how: Preparation, *, workers: int, title: str = "prepare") -> Store:
    """Read, fit and write every unit of an inspected input; a killed build goes on when called again.

    Raises:
      UserError: no common shape, a bad file (unless skipped), torn splits, a full disk, `out` exists.
    """
    size = _target_size(found, how)
    fitted = how.fit or ("centre" if found.is_volume else "stretch")
    dtype = found.dtype
    item_bytes = int(np.prod(size)) * len(found.channels) * dtype.itemsize
    _check_room(out, item_bytes * sum(spec.count or 0 for spec in found.specs))
    asked = dataclasses.asdict(dataclasses.replace(how, skip_bad=False))
    settings = [asked, size, fitted, [_stamp(unit) for unit in found.units]]
    specs = dict(zip((unit.name for unit in found.units), found.specs, strict=True))
    bad = list(found.bad)

    def read(unit: Unit) -> list[NewItem]:
        images = [image for image in found.reader.read(unit) if how.take_split in ("", image.split or unit.split)]
        return [_fitted(unit, image, specs[unit.name], how, size, fitted, dtype) for image in images]

    with StoreWriter(out, shape=(*size, len(found.channels)), dtype=dtype.name, settings=settings) as writer:
        rest = [unit for unit in found.units if unit.name not in writer.done]
        bad += [(name, reason) for name, reason in writer.done.items() if reason]
        with _bar(title, len(found.units), "file", done=len(found.units) - len(rest)) as bar:
            for unit, items in _in_order(lambda unit: _tried(read, unit), rest, workers):
                bar.update()
                if isinstance(items, BadFile):
                    bad.append((unit.name, str(items)))
                    if how.skip_bad:
                        writer.add(unit.name, [], left_out=str(items))
                else:
                    writer.add(unit.name, items)
        if bad and not how.skip_bad:
            raise UserError(_bad_files_text(found.root, bad))
        if not writer.items:
            asked = f" in split {how.take_split!r}" if how.take_split else ""
            raise UserError(f"{found.root} gives no image{asked}.")
        items, patient_ids = _with_patients(writer.items, found, how)
        items, notes = _with_splits(items, how)
        manifest = _manifest(found, how, size, fitted)
        left_out = (*found.left_out, *({"source": name, "reason": reason} for name, reason in bad))
        return writer.finish(
            dataclasses.replace(manifest, patient_ids=patient_ids, left_out=left_out, notes=notes), items
        )


def _target_size(found: Inspection, how: Preparation) -> tuple[int, ...]:
    size = how.size or found.space
    axes = len(found.specs[0].axes)
    if size is None:
        examples = Counter(spec.space for spec in found.specs)
        some = ", ".join("x".join(map(str, shape)) for shape, _ in examples.most_common(3))
        raise UserError(
            f"{found.root}: the images have {len(examples)} different sizes ({some}, …); "
            f"say which they shall get, for example --size={','.join(['64'] * axes)}."
        )
    if len(size) != axes:
        raise UserError(
            f"--size has {len(size)} numbers, but the images of {found.root} have {axes} spatial axes "
            f"({', '.join(found.specs[0].axes)})."
        )
    return size


def _fitted(
    unit: Unit, image: Image, spec: Spec, how: Preparation, size: tuple[int, ...], fitted: Fit, dtype: np.dtype
) -> NewItem:
    raw = image.image
    if how.spacing_mm is not None:
        if spec.spacing_mm is None:
            raise BadFile("the file does not say its spacing, which --spacing_mm needs")
        raw = resize(raw, spaced_size(raw.shape[:-1], spec.spacing_mm, how.spacing_mm), spec.label_channels)
    return NewItem(
        image=fit(raw, size, fitted, spec.label_channels).astype(dtype, copy=False),
        source=image.source or unit.name + image.suffix,
        patient=image.patient or unit.patient,
        slice=image.slice,
        split=image.split or unit.split,
        label=image.label or unit.label,
        value_range=how.window or image.value_range,
    )


def _with_patients(items: Sequence[Item], found: Inspection, how: Preparation) -> tuple[list[Item], str]:
    """Give every item its patient, and say where the ids come from."""
    rule = _rule(how).fit([item.source for item in items], [item.patient for item in items])
    named = [dataclasses.replace(item, patient=rule.patient(item.source, item.patient)) for item in items]
    earlier = getattr(found.reader, "patient_ids", "")
    return named, earlier if rule.kind == "format" and earlier else rule.kind


def _rule(how: Preparation) -> PatientRule:
    table = Path(how.patient_csv) if how.patient_csv else None
    return make_rule(regex=how.patient_regex, csv_path=table, how=how.patients_from)


def _with_splits(items: list[Item], how: Preparation) -> tuple[list[Item], tuple[str, ...]]:
    """Assign splits by patient; the source's own splits are kept only if they are, too. Also return notes."""
    if how.heldout_patients:
        patients = [item.patient or item.source for item in items]  # an unknown patient is one of its own
        away = last_patients(patients, how.heldout_patients, how.seed)
        return [
            dataclasses.replace(item, split="heldout" if patient in away else "train")
            for item, patient in zip(items, patients, strict=True)
        ], ()
    without = [dataclasses.replace(item, split="") for item in items]
    if not how.keep_splits:
        return without, ()
    torn = torn_patients((item.patient, item.split) for item in items)
    if torn:
        return without, (
            f"the source's own splits put {len(torn)} patients into more than one (the first: {torn[0]}), so no split "
            "is kept; hold patients out with --heldout_patients",
        )
    return items, ()


def _chosen_patients(units: Sequence[Unit], how: Preparation) -> Sequence[Unit]:
    """Keep the units of the first `n_patients` patients of the seed's permutation."""
    if not how.n_patients:
        return units
    if any(unit.rows for unit in units):
        raise UserError("--patients needs one file or folder a patient; array files and stores are prepared whole.")
    rule = _rule(how).fit([unit.name for unit in units], [unit.patient for unit in units])
    patients = [rule.patient(unit.name, unit.patient) or unit.name for unit in units]
    chosen = first_patients(patients, how.n_patients, how.seed)
    return [unit for unit, patient in zip(units, patients, strict=True) if patient in chosen]


def _check_kinds(root: Path, units: Sequence[Unit], specs: Sequence[Spec]) -> None:
    """Refuse a set whose images differ in channels or in the number of axes."""
    for what, kind in (("channels", lambda spec: spec.channels), ("axes", lambda spec: spec.axes)):
        kinds = [kind(spec) for spec in specs]
        (usual, _), *others = Counter(kinds).most_common()
        if others:
            odd = kinds.index(others[0][0])
            raise UserError(
                f"{root}: the images do not go together: most have {what} {usual}, but {units[odd].name} has "
                f"{kinds[odd]} ({len(kinds) - kinds.count(usual)} such); prepare each kind by itself."
            )


def _manifest(found: Inspection, how: Preparation, size: tuple[int, ...], fitted: Fit) -> Manifest:
    spec = found.specs[0]
    spacings = {spec.spacing_mm for spec in found.specs}
    untouched = found.space == size or fitted == "centre"
    spacing = how.spacing_mm or (spacings.pop() if len(spacings) == 1 else None)
    return Manifest(
        axes=spec.axes,
        channels=spec.channels,
        label_channels=spec.label_channels,
        spacing_mm=spacing if untouched else None,
        source_format=type(found.reader).__name__.lower(),
        preparation={**dataclasses.asdict(how), "size": size, "fit": fitted},
    )


def _bad_files_text(root: Path, bad: Sequence[tuple[str, str]]) -> str:
    some = "".join(f"\n  {name}: {reason}" for name, reason in bad[:10])
    more = f"\n  … and {len(bad) - 10} more" if len(bad) > 10 else ""
    return (
        f"{root}: {len(bad)} of its files cannot be used; mend or remove them, or give --skip_bad to leave them out "
        f"and go on from here:{some}{more}"
    )


def _stamp(unit: Unit) -> list[Any]:
    """What must be unchanged for an interrupted preparation to be continued."""
    stats = [file.stat() for file in unit.files]
    return [unit.name, [[stat.st_size, stat.st_mtime_ns] for stat in stats]]


def _check_room(out: Path, size_bytes: int) -> None:
    """Refuse early what the disk certainly cannot hold."""
    place = next(folder for folder in out.absolute().parents if folder.exists())
    free = shutil.disk_usage(place).free
    if size_bytes > free:
        raise UserError(
            f"the store would take {size_bytes / 2**30:.1f} GiB, but the disk of {place} has {free / 2**30:.1f} GiB "
            "free; make room, choose another --out or a smaller --size."
        )


def _tried(work: Callable[[_In], _Out], given: _In) -> _Out | BadFile:
    try:
        return work(given)
    except BadFile as bad:
        return bad


def _in_order(work: Callable[[_In], _Out], given: Sequence[_In], workers: int) -> Iterator[tuple[_In, _Out]]:
    """Do the work on threads, a bounded number ahead, and give the results in the order of their inputs."""
    with ThreadPoolExecutor(workers) as pool:
        rest = iter(given)
        ahead: list[tuple[_In, Future[_Out]]] = [
            (one, pool.submit(work, one)) for one in islice(rest, workers * _IN_FLIGHT)
        ]
        try:
            while ahead:
                one, future = ahead.pop(0)
                yield one, future.result()
                ahead += [(another, pool.submit(work, another)) for another in islice(rest, 1)]
        finally:
            for _, future in ahead:
                future.cancel()


def _bar(title: str, total: int, unit: str, done: int = 0) -> "tqdm[Any]":
    return tqdm(total=total, initial=done, desc=title, unit=f" {unit}", disable=None, smoothing=0.05, leave=False)
