"""Small audits to review: a report's folder beside its images, with planted copies."""

import dataclasses
from pathlib import Path

import numpy as np
from small_findings import planted_findings

from launch.reviewing.audited import Audited
from launch.reviewing.draw import draw_pairs
from memjax.audit.findings import Detected, Findings, Neighbours
from memjax.audit.report import records
from memjax.audit.review_file import Label, ReviewFile


def audit_folder(folder: Path, **planted) -> tuple[Path, Findings]:
    """Write what a review reads of an audit: report.json and pairs.csv in `folder/out`, the stores beside it."""
    findings = planted_findings(folder, **planted)
    out = folder / "out"
    out.mkdir()
    records.write_record(out / "report.json", findings, command="python -m launch.audit")
    records.write_pairs(out / "pairs.csv", findings)
    return out, findings


def new_review(out: Path, *, pairs: int = 150, seed: int = 0) -> ReviewFile:
    """Draw the pairs of an audit's folder, as the launcher does."""
    audited = Audited.open(out)
    train, synthetic = audited.stores({})
    drawn = draw_pairs(
        audited.candidates(), pairs, seed, train=train, synthetic=synthetic, names=audited.record["orientations"]
    )
    about = {"train": audited.digest("train"), "synthetic": audited.digest("synthetic"), "pairs": "150", "seed": "0"}
    return ReviewFile.create(out / "review.sqlite", about, drawn)


def say(review: ReviewFile, reader: str, said: dict[int, str], *, time: str = "2026-01-01T00:00:00.000+00:00") -> None:
    """Save labels of a reader by pair."""
    review.save([Label(reader=reader, pair=pair, label=label, time=time) for pair, label in said.items()])


def other_detector(findings: Findings, *, called: np.ndarray, nearest: np.ndarray) -> Detected:
    """Return a detector that finds these nearest training images and calls these synthetic ones."""
    found = Neighbours(
        score=np.ones((len(nearest), 1)), id=nearest[:, None], orientation=np.zeros((len(nearest), 1), np.int16)
    )
    return Detected(
        name="embedding-msd:planted",
        title="planted",
        source="",
        invariant_to=(),
        is_control=False,
        score_name="negative mean squared distance",
        synthetic_to_train=found,
        train_to_synthetic=found,
        heldout_to_train=None,
        train_to_heldout=None,
        null=None,
        decision=dataclasses.replace(findings.decision, is_copy=called),
        tau=float("nan"),
        tau_n_mem=0,
        tau_n_copies=0,
    )
