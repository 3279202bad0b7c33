"""Rows of made-up studies: what a cell found is planted, so that what must follow from it is known."""

import numpy as np

from memjax.audit.fidelity.quality import Quality
from memjax.audit.findings import Interval
from memjax.study.row import Facts, Memorization, Row, Scores


def counted(value, spread=0.0):
    return Interval(value=float(value), low=max(0.0, float(value - spread)), high=float(value + spread))


def memorization(copies, mem, patients=0, *, spread=0.0, threshold=0.9):
    return Memorization(
        is_clean=copies == 0,
        threshold=threshold,
        n_copies=counted(copies, spread if copies else 0),
        n_copies_by_chance=0.5,
        n_mem=counted(mem, spread if mem else 0),
        n_patients_memorized=counted(patients),
    )


def row(
    copies=0,
    *,
    spread=8.0,
    mem=None,
    n_train=64,
    n=400,
    n_heldout=100,
    images_seen=20_000,
    parameters=1_000_000,
    shape=(32, 32, 1),
    f_ratio=float("nan"),
    fid=None,
    inception_score=float("nan"),
    is_sliced=False,
    detectors=None,
    scores=None,
    growth=(),
    report="",
    data="chest phantoms",
    **axes,
):
    """Return a finished cell with so many copies of n images, give or take `spread`; `axes` are its axes."""
    axes = {"generator": "ddpm", "n_train": n_train, "images_seen": images_seen, "samples": n, "seed": 0} | axes
    quality = None
    if fid is not None:
        quality = Quality(
            features="random convolutions",
            n_train=n_train,
            n_synthetic=n,
            n_heldout=n_heldout,
            fid=fid,
            fid_real=9.0,
            inception_score=inception_score,
        )
    mem = min(n_train, copies) if mem is None else mem
    return Row(
        cell=",".join(f"{name}={value}" for name, value in axes.items() if name != "seed"),
        axes=axes,
        status="done",
        facts=Facts(
            data=data,
            is_phantom="phantom" in data,
            shape=shape,
            n_train=n_train,
            n_train_patients=n_train // 2,
            n_heldout=n_heldout,
            n_synthetic=n,
            parameters=parameters,
            images_seen=images_seen,
            seconds={"train": 60.0, "audit": 2.5},
            is_sliced=is_sliced,
        ),
        memorization=memorization(copies, mem, min(mem, n_train // 2), spread=spread),
        f_ratio=f_ratio,
        detectors=detectors or {},
        scores=scores,
        growth=growth,
        quality=quality,
        report=report,
    )


def scores(rng, copied, *, n=400, n_train=64, n_heldout=100):
    """Return scores of which a share lies near 1, as copies do."""
    is_copy = rng.random(n) < copied
    best = np.where(is_copy, 1 - 0.03 * rng.random(n), 0.7 + 0.08 * rng.standard_normal(n)).clip(-1, 0.9999)
    heldout = (0.7 + 0.08 * rng.standard_normal(n_heldout)).clip(-1, 0.95)
    mem = rng.random(n_train) < copied
    return Scores(
        synthetic_to_train=best,
        heldout_to_train=heldout,
        synthetic_to_heldout=(0.68 + 0.08 * rng.standard_normal(n)).clip(-1, 0.95),
        train_to_synthetic=np.where(mem, 0.98, 0.72 + 0.06 * rng.standard_normal(n_train)).clip(-1, 0.99),
        is_copy=is_copy,
        train_to_heldout=(0.7 + 0.06 * rng.standard_normal(n_train)).clip(-1, 0.95),
    )


def growth(n, found, n_train):
    """Return a growth curve as report.json has it."""
    drawn = np.unique(np.linspace(1, 10 * n, 40).astype(int))
    expected = found * (1 - np.exp(-drawn / n)) / (1 - np.exp(-1))
    return {
        "of": "images",
        "n_drawn": n,
        "n_copies": 2 * found,
        "n_train": n_train,
        "found": found,
        "curve": {
            "drawn": drawn.tolist(),
            "expected": expected.tolist(),
            "low": (0.8 * expected).tolist(),
            "high": (1.2 * expected).clip(max=n_train).tolist(),
        },
    }


def study():
    """Return a study of two generators, three sizes and two lengths, with controls, two seeds and two bad cells."""
    rng = np.random.default_rng(0)
    rows = []
    shares = {"ddpm": {64: 0.9, 256: 0.35, 1024: 0.02}, "stylegan2": {64: 0.2, 256: 0.04, 1024: 0.0}}
    fids = {"ddpm": 6.0, "stylegan2": 14.0}
    for generator, by_size in shares.items():
        for n_train, share in by_size.items():
            for length, part in ((20_000, 0.3), (80_000, 1.0)):
                for seed in (0, 1):
                    copied = share * part * (1 - 0.05 * seed)
                    copies = round(400 * copied)
                    found = min(n_train, copies)
                    rows.append(
                        row(
                            copies,
                            generator=generator,
                            n_train=n_train,
                            images_seen=length,
                            seed=seed,
                            f_ratio=copied,
                            fid=fids[generator] + 6 * (1 - part) + 0.4 * rng.random(),
                            inception_score=2 + rng.random(),
                            parameters=1_370_000 if generator == "ddpm" else 2_100_000,
                            scores=scores(rng, copied, n_train=n_train),
                            growth=[growth(400, found, n_train)] if found else (),
                            report=f"cells/{generator}-{n_train}-{length}-{seed}/report.html",
                        )
                    )
    for generator, copied, fid in (("training", 1.0, 0.4), ("unseen", 0.0, 9.0), ("noise", 0.0, 300.0)):
        copies, kept = round(400 * copied), scores(rng, copied, n_train=256)
        about = {"n_train": 256, "images_seen": 80_000, "parameters": 0, "fid": fid, "scores": kept}
        rows.append(row(round(400 * copied), generator=generator, **about))
    axes = {"generator": "ddpm", "n_train": 5216, "images_seen": 80_000, "samples": 400, "seed": 0}
    error = "the training stopped: its loss is not finite at step 1200; lower optim.rate."
    rows.append(Row(cell="generator=ddpm,n_train=5216", axes=axes, status="failed", error=error))
    waiting = axes | {"generator": "stylegan2"}
    rows.append(Row(cell="generator=stylegan2,n_train=5216", axes=waiting, status="waiting"))
    return rows
