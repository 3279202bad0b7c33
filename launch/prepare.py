"""Turn raw image files into an image store.

    python -m launch.prepare --input=DIR --out=STORE [--format=auto] [--size=64,64] [--patient_regex=...]
    python -m launch.prepare --input=DIR --out=STORE --centres=points.csv --size=64    (cubes around points)

Reads BraTS folders, NIfTI, DICOM, PNG/JPEG/TIFF, npy/npz, MRNet, and image stores (to resize or split them again). The
same command continues after an interruption.
"""

import dataclasses
from pathlib import Path

from absl import flags

from launch import boot, inputs
from memjax.data.centres import CENTRES_IN
from memjax.errors import UserError

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
_SEED = flags.DEFINE_integer("seed", 0, "Of the permutation of patients.")


def main() -> None:
    """Prepare one store."""
    from memjax.data.prepare import build, inspect

    given = boot.place(_INPUT)
    if (out := boot.place(_OUT)).exists():
        raise UserError(f"--out={out} exists already; remove it or choose another folder.")
    inputs.check_output(_OUT, {"input": given})
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
    store = build(inspect(given, how, workers=boot.workers()), out, how, workers=boot.workers())
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


if __name__ == "__main__":
    boot.run(main)
