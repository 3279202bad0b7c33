"""Write out the synthetic images that are not copies, and a list of what was left out and why.

The list names no training image and no patient: it goes along with the images.
"""

import csv
import json
import shutil
from pathlib import Path

import numpy as np

from memjax import __version__
from memjax.audit.findings import Findings
from memjax.data.store import NewItem, Store, StoreWriter
from memjax.errors import UserError


def check_release(out: Path) -> None:
    """Refuse early a place that is taken."""
    if out.exists():
        raise UserError(f"--release={out} exists already; remove it or choose another folder.")


def release(out: Path, findings: Findings, given: Path) -> int:
    """Write the release folder and return how many images it holds.

    If every synthetic image is a file of its own, `images/` holds copies of the files under their own names; otherwise
    (arrays, slices, stores) it is an image store. `left_out.csv` and `release.json` say what is missing, and why.

    Args:
      out: the folder to make.
      findings: of the audit.
      given: the folder or file of the synthetic images as the user gave it.
    """
    store, decision = findings.synthetic.store, findings.decision
    left_out = {int(i): "a copy of a training image" for i in np.flatnonzero(decision.is_copy)}
    left_out |= dict.fromkeys(findings.synthetic.constant, "without contrast: it cannot be judged")
    kept = [i for i in range(len(store)) if i not in left_out]
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    files = {i: given / store.items[i].source for i in kept}
    if all(file.is_file() for file in files.values()):
        for i, file in files.items():
            target = partial / "images" / store.items[i].source
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
    else:
        _write_store(partial / "images", store, kept)
    with (partial / "left_out.csv").open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        table = csv.writer(file)
        table.writerow(["synthetic", "reason", "score"])
        for i, reason in sorted(left_out.items()):
            score = findings.synthetic_to_train.score[i, 0]
            table.writerow([store.items[i].source, reason, f"{score:.6f}" if np.isfinite(score) else ""])
    summary = {
        "images": len(kept),
        "left_out": len(left_out),
        "threshold": decision.threshold,
        "rule": decision.rule,
        "score": findings.score,
        "orientations": list(findings.orientations),
        "heldout_images": 0 if findings.heldout is None else len(findings.heldout.store),
        "made_by": f"memjax {__version__}",
        "limits": "Not a proof of privacy: copies that are shifted, deformed or blended may remain.",
    }
    (partial / "release.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    partial.rename(out)
    return len(kept)


def _write_store(out: Path, store: Store, kept: list[int]) -> None:
    manifest = store.manifest
    with StoreWriter(out, shape=manifest.shape, dtype=manifest.dtype, settings=[manifest.digest, kept]) as writer:
        for i in kept:
            item = store.items[i]
            image = store.gather(np.array([i]))[0]
            new = NewItem(image=image, source=item.source, slice=item.slice, value_range=(item.low, item.high))
            writer.add(str(i), [new])
        writer.finish(manifest)
