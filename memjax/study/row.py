"""One cell of a study, as plain data: what was asked, what it cost, what the audit and the set-level scores found."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from memjax.audit.fidelity.quality import Quality
from memjax.audit.findings import Interval, is_beyond_chance

Status = Literal["done", "failed", "waiting"]
Value = str | int | float | bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Memorization:
    """What one detector counted in one cell; denominators are those of `Facts`."""

    is_clean: bool
    threshold: float
    n_copies: Interval  # synthetic images that are copies
    n_copies_by_chance: float  # how many unseen patients' images would be called; nan without a null
    n_mem: Interval  # training images with a copy
    n_patients_memorized: Interval
    p_beyond: float = float("nan")  # the chance of as many images beyond all held-out ones; nan: not known

    @property
    def is_undecided(self) -> bool:
        """No image is called a copy, but the set is nearer to the training images than chance explains."""
        return self.is_clean and is_beyond_chance(self.p_beyond)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scores:
    """The best scores behind the counts, for histograms: Pearson correlations, unless the study asks for another."""

    synthetic_to_train: np.ndarray  # float64 [S]
    heldout_to_train: np.ndarray  # float64 [H]
    synthetic_to_heldout: np.ndarray  # float64 [S]
    train_to_synthetic: np.ndarray  # float64 [N]
    is_copy: np.ndarray  # bool [S]
    train_to_heldout: np.ndarray | None = None  # float64 [N]; None: not kept
    n_nearest: float = float("nan")  # effective number of patients among the synthetic images' nearest real images


@dataclasses.dataclass(frozen=True, kw_only=True)
class Facts:
    """What a cell is made of, and what it cost."""

    data: str  # for people: "chest phantoms", or the name of the store that was given
    is_phantom: bool
    shape: Sequence[int]  # [*space, channels]
    n_train: int
    n_train_patients: int | None  # None: unknown
    n_heldout: int
    n_synthetic: int
    parameters: int  # of the generator; 0 where nothing was trained
    images_seen: int  # in training
    seconds: Mapping[str, float]  # by stage: data, train, sample, audit, quality
    is_sliced: bool = False  # pictures that were cut from volumes

    @property
    def epochs(self) -> float:
        """How often each training image was seen."""
        return self.images_seen / self.n_train


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One cell. `axes` has every axis of the grid, also those with one value."""

    cell: str  # its name: "generator=ddpm,n_train=64"
    axes: Mapping[str, Value]
    status: Status
    error: str = ""  # of a failed cell, or of a finished one whose scores of quality failed: one sentence
    facts: Facts | None = None  # None until the cell is done
    memorization: Memorization | None = None  # by the audit's own detector
    f_ratio: float = float("nan")  # share of synthetic images nearer than a third of the way to the second nearest
    detectors: Mapping[str, Memorization] = dataclasses.field(default_factory=dict)  # others, by name
    together: int | None = None  # images called copies by all detectors together; None with one
    scores: Scores | None = None
    growth: Sequence[Mapping[str, Any]] = ()  # of the audit's report.json: more samples, more patients
    quality: Quality | None = None
    report: str = ""  # the audit's page, relative to the study's folder
