"""Findings of small audits made by hand: stores of random images with planted copies, neighbours by brute force."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from memjax.audit.findings import Decision, Findings, Histogram, ImageSet, Interval, Neighbours, NullSummary
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
    )


def _interval(value: int, whole: int) -> Interval:
    return Interval(value=float(value), low=max(0.0, value * 0.6), high=min(float(whole), value * 1.5))
