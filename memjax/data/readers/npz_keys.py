"""Which arrays of an .npz file are images, and which tell the images' patients, slices, labels and splits.

Known are MedMNIST's names (`train_images`, `train_labels`, …) and plain ones (`images`, `patient`, …). Arrays of
equal length belong together.
"""

from collections.abc import Mapping

from memjax.data.readers.array_files import ArrayHeader
from memjax.data.readers.base import BadFile
from memjax.data.readers.files import MASK_REASON, looks_like_mask
from memjax.data.readers.folders import split_word

_IMAGES = ("images", "slices", "volumes", "samples", "x", "data", "arr_0")
COMPANIONS = {
    "patient": ("patient", "patients", "patient_id", "patient_ids", "subject", "subjects", "subject_id"),
    "slice": ("slice", "z"),
    "label": ("label", "labels"),
    "split": ("split",),
}


def key_split(key: str) -> str:
    """Return the split that a name like `val_images` begins with; else ""."""
    return split_word(key.partition("_")[0])


def image_keys(headers: Mapping[str, ArrayHeader], *, with_masks: bool) -> list[str]:
    """Return the names of the image arrays, in the file's order.

    Raises:
      BadFile: none is an image array by its name, and not exactly one has three axes or more.
    """
    arrays = [key for key, header in headers.items() if len(header.shape) >= 2 or header.dtype.hasobject]
    named = [key for key in arrays if _bare(key) in _IMAGES or (with_masks and looks_like_mask(key))]
    if not named:
        named = [key for key in arrays if len(headers[key].shape) >= 3 and not looks_like_mask(key)]
        if len(named) != 1:
            found = ", ".join(f"{key} {list(header.shape)}" for key, header in headers.items()) or "nothing"
            raise BadFile(f"does not say which of its arrays are images: call one `images` (it holds {found})")
    return named


def passed_over(headers: Mapping[str, ArrayHeader], images: list[str]) -> dict[str, str]:
    """Return why each array that could be images is not among `images`."""
    return {
        key: MASK_REASON if looks_like_mask(key) else "its name is no image's"
        for key, header in headers.items()
        if len(header.shape) >= 3 and key not in images
    }


def companion(headers: Mapping[str, ArrayHeader], images: str, about: str) -> str | None:
    """Return the name of the array that tells `about` ("patient", "slice", "label", "split") each of these images."""
    length = headers[images].shape[0]
    prefix = images.partition("_")[0] + "_" if key_split(images) else ""
    lower = {key.lower(): key for key in headers}
    for name in [prefix + word for word in COMPANIONS[about]] + list(COMPANIONS[about]):
        key = lower.get(name)
        if key is not None and key != images and _fits(headers[key], length):
            return key
    return None


def _fits(header: ArrayHeader, length: int) -> bool:
    """Say whether there is one value, or one short row of values (MedMNIST's labels), for each image."""
    return len(header.shape) in (1, 2) and header.shape[0] == length


def _bare(key: str) -> str:
    return (key.partition("_")[2] if key_split(key) else key).lower()
