"""What other programs read of several detectors, of the growth curve and of readers: detectors.csv, report.json."""

import csv
from pathlib import Path
from typing import Any

import numpy as np

from memjax.audit.findings import Agreement, Detected, Findings, Growth, Labelled
from memjax.audit.report import detectors_words
from memjax.audit.report.decision_record import counts, digits, interval, yardstick
from memjax.audit.report.detected import everyone
from memjax.audit.wilson import wilson

COLUMNS = ("synthetic", "detector", "train", "score", "p_value", "copy", "train_patient")


def write_detectors(path: Path, findings: Findings) -> None:
    """Write each synthetic image's most alike training image by each detector, one row an image and detector."""
    train, detectors = findings.train.store, everyone(findings)
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for item in findings.synthetic.store.items:
            for detector in detectors:
                nearest, decision = detector.synthetic_to_train, detector.decision
                id_ = int(nearest.id[item.id, 0])
                match = train.items[id_] if id_ >= 0 else None
                table.writerow(
                    (
                        item.source,
                        detector.name,
                        match.source if match else "",
                        digits(float(nearest.score[item.id, 0])),
                        digits(float(decision.p_value[item.id])),
                        "true" if decision.is_copy[item.id] else "false",
                        match.patient if match else "",
                    )
                )


def several(findings: Findings) -> dict[str, Any]:
    """Return the keys of `report.json` on detectors, agreement, growth and readers; empty or None where not asked."""
    return {
        "detectors": [_detector(one) for one in everyone(findings)] if findings.detectors else [],
        "agreement": _agreement(findings.agreement) if findings.agreement else None,
        "growth": [_growth(growth) for growth in findings.growth],
        "readers": _readers(findings.labelled) if findings.labelled else None,
    }


def _detector(detector: Detected) -> dict[str, Any]:
    return {
        "name": detector.name,
        "title": detector.title,
        "source": detector.source,
        "invariant_to": list(detector.invariant_to),
        "is_control": detector.is_control,
        "score": detector.score_name,
        **counts(detector.decision),
        "null": yardstick(detector.null),
        "tau": {"threshold": detector.tau, "n_mem": detector.tau_n_mem, "n_copies": detector.tau_n_copies},
    }


def _agreement(agreement: Agreement) -> dict[str, Any]:
    patterns, number = np.unique(agreement.calls, axis=0, return_counts=True)
    order = np.argsort(-number, kind="stable")
    names = np.array(agreement.names)
    return {
        "names": list(agreement.names),
        "rule": detectors_words.combined_rule(agreement),
        "rate": agreement.rate,
        "n_copies": int(agreement.is_copy.sum()),
        "patients_memorized": agreement.n_patients_memorized,
        "called_by": [{"detectors": names[patterns[i]].tolist(), "n": int(number[i])} for i in order],
        "kappa": agreement.kappa,
    }


def _growth(growth: Growth) -> dict[str, Any]:
    curve = {name: getattr(growth, name) for name in ("drawn", "expected", "low", "high")}
    counted = {name: getattr(growth, name) for name in ("of", "n_drawn", "n_copies", "n_train", "found")}
    estimates = {name: interval(getattr(growth, name)) for name in ("tenfold", "chao1", "ace")}
    return {**counted, **estimates, "curve": curve}


def _readers(labelled: Labelled) -> dict[str, Any]:
    names = ("n_pairs", "n_both", "n_copy", "n_novel", "n_open", "kappa")
    return {
        "names": list(labelled.readers),
        **{name: getattr(labelled, name) for name in names},
        "detectors": [
            {
                **vars(one),
                "sensitivity": interval(wilson(one.both_copy, one.both_copy + one.only_readers)),
                "specificity": interval(wilson(one.both_novel, one.both_novel + one.only_detector)),
            }
            for one in labelled.confusions
        ],
    }
