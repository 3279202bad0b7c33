"""From what stages left in their folders to the rows of a study's table."""

import dataclasses
import json
import math
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from launch.studying.grid import Cell
from launch.studying.stage import Stage, read_json
from memjax.audit.fidelity.quality import Quality
from memjax.audit.findings import Interval
from memjax.errors import UserError
from memjax.study.row import Facts, Memorization, Row, Scores, Status
from memjax.whole import whole_file

if TYPE_CHECKING:
    from memjax.audit.findings import Decision, Findings

_COUNTED = "memorization.json"
_SCORES = "scores.npz"
_QUALITY = "quality.json"
_SEARCHES = ("synthetic_to_train", "heldout_to_train", "synthetic_to_heldout", "train_to_synthetic", "train_to_heldout")
_COPIED_RATIO = 1 / 3  # of distances to the nearest and the second nearest: Yoon et al. 2023, Gu et al. 2023


def keep(folder: Path, findings: "Findings") -> None:
    """Write what the table wants of an audit: `memorization.json` and `scores.npz`."""
    ratio = [one.synthetic_to_train.score[:, 0] for one in findings.detectors if one.name == "ratio"]
    told = {
        "own": _counted(findings.decision),
        "detectors": {one.name: _counted(one.decision) for one in findings.detectors},
        "together": int(findings.agreement.is_copy.sum()) if findings.agreement else None,
        "f_ratio": float(np.mean(-ratio[0] < _COPIED_RATIO)) if ratio else math.nan,
    }
    searches = {name: getattr(findings, name) for name in _SEARCHES}
    best: dict[str, Any] = {name: found.score[:, 0] if found else np.array([]) for name, found in searches.items()}
    best |= {"is_copy": findings.decision.is_copy, "n_nearest": np.array(_n_nearest(findings))}
    with whole_file(folder / _SCORES) as partial, partial.open("wb") as file:
        np.savez(file, **best)
    with whole_file(folder / _COUNTED) as partial:
        partial.write_text(json.dumps(told) + "\n", encoding="utf-8")


def keep_quality(folder: Path, found: Quality) -> None:
    """Write set-level scores."""
    with whole_file(folder / _QUALITY) as partial:
        partial.write_text(json.dumps(dataclasses.asdict(found)) + "\n", encoding="utf-8")


def row(cell: Cell, workdir: Path, *, failed: Mapping[str, str], beside: Path) -> Row:
    """Return a cell's row.

    Args:
      cell: of the grid.
      workdir: where the stages are.
      failed: why stages failed, by their names.
      beside: the folder of the table, to which the path of the cell's own report is relative.
    """
    errors = [failed[stage.name] for stage in cell.stages if stage.name in failed]
    left = [name for name, part in cell.parts.items() if not part.is_done(workdir)]
    without_scores = left == ["quality"] and bool(errors)  # which is no reason to hide what the audit found
    is_done = not left or without_scores
    status: Status = "done" if is_done else "failed" if errors else "waiting"
    if not is_done:
        return Row(cell=cell.name, axes=cell.axes, status=status, error=errors[0] if errors else "")
    audit = cell.parts["audit"].folder(workdir)
    counted, report = read_json(audit / _COUNTED), read_json(audit / "report.json")
    return Row(
        cell=cell.name,
        axes=cell.axes,
        status=status,
        error=errors[0] if without_scores else "",
        facts=_facts(cell, workdir),
        memorization=_memorization(counted["own"]),
        f_ratio=counted["f_ratio"],
        detectors={name: _memorization(one) for name, one in counted["detectors"].items()},
        together=counted["together"],
        scores=_scores(audit / _SCORES),
        growth=report["growth"],
        quality=_quality(cell, workdir),
        report=os.path.relpath(audit / "report.html", beside),
    )


def _facts(cell: Cell, workdir: Path) -> Facts:
    seconds: dict[str, float] = {}
    for stage in (stage for stage in cell.stages if stage.is_done(workdir)):
        seconds[stage.kind] = seconds.get(stage.kind, 0.0) + _seconds(stage, workdir)
    told = {name: part.told(workdir)["facts"] for name, part in cell.parts.items() if part.is_done(workdir)}
    data, trained = told["data"], told.get("train", {})
    return Facts(
        data=data["name"],
        is_phantom=data["is_phantom"],
        shape=data["shape"],
        n_train=data["n_train"],
        n_train_patients=data["n_train_patients"],
        n_heldout=data["n_heldout"],
        n_synthetic=told["audit"]["n_synthetic"],
        parameters=trained.get("parameters", 0),
        images_seen=trained.get("images_seen", 0),
        seconds=seconds,
        is_sliced=data["is_sliced"],
    )


def _seconds(stage: Stage, workdir: Path) -> float:
    """Return what a stage took, with the shorter trainings that it went on from."""
    told = stage.told(workdir)
    marks = [int(path.stem.removeprefix("done-")) for path in stage.folder(workdir).glob("done-*.json")]
    shorter = [dataclasses.replace(stage, mark=mark).told(workdir) for mark in marks if mark < stage.mark]
    run = told["facts"].get("run")
    return told["seconds"] + sum(one["seconds"] for one in shorter if one["facts"].get("run") == run)


def _counted(decision: "Decision") -> dict[str, Any]:
    return {
        "is_clean": decision.is_clean,
        "threshold": decision.threshold,
        "n_copies_by_chance": decision.n_copies_by_chance,
        "p_beyond": decision.p_beyond,
        **{name: vars(getattr(decision, name)) for name in ("n_copies", "n_mem", "n_patients_memorized")},
    }


def _memorization(told: Mapping[str, Any]) -> Memorization:
    counts = {name: Interval(**told[name]) for name in ("n_copies", "n_mem", "n_patients_memorized")}
    return Memorization(**{**told, **counts})


def _scores(path: Path) -> Scores:
    try:
        with np.load(path, allow_pickle=False) as file:
            n_nearest = float(file["n_nearest"]) if "n_nearest" in file else math.nan  # older audits do not have it
            return Scores(**{name: file[name] for name in (*_SEARCHES, "is_copy")}, n_nearest=n_nearest)
    except (OSError, ValueError, EOFError, KeyError, BadZipFile) as error:
        raise UserError(f"{path} cannot be read ({error}); remove {path.parent} to do it again.") from None


def _n_nearest(findings: "Findings") -> float:
    """Return how many patients the synthetic images' nearest real images are of, in effect: 1 / sum of squared shares.

    Real images that are near to everything are the nearest of many; so few patients decide on which side most nearest
    images are. nan without held-out images.
    """
    train, heldout = findings.synthetic_to_train, findings.synthetic_to_heldout
    if heldout is None or findings.heldout is None:
        return math.nan
    is_train = train.score[:, 0] >= heldout.score[:, 0]
    ids = np.where(is_train, train.id[:, 0], heldout.id[:, 0])
    sides = (findings.heldout.store.items, findings.train.store.items)
    known = [(bool(side), int(id_)) for side, id_ in zip(is_train, ids, strict=True) if id_ >= 0]
    counts = np.array([*Counter((side, sides[side][id_].patient or id_) for side, id_ in known).values()])
    return float(counts.sum() ** 2 / np.square(counts).sum()) if len(counts) else math.nan


def _quality(cell: Cell, workdir: Path) -> Quality | None:
    if "quality" not in cell.parts or not cell.parts["quality"].is_done(workdir):
        return None
    return Quality(**read_json(cell.parts["quality"].folder(workdir) / _QUALITY))
