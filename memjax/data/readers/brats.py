"""Read BraTS: one folder a patient, four MR contrasts and a tumour annotation, as images of five channels.

The rules are those of the paper that audits generative models on BraTS (Akbar, Wang, Eklund; PAPERS.md §1.3):

  channels    t1ce, t1, flair, t2, seg
  contrasts   each volume divided by its maximum, times 255, cut to an integer; negative values become 0 first
  annotation  label / 5 * 255, so that labels 1, 2, 4 become 51, 102, 204 (and label 3 of BraTS 2023 on: 153)
  slices      axial, padded with zeros on all sides to 256 x 256; kept where more than 15 % of the padded slice's
              pixels exceed 50 on the scaled T1
"""

import contextlib
import dataclasses
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np

from memjax.data.readers.base import PLANES, RAS, BadFile, Image, ReadOptions, Scan, Spec, Unit
from memjax.data.readers.files import find_files, unit_name
from memjax.data.readers.folders import folder_split
from memjax.data.readers.nifti import ENDINGS, Header, read_header, read_volume
from memjax.data.readers.ras import Grid, slice_spec
from memjax.errors import UserError

CHANNELS = ("t1ce", "t1", "flair", "t2", "seg")
CONTRASTS = CHANNELS[:4]

_SEG = CHANNELS.index("seg")
_T1 = CHANNELS.index("t1")
_LABELS = range(5)
_BRIGHT = 50  # of 255
_PADDED = 256
_SAME_MM = 1e-3  # grids of one patient are written by one tool, and differ by rounding at most

# BraTS 2012-2021 write `<case>_t1ce.nii.gz`, from 2023 on `<case>-t1c.nii.gz`.
_FILE = re.compile(r"(?P<case>.+)[_-](?P<contrast>t1ce|t1c|t1n|t1|t2w|t2f|t2|flair|seg)\.nii(?:\.gz)?", re.IGNORECASE)
_NEW_NAMES = {"t1c": "t1ce", "t1n": "t1", "t2w": "t2", "t2f": "flair"}
_TIME_POINT = re.compile(r"(BraTS-[A-Za-z]+-[0-9]+)-[0-9]{3}", re.IGNORECASE)


def looks_like_brats(root: Path) -> bool:
    """Say whether some folder at or below `root` has all four contrasts of one case."""
    found: dict[tuple[Path, str], set[str]] = {}
    for path in find_files(root, ENDINGS):
        case, contrast = _parse_name(path.name)
        if case:
            found.setdefault((path.parent, case), set()).add(contrast)
    return any(contrasts.issuperset(CONTRASTS) for contrasts in found.values())


class Brats:
    """The reader of BraTS folders: `<root>/**/<case>/<case>_{t1,t1ce,t2,flair,seg}.nii.gz`, or the names of 2023.

    A set without any annotation (the challenge's test sets) is read as four channels. If some patients have one, those
    without are bad files.
    """

    def __init__(self, root: Path, options: ReadOptions):
        self.root = root
        self.options = options

    def scan(self) -> Scan:
        """Find the patients' folders; files with other names are listed as left out."""
        if self.options.layout == "images":
            raise UserError("BraTS holds volumes, not pictures; give --layout=slices or --layout=volumes.")
        cases, strangers = self._found
        if not cases:
            raise UserError(
                f"{self.root} holds no BraTS case; expected files such as CASE/CASE_t1.nii.gz or CASE/CASE-t1n.nii.gz."
            )
        units = [
            Unit(
                name=name,
                files=tuple(files),
                patient=_patient(_parse_name(files[0].name)[0]),
                split=folder_split(name),
            )
            for name, files in cases.items()
        ]
        left_out = [{"source": name, "reason": "its name is not that of a BraTS contrast"} for name in strangers]
        return Scan(units=units, left_out=left_out)

    def probe(self, unit: Unit) -> Spec:
        """Tell a patient's shape from the headers; how many slices pass the rule, only reading them tells."""
        headers: dict[str, Header] = {}
        for channel, path in self._channels(unit).items():
            with _naming(path):
                headers[channel] = read_header(path)
        grid = _common_grid({channel: header.grid for channel, header in headers.items()})
        spec = Spec(
            space=grid.ras_shape,
            channels=tuple(headers),
            dtype=np.dtype(np.uint8),
            axes=RAS,
            spacing_mm=grid.ras_spacing_mm,
            label_channels=(_SEG,) if "seg" in headers else (),
        )
        if self.options.layout == "volumes":
            return spec
        spec = slice_spec(spec, self.options.plane)
        return dataclasses.replace(spec, space=_padded(spec.space), count=None)

    def read(self, unit: Unit) -> list[Image]:
        """Read a patient as one volume [x, y, z, channels], or as the slices that pass the rule."""
        grids: dict[str, Grid] = {}
        scaled: list[np.ndarray] = []
        for channel, path in self._channels(unit).items():
            with _naming(path):
                header, volume = read_volume(path)
                scale = scale_labels if channel == "seg" else scale_contrast
                scaled.append(scale(volume[..., 0]))
            grids[channel] = header.grid
        _common_grid(grids)
        if self.options.layout == "volumes":
            return [Image(image=np.ascontiguousarray(np.stack(scaled, axis=-1)))]
        return _bright_slices(scaled, self.options)

    @cached_property
    def _found(self) -> tuple[dict[str, list[Path]], list[str]]:
        """All cases (unit name to files), and the names of the files that belong to none."""
        cases: dict[str, list[Path]] = {}
        strangers = []
        for path in find_files(self.root, ENDINGS):
            case, _ = _parse_name(path.name)
            if case:
                cases.setdefault(self._unit_name(path.parent, case), []).append(path)
            else:
                strangers.append(unit_name(path, self.root))
        return cases, strangers

    @cached_property
    def _with_seg(self) -> bool:
        return any(_parse_name(path.name)[1] == "seg" for files in self._found[0].values() for path in files)

    def _unit_name(self, folder: Path, case: str) -> str:
        """Name a case by its folder; cases that share a folder, or that are the root, by folder and case."""
        if folder == self.root or self.root.is_file():
            return case
        name = unit_name(folder, self.root)
        return name if folder.name == case else f"{name}/{case}"

    def _channels(self, unit: Unit) -> dict[str, Path]:
        """Return a patient's files by channel, in the channels' order."""
        found: dict[str, Path] = {}
        for path in unit.files:
            _, channel = _parse_name(path.name)
            if channel in found:
                raise BadFile(f"has two files of {channel}, {found[channel].name} and {path.name}; remove one")
            found[channel] = path
        wanted = CHANNELS if self._with_seg else CONTRASTS
        missing = [channel for channel in wanted if channel not in found]
        if missing:
            raise BadFile(f"has no {' and no '.join(missing)}; {self._advice(unit)}")
        return {channel: found[channel] for channel in wanted}

    def _advice(self, unit: Unit) -> str:
        """Name what stands beside a patient's files under a name of its own: it may be the missing one."""
        names = sorted(path.name for path in unit.files[0].parent.iterdir() if path.name.endswith(ENDINGS))
        others = [name for name in names if not _parse_name(name)[0]]
        found = ", ".join(path.name for path in unit.files)
        return f"rename {others[0]} if that is it" if others else f"found {found}; add it or leave the patient out"


