"""Phantoms as image stores."""

from pathlib import Path

from memjax.data.manifest import Manifest
from memjax.data.phantoms import Phantoms
from memjax.data.store import NewItem, Store, StoreWriter
from memjax.digest import array_digest


def write_phantoms(path: Path, drawn: Phantoms, *, split: str = "") -> Store:
    """Write drawn phantoms as a store, all of them in this split; an interrupted call, repeated, goes on."""
    settings = [array_digest(drawn.images), list(drawn.patient), split]
    rows = zip(drawn.images, drawn.patient, drawn.slice, strict=True)
    with StoreWriter(path, shape=drawn.images.shape[1:], dtype="uint8", settings=settings) as writer:
        for i, (image, patient, z) in enumerate(rows):
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
                patient_ids="format",
                source_format="phantom",
            )
        )
