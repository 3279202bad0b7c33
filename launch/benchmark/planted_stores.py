"""The trial's images as image stores, so that any network, whoever trained it, can embed them and take part."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from launch.benchmark.trial import Trial
from memjax.errors import UserError

if TYPE_CHECKING:
    from memjax.data.manifest import Manifest
    from memjax.data.store import Store


def keep(asked: Trial, folder: Path, manifest: "Manifest") -> "dict[str, Store]":
    """Write the trial's images into FOLDER/train, FOLDER/synthetic and FOLDER/heldout, if they are not there.

    `synthetic` holds the planted copies and the controls that no patient made, `heldout` the unseen patients; in this
    order they are the trial's queries.

    Args:
      asked: the trial.
      folder: is made.
      manifest: of the store that the images come from.

    Returns:
      The three stores by role.

    Raises:
      UserError: there are other images in the folder.
    """
    made = len(asked.query) - asked.n_unseen
    gallery, reference, control = asked.parties.gallery, asked.parties.reference, asked.parties.control
    return {
        "train": _store(folder / "train", manifest, gallery.images, gallery.source, gallery.patient),
        "synthetic": _store(folder / "synthetic", manifest, asked.query[:made], asked.source[:made], None),
        "heldout": _store(
            folder / "heldout",
            manifest,
            asked.query[made:],
            asked.source[made:],
            np.concatenate([reference.patient, control.patient]),
        ),
    }


def _store(
    path: Path, manifest: "Manifest", images: np.ndarray, source: Sequence[str], patient: np.ndarray | None
) -> "Store":
    from memjax.data.store import NewItem, Store, StoreWriter
    from memjax.digest import array_digest

    digests = [array_digest(image) for image in images]
    if path.exists():
        store = Store.open(path)
        if [(item.source, item.sha256) for item in store.items] != list(zip(source, digests, strict=True)):
            raise UserError(
                f"--stores: {path} holds images of another trial; choose another folder, or the --data, --heldout, "
                "--copies, --seed and --descriptor of before."
            )
        return store
    owners = patient.tolist() if patient is not None and manifest.has_patients else [""] * len(images)
    with StoreWriter(path, shape=images.shape[1:], dtype="uint8", settings=digests) as writer:
        for i, image in enumerate(images):
            item = NewItem(
                image=image, source=source[i], patient=owners[i], sha256=digests[i], value_range=(0.0, 255.0)
            )
            if source[i] not in writer.done:
                writer.add(source[i], [item])
        return writer.finish(planted_manifest(manifest, has_patients=any(owners)))


def planted_manifest(manifest: "Manifest", *, has_patients: bool) -> "Manifest":
    """Return what is said of images that were made from those of a store, as bytes."""
    return dataclasses.replace(
        manifest,
        patient_ids=manifest.patient_ids if has_patients else "none",
        source_format="planted",
        preparation={},
        left_out=(),
        notes=(),
    )
