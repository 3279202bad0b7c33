"""Raw files to an image store: look at all headers, settle one shape, then read, fit and write, unit by unit.

`inspect` reads headers only, so that mixed sizes, colours or formats are known before any long work; `build` does the
work, in parallel over units, in an order that does not depend on the number of workers, and continues where a killed
run stopped.
"""

import dataclasses
import functools
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm

from memjax.data.assign import chosen_patients, with_patients, with_splits
from memjax.data.centres import Centre, place, point_source, read_points, volume_source
from memjax.data.formats import open_reader
from memjax.data.manifest import DTYPES, Manifest, intensity_range
from memjax.data.preparation import Preparation
from memjax.data.readers.base import BadFile, Image, Reader, Spec, Unit
from memjax.data.store import NewItem, Store, StoreWriter
from memjax.data.transforms import (
    Fit,
    background,
    crop_or_pad,
    cut_around,
    fill_up,
    resize,
    scale,
    spaced_size,
)
from memjax.digest import array_digest
from memjax.errors import UserError

_NO_POINT = "has no point in the table of --centres"

_IN_FLIGHT = 4  # units read ahead per worker
_HEADERS = 32  # looked at by one worker in one go

_In = TypeVar("_In")
_Out = TypeVar("_Out")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inspection:
    """An input whose headers were all read. `bad` lists what cannot be used: unit name and reason.

    `train_patients` are those of the wanted number of patients who are not to be held out; None where all are wanted.
    `centres` are the points around which to cut, by unit name; None where whole images are wanted.
    """

    root: Path
    reader: Reader
    units: Sequence[Unit]
    specs: Sequence[Spec]
    left_out: Sequence[dict[str, str]]
    bad: Sequence[tuple[str, str]]
    train_patients: Set[str] | None = None
    centres: Mapping[str, Sequence[Centre]] | None = None

    def spaces(self, spacing_mm: tuple[float, ...] | None) -> list[tuple[int, ...]]:
        """Return the spatial shapes of the images once they have this spacing (None: as they are), usual ones first."""
        shapes = Counter(
            spaced_size(spec.space, spec.spacing_mm, spacing_mm) if spacing_mm and spec.spacing_mm else spec.space
            for spec in self.specs
        )
        return [shape for shape, _ in shapes.most_common()]

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
      UserError: wishes contradict each other, there is nothing to read, bad files are found and not to be skipped, the
        images do not go together, or the table of points does not fit them.
    """
    how.check()
    how.patient_rule()  # what is wrong with it is better told now than after hours of reading
    reader = open_reader(root, how.format, how.read)
    scan = reader.scan()
    units = [unit for unit in scan.units if how.take_split in ("", unit.split) or not unit.split]
    if not units:
        splits = ", ".join(sorted({unit.split for unit in scan.units}))
        raise UserError(f"{root} has no split {how.take_split!r}; its images are in {splits}.")
    left_out = list(scan.left_out)
    table = Path(how.centres)
    points = read_points(table, scan.units, how.centres_in) if how.centres else None
    if points is not None:
        left_out += [{"source": unit.name, "reason": _NO_POINT} for unit in units if unit.name not in points]
        units = [unit for unit in units if unit.name in points]
        if not units:
            raise UserError(f"{table} has no point in a volume of the split {how.take_split!r}; name another.")
    units, train_patients = chosen_patients(units, how)

    def probe(unit: Unit) -> tuple[Spec, Sequence[Centre]]:
        spec = reader.probe(unit)
        if how.spacing_mm is not None and spec.spacing_mm is None:
            raise BadFile("does not say its spacing, which --spacing_mm needs")
        return spec, [] if points is None else place(points[unit.name], table, how.centres_in, reader, unit, spec)

    specs, good, bad = [], [], []
    centres: dict[str, Sequence[Centre]] = {}
    with _bar(title, len(units), "file") as bar:
        # Many at a time: a header takes less time than handing it to a thread.
        some = [units[i : i + _HEADERS] for i in range(0, len(units), _HEADERS)]
        for chunk, probed in _in_order(lambda chunk: [_tried(probe, unit) for unit in chunk], some, workers):
            bar.update(len(chunk))
            for unit, told in zip(chunk, probed, strict=True):
                if isinstance(told, BadFile):
                    bad.append((unit.name, str(told)))
                else:
                    good.append(unit)
                    specs.append(told[0])
                    centres[unit.name] = told[1]
    if bad and not how.skip_bad:
        raise UserError(_bad_files_text(root, bad))
    if not good:
        raise UserError(_no_good_file_text(root, bad))
    _check_kinds(root, good, specs)
    return Inspection(
        root=root,
        reader=reader,
        units=good,
        specs=specs,
        left_out=left_out,
        bad=bad,
        train_patients=train_patients,
        centres=None if points is None else centres,
    )


def build(found: Inspection, out: Path, how: Preparation, *, workers: int, title: str = "prepare") -> Store:
    """Read, fit and write every unit of an inspected input; a killed build goes on when called again.

    Raises:
      UserError: no common shape, a bad file (unless skipped), torn splits, a full disk, `out` exists.
    """
    size = _target_size(found, how)
    fitted = _settled_fit(found, how)
    dtype = found.dtype
    if how.range_of == "type" and dtype.kind == "f":
        raise UserError(f"--range=type: the images of {found.root} are {dtype}, a type without a range; give --window.")
    item_bytes = int(np.prod(size)) * len(found.channels) * dtype.itemsize
    _check_room(out, item_bytes * _count(found, how))
    places = {name: [vars(centre) for centre in its] for name, its in (found.centres or {}).items()}
    settings = [how.decides_images, size, fitted, [stamp(unit) for unit in found.units], places]
    specs = dict(zip((unit.name for unit in found.units), found.specs, strict=True))
    bad = list(found.bad)

    def read(unit: Unit) -> list[NewItem]:
        images = [image for image in found.reader.read(unit) if how.take_split in ("", image.split or unit.split)]
        centres = None if found.centres is None else found.centres[unit.name]
        return [
            item
            for image in images
            for item in _items(unit, image, specs[unit.name], how, size, fitted, dtype, centres)
        ]

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
            raise UserError(_no_good_file_text(found.root, bad) if bad else _no_image_text(found.root, how))
        # Whose a sub-volume is, and on which side, its volume decides: all of one volume go together.
        wholes = [dataclasses.replace(item, source=volume_source(item.source)) for item in writer.items]
        wholes, patient_ids = with_patients(wholes, how, getattr(found.reader, "patient_ids", ""))
        wholes, notes = with_splits(wholes, how, found.train_patients)
        rows = [dataclasses.replace(item, source=cut.source) for item, cut in zip(wholes, writer.items, strict=True)]
        if pointless := sum(entry["reason"] == _NO_POINT for entry in found.left_out):
            notes += (f"{pointless} volumes are left out, as --centres has no point in them",)
        if writer.imageless and not how.take_split:
            notes += (f"{len(writer.imageless)} files gave no image (the first: {writer.imageless[0]})",)
        manifest = dataclasses.replace(
            _manifest(found, how, size, fitted),
            patient_ids=patient_ids,
            left_out=(*found.left_out, *({"source": name, "reason": reason} for name, reason in bad)),
            notes=notes,
        )
        return writer.finish(manifest, rows)


def stamp(unit: Unit) -> list[Any]:
    """Return what must be unchanged for a unit to give the same images, and to be known by the same words."""
    stats = [file.stat() for file in unit.files]
    about = [unit.patient, unit.split, unit.label, unit.rows, unit.key]
    return [unit.name, about, [[stat.st_size, stat.st_mtime_ns] for stat in stats]]


def _target_size(found: Inspection, how: Preparation) -> tuple[int, ...]:
    axes = len(found.specs[0].axes)
    size = how.size
    if size is None:
        spaces = found.spaces(how.spacing_mm)
        if len(spaces) > 1:
            some = ", ".join("x".join(map(str, space)) for space in spaces[:3]) + (", …" if len(spaces) > 3 else "")
            raise UserError(
                f"{found.root}: the images have {len(spaces)} different sizes ({some}); "
                f"say which they shall get, for example --size={','.join(['64'] * axes)}."
            )
        size = spaces[0]
    if how.centres and len(size) == 1:
        size *= axes
    if len(size) != axes:
        raise UserError(
            f"--size has {len(size)} numbers, but the images of {found.root} have {axes} spatial axes "
            f"({', '.join(found.specs[0].axes)})."
        )
    return size


def _items(
    unit: Unit,
    image: Image,
    spec: Spec,
    how: Preparation,
    size: tuple[int, ...],
    fitted: Fit,
    dtype: np.dtype,
    centres: Sequence[Centre] | None,
) -> list[NewItem]:
    """Bring one image to its final shape, or cut the sub-volumes around its points."""
    raw = image.image
    if raw.ndim != len(spec.axes) + 1 or raw.shape[-1] != len(spec.channels) or not np.can_cast(raw.dtype, dtype):
        raise BadFile(
            f"holds an image of shape {raw.shape} and type {raw.dtype}; its header said {spec.space}, "
            f"{len(spec.channels)} channel(s), {spec.dtype}"
        )
    space = raw.shape[:-1]
    if how.spacing_mm is not None and spec.spacing_mm is not None:
        raw = resize(raw, spaced_size(space, spec.spacing_mm, how.spacing_mm), spec.label_channels)
    whole = NewItem(
        image=raw,
        source=image.source or unit.name + image.suffix,
        patient=image.patient or unit.patient,
        slice=image.slice,
        split=image.split or unit.split,
        label=image.label or unit.label,
        value_range=how.window or (image.value_range if how.range_of == "auto" else None),
    )
    if centres is None:
        scaled = scale(raw, size, fitted, spec.label_channels).astype(dtype, copy=False)
        return [_finished(whole, scaled, lambda fill: crop_or_pad(scaled, size, fill), how, spec)]
    items = []
    for number, centre in enumerate(centres):
        part, before = cut_around(raw, centre.voxel(space, raw.shape[:-1]), size)
        part = part.astype(dtype, copy=False)
        cut = dataclasses.replace(whole, source=point_source(whole.source, number), label=centre.label or whole.label)
        items.append(_finished(cut, part, functools.partial(fill_up, part, size, before), how, spec))
    return items


def _finished(
    about: NewItem, inside: np.ndarray, fill_up: Callable[[np.ndarray | None], np.ndarray], how: Preparation, spec: Spec
) -> NewItem:
    """Return the item whose image is `fill_up` of a value for each channel, or of None for the background.

    `inside` is what there is before anything is cut or filled up.
    """
    fill, value_range = None, about.value_range
    if how.pad == "middle":
        value_range = value_range or _range(inside, how)
        fill = np.full(inside.shape[-1], _middle(value_range, inside.dtype), inside.dtype)
        for c in spec.label_channels:  # no label lies between two others
            fill[c] = background(inside[..., [c]])[0]
    final = np.ascontiguousarray(fill_up(fill))
    return dataclasses.replace(
        about,
        image=final,
        sha256=array_digest(final),  # here, on the worker's thread: the writer is alone
        value_range=value_range or _range(final, how),
    )


def _range(image: np.ndarray, how: Preparation) -> tuple[float, float]:
    """Return the raw values for -1 and +1 of an image for which nothing else says them."""
    if how.range_of == "type":
        limits = np.iinfo(image.dtype)
        return float(limits.min), float(limits.max)
    return (float(image.min()), float(image.max())) if how.range_of == "own" else intensity_range(image)


def _middle(value_range: tuple[float, float], dtype: np.dtype) -> float:
    """Return the raw value that becomes 0 in [-1, 1], a whole number in integer types."""
    middle = sum(value_range) / 2
    if dtype.kind == "f":
        return middle
    limits = np.iinfo(dtype)
    if not limits.min <= round(middle) <= limits.max:
        raise BadFile(
            f"is {dtype}, in which --pad=middle has no value: between {value_range[0]:g} and {value_range[1]:g} lies "
            f"{middle:g}; change --window, or pad with the background"
        )
    return float(round(middle))


def _settled_fit(found: Inspection, how: Preparation) -> Fit:
    fitted = how.fit or ("centre" if found.is_volume else "stretch")
    if how.pad == "middle" and fitted in ("stretch", "crop"):
        raise UserError(f"--pad=middle: --fit={fitted} fills nothing up; give --fit=pad or --fit=centre as well.")
    return fitted


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
    untouched = fitted == "centre" or found.spaces(how.spacing_mm) == [size]
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


def _no_good_file_text(root: Path, bad: Sequence[tuple[str, str]]) -> str:
    name, reason = bad[0]
    return f"{root}: none of the {len(bad)} files can be used; the first: {name}: {reason}."


def _no_image_text(root: Path, how: Preparation) -> str:
    if how.take_split:
        return f"{root} has no image in the split {how.take_split!r}; leave it away to take all, or name another."
    return f"{root} gives no image (of BraTS: no slice is bright enough); check the files, or lower --min_bright."


def _count(found: Inspection, how: Preparation) -> int:
    """Return how many images there are at least, as far as headers tell."""
    known = [spec for unit, spec in zip(found.units, found.specs, strict=True) if unit.split or not how.take_split]
    if found.centres is not None:
        return sum(map(len, found.centres.values()))
    return sum(spec.count or 0 for spec in known)


def _check_room(out: Path, size_bytes: int) -> None:
    """Refuse early what the disk certainly cannot hold."""
    place = next(folder for folder in out.absolute().parents if folder.exists())
    begun = Path(f"{out}.partial", "images.npy")
    free = shutil.disk_usage(place).free + (os.path.getsize(begun) if begun.exists() else 0)
    if size_bytes > free:
        raise UserError(
            f"the store would take {_in_units(size_bytes)}, but the disk of {place} has {_in_units(free)} free; "
            "make room, choose another --out or a smaller --size."
        )


def _in_units(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.1f} GiB" if size_bytes >= 2**30 else f"{size_bytes / 2**20:.2f} MiB"


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
