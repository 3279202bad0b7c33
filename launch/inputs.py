"""The flags that say how raw files become images, and the look at places, shared by launchers that take folders."""

import math
from collections.abc import Mapping
from pathlib import Path

from absl import flags

from launch import boot
from memjax.data.formats import FORMATS
from memjax.data.preparation import PADS, RANGES, Preparation
from memjax.data.readers.base import PLANES, ReadOptions
from memjax.data.transforms import FITS
from memjax.errors import UserError

_FORMAT = flags.DEFINE_enum("format", "auto", list(FORMATS), "Format of the image files; auto: what they look like.")
_SIZE = flags.DEFINE_list(
    "size", [], "Spatial shape to give all images, for example 64,64 or 64,64,64; default: theirs."
)
_FIT = flags.DEFINE_enum(
    "fit",
    "auto",
    ["auto", *FITS],
    "How images get that shape: stretch (resample), crop (resample to fill, cut the rest), pad (resample to fit, "
    "fill up with the background), centre (cut or fill up without resampling); auto: stretch, volumes centre.",
)
_SPACING = flags.DEFINE_list(
    "spacing_mm", [], "Resample to this voxel spacing first (NIfTI, DICOM), for example 1,1,1."
)
_WINDOW = flags.DEFINE_list("window", [], "Raw values that stand for black and white, for example -1000,400 for CT.")
_PAD = flags.DEFINE_enum(
    "pad",
    "background",
    list(PADS),
    "What fills images up: their background, or the value half way between black and white (as published code did, "
    "which scaled before it cut and padded).",
)
_RANGE = flags.DEFINE_enum(
    "range",
    "auto",
    list(RANGES),
    "Whose least and largest values are black and white: each image's own, or the number type's; auto: the type's of "
    "8-bit images, else each image's own.",
)
_LAYOUT = flags.DEFINE_enum(
    "layout", "auto", ["auto", "images", "slices", "volumes"], "What one image is: a picture, a slice, or a volume."
)
_PLANE = flags.DEFINE_enum("plane", "axial", list(PLANES), "The plane of slices; for MRNet, which series.")
_COLOUR = flags.DEFINE_enum(
    "colour", "auto", ["auto", "grey", "rgb"], "Channels of pictures; auto: rgb if any is coloured."
)
_MASKS = flags.DEFINE_bool("with_masks", False, "Also read files whose names say that they are masks or labels.")
_ARRAY_AXIS = flags.DEFINE_enum(
    "array_axis", "auto", ["auto", "items", "space"], "Array files: what the first axis counts."
)
_BRIGHT = flags.DEFINE_float(
    "min_bright",
    0.15,
    "BraTS slices: keep a slice if more than this share is bright on T1.",
    lower_bound=0,
    upper_bound=1,
)
flags.register_validator("min_bright", math.isfinite, "must be a number.")
_REGEX = flags.DEFINE_string("patient_regex", "", "Finds the patient in a file's path: group `patient`, or the first.")
_CSV = flags.DEFINE_string("patient_csv", "", "Table with a file column and a patient column.")
_FROM = flags.DEFINE_enum(
    "patients_from",
    "auto",
    ["auto", "folder", "none"],
    "Where patient ids come from without a regex or table: the format or well-known file names, the folder, nowhere.",
)
_SKIP_BAD = flags.DEFINE_bool(
    "skip_bad", False, "Leave out files that cannot be used (and list them) instead of stopping."
)


def check_output(flag: flags.FlagHolder[str | None], inputs: Mapping[str, Path]) -> Path:
    """Return the path of the folder to write that a flag names, if one can be made there without harm.

    Args:
      flag: an output's.
      inputs: by flag name; what is written inside one of these would be read as an image the next time.
    """
    out = boot.place(flag)
    above = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not above.is_dir():
        raise UserError(f"--{flag.name}={out}: {above} is a file, not a folder; choose another place.")
    for name, given in inputs.items():
        if out.resolve().is_relative_to(given.resolve()):
            raise UserError(
                f"--{flag.name}={out} lies inside --{name}={given}, so what is written there would be read as images; "
                "choose a place outside."
            )
    return out


def preparation() -> Preparation:
    """Return the preparation that the flags ask for."""
    return Preparation(
        format=_FORMAT.value,
        read=ReadOptions(
            layout=_LAYOUT.value,
            plane=_PLANE.value,
            colour=_COLOUR.value,
            with_masks=_MASKS.value,
            array_axis=_ARRAY_AXIS.value,
            min_bright=_BRIGHT.value,
        ),
        size=_numbers(_SIZE, int, least=1),
        fit=None if _FIT.value == "auto" else _FIT.value,
        spacing_mm=_numbers(_SPACING, float, least=1e-6),
        window=_window(),
        pad=_PAD.value,
        range_of=_RANGE.value,
        patient_regex=_REGEX.value,
        patient_csv=str(Path(_CSV.value).expanduser()) if _CSV.value else "",
        patients_from=_FROM.value,
        skip_bad=_SKIP_BAD.value,
    )


def axes(flag: flags.FlagHolder[list[str]]) -> tuple[int, ...]:
    """Return the spatial axes that a flag names, none if it is not given."""
    return _numbers(flag, int, least=0) or ()


def _numbers(flag: flags.FlagHolder, kind: type, *, least: float) -> tuple | None:
    try:
        values = tuple(kind(text) for text in flag.value)
    except ValueError:
        values = (math.nan,)
    if not all(least <= value < math.inf for value in values):
        what = "whole numbers" if kind is int else "numbers"
        raise UserError(f"--{flag.name}={','.join(flag.value)} must be {what} from {least:g} on, separated by commas.")
    return values or None


def _window() -> tuple[float, float] | None:
    if not _WINDOW.value:
        return None
    try:
        low, high = (float(text) for text in _WINDOW.value)
    except ValueError:
        low, high = 0.0, 0.0
    if not -math.inf < low < high < math.inf:
        raise UserError(f"--window={','.join(_WINDOW.value)} must be two numbers, the smaller one first.")
    return low, high
