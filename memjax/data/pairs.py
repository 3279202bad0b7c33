"""An image and a view of its patient: what a descriptor learns to call alike."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Int

from memjax.data.store import Store
from memjax.data.views import Views
from memjax.errors import UserError

PAIRS = ("image", "patient")


@dataclass(frozen=True, eq=False)
class Pairs:
    """The second images of pairs.

    Args:
      store: the images.
      ids: of those that may be paired.
      views: how the second differs from what it is a view of.
      pair: which that is: "image", the first itself; "patient", another image of the same patient among `ids`, equally
        likely, or the first itself where there is none.
    """

    store: Store
    ids: Int[np.ndarray, "n"]
    views: Views
    pair: str = "image"

    def check(self) -> None:
        """Raise `UserError` unless there is something to learn: pairs that differ, of more than one patient."""
        path, manifest = self.store.path, self.store.manifest
        if self.pair not in PAIRS:
            raise UserError(f"config.pair={self.pair!r} is not known; give {' or '.join(PAIRS)}.")
        if manifest.latent:
            raise UserError(f"{path} holds latents, views are of images; give the store that the latents were made of.")
        self.views.check(manifest.shape[:-1])
        several = self.pair == "patient" and any(len(ids) > 1 for ids in self._of_patient.values())
        if not self.views.invariant_to and not several:
            also = f", and no patient in {path} has two images" if self.pair == "patient" else ""
            raise UserError(
                f"config.views varies nothing{also}, so there are no pairs to learn from; set views.enabled to True "
                "and give one of flip_axes, turn_p, rotate_degrees, elastic, shift, blur, contrast, noise, or "
                "pair=patient with several images of a patient."
            )
        unknown = sum(not self.store.items[i].patient for i in self.ids.tolist())
        if len(self._of_patient) + unknown < 2:
            raise UserError(
                f"all {len(self.ids)} images to train on of {path} are of one patient; a descriptor learns to tell "
                "patients apart and needs images of at least 2."
            )

    def of(self, ids: Int[np.ndarray, "b"], rngs: Sequence[np.random.Generator]) -> dict[str, np.ndarray]:
        """Return the second images of these: `view` float32 [b, *space, c], and `patient` int32 [b], -1: unknown.

        Args:
          ids: of the first images.
          rngs: what draws each of the second.
        """
        chosen = ids
        if self.pair == "patient":
            chosen = np.array([self._other(int(id_), rng) for id_, rng in zip(ids, rngs, strict=True)], np.int64)
        views = self.store.unit_range(chosen)
        for view, rng in zip(views, rngs, strict=True):
            view[...] = self.views(view, rng, self.store.manifest.label_channels)
        return {"view": views, "patient": self._number[ids]}

    def _other(self, id_: int, rng: np.random.Generator) -> int:
        others = [i for i in self._of_patient.get(self.store.items[id_].patient, ()) if i != id_]
        return others[int(rng.integers(len(others)))] if others else id_

    @cached_property
    def _of_patient(self) -> dict[str, list[int]]:
        """The ids of each known patient, among those that may be paired."""
        found: dict[str, list[int]] = {}
        for id_ in self.ids.tolist():
            if patient := self.store.items[id_].patient:
                found.setdefault(patient, []).append(id_)
        return found

    @cached_property
    def _number(self) -> Int[np.ndarray, "all"]:
        """Each item's patient, counted in alphabetical order over the whole store: int32; -1 where it is unknown."""
        places = {name: place for place, name in enumerate(sorted({item.patient for item in self.store.items} - {""}))}
        return np.array([places.get(item.patient, -1) for item in self.store.items], np.int32)
