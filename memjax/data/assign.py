"""Whose each image is, and on which side of the split: decided over a whole set, always for whole patients."""

import dataclasses
from collections.abc import Sequence, Set

from memjax.data.manifest import Item, torn_patients
from memjax.data.preparation import Preparation
from memjax.data.readers.base import Unit
from memjax.data.split import first_and_last, last_patients
from memjax.errors import UserError


def chosen_patients(units: Sequence[Unit], how: Preparation) -> tuple[Sequence[Unit], Set[str] | None]:
    """Keep the units of the first `how.n_patients` patients of the seed's permutation, and of those to be held out.

    Also return the first ones; None where all patients are wanted.

    Raises:
      UserError: there are fewer patients, or who is in a unit is not known before it is read.
    """
    if not how.n_patients:
        return units, None
    if any(unit.rows for unit in units):
        raise UserError("--patients needs one file or folder a patient; array files and stores are prepared whole.")
    rule = how.patient_rule().fit([unit.name for unit in units], [unit.patient for unit in units])
    patients = [rule.patient(unit.name, unit.patient) or unit.name for unit in units]
    train, heldout = first_and_last(patients, how.n_patients, how.heldout_patients, how.seed)
    return [unit for unit, patient in zip(units, patients, strict=True) if patient in train | heldout], train


def with_patients(items: Sequence[Item], how: Preparation, earlier: str) -> tuple[list[Item], str]:
    """Give every item its patient, and say where the ids come from; `earlier`: how a store came by its own, else ""."""
    rule = how.patient_rule().fit([item.source for item in items], [item.patient for item in items])
    named = [dataclasses.replace(item, patient=rule.patient(item.source, item.patient)) for item in items]
    return named, earlier if rule.kind == "format" and earlier else rule.kind


def with_splits(
    items: Sequence[Item], how: Preparation, train_patients: Set[str] | None
) -> tuple[Sequence[Item], tuple[str, ...]]:
    """Assign splits by patient; the source's own splits are kept only if they are, too. Also return notes.

    `train_patients` are those whom `chosen_patients` chose to train on, None if it took all.

    Raises:
      UserError: too few patients to hold any out.
    """
    if how.heldout_patients:
        return _held_out(items, how, train_patients)
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


def _held_out(
    items: Sequence[Item], how: Preparation, train_patients: Set[str] | None
) -> tuple[Sequence[Item], tuple[str, ...]]:
    patients = [item.patient or _file(item) for item in items]
    if train_patients is None:
        away = last_patients(patients, how.heldout_patients, how.seed)
    else:
        away = set(patients) - train_patients
    splits = ["heldout" if patient in away else "train" for patient in patients]
    unknown = sum(not item.patient for item in items)
    notes = (
        f"the patients of {unknown} images are unknown: each of their files counts as a patient of its own, so one "
        "person may be both in training and held out",
    )
    divided = [dataclasses.replace(item, split=split) for item, split in zip(items, splits, strict=True)]
    return divided, notes if unknown else ()


def _file(item: Item) -> str:
    """Return what stands for a patient whom nobody knows: the item's source, of a slice that of its volume."""
    for mark in ("#", "/"):
        if item.slice is not None and item.source.endswith(f"{mark}{item.slice}"):
            return item.source.removesuffix(f"{mark}{item.slice}")
    return item.source