def scale_contrast(volume: np.ndarray) -> np.ndarray:
    """Return a contrast as uint8: divided by the volume's maximum, times 255, truncated; negative values become 0.

    Raises:
      BadFile: no voxel is above zero.
    """
    peak = volume.max()
    if peak <= 0:
        raise BadFile(f"is blank: its largest value is {peak:g}; leave this patient out")
    scaled = np.empty_like(volume, dtype=np.uint8)
    for z in range(volume.shape[-1]):  # by slices: a float64 copy of a whole volume is slower and eight times its size
        shares = np.divide(volume[..., z], peak, dtype=np.float64)
        scaled[..., z] = np.maximum(shares * 255, 0)
    return scaled


def scale_labels(volume: np.ndarray) -> np.ndarray:
    """Return an annotation as uint8: label / 5 * 255, which is label * 51.

    Raises:
      BadFile: a value is none of the labels 0 to 4.
    """
    labels = np.clip(volume, _LABELS[0], _LABELS[-1]).astype(np.uint8)
    is_label = labels == volume
    if not is_label.all():
        strange = ", ".join(f"{value:g}" for value in np.unique(volume[~is_label])[:5])
        raise BadFile(f"has the labels {strange}; expected 0 to 4")
    return labels * np.uint8(51)


def _bright_slices(channels: list[np.ndarray], options: ReadOptions) -> list[Image]:
    """Cut, pad and choose slices of uint8 volumes [x, y, z]; the index of a slice is that in the unpadded volume."""
    cut = [np.moveaxis(channel, PLANES[options.plane], 0) for channel in channels]
    space = cut[0].shape[1:]
    padded = _padded(space)
    threshold = options.min_bright * padded[0] * padded[1]
    bright = (cut[_T1] > _BRIGHT).sum(axis=(1, 2))  # padding is 0, so it never counts
    kept = np.flatnonzero(bright > threshold)
    slices = np.zeros((len(kept), *padded, len(cut)), np.uint8)
    before = [(large - small) // 2 for large, small in zip(padded, space, strict=True)]
    inside = tuple(slice(start, start + length) for start, length in zip(before, space, strict=True))
    for channel, volume in enumerate(cut):
        slices[:, *inside, channel] = volume[kept]
    return [Image(image=image, suffix=f"#{z}", slice=int(z)) for z, image in zip(kept, slices, strict=True)]


def _padded(space: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(max(length, _PADDED) for length in space)


def _common_grid(grids: dict[str, Grid]) -> Grid:
    """Return the grid on which all of a patient's volumes lie."""
    first, *others = grids
    reference = grids[first]
    for name in others:
        grid = grids[name]
        if grid.shape != reference.shape:
            raise BadFile(
                f"has {name} of shape {grid.shape} and {first} of shape {reference.shape}; "
                "register them to one grid, as BraTS does"
            )
        if not np.allclose(grid.affine, reference.affine, rtol=0, atol=_SAME_MM):
            raise BadFile(
                f"has affines of {name} and {first} that differ by {np.abs(grid.affine - reference.affine).max():g}; "
                "register them to one grid, as BraTS does"
            )
    return reference


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Say which of a patient's files is the bad one."""
    try:
        yield
    except BadFile as error:
        raise BadFile(f"{path.name} {error}") from None


def _parse_name(name: str) -> tuple[str, str]:
    """Return case and channel of a file's name; "" and "" if it is not a BraTS name."""
    match = _FILE.fullmatch(name)
    if match is None:
        return "", ""
    contrast = match["contrast"].lower()
    return match["case"], _NEW_NAMES.get(contrast, contrast)


def _patient(case: str) -> str:
    """Return the patient of a case: from 2023 on, names end in the time point (`BraTS-GLI-00008-001`)."""
    match = _TIME_POINT.fullmatch(case)
    return match[1] if match else case
