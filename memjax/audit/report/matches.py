"""Which pairs a report shows: the closest matches, one per training image, and the patients copied most often."""

import dataclasses
from collections import defaultdict

import numpy as np

from memjax.audit.findings import Detected, Findings, ImageSet
from memjax.audit.report.detected import called_by
from memjax.data.manifest import Item


@dataclasses.dataclass(frozen=True, kw_only=True)
class Match:
    """A synthetic image and the training image most like it. `orientation` turns the training image into it."""

    synthetic: int
    train: int
    score: float
    orientation: str
    p_value: float
    is_copy: bool
    before: int | None  # the training patient's slice before and after, where the store has them
    after: int | None
    called_by: tuple[str, ...] = ()  # titles of the detectors that call it, where several were asked
    found_by: Detected | None = None  # whose match and score this is, if not the audit's own
    correlation: float = float("nan")  # of the pixels, in this orientation, where the score is another detector's


@dataclasses.dataclass(frozen=True, kw_only=True)
class CopiedPatient:
    """A training patient (or image, where patients are unknown) with the synthetic images that show him or her."""

    patient: str
    n_copies: int
    train: int  # the patient's most copied image
    synthetic: tuple[int, ...]  # its copies, closest first


def best_matches(findings: Findings, limit: int = 8) -> list[Match]:
    """Return the best match of each distinct training image, best first: of the copies, or if none of all images."""
    nearest = findings.synthetic_to_train
    score, train = nearest.score[:, 0], nearest.id[:, 0]
    copies = findings.decision.is_copy
    candidates = np.flatnonzero((train >= 0) & (copies if copies.any() else True))
    candidates = candidates[np.argsort(-score[candidates], kind="stable")]
    _, first = np.unique(train[candidates], return_index=True)
    neighbours = SliceIndex(findings.train)
    return [
        Match(
            synthetic=int(s),
            train=int(train[s]),
            score=float(score[s]),
            orientation=findings.orientations[int(nearest.orientation[s, 0])],
            p_value=float(findings.decision.p_value[s]),
            is_copy=bool(copies[s]),
            before=neighbours.find(int(train[s]), -1),
            after=neighbours.find(int(train[s]), +1),
            called_by=called_by(findings, int(s)),
        )
        for s in candidates[np.sort(first)[:limit]]
    ]


def most_copied(findings: Findings, limit: int = 6, copies: int = 5) -> list[CopiedPatient]:
    """Return the first memorized patients, each with the most copied image and its closest copies."""
    store = findings.train.store
    by_train = _copies_of(findings)
    by_patient: dict[str, list[int]] = defaultdict(list)
    for train in by_train:
        item = store.items[train]
        by_patient[item.patient or item.source].append(train)
    found = []
    for patient in findings.decision.patients_memorized[:limit]:
        trains = sorted(by_patient.get(patient, ()), key=lambda train: (-len(by_train[train]), train))
        if trains:
            ranked = sorted(by_train[trains[0]].items(), key=lambda pair: (-pair[1], pair[0]))
            everyone = {synthetic for train in trains for synthetic in by_train[train]}
            found.append(
                CopiedPatient(
                    patient=patient,
                    n_copies=len(everyone),
                    train=trains[0],
                    synthetic=tuple(synthetic for synthetic, _ in ranked[:copies]),
                )
            )
    return found


def _copies_of(findings: Findings) -> dict[int, dict[int, float]]:
    """Return {training id: {synthetic id: score}} of all listed pairs above the threshold, from both sides."""
    found: dict[int, dict[int, float]] = defaultdict(dict)
    above = findings.decision.threshold
    for nearest, query_is_train in ((findings.synthetic_to_train, False), (findings.train_to_synthetic, True)):
        for query, rank in zip(*np.nonzero((nearest.id >= 0) & (nearest.score > above)), strict=True):
            pair = (int(query), int(nearest.id[query, rank]))
            train, synthetic = pair if query_is_train else pair[::-1]
            if findings.decision.is_copy[synthetic]:
                found[train][synthetic] = float(nearest.score[query, rank])
    return found


class SliceIndex:
    """Finds the neighbouring slice of a slice: same patient and same file where that is told, else same patient."""

    def __init__(self, images: ImageSet):
        self._items = images.store.items
        self._ids: dict[tuple[str, str, int], int] = {}
        for item in self._items:
            if item.slice is not None:
                for unit in {_unit(item), ""}:
                    self._ids.setdefault((item.patient, unit, item.slice), item.id)

    def find(self, id: int, step: int) -> int | None:  # noqa: A002  (the field's own word)
        """Return the id of the slice so many steps further; None where there is none."""
        item = self._items[id]
        if item.slice is None:
            return None
        wanted = item.slice + step
        found = self._ids.get((item.patient, _unit(item), wanted))
        return found if found is not None or not item.patient else self._ids.get((item.patient, "", wanted))


def _unit(item: Item) -> str:
    """Return the file a slice was cut from: what stands before `#` in its source; itself if nothing does."""
    return item.source.rpartition("#")[0] or item.source
