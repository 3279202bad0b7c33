"""Procedural phantoms: images that stand for patients where no real ones may be had.

Every image is a function of (seed, kind, patient, image number) alone: not of the batch, the order or the count it is
drawn in. Held-out patients are simply other patient numbers. An anatomy has one field of view; the size says how finely
it is sampled, so that a patient is the same person at every size.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from memjax.data.phantoms import brain, chest, knee, vessel
from memjax.data.phantoms.anatomy import Anatomy, Size
from memjax.errors import UserError

KINDS = ("brain", "brain_slices", "chest", "vessel", "knee")

# The order is part of the seed: new anatomies go to the end.
_ANATOMIES: dict[str, Anatomy] = {
    "brain": brain.ANATOMY,
    "chest": chest.ANATOMY,
    "vessel": vessel.ANATOMY,
    "knee": knee.ANATOMY,
}
_SMALLEST = 8  # fewer voxels along an axis show no anatomy
_PERSON, _VISIT = 0, 1  # the two random streams of an image


@dataclasses.dataclass(frozen=True, kw_only=True)
class Phantoms:
    """Images with what an image store wants to know of them; `patient` and `slice` have one entry an image.

    `patient` names the person, the same in every draw of the same seed; `slice` is the index along S for
    `brain_slices`, None otherwise. Axes are as in `memjax.data.manifest.Manifest`.
    """

    images: np.ndarray  # uint8 [n, *space, channels]
    patient: tuple[str, ...]
    slice: tuple[int | None, ...]
    axes: tuple[str, ...]
    channels: tuple[str, ...]
    label_channels: tuple[int, ...]
    spacing_mm: tuple[float, ...]


def draw(
    kind: str, patients: Sequence[int], *, seed: int = 0, size: tuple[int, ...] | None = None, per_patient: int = 1
) -> Phantoms:
    """Draw `per_patient` images of each patient, in the order given.

    Further images of a patient are further visits: the same anatomy in another position, breath and exposure.

    Args:
      kind: one of `KINDS`. `brain_slices` are the axial slices of `brain`, those with enough brain.
      patients: patient numbers, 0 or more.
      seed: the population; other seeds are other people.
      size: voxels along each spatial axis, None for the anatomy's own. For `brain_slices` the size of a slice, or of
        the whole volume.
      per_patient: images (for `brain_slices`: volumes to slice) of each patient.

    Raises:
      UserError: an unknown kind, a size that does not fit it, or a negative number.
    """
    if kind not in KINDS:
        raise UserError(f"there is no phantom {kind!r}; choose one of {', '.join(KINDS)}.")
    if seed < 0 or per_patient < 1 or any(patient < 0 for patient in patients):
        raise UserError(
            f"phantoms want seed >= 0 and patients >= 0 and per_patient >= 1; got seed={seed}, {patients=}."
        )
    name = "brain" if kind == "brain_slices" else kind
    anatomy = _ANATOMIES[name]
    size = _full_size(kind, anatomy, size)
    visits = _visits(name, patients, seed, size, per_patient)
    if kind == "brain_slices":
        return _slices(visits, anatomy, size)
    drawn = list(visits)
    return Phantoms(
        images=_stack([image for _, image in drawn], (*size, len(anatomy.channels))),
        patient=tuple(patient for patient, _ in drawn),
        slice=(None,) * len(drawn),
        axes=anatomy.axes,
        channels=anatomy.channels,
        label_channels=anatomy.label_channels,
        spacing_mm=anatomy.spacing_mm(size),
    )


def _visits(
    name: str, patients: Sequence[int], seed: int, size: Size, per_patient: int
) -> Iterator[tuple[str, np.ndarray]]:
    """Draw image after image, with the patient's name."""
    kind = tuple(_ANATOMIES).index(name)
    for patient in patients:
        for number in range(per_patient):
            person = _generator(seed, kind, int(patient), _PERSON)
            visit = _generator(seed, kind, int(patient), _VISIT, number)
            yield f"{name}-{seed}-{patient:05d}", _ANATOMIES[name].scan(person, visit, size)


def _generator(seed: int, *path: int) -> np.random.Generator:
    """Return the generator at a path of numbers below a seed, independent of all other paths."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=path))


def _slices(visits: Iterator[tuple[str, np.ndarray]], anatomy: Anatomy, size: Size) -> Phantoms:
    """Cut volumes into the axial slices with enough brain."""
    images, patients, heights = [], [], []
    for patient, volume in visits:
        for z in brain.slices_with_brain(volume):
            images.append(volume[:, :, z])
            patients.append(patient)
            heights.append(int(z))
    return Phantoms(
        images=_stack(images, (*size[:2], len(anatomy.channels))),
        patient=tuple(patients),
        slice=tuple(heights),
        axes=anatomy.axes[:2],
        channels=anatomy.channels,
        label_channels=anatomy.label_channels,
        spacing_mm=anatomy.spacing_mm(size)[:2],
    )


def _stack(images: Sequence[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    return np.stack(images) if images else np.empty((0, *shape), np.uint8)


def _full_size(kind: str, anatomy: Anatomy, size: tuple[int, ...] | None) -> Size:
    """Return a size for every axis, checked."""
    if size is None:
        return anatomy.size
    if kind == "brain_slices" and len(size) == 2:
        size = (*size, anatomy.size[2])
    if len(size) != len(anatomy.size) or min(size) < _SMALLEST:
        raise UserError(f"{kind} phantoms want {len(anatomy.size)} sizes of at least {_SMALLEST}; got {size}.")
    return tuple(size)
