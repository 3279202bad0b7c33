"""Findings of small audits made by hand: stores of random images with planted copies, neighbours by brute force."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from memjax.audit.agreement import kappas
from memjax.audit.decide import patient_index
from memjax.audit.findings import (
    Agreement,
    Confusion,
    Decision,
    Detected,
    Findings,
    Growth,
    Histogram,
    ImageSet,
    Interval,
    Labelled,
    Neighbours,
    NullSummary,
)
from memjax.audit.richness import growth
from memjax.data.manifest import Manifest
from memjax.data.store import NewItem, Store, StoreWriter
from memjax.orientation import Orientation, Symmetry, orientations

K = 3


def make_store(
    path: Path,
    images: np.ndarray,
    *,
    sources: Sequence[str] | None = None,
    patients: Sequence[str] | None = None,
    slices: Sequence[int] | None = None,
    axes: tuple[str, ...] = ("row", "column"),
    channels: tuple[str, ...] | None = None,
    spacing_mm: tuple[float, ...] | None = None,
    label_channels: tuple[int, ...] = (),
) -> Store:
    """Write images [n, *space, channels] as a store; `patients` None means that they are not known."""
    n = len(images)
    sources = sources or [f"{path.name}/{i:04d}.png" for i in range(n)]
    with StoreWriter(path, shape=images.shape[1:], dtype=str(images.dtype), settings={}) as writer:
        items = [
            NewItem(
                image=images[i],
                source=sources[i],
                patient=patients[i] if patients else "",
                slice=slices[i] if slices else None,
            )
            for i in range(n)
        ]
        writer.add("all", items)
        manifest = Manifest(
            n=0,
            shape=(),
            dtype=str(images.dtype),
            axes=axes,
            channels=channels or tuple(f"c{i}" for i in range(images.shape[-1])),
            label_channels=label_channels,
            spacing_mm=spacing_mm,
            patient_ids="folder" if patients else "none",
            preparation={"format": "array", "size": list(images.shape[1:-1])},
        )
        return writer.finish(manifest)


def brute_force(query: Store, gallery: Store, group: Sequence[Orientation], k: int = K) -> Neighbours:
    """Correlate everything with everything in float64."""
    x = _unit(query.images)
    turned = np.stack(
        [x @ _unit(np.stack([o.apply(image) for image in gallery.images])).T for o in group]
    )  # [orientation, query, gallery]
    orientation, best = turned.argmax(0), turned.max(0)
    known = (np.abs(x).sum(1) > 0)[:, None] & (np.abs(_unit(gallery.images)).sum(1) > 0)[None]
    best = np.where(known, best, -np.inf)
    order = np.argsort(-best, axis=1, kind="stable")[:, :k]
    score = np.full((len(query), k), -np.inf)
    id_ = np.full((len(query), k), -1)
    turn = np.zeros((len(query), k), np.int16)
    found = np.take_along_axis(best, order, 1)
    columns = slice(0, order.shape[1])
    score[:, columns] = found
    id_[:, columns] = np.where(np.isfinite(found), order, -1)
    turn[:, columns] = np.take_along_axis(orientation, order, 1)
    return Neighbours(score=score, id=id_, orientation=turn)


def make_findings(
    train: Store,
    synthetic: Store,
    heldout: Store | None = None,
    *,
    symmetry: Symmetry = "flips",
    threshold: float = 0.9,
    **changes: Any,
) -> Findings:
    """Audit three stores with a threshold given by hand; `changes` replace fields of the findings."""
    group = orientations(train.manifest.shape[:-1], symmetry)
    to_train = brute_force(synthetic, train, group)
    from_train = brute_force(train, synthetic, group)
    null = heldout_to_train = None
    if heldout is not None:
        heldout_to_train = brute_force(heldout, train, group)
        null = _null(heldout_to_train.score[:, 0], heldout)
    findings = Findings(
        train=_image_set("train", train),
        synthetic=_image_set("synthetic", synthetic),
        heldout=_image_set("heldout", heldout) if heldout is not None else None,
        score="correlation",
        k=K,
        orientations=tuple(orientation.name for orientation in group),
        synthetic_to_train=to_train,
        train_to_synthetic=from_train,
        heldout_to_train=heldout_to_train,
        train_to_heldout=brute_force(train, heldout, group) if heldout is not None else None,
        synthetic_to_heldout=brute_force(synthetic, heldout, group) if heldout is not None else None,
        all_pairs=_histogram(synthetic, train),
        null=null,
        decision=_decision(train, to_train, from_train, heldout_to_train, threshold),
        foreground_share=1.0,
        foreground=None,
        foreground_null=None,
        foreground_score=None,
        duplicates=(),
        leaks=(),
    )
    return dataclasses.replace(findings, **changes)


def planted_findings(
    folder: Path,
    *,
    n: int = 12,
    n_synthetic: int = 8,
    n_copies: int = 3,
    shape: tuple[int, ...] = (8, 8, 1),
    with_heldout: bool = True,
    with_patients: bool = True,
    sources: Sequence[str] | None = None,
    symmetry: Symmetry = "flips",
    store: dict[str, Any] | None = None,
    constant: Sequence[int] = (),
    **changes: Any,
) -> Findings:
    """Audit random images of which synthetic image i < n_copies is training image i, mirrored, with some noise."""
    rng = np.random.default_rng(7)
    train = rng.integers(0, 256, (n, *shape), np.uint8)
    synthetic = rng.integers(0, 256, (n_synthetic, *shape), np.uint8)
    group = orientations(shape[:-1], symmetry)
    for i in range(n_copies):
        noisy = group[-1].apply(train[i]) + rng.normal(0, 10, shape)
        synthetic[i] = np.clip(noisy, 0, 255).astype(np.uint8)
    synthetic[list(constant)] = 7
    patients = [f"patient {i // 2}" for i in range(n)] if with_patients else None
    store = store or {}
    folder.mkdir(parents=True, exist_ok=True)
    return make_findings(
        make_store(folder / "train", train, sources=sources, patients=patients, **store),
        make_store(
            folder / "synthetic", synthetic, sources=None if sources is None else sources[:n_synthetic], **store
        ),
        make_store(
            folder / "heldout",
            rng.integers(0, 256, (6, *shape), np.uint8),
            patients=[f"unseen {i}" for i in range(6)] if with_patients else None,
            **store,
        )
        if with_heldout
        else None,
        symmetry=symmetry,
        **changes,
    )


def planted_generators(
    folder: Path,
    n_copies: Mapping[str, int],
    *,
    n_synthetic: int | Mapping[str, int] = 40,
    shape: tuple[int, ...] = (8, 8, 1),
    with_heldout: bool = True,
    with_patients: bool = True,
    store: dict[str, Any] | None = None,
    **changes: Any,
) -> dict[str, Findings]:
    """Audit several sets against the same 30 random images; each one's first images are copies, with some noise."""
    rng = np.random.default_rng(7)
    store = store or {}
    folder.mkdir(parents=True, exist_ok=True)
    images = rng.integers(0, 256, (30, *shape), np.uint8)
    patients = [f"patient {i // 2}" for i in range(30)] if with_patients else None
    train = make_store(folder / "train", images, patients=patients, **store)
    heldout = make_store(
        folder / "heldout",
        rng.integers(0, 256, (20, *shape), np.uint8),
        patients=[f"unseen {i}" for i in range(20)] if with_patients else None,
        **store,
    )
    found = {}
    for number, (name, copies) in enumerate(n_copies.items()):
        n = n_synthetic if isinstance(n_synthetic, int) else n_synthetic[name]
        synthetic = rng.integers(0, 256, (n, *shape), np.uint8)
        copied = images[np.arange(copies) % 30]
        synthetic[:copies] = np.clip(copied + rng.normal(0, 10, copied.shape), 0, 255).astype(np.uint8)
        made = make_store(folder / f"synthetic {number}", synthetic, **store)
        found[name] = make_findings(train, made, heldout if with_heldout else None, **changes)
    return found


