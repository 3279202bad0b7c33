"""Inputs for preparations, and preparations in one call."""

from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from launching import noise

from memjax.data.preparation import Preparation
from memjax.data.prepare import build, inspect
from memjax.data.readers.base import Reader
from memjax.data.store import Store


def prepared(root: Path, out: Path, *, workers: int = 2, **asked) -> Store:
    """Inspect and build; `asked` are the fields of `Preparation`."""
    how = Preparation(**asked)
    return build(inspect(root, how, workers=workers), out, how, workers=workers)


def volume(path: Path, array: np.ndarray, spacing: tuple[float, ...] = (1.0, 1.0, 1.0)) -> Path:
    """Write a NIfTI file whose axes are R, A, S."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.diag([*spacing, 1.0])), path)
    return path


def volumes(root: Path, names: Sequence[str], shape: tuple[int, ...] = (4, 5, 6)) -> Path:
    """Write NIfTI files of noise."""
    for seed, name in enumerate(names):
        volume(root / name, noise(1, seed, size=shape)[0])
    return root


def names_read(monkeypatch: pytest.MonkeyPatch, *readers: type[Reader]) -> list[str]:
    """Return a list that will hold the names of the units that these readers read from now on."""
    names = []
    for reader in readers:

        def counted(self, unit, read=reader.read):
            names.append(unit.name)
            return read(self, unit)

        monkeypatch.setattr(reader, "read", counted)
    return names
