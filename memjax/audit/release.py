"""Write out the synthetic images that are not copies, and a list of what was left out and why.

The folder goes to others: nothing in it names a training image, a patient or a place on this machine.
"""

import csv
import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from memjax import __version__
from memjax.audit.findings import Findings
from memjax.data.store import NewItem, Store, StoreWriter, is_store
from memjax.errors import UserError

_PARTS = ("images", "images.partial", "left_out.csv", "release.json")


def check_release(out: Path) -> None:
    """Refuse early a place that is taken.

    Raises:
      UserError: there is something already, or something of another's where an unfinished release would be.
    """
    if out.exists():
        raise UserError(f"--release={out} exists already; remove it or choose another folder.")
    partial = _partial(out)
    strangers = partial.exists() and (not partial.is_dir() or {path.name for path in partial.iterdir()} - {*_PARTS})
    if strangers:
        raise UserError(f"{partial} exists and is no unfinished release; move it away or choose another --release.")


def release(out: Path, findings: Findings, given: Path) -> int:
    """Write the release folder and return how many images it holds.

    If every synthetic image is a file of its own, `images/` holds copies of the files under their own names; otherwise
    (arrays, slices, stores) it is an image store. `left_out.csv` and `release.json` say what is missing, and why.

    Args:
      out: the folder to make.
      findings: of the audit.
      given: the folder or file of the synthetic images as the user gave it.
    """
    left_out = _left_out(findings)
    store = findings.synthetic.store
    kept = [i for i in range(len(store)) if i not in left_out]
    partial = _partial(out)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    sources = [store.items[i].source for i in kept]
    if _are_files(given, sources):
        for source in sources:
            target = partial / "images" / source
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(given / source, target)
    elif kept:
        _write_store(partial / "images", store, kept)
    _write_list(partial / "left_out.csv", findings, left_out)
    _write_summary(partial / "release.json", findings, images=len(kept), left_out=len(left_out))
    partial.rename(out)
    return len(kept)


def _partial(out: Path) -> Path:
    return out.with_name(out.name + ".partial")


def _left_out(findings: Findings) -> dict[int, str]:
    """Return the ids that must not go out, with the reason.

    A call on the foreground alone is a call too, and so is one of all detectors together.
    """
    reasons = {}
    if findings.agreement is not None:
        called = _called(findings.agreement.is_copy)
        reasons |= dict.fromkeys(called, "a copy of a training image, by several detectors together")
    if findings.foreground is not None:
        reasons |= dict.fromkeys(_called(findings.foreground.is_copy), "a copy of a training image, by its foreground")
    reasons |= dict.fromkeys(_called(findings.decision.is_copy), "a copy of a training image")
    return reasons | dict.fromkeys(findings.synthetic.constant, "without contrast: it cannot be judged")


def _called(is_copy: np.ndarray) -> list[int]:
    return np.flatnonzero(is_copy).tolist()


def _are_files(given: Path, sources: Sequence[str]) -> bool:
    """Say whether each source is a whole image file below `given`; what lies in a store is no image file."""
    return not is_store(given) and all((given / source).is_file() for source in sources)


def _write_store(out: Path, store: Store, kept: list[int]) -> None:
    manifest = store.manifest
    with StoreWriter(out, shape=manifest.shape, dtype=manifest.dtype, settings=[manifest.digest, kept]) as writer:
        for i in kept:
            item = store.items[i]
            new = NewItem(
                image=store.gather(np.array([i]))[0],
                source=item.source,
                slice=item.slice,
                split=item.split,
                label=item.label,
                value_range=(item.low, item.high),
            )
            writer.add(str(i), [new])
        told = {
            name: value
            for name, value in manifest.preparation.items()
            if "patient" not in name and not name.startswith("centres")  # paths and tables of the hospital
        }
        writer.finish(dataclasses.replace(manifest, patient_ids="none", preparation=told, left_out=(), notes=()))


def _write_list(path: Path, findings: Findings, left_out: dict[int, str]) -> None:
    """List the images that were left out, and the files that were never looked at because they could not be read."""
    store = findings.synthetic.store
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        table = csv.writer(file)
        table.writerow(["synthetic", "reason", "score"])
        for i, reason in sorted(left_out.items()):
            score = findings.synthetic_to_train.score[i, 0]
            table.writerow([store.items[i].source, reason, f"{score:.6f}" if np.isfinite(score) else ""])
        for entry in store.manifest.left_out:
            table.writerow([entry["source"], f"not compared: {entry['reason']}", ""])


def _write_summary(path: Path, findings: Findings, *, images: int, left_out: int) -> None:
    decision = findings.decision
    summary = {
        "images": images,
        "left_out": left_out,
        "not_compared": len(findings.synthetic.store.manifest.left_out),
        "threshold": decision.threshold,
        "rule": decision.rule,
        "score": findings.score,
        "orientations": list(findings.orientations),
        "heldout_images": 0 if findings.heldout is None else len(findings.heldout.store),
        "made_by": f"memjax {__version__}",
        "limits": "Not a proof of privacy: copies that are shifted, deformed or blended may remain.",
    }
    path.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