def _unit(images: np.ndarray) -> np.ndarray:
    x = np.asarray(images, np.float64).reshape(len(images), -1)
    x = x - x.mean(1, keepdims=True)
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(norm > 0, norm, 1)


def _image_set(role: Any, store: Store) -> ImageSet:
    constant = [i for i, image in enumerate(store.images) if image.min() == image.max()]
    return ImageSet(role=role, given=f"/data/{role}", store=store, constant=constant)


def _histogram(synthetic: Store, train: Store) -> Histogram:
    x, y = (_unit(store.images) for store in (synthetic, train))
    scores = (x @ y.T)[np.ix_(x.any(1), y.any(1))]  # constant images make no pairs
    count, edges = np.histogram(scores, 400, (-1.0, 1.0))
    return Histogram(edges=edges, count=count)


def _null(score: np.ndarray, heldout: Store) -> NullSummary:
    known = np.isfinite(score)
    return NullSummary(
        score=score[known],
        id=np.flatnonzero(known),
        n_patients=len({item.patient or item.source for item in heldout.items}),
        by_patient=heldout.manifest.has_patients,
        left_out={"constant images": 0},
        p95=float(np.quantile(score[known], 0.95)),
        p99=float(np.quantile(score[known], 0.99)),
        tail_start=float(np.quantile(score[known], 0.9)),
        tail_patients=3,
        tail_dimension=9.5,
    )


