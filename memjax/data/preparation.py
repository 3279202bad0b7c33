"""What a user may ask of a preparation."""

import dataclasses
from pathlib import Path
from typing import Any, Literal

from memjax.data.patients import PatientRule, make_rule
from memjax.data.readers.base import ReadOptions
from memjax.data.transforms import Fit


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
        return {name: getattr(self, name) for name in ("format", "take_split", "spacing_mm", "window")} | vars(
            self.read
        )

    def patient_rule(self) -> PatientRule:
        """Make the rule from sources to patients; raises `UserError` if it cannot be one."""
        table = Path(self.patient_csv) if self.patient_csv else None
        return make_rule(regex=self.patient_regex, csv_path=table, how=self.patients_from)
