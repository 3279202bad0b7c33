"""Who plays which part in the detectors' trial: three groups of patients that share nobody.

The *gallery* is what a generator would have been trained on; copies are planted of its images. The *reference* are
unseen patients that tell how alike strangers are, and set every threshold. The *control* are unseen patients, too: how
many of them a threshold calls is measured on them, not on those that set it.
"""

import dataclasses
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np

from memjax.errors import UserError

if TYPE_CHECKING:
    from memjax.data.manifest import Item
    from memjax.data.store import Store

LEAST = 10  # patients in each group


@dataclasses.dataclass(frozen=True, kw_only=True)
class Side:
    """Images of one group: bytes [n, *space, channels], whose they are [n], and where in which store [n]."""

    images: np.ndarray
    patient: np.ndarray  # str [n]; an image of unknown owner is a patient of its own
    source: Sequence[str]
    sha256: np.ndarray  # str [n]

    def __len__(self) -> int:
        return len(self.images)

    @property
    def n_patients(self) -> int:
        """How many different patients."""
        return len(np.unique(self.patient))

    def take(self, places: np.ndarray) -> "Side":
        """Return the images at these places."""
        return Side(
            images=self.images[places],
            patient=self.patient[places],
            source=[self.source[int(place)] for place in places],
            sha256=self.sha256[places],
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parties:
    """The three groups, and how many images nobody could use: without contrast, or of the gallery byte for byte."""

    gallery: Side
    reference: Side
    control: Side
    left_out: dict[str, int]


def divide(data: "Store", heldout: "Store | float", *, trained_on: Collection[str] = frozenset(), seed: int) -> Parties:
    """Divide patients into the three groups.

    Args:
      data: the images.
      heldout: unseen patients, half of them reference and half control; or which share of the patients of `data`
        (above 0, below 1) are to be those.
      trained_on: patients that a learned descriptor has seen, who take no part.
      seed: of the division.

    Raises:
      UserError: a group would have fewer than `LEAST` patients, or the stores do not go together.
    """
    _check(data, heldout)
    owners = _owners(data.items)
    order = [owner for owner in _in_order(owners, seed) if owner not in trained_on]
    if isinstance(heldout, float | int):
        unseen, unseen_owners, unseen_order = data, owners, order[len(order) - round(heldout * len(order)) :]
        order = order[: len(order) - len(unseen_order)]
    else:
        unseen, unseen_owners = heldout, _owners(heldout.items)
        unseen_order = [owner for owner in _in_order(unseen_owners, seed) if owner not in trained_on]
        if both := sorted(set(order) & set(unseen_order)) if _are_known(data, heldout) else []:
            raise UserError(
                f"{len(both)} patients are in both --data and --heldout (the first: {both[0]!r}), so they are not "
                "unseen; leave them out of one of the two."
            )
    half = len(unseen_order) // 2
    groups = (order, unseen_order[:half], unseen_order[half:])
    if min(len(group) for group in groups) < LEAST:
        raise UserError(_too_few(data, heldout, groups, len(set(owners) & set(trained_on))))
    return _without_useless(
        _side(data, owners, groups[0]),
        _side(unseen, unseen_owners, groups[1]),
        _side(unseen, unseen_owners, groups[2]),
    )


def sources(patient: np.ndarray, n: int, *, seed: int) -> np.ndarray:
    """Choose n images to copy, as many patients as possible: int64 [n] (or as many as there are), ascending.

    In rounds: of every patient one image, then of every patient another.
    """
    order = np.random.default_rng([seed, 0]).permutation(len(patient))
    _, number = np.unique(patient[order], return_inverse=True)
    nth = np.zeros(len(order), int)
    seen = np.zeros(number.max() + 1, int)
    for place, owner in enumerate(number):
        nth[place] = seen[owner]
        seen[owner] += 1
    return np.sort(order[np.argsort(nth, kind="stable")][:n])


def one_each(patient: np.ndarray, *, seed: int) -> np.ndarray:
    """Choose one image of every patient: int64 [patients], ascending."""
    return sources(patient, len(np.unique(patient)), seed=seed)


def _check(data: "Store", heldout: "Store | float") -> None:
    stores = [data] if isinstance(heldout, float | int) else [data, heldout]
    for store in stores:
        if store.manifest.latent:
            raise UserError(f"{store.path} holds latents; give the store of the images that they are of.")
    if len({store.manifest.shape for store in stores}) > 1:
        first, second = (" x ".join(map(str, store.manifest.shape)) for store in stores)
        raise UserError(f"--data has images of {first}, --heldout of {second}; prepare both with the same --size.")


def _are_known(*stores: "Store") -> bool:
    return all(store.manifest.has_patients for store in stores)


def _owners(items: "Sequence[Item]") -> np.ndarray:
    return np.array([item.patient or f"image {item.id}" for item in items])


def _in_order(owners: np.ndarray, seed: int) -> list[str]:
    from memjax.data.split import permutation

    return permutation(owners.tolist(), seed)


def _too_few(data: "Store", heldout: "Store | float", groups: Sequence[Sequence[str]], n_seen: int) -> str:
    gallery, reference, control = (len(group) for group in groups)
    told = (
        f"there are {gallery} patients to plant copies of, {reference} for reference and {control} for control"
        f"{f' ({n_seen} that a descriptor was trained on left out)' if n_seen else ''}; each needs at least {LEAST}: "
    )
    if not isinstance(heldout, float | int):
        return told + f"give --data with {LEAST} patients or more and --heldout with {2 * LEAST} or more."
    needed = int(np.ceil(max(LEAST / (1 - heldout), 2 * LEAST / heldout)))
    return f"{data.path}: {told}with --heldout={heldout:g} that takes {needed} patients or more."


def _side(store: "Store", owners: np.ndarray, group: Sequence[str]) -> Side:
    ids = np.flatnonzero(np.isin(owners, group))
    return Side(
        images=_bytes_of(store, ids),
        patient=owners[ids],
        source=[store.items[i].source for i in ids.tolist()],
        sha256=np.array([store.items[i].sha256 for i in ids.tolist()]),
    )


def _bytes_of(store: "Store", ids: np.ndarray, block: int = 256) -> np.ndarray:
    """Read images as bytes, each of its own range."""
    from launch.benchmark.planted import as_bytes

    if store.manifest.dtype == "uint8" and (store.ranges[ids] == (0, 255)).all():
        return store.gather(ids)
    read = np.empty((len(ids), *store.manifest.shape), np.uint8)
    for start in range(0, len(ids), block):
        read[start : start + block] = as_bytes(store.unit_range(ids[start : start + block]))
    return read


def _without_useless(gallery: Side, reference: Side, control: Side) -> Parties:
    """Leave out images without contrast, and images of unseen patients that are in the gallery byte for byte."""
    left_out = {"without contrast": 0, "unseen, but in the gallery byte for byte": 0}
    kept = []
    for side in (gallery, reference, control):
        flat = side.images.reshape(len(side), -1)
        has_contrast = flat.max(1) > flat.min(1)
        is_leak = np.isin(side.sha256, gallery.sha256) if side is not gallery else np.zeros(len(side), bool)
        left_out["without contrast"] += int((~has_contrast).sum())
        left_out["unseen, but in the gallery byte for byte"] += int((has_contrast & is_leak).sum())
        kept.append(side.take(np.flatnonzero(has_contrast & ~is_leak)))
    return Parties(gallery=kept[0], reference=kept[1], control=kept[2], left_out=left_out)