def _decision(
    train: Store, to_train: Neighbours, from_train: Neighbours, heldout: Neighbours | None, threshold: float
) -> Decision:
    score = to_train.score[:, 0]
    is_copy = score > threshold
    memorized = np.flatnonzero(from_train.score[:, 0] > threshold)
    people = sorted({train.items[i].patient or train.items[i].source for i in memorized.tolist()})
    p_value = np.full(len(score), np.nan)
    if heldout is not None:
        null = heldout.score[:, 0]
        p_value = (1 + (null[None] >= score[:, None]).sum(1)) / (1 + len(null))
        p_value[~np.isfinite(score)] = np.nan
    return Decision(
        rule="fdr" if heldout is not None else "identical",
        rate=0.01 if heldout is not None else float("nan"),
        threshold=threshold,
        p_value=p_value,
        is_copy=is_copy,
        is_clean=not is_copy.any(),
        n_copies=_interval(int(is_copy.sum()), len(score)),
        n_copies_by_chance=0.4 if heldout is not None else float("nan"),
        n_mem=_interval(len(memorized), len(train)),
        n_matched=3 if heldout is not None else 0,
        n_mem_size_matched=1.5 if heldout is not None else float("nan"),
        n_mem_heldout=0.0 if heldout is not None else float("nan"),
        patients_memorized=people,
        n_patients_memorized=_interval(len(people), len(train)),
        n_beyond=int(is_copy.sum()) if heldout is not None else 0,
        p_beyond=0.5 if heldout is not None else float("nan"),
    )


def _interval(value: int, whole: int) -> Interval:
    return Interval(value=float(value), low=max(0.0, value * 0.6), high=min(float(whole), value * 1.5))


