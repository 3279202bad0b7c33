"""Phantoms as image stores."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from memjax.data.manifest import Manifest
from memjax.data.phantoms import Phantoms
from memjax.data.store import NewItem, Store, StoreWriter
from memjax.digest import array_digest


def write_phantoms(
    path: Path,
    drawn: Phantoms,
    *,
    images: np.ndarray | None = None,
    patients: Sequence[str] | None = None,
    split: str = "",
) -> Store:
    """Write drawn phantoms as a store, or other images of their form.

    Args:
      path: the store.
      drawn: what says which axes and channels these are.
      images: in place of the drawn ones, uint8 [n, *space, channels].
      patients: whose each is; default: as drawn. All "": nobody knows.
      split: of all of them.
    """
    images = drawn.images if images is None else images
    patients = drawn.patient if patients is None else patients
    slices = drawn.slice if len(drawn.slice) == len(images) else (None,) * len(images)
    settings = [array_digest(images), list(patients), split]
    with StoreWriter(path, shape=images.shape[1:], dtype="uint8", settings=settings) as writer:
        for i, (image, patient, z) in enumerate(zip(images, patients, slices, strict=True)):
            if str(i) in writer.done:
                continue
            source = f"{path.name}_{i:05d}"
            writer.add(str(i), [NewItem(image=image, source=source, patient=patient, slice=z, split=split)])
        return writer.finish(
            Manifest(
                axes=drawn.axes,
                channels=drawn.channels,
                label_channels=drawn.label_channels,
                spacing_mm=drawn.spacing_mm,
                patient_ids="format" if any(patients) else "none",
                source_format="phantom",
            )
        )
