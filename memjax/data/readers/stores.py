"""Read an image store again: to resize it, or to take one split of it."""

from pathlib import Path

import numpy as np

from memjax.data.readers.base import BadFile, Image, ReadOptions, Scan, Spec, Unit
from memjax.data.store import Store
from memjax.digest import array_digest

_RUN_BYTES = 32 << 20


class Stores:
    """The reader of image stores; units are runs of rows."""

    def __init__(self, root: Path, options: ReadOptions):
        self._store = Store.open(root)

    @property
    def patient_ids(self) -> str:
        """How the store came by its patient ids, "none" if it has none."""
        return self._store.manifest.patient_ids

    def scan(self) -> Scan:
        """List the runs of rows."""
        size = int(np.prod(self._store.manifest.shape)) * self._store.images.dtype.itemsize
        rows = max(1, _RUN_BYTES // size)
        files = (self._store.path / "images.npy", self._store.path / "items.csv")
        starts = range(0, len(self._store), rows)
        return Scan(
            units=[
                Unit(name=f"images.npy[{a}:{min(a + rows, len(self._store))}]", files=files, rows=(a, a + rows))
                for a in starts
            ]
        )

    def probe(self, unit: Unit) -> Spec:
        """Tell the shape from the manifest."""
        manifest = self._store.manifest
        return Spec(
            space=manifest.shape[:-1],
            channels=manifest.channels,
            dtype=np.dtype(manifest.dtype),
            axes=manifest.axes,
            spacing_mm=manifest.spacing_mm,
            label_channels=manifest.label_channels,
            count=len(self._items(unit)),
        )

    def read(self, unit: Unit) -> list[Image]:
        """Read the rows, each checked against its digest; sources stay those of the first preparation."""
        assert unit.rows is not None
        images = []
        for item, image in zip(self._items(unit), self._store.block(*unit.rows), strict=True):
            if array_digest(image) != item.sha256:
                raise BadFile(f"image {item.id} ({item.source!r}) is not the one that was prepared")
            images.append(
                Image(
                    image=image,
                    source=item.source,
                    slice=item.slice,
                    patient=item.patient,
                    split=item.split,
                    label=item.label,
                    value_range=(item.low, item.high),
                )
            )
        return images

    def _items(self, unit: Unit):
        assert unit.rows is not None
        return self._store.items[slice(*unit.rows)]
