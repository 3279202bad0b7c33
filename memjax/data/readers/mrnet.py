"""Read MRNet, Stanford's knee MRI: one volume an exam and plane, labels in csv files, and paper B's split.

    ROOT/{train,valid}/{axial,coronal,sagittal}/NNNN.npy     uint8 [slices, rows, columns]
    ROOT/{train,valid}-{abnormal,acl,meniscus}.csv           NNNN,0 or 1; no header

Dar et al. 2023 (paper B) use one volume of each of the 1130 exams of `train`, cut or padded to 256 x 256 x 32, so
`launch.prepare --format=mrnet --plane=sagittal --size=256,256,32` is their set. An exam is the nearest thing to a
patient that MRNet tells.
"""

import csv
import random
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from memjax.data.readers.array_files import ArrayHeader, npy_header, open_npy
from memjax.data.readers.base import PLANES, ROW_COLUMN, BadFile, Image, ReadOptions, Scan, Spec, Unit
from memjax.data.readers.colour import GREY
from memjax.data.readers.dtypes import is_finite, raw_dtype, to_raw
from memjax.data.readers.files import find_files, unit_name
from memjax.errors import UserError

VOLUME_AXES = ("row", "column", "slice")

_PARTS = ("train", "valid")
_FINDINGS = ("abnormal", "acl", "meniscus")
_EXAMS, _HELD_OUT, _SEED = 1130, 226, 26


@cache
def held_out_exams() -> frozenset[int]:
    """Return the 226 exams that paper B validates on: the first fifth of 0 to 1129 shuffled by Python's seed 26."""
    exams = list(range(_EXAMS))
    random.Random(_SEED).shuffle(exams)
    return frozenset(exams[:_HELD_OUT])


class MRNet:
    """The reader of MRNet's layout; see `memjax.data.readers.base.Reader` for what its methods promise."""

    def __init__(self, root: Path, options: ReadOptions):
        if options.plane not in PLANES:
            raise UserError(f"plane is {options.plane!r}; give one of {', '.join(PLANES)}.")
        self._root = root
        self._options = options

    def scan(self) -> Scan:
        """Find the exams of the chosen plane; all are one set, split as the paper does."""
        units, left_out = [], []
        for part in _PARTS:
            labels = self._labels(part)
            for file in self._exams(part):
                name = unit_name(file, self._root)
                exam = file.stem
                if not (exam.isascii() and exam.isdigit()):
                    left_out.append({"source": name, "reason": "its name is not an exam's number"})
                    continue
                label = labels.get(int(exam), "")
                units.append(Unit(name=name, files=(file,), patient=exam, split=_split(part, int(exam)), label=label))
        if not units:
            raise UserError(
                f"{self._root} holds no MRNet exam in train/{self._options.plane} or valid/{self._options.plane}; "
                "give the folder that holds `train` and `valid`, or another --plane."
            )
        return Scan(units=units, left_out=left_out)

    def probe(self, unit: Unit) -> Spec:
        """Tell an exam's shape from its file's header."""
        header = npy_header(unit.files[0])
        slices, rows, columns = _volume_shape(header)
        is_cut = self._is_cut
        return Spec(
            space=(rows, columns) if is_cut else (rows, columns, slices),
            channels=GREY,
            dtype=raw_dtype(header.dtype),
            axes=ROW_COLUMN if is_cut else VOLUME_AXES,
            count=slices if is_cut else 1,
        )

    def read(self, unit: Unit) -> list[Image]:
        """Read an exam as a volume [rows, columns, slices, 1], or as its slices."""
        _volume_shape(npy_header(unit.files[0]))
        volume = to_raw(np.array(open_npy(unit.files[0])))[..., None]
        if not is_finite(volume):
            raise BadFile("holds NaN or Inf values")
        if self._is_cut:
            return [Image(image=values, suffix=f"#{z}", slice=z) for z, values in enumerate(volume)]
        return [Image(image=np.moveaxis(volume, 0, 2))]

    @property
    def _is_cut(self) -> bool:
        return self._options.layout in ("images", "slices")

    def _exams(self, part: str) -> Sequence[Path]:
        folder = self._root / part / self._options.plane
        return find_files(folder, (".npy",)) if folder.is_dir() else []

    def _labels(self, part: str) -> dict[int, str]:
        """Return each exam's findings, as `abnormal=1;acl=0;meniscus=0`."""
        labels: dict[int, list[str]] = {}
        for finding in _FINDINGS:
            path = self._root / f"{part}-{finding}.csv"
            for exam, value in _read_csv(path) if path.exists() else []:
                labels.setdefault(exam, []).append(f"{finding}={value}")
        return {exam: ";".join(parts) for exam, parts in labels.items()}


def _split(part: str, exam: int) -> str:
    """Return "val" or "train" by the paper's split, also of a part of the set; the official `valid` is "test"."""
    if part == "valid":
        return "test"
    return "val" if exam in held_out_exams() else "train"


def _volume_shape(header: ArrayHeader) -> tuple[int, int, int]:
    if len(header.shape) != 3 or 0 in header.shape:
        raise BadFile(f"has shape {list(header.shape)}; an MRNet exam is [slices, rows, columns]")
    slices, rows, columns = header.shape
    return slices, rows, columns


def _read_csv(path: Path) -> list[tuple[int, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return [(int(exam), str(int(value))) for exam, value in (row for row in csv.reader(file) if row)]
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path} is damaged ({error}); its lines must be `exam,0` or `exam,1`.") from None
