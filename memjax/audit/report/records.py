"""What other programs read of an audit: `report.json` and `pairs.csv`, as documented in docs/report.md."""

import csv
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from memjax import __version__
from memjax.audit.findings import Findings, ImageSet, Leak
from memjax.audit.report import words
from memjax.audit.report.decision_record import counts, digits, yardstick
from memjax.audit.report.detectors_record import several

VERSION = 1
PAIR_COLUMNS = (
    "synthetic",
    "train",
    "rank",
    "score",
    "orientation",
    "p_value",
    "copy",
    "train_patient",
    "synthetic_id",
    "train_id",
    "score_foreground",
)


def write_pairs(path: Path, findings: Findings) -> None:
    """Write the k nearest training images of each synthetic image, one row a pair, best first."""
    train, synthetic = findings.train.store, findings.synthetic.store
    nearest, decision = findings.synthetic_to_train, findings.decision
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        table = csv.writer(file)
        table.writerow(PAIR_COLUMNS)
        for item in synthetic.items:
            for rank in range(min(findings.k, nearest.id.shape[1])):
                id_, score = int(nearest.id[item.id, rank]), float(nearest.score[item.id, rank])
                match = train.items[id_] if id_ >= 0 else None
                is_copy = bool(decision.is_copy[item.id]) and match is not None and score > decision.threshold
                table.writerow(
                    (
                        item.source,
                        match.source if match else "",
                        rank + 1,
                        digits(score),
                        findings.orientations[int(nearest.orientation[item.id, rank])] if match else "",
                        digits(float(decision.p_value[item.id])) if rank == 0 else "",
                        "true" if is_copy else "false",
                        match.patient if match else "",
                        item.id,
                        id_ if match else "",
                        _foreground_score(findings, item.id) if rank == 0 else "",
                    )
                )


def write_record(path: Path, findings: Findings, *, command: str) -> None:
    """Write `report.json`: strict JSON in ASCII, null for what is not known."""
    write_json(path, record(findings, command=command))


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write strict JSON in ASCII: arrays as lists, null for what is not finite."""
    text = json.dumps(_plain(value), indent=1, allow_nan=False)
    path.write_text(text + "\n", encoding="ascii")


def record(findings: Findings, *, command: str) -> dict[str, Any]:
    """Return all that `report.json` states; not-a-number where something is not known."""
    decision = findings.decision
    sets = by_role(findings)
    return {
        "version": VERSION,
        "program": f"memjax {__version__}",
        "command": command,
        "verdict": findings.verdict,
        "verdict_sentence": words.verdict_sentence(findings),
        "clean": findings.is_clean,
        "n_train": len(findings.train.store),
        "n_synthetic": len(findings.synthetic.store),
        "n_heldout": len(findings.heldout.store) if findings.heldout else 0,
        **counts(decision),
        "score": findings.score,
        "k": findings.k,
        "orientations": list(findings.orientations),
        "copies_by_orientation": _copies_by_orientation(findings),
        "null": yardstick(findings.null),
        "foreground": {
            "share": findings.foreground_share,
            "decision": counts(findings.foreground) if findings.foreground else None,
            "null": yardstick(findings.foreground_null),
        },
        "leaks": [_leak(leak, findings) for leak in findings.leaks],
        "duplicates": [_sources(findings.train, group) for group in findings.duplicates],
        "constant_images": {role: _sources(given, given.constant) if given else [] for role, given in sets.items()},
        "warnings": list(findings.warnings),
        "digests": {role: given.store.manifest.digest if given else None for role, given in sets.items()},
        "sets": {role: _set(given) if given else None for role, given in sets.items()},
        "all_pairs": vars(findings.all_pairs),
        **several(findings),
    }


def _leak(leak: Leak, findings: Findings) -> dict[str, Any]:
    return {
        "kind": leak.kind,
        "roles": list(leak.roles),
        "sources": leak_sources(leak, findings),
        "patient": leak.patient,
        "score": leak_score(leak),
    }


def leak_score(leak: Leak) -> float | None:
    """Return how alike the two images are; None where only the patient is the same, not the image."""
    return None if leak.kind == "same patient" else leak.score


def leak_sources(leak: Leak, findings: Findings) -> list[str]:
    """Return the sources of a leak's two images."""
    sets = by_role(findings)
    given = ((sets[role], id_) for role, id_ in zip(leak.roles, leak.ids, strict=True))
    return [images.store.items[id_].source for images, id_ in given if images is not None]


def by_role(findings: Findings) -> dict[str, ImageSet | None]:
    """Return the three image sets by their role; None where there is no held-out set."""
    return {"train": findings.train, "synthetic": findings.synthetic, "heldout": findings.heldout}


def _sources(given: ImageSet, ids: Any) -> list[str]:
    return [given.store.items[id_].source for id_ in ids]


def _set(given: ImageSet) -> dict[str, Any]:
    manifest = given.store.manifest
    return {
        "given": given.given,
        "n": manifest.n,
        "n_patients": given.n_patients,
        "shape": list(manifest.shape),
        "dtype": manifest.dtype,
        "axes": list(manifest.axes),
        "channels": list(manifest.channels),
        "spacing_mm": list(manifest.spacing_mm) if manifest.spacing_mm else None,
        "patient_ids": manifest.patient_ids,
        "source_format": manifest.source_format,
        "preparation": manifest.preparation,
        "n_left_out": len(manifest.left_out),
    }


def _copies_by_orientation(findings: Findings) -> dict[str, int]:
    indices = findings.synthetic_to_train.orientation[findings.decision.is_copy, 0]
    return dict(Counter(findings.orientations[int(index)] for index in indices).most_common())


def _foreground_score(findings: Findings, id_: int) -> str:
    return "" if findings.foreground_score is None else digits(float(findings.foreground_score[id_]))


def _plain(value: Any) -> Any:
    """Turn arrays and numbers of any kind into JSON's own; what is not finite becomes null."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
