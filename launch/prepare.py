"""Turn raw image files into an image store.

    python -m launch.prepare --input=DIR --out=STORE [--format=auto] [--size=64,64] [--patient_regex=...]
    python -m launch.prepare --input=DIR --out=STORE --centres=points.csv --size=64    (cubes around points)
    python -m launch.prepare --input=STORE --out=STORE --latents=RUN    (of a trained autoencoder)

Reads BraTS folders, NIfTI, DICOM, PNG/JPEG/TIFF, npy/npz, MRNet, and image stores (to resize or split them again). The
same command continues after an interruption.
"""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from launch import boot, inputs, latents
from memjax.data.centres import CENTRES_IN
from memjax.errors import UserError

if TYPE_CHECKING:
    from memjax.data.store import Store

_INPUT = flags.DEFINE_string("input", None, "Folder or file with the images.", required=True)
_OUT = flags.DEFINE_string("out", None, "The store to write.", required=True)
_PATIENTS = flags.DEFINE_integer(
    "patients",
    0,
    "Only so many patients to train on; smaller sets are contained in larger ones. 0: all.",
    lower_bound=0,
)
_HELDOUT = flags.DEFINE_float(
    "heldout_patients", 0.0, "Patients to hold out: a number, or a share of all below 1.", lower_bound=0
)
flags.register_validator(
    "heldout_patients", lambda count: count < 1 or count.is_integer(), "must be a whole number, or a share below 1."
)
_SPLIT = flags.DEFINE_enum("split", "keep", ["keep", "none"], "Whether to keep the source's own splits.")
_TAKE = flags.DEFINE_string("take_split", "", "Only the images of this split of the source, for example train.")
_CENTRES = flags.DEFINE_string(
    "centres",
    "",
    "Table of points in volumes (columns file, i, j, k, and label if any): cut the sub-volume of --size around each.",
)
_CENTRES_IN = flags.DEFINE_enum(
    "centres_in",
    "voxel",
    list(CENTRES_IN),
    "What the points' numbers are: voxels of the file as it is stored, from 0, or mm in RAS (columns x, y, z).",
)
_SEED = flags.DEFINE_integer("seed", 0, "Of the permutation of patients, and of --views.")

_LATENTS = flags.DEFINE_string("latents", None, "Encode the images of a store with the autoencoder of this run.")
_STEP = flags.DEFINE_integer("step", None, "--latents: weights after how many steps; default: the newest.")
_SCALE = flags.DEFINE_enum(
    "scale",
    None,
    ["codebook", "std"],
    "--latents: what -1 and +1 stand for: the codebook's smallest and largest number, or minus and plus the standard "
    "deviation; default: codebook, where there is one.",
)
_VIEWS = flags.DEFINE_integer("views", None, "--latents: encode each training image so often, each time varied anew.")
_FLIP_AXES = flags.DEFINE_list("flip_axes", [], "--views: spatial axes to mirror, each by chance, for example 0,2.")
_ROTATE = flags.DEFINE_float("rotate_degrees", 0.0, "--views: rotate every second one by up to so many degrees.")
_ROTATE_PLANE = flags.DEFINE_list("rotate_plane", [], "--views: two spatial axes to rotate in; default: any two.")
_BATCH = flags.DEFINE_integer("batch_size", None, "--latents: images at a time, over all devices; default: 8.")
_DEVICES = flags.DEFINE_integer("devices", None, "--latents: how many devices to use; default: all.", lower_bound=1)

_OF_LATENTS = ("step", "scale", "views", "flip_axes", "rotate_degrees", "rotate_plane", "batch_size", "devices")
_OF_BOTH = ("input", "out", "latents", "seed")


def main() -> None:
    """Prepare one store."""
    given = boot.place(_INPUT)
    if (out := boot.place(_OUT)).exists():
        raise UserError(f"--out={out} exists already; remove it or choose another folder.")
    inputs.check_output(_OUT, {"input": given})
    store = _latents(given, out) if _LATENTS.value else _images(given, out)
    manifest = store.manifest
    patients = len({item.patient for item in store.items if item.patient})
    boot.say(
        f"{out}: {manifest.n} images of {' x '.join(map(str, manifest.shape[:-1]))} x {manifest.shape[-1]} channel(s), "
        f"{manifest.dtype}, " + (f"{patients} patients" if manifest.has_patients else "patients unknown")
    )
    for note in manifest.notes:
        boot.say(f"note: {note}")
    if manifest.left_out:
        first = manifest.left_out[0]
        boot.say(
            f"left out {len(manifest.left_out)} files, all listed in manifest.json; the first: "
            f"{first['source']}: {first['reason']}"
        )


def _images(given: Path, out: Path) -> "Store":
    from memjax.data.prepare import build, inspect

    if strange := [name for name in _OF_LATENTS if flags.FLAGS[name].present]:
        raise UserError(f"--{strange[0]} is for latents; give --latents=RUN as well, or leave it away.")
    how = dataclasses.replace(
        inputs.preparation(),
        n_patients=_PATIENTS.value,
        heldout_patients=_HELDOUT.value,
        keep_splits=_SPLIT.value == "keep",
        take_split=_TAKE.value,
        seed=_SEED.value,
        centres=str(Path(_CENTRES.value).expanduser()) if _CENTRES.value else "",
        centres_in=_CENTRES_IN.value,
    )
    return build(inspect(given, how, workers=boot.workers()), out, how, workers=boot.workers())


def _latents(given: Path, out: Path) -> "Store":
    from memjax.build import build
    from memjax.data.augment import Augmentation

    own = {*_OF_BOTH, *_OF_LATENTS}
    of_images = {flag.name for flag in flags.FLAGS.get_flags_for_module(inputs.__name__)} | {
        "patients", "heldout_patients", "split", "take_split", "centres", "centres_in",
    }  # fmt: skip
    if strange := sorted(name for name in of_images - own if flags.FLAGS[name].present):
        raise UserError(f"--{strange[0]} is for images, not with --latents; prepare the store of images with it.")
    varied = {
        "flip_axes": inputs.axes(_FLIP_AXES),
        "rotate_degrees": _ROTATE.value,
        "rotate_plane": inputs.axes(_ROTATE_PLANE) or None,
    }
    is_varied = bool(varied["flip_axes"] or varied["rotate_degrees"])
    if is_varied != (_VIEWS.value is not None):
        raise UserError(
            "--views=N goes with what they are varied by: give --flip_axes, --rotate_degrees or both, or neither."
        )
    boot.keep_freed_memory()
    return latents.encode_store(
        given,
        boot.place(_LATENTS),
        out,
        step=_STEP.value,
        scale=_SCALE.value,
        views=1 if _VIEWS.value is None else _VIEWS.value,
        augmentation=build(Augmentation, varied, "augment") if is_varied else None,
        seed=_SEED.value,
        batch_size=_BATCH.value or 8,
        n_devices=_DEVICES.value,
    )


if __name__ == "__main__":
    boot.run(main)
