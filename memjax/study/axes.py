"""The axes of a study: which vary, where a cell lies on one, and what its values are called."""

from collections.abc import Sequence
from typing import Literal

from memjax.audit.report.numerals import count
from memjax.study.row import Row, Value

SEED = "seed"  # cells that differ by it alone are repetitions
CONTROLS = ("training", "unseen", "noise")  # generators that were not trained: see `configs/studies/base.py`
_OF_FACTS = {  # axes whose place is known from what the cell is made of, also where the config says 0 or a name
    "n_train": "n_train",
    "model_size": "parameters",
    "images_seen": "images_seen",
    "samples": "n_synthetic",
}
NAMES = {
    "source": "images",
    "generator": "generator",
    "n_train": "training images",
    "thinning": "every so manieth slice",
    "duplicates": "times that duplicated images are in the training set",
    "deduplicate": "near-identical training images left out",
    "model_size": "parameters of the generator",
    "augmentation": "augmentation",
    "ada": "adaptive discriminator augmentation",
    "early_stop": "training stopped when the monitor sees copies",
    "images_seen": "images seen in training",
    "samples": "synthetic images drawn",
    "release": "copies taken out before release",
    "seed": "seed",
}
ALL = "all cells"  # what cells have in common in a study in which nothing else varies
_PLAIN = {"thinning": 1, "duplicates": 1, "augmentation": "none", "model_size": ""}
_SWITCHES = {
    "ada": ("with ADA", "without ADA"),
    "deduplicate": ("de-duplicated", "not de-duplicated"),
    "early_stop": ("stopped early", "not stopped early"),
    "release": ("after release filtering", "before release filtering"),
}
_BEFORE = {"thinning": "thinned by ", "duplicates": "duplicates × ", "model_size": "size ", "seed": "seed "}
_NOUNS = {"n_train": "training images", "images_seen": "images seen", "samples": "samples"}
LOGARITHMIC = ("n_train", "model_size", "images_seen", "samples", "duplicates", "thinning")
Kind = Literal["diffusion", "GAN", "control", "other"]


def varying(rows: Sequence[Row]) -> list[str]:
    """Return the axes on which the cells differ, in the order of the grid."""
    names = list(dict.fromkeys(name for row in rows for name in row.axes))
    return [name for name in names if len({row.axes.get(name) for row in rows}) > 1]


def kind(row: Row) -> Kind:
    """Return what kind of generator made a cell's images, by the name that the study gives it."""
    name = str(row.axes.get("generator", "")).lower()
    if name in CONTROLS:
        return "control"
    if "gan" in name:
        return "GAN"
    return "diffusion" if any(word in name for word in ("ddpm", "diffusion", "latent", "ldm")) else "other"


def place(row: Row, axis: str) -> float:
    """Return where a cell lies on an axis, as a number; nan for a value that is a word, or yes or no."""
    if axis in _OF_FACTS and row.facts is not None:
        return float(getattr(row.facts, _OF_FACTS[axis]))
    value = row.axes.get(axis, "")
    return float("nan") if isinstance(value, str | bool) else float(value)


def label(row: Row, axis: str) -> str:
    """Return a cell's value on an axis, for people."""
    value = row.axes.get(axis, "")
    if axis == "model_size" and row.facts is not None:
        return f"{value} ({parameters(row.facts.parameters)})" if value else parameters(row.facts.parameters)
    if axis in _OF_FACTS and row.facts is not None:
        return count(getattr(row.facts, _OF_FACTS[axis]))
    if axis in _NOUNS and value == 0:
        return "all" if axis == "n_train" else "the usual"
    return _said(value)


def parameters(number: int) -> str:
    """Print a number of parameters: `1.4 million`, `23 000`."""
    return f"{number / 1e6:.2g} million" if number >= 1e6 else count(round(number, -3) or number)


def _said(value: Value | None) -> str:
    """Print the value of an axis."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return count(value)
    return str(value)


def described(row: Row, axes: Sequence[str]) -> str:
    """Say where a cell lies on these axes: `ddpm, 64 training images, stopped early`.

    Among several axes, those on which nothing was done (no augmentation, no duplicates) go without saying.
    """
    parts = [_described(row, axis, is_alone=len(axes) == 1) for axis in axes]
    return ", ".join(part for part in parts if part) or ("plain" if axes else ALL)


def _described(row: Row, axis: str, *, is_alone: bool) -> str:
    value, text = row.axes.get(axis, ""), label(row, axis)
    if isinstance(value, bool):
        with_, without = _SWITCHES.get(axis, (f"{axis}: yes", f"{axis}: no"))
        return with_ if value else without if is_alone else ""
    if value == _PLAIN.get(axis) and not is_alone:
        return ""
    if axis == "augmentation":
        return "no augmentation" if value == "none" else f"augmentation {text}"
    if axis in _NOUNS:
        return f"{text} {_NOUNS[axis]}"
    return f"{_BEFORE[axis]}{text}" if axis in _BEFORE else text