def with_detectors(findings: Findings, *, readers: bool = True, **changes: Any) -> Findings:
    """Ask three more detectors: pixels as they lie, and two by an embedding that sees no flips and turns.

    Each one's threshold is the best held-out score. The readers agree with the audit's own detector.
    """
    group = orientations(findings.train.store.manifest.shape[:-1], "all")
    assert findings.heldout is not None
    stores = [given.store for given in (findings.synthetic, findings.train, findings.heldout)]
    vectors = [_invariant(store.images, group) for store in stores]

    def nearest(query: int, gallery: int, kind: str) -> Neighbours:
        if kind == "unturned":
            return brute_force(stores[query], stores[gallery], group[:1])
        x, y = vectors[query], vectors[gallery]
        score = _unit(x) @ _unit(y).T if kind == "correlation" else -((x[:, None] - y[None]) ** 2).mean(-1)
        order = np.argsort(-score, axis=1, kind="stable")[:, :K]
        turn = np.zeros(order.shape, np.int16)
        return Neighbours(score=np.take_along_axis(score, order, 1), id=order, orientation=turn)

    kinds = {
        "correlation-unturned": ("Pixel correlation, unturned", "unturned", "correlation"),
        "embedding-msd:net": ("Distance of embeddings by net", "msd", "negative mean squared distance of embeddings"),
        "embedding-correlation:other": (
            "Correlation of embeddings by other",
            "correlation",
            "correlation of embeddings",
        ),
    }
    detectors = []
    for name, (title, kind, score_name) in kinds.items():
        to_train, from_train, heldout = nearest(0, 1, kind), nearest(1, 0, kind), nearest(2, 1, kind)
        to_heldout = nearest(1, 2, kind)
        tau = float(np.percentile(to_heldout.score[:, 0], 95))
        threshold = float(heldout.score[:, 0].max())
        detectors.append(
            Detected(
                name=name,
                title=title,
                source="made for a test",
                invariant_to=("contrast",) if kind == "unturned" else ("flips", "quarter turns", "noise"),
                is_control=name.endswith("other"),
                score_name=score_name,
                synthetic_to_train=to_train,
                train_to_synthetic=from_train,
                heldout_to_train=heldout,
                train_to_heldout=to_heldout,
                null=_null(heldout.score[:, 0], findings.heldout.store),
                decision=_decision(findings.train.store, to_train, from_train, heldout, threshold),
                tau=tau,
                tau_n_mem=int((from_train.score[:, 0] > tau).sum()),
                tau_n_copies=int((to_train.score[:, 0] > tau).sum()),
            )
        )
    everyone = [(findings.score, findings.decision), *((one.name, one.decision) for one in detectors)]
    calls = np.stack([decision.is_copy for _, decision in everyone], axis=1)
    found = dataclasses.replace(
        findings,
        detectors=detectors,
        agreement=Agreement(
            names=[name for name, _ in everyone],
            calls=calls,
            p_value=np.stack([decision.p_value for _, decision in everyone], axis=1),
            combined_p=np.full(len(calls), 0.5),
            is_copy=calls.sum(axis=1) > 1,
            rate=0.01,
            kappa=kappas(calls),
            n_patients_memorized=2,
        ),
        growth=_growth(findings),
    )
    if readers:
        found = dataclasses.replace(found, labelled=_labelled(found, everyone))
    return dataclasses.replace(found, **changes)


def _invariant(images: np.ndarray, group: Sequence[Orientation]) -> np.ndarray:
    """Return vectors that are the same in every orientation: 16 random projections of the sum of all orientations."""
    x = np.asarray(images, np.float64) / 255
    x = (x - x.mean()).reshape(len(x), -1)
    every = sum(np.stack([o.apply(image) for image in x.reshape(images.shape)]) for o in group)
    flat = np.asarray(every).reshape(len(x), -1)
    return flat @ np.random.default_rng(3).normal(size=(flat.shape[1], 16)) / np.sqrt(flat.shape[1])


def _growth(findings: Findings) -> list[Growth]:
    is_copy, nearest = findings.decision.is_copy, findings.synthetic_to_train.id[:, 0]
    if not is_copy.any():
        return []
    train = findings.train
    images = growth(nearest, is_copy, groups=np.arange(len(train.store)), of="images")
    patients = growth(nearest, is_copy, groups=patient_index(train, np.arange(len(train.store))), of="patients")
    return [images, patients] if train.n_patients is not None else [images]


def _labelled(findings: Findings, everyone: Sequence[tuple[str, Decision]]) -> Labelled:
    """Label the closest pair of every synthetic image: copies are where it is of the training image of its number."""
    train = findings.synthetic_to_train.id[:, 0]
    shown = np.flatnonzero(train >= 0)
    is_copy = findings.decision.is_copy[shown]
    confusions = []
    for name, decision in everyone:
        called = decision.is_copy[shown]
        counts = [int((called == c)[is_copy == r].sum()) for c, r in ((1, 1), (1, 0), (0, 1), (0, 0))]
        both_copy, only_detector, only_readers, both_novel = counts
        confusions.append(
            Confusion(
                name=name,
                both_copy=both_copy,
                only_detector=only_detector,
                only_readers=only_readers,
                both_novel=both_novel,
            )
        )
    return Labelled(
        readers=("Ada", "Blaise"),
        n_pairs=len(shown) + 2,
        n_both=len(shown) + 1,
        n_copy=int(is_copy.sum()),
        n_novel=int((~is_copy).sum()),
        n_open=1,
        kappa=0.85,
        synthetic=shown,
        train=train[shown],
        is_copy=is_copy,
        confusions=confusions,
    )
