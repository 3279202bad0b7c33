"""What a user may ask of a preparation."""

import dataclasses
from pathlib import Path
from typing import Any, Literal

from memjax.data.centres import CentresIn
from memjax.data.patients import PatientRule, make_rule
from memjax.data.readers.base import ReadOptions
from memjax.data.transforms import Fit
from memjax.errors import UserError

Pad = Literal["background", "middle"]
PADS: tuple[Pad, ...] = ("background", "middle")

Range = Literal["auto", "own", "type"]
RANGES: tuple[Range, ...] = ("auto", "own", "type")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preparation:
    """What a user may ask of a preparation; all of it is written into the manifest.

    format: one of `formats.FORMATS`.
    read: how files become images.
    size: the spatial shape of the store; None: the images' own, if they have one.
    fit: how images get that shape; None: `stretch` for pictures and slices, `centre` for volumes.
    pad: what fills up: `background` (see `transforms.background`), or `middle`, the value that becomes 0 in [-1, 1], of
      the range that the image has before it is cut and filled up. (Published code for MRNet scales, then pads with 0.)
      In integers it is the nearest whole number, which becomes 0 but for 1 / (high - low) at most.
    spacing_mm: resample to this spacing first (formats that know theirs).
    window: raw values for -1 and +1 in every image; None: as `range_of` says.
    range_of: whose least and largest values become -1 and +1: each image's `own`, or its `type`'s; `auto`: the type's
      for uint8, each other image's own.
    centres: a table of points in volumes; the images are the sub-volumes of `size` around them (see `data.centres`).
      A range is the sub-volume's own, as far as it lies in its volume, and so is the background. "": whole volumes.
    centres_in: what the table's numbers are: voxels of the file as it is stored, or mm in RAS.
    patient_regex, patient_csv, patients_from: see `patients.make_rule`.
    n_patients: only so many patients to train on, a prefix of the seed's permutation (0: all), so that smaller sets
      nest in larger.
    heldout_patients: number of patients to hold out, or share of all (below 1), from the permutation's end (0: none).
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
    pad: Pad = "background"
    range_of: Range = "auto"
    centres: str = ""
    centres_in: CentresIn = "voxel"
    patient_regex: str = ""
    patient_csv: str = ""
    patients_from: Literal["auto", "folder", "none"] = "auto"
    n_patients: int = 0
    heldout_patients: float = 0.0
    keep_splits: bool = True
    take_split: str = ""
    seed: int = 0
    skip_bad: bool = False

    @property
    def decides_images(self) -> dict[str, Any]:
        """The part that decides the images themselves; patients and splits are assigned once all are read."""
        names = ("format", "take_split", "spacing_mm", "window", "pad", "range_of")
        return {name: getattr(self, name) for name in names} | vars(self.read)

    def check(self) -> None:
        """Raise `UserError` for wishes that contradict each other."""
        if self.window is not None and self.range_of != "auto":
            raise UserError(f"--window and --range={self.range_of} both say what becomes black and white; give one.")
        if self.centres and self.size is None:
            raise UserError("--centres needs the size of the sub-volumes; give --size=64,64,64 or another.")
        if self.centres and self.fit not in (None, "centre"):
            raise UserError(f"--centres cuts without resampling, so --fit={self.fit} does not apply; leave it out.")
        if self.centres_in != "voxel" and not self.centres:
            raise UserError(f"--centres_in={self.centres_in} is about the points of --centres, which is not given.")

    def patient_rule(self) -> PatientRule:
        """Make the rule from sources to patients; raises `UserError` if it cannot be one."""
        table = Path(self.patient_csv) if self.patient_csv else None
        return make_rule(regex=self.patient_regex, csv_path=table, how=self.patients_from)
