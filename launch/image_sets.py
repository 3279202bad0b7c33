"""The flags that name three sets of images (training, synthetic, held-out), shared by launchers that compare them."""

from typing import TYPE_CHECKING

from absl import flags

from launch import boot

if TYPE_CHECKING:
    from memjax.audit.findings import Role
    from memjax.data.together import Input

_TRAIN = flags.DEFINE_string(
    "train", None, "The images the generator was trained on: a folder or an image store.", required=True
)
_SYNTHETIC = flags.DEFINE_string("synthetic", None, "The synthetic images.", required=True)
_HELDOUT = flags.DEFINE_string("heldout", None, "Real images of patients that the generator never saw.")
_SPLITS = {
    role: flags.DEFINE_string(f"{role}_split", "", f"Only the images of this split of --{role}.")
    for role in ("train", "synthetic", "heldout")
}


def given() -> "dict[Role, Input]":
    """Return the sets that were given, in the order of work."""
    from memjax.data.together import Input

    places: dict[Role, flags.FlagHolder[str | None]] = {"train": _TRAIN, "heldout": _HELDOUT, "synthetic": _SYNTHETIC}
    return {
        role: Input(boot.place(flag), _SPLITS[role].value) for role, flag in places.items() if flag.value is not None
    }
