"""What must be known before anything is concluded: an image or a patient in two folders, or twice in training."""

from collections import defaultdict
from itertools import combinations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from memjax.audit.findings import ImageSet, Leak, Neighbours
from memjax.audit.pairs.above import ScoredPairs

NEAR_IDENTICAL = 0.9999  # no two acquisitions correlate like this; re-encoding or rescaling one image does


def duplicate_groups(images: ImageSet, near: ScoredPairs) -> list[list[int]]:
    """Return the groups of ids of practically identical images: byte for byte, or by pairs at NEAR_IDENTICAL.

    Of three images that are alike in a chain all three are one group. Images without contrast are no evidence.

    Args:
      images: the set.
      near: its pairs of different images, in any orientation.
    """
    same = [(ids[0], other) for ids in _by_content(images).values() for other in ids[1:]]
    one, two = np.array([*same, *zip(near.query.tolist(), near.gallery.tolist(), strict=True)], int).reshape(-1, 2).T
    n = len(images.store)
    _, member = connected_components(coo_array((np.ones(len(one)), (one, two)), shape=(n, n)), directed=False)
    groups: dict[int, list[int]] = defaultdict(list)
    for id_ in np.unique([one, two]).tolist():
        groups[int(member[id_])].append(id_)
    return sorted(groups.values())


def find_leaks(sets: list[ImageSet]) -> list[Leak]:
    """Return every image of one set that lies byte for byte in another too, and every patient of two real sets."""
    leaks = []
    for one, two in combinations(sets, 2):
        theirs = _by_content(two)
        for digest, ids in _by_content(one).items():
            if digest in theirs:
                patient = one.store.items[ids[0]].patient
                pair = (one.role, two.role)
                leaks.append(Leak(kind="same image", roles=pair, ids=(ids[0], theirs[digest][0]), patient=patient))
    for one, two in combinations([s for s in sets if s.role != "synthetic" and s.store.manifest.has_patients], 2):
        first, second = _first_of_patient(one), _first_of_patient(two)
        for patient in sorted(first.keys() & second.keys()):
            ids = (first[patient], second[patient])
            leaks.append(Leak(kind="same patient", roles=(one.role, two.role), ids=ids, patient=patient))
    return leaks


def near_identical(train: ImageSet, heldout: ImageSet, heldout_to_train: Neighbours) -> list[Leak]:
    """Return the held-out images that are a training image up to re-encoding, rescaling or orientation."""
    exact = set(_by_content(train))
    best = heldout_to_train.score[:, 0]
    leaks = []
    for i in np.flatnonzero(best >= NEAR_IDENTICAL):
        if heldout.store.items[int(i)].sha256 not in exact:
            ids = (int(heldout_to_train.id[i, 0]), int(i))
            roles = (train.role, heldout.role)
            leaks.append(Leak(kind="near-identical image", roles=roles, ids=ids, score=float(best[i])))
    return leaks


def leaked_heldout(heldout: ImageSet, train: ImageSet, leaks: list[Leak]) -> dict[int, str]:
    """Return the held-out ids that cannot stand for unseen patients, with the reason."""
    train_digests, train_patients = set(_by_content(train)), set(_first_of_patient(train))
    near = {leak.ids[1] for leak in leaks if leak.kind == "near-identical image"}
    both_known = train.store.manifest.has_patients and heldout.store.manifest.has_patients
    reasons = {}
    for item in heldout.store.items:
        if item.sha256 in train_digests:
            reasons[item.id] = "the same image is in the training set"
        elif both_known and item.patient in train_patients:
            reasons[item.id] = "the same patient is in the training set"
        elif item.id in near:
            reasons[item.id] = "a near-identical image is in the training set"
    return reasons


def _by_content(images: ImageSet) -> dict[str, list[int]]:
    constant = set(images.constant)
    groups: dict[str, list[int]] = defaultdict(list)
    for item in images.store.items:
        if item.id not in constant:
            groups[item.sha256].append(item.id)
    return groups


def _first_of_patient(images: ImageSet) -> dict[str, int]:
    first: dict[str, int] = {}
    for item in images.store.items:
        if item.patient:
            first.setdefault(item.patient, item.id)
    return first
