"""Run the detectors' trial on a store: divide its patients, plant the copies, search, judge, write."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from launch import boot
from launch.benchmark import planted, planted_stores, trial
from launch.benchmark.learned import named, of_folder, of_runs, to_come
from launch.benchmark.parties import divide
from launch.benchmark.trial import TOGETHER, UNSEEN, Calibrated, Row, Trial
from memjax.errors import UserError

if TYPE_CHECKING:
    from memjax.audit.describe import Images
    from memjax.audit.detectors.detector import Detector
    from memjax.audit.detectors.embedded import Embedding
    from memjax.audit.detectors.setting import Setting
    from memjax.data.store import Store


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
    """What a trial is asked for.

    data: the image store whose images are copied.
    heldout: an image store of unseen patients, or which share of the patients of `data` are to be unseen.
    out: the JSON file to write; pictures go beside it.
    descriptors: runs of trained descriptors.
    embeddings: NAME=FOLDER, embeddings of the images in `stores`.
    stores: where the trial's images are kept as image stores; None: nowhere.
    only: names of detectors; none: all.
    copies: for each change and strength.
    seed: of all that is drawn.
    """

    data: Path
    heldout: Path | float
    out: Path
    descriptors: Sequence[str] = ()
    embeddings: Sequence[str] = ()
    stores: Path | None = None
    only: Sequence[str] = ()
    copies: int = 200
    seed: int = 0


def main(asked: Asked) -> None:
    """Run the trial and write what came of it.

    Raises:
      UserError: there are too few patients, no such detector, or a descriptor or an embedding does not fit.
    """
    from memjax.audit.detectors.detector import make_detectors
    from memjax.data.store import Store

    data = Store.open(asked.data)
    heldout = Store.open(asked.heldout) if isinstance(asked.heldout, Path) else asked.heldout
    folders = dict(named(text) for text in asked.embeddings)
    if folders and asked.stores is None:
        raise UserError(
            "--embeddings are of the images that a trial plants; first run with --stores=FOLDER, embed the images of "
            "FOLDER/train, FOLDER/synthetic and FOLDER/heldout, and run the same command with --embeddings added."
        )
    runs = of_runs(asked.descriptors, data)
    mask = _mask(data)
    to_ask = {**runs.embeddings, **dict.fromkeys(folders, to_come())}
    names = asked.only or _all_names(to_ask, has_background=mask is not None)
    make_detectors(names, to_ask)  # refuses unknown ones

    made = _plan(asked, data, heldout, runs.seen)
    setting, query, gallery = _setting(made, data, mask)
    stores = asked.stores and planted_stores.keep(made, asked.stores, data.manifest)
    embeddings = runs.embeddings | {
        name: of_folder(name, folder, stores, query) for name, folder in folders.items() if stores
    }
    detectors = make_detectors(names, embeddings)
    rows, titles = _judged(made, detectors, setting, query, gallery)
    about = {
        "data": str(asked.data),
        "heldout": str(asked.heldout) if isinstance(asked.heldout, Path) else asked.heldout,
        "shape": list(data.manifest.shape),
        "seed": asked.seed,
        "notes": [*runs.notes, *_notes(data, made)],
        "detectors": [_words(detector) for detector in detectors],
    }
    write(asked.out, made, rows, titles, about)
    for note in about["notes"]:
        boot.say(f"note: {note}")
    boot.say(f"the trial: {asked.out}, and the map: {asked.out.with_suffix('.png')}")


def summary(rows: Sequence[Row]) -> str:
    """Say in a line how one detector did: by kind of change, the mean share found at 1 % false positives."""
    kinds: dict[str, list[float]] = {}
    for row in rows:
        if row["kind"] == "copy":
            kinds.setdefault(row["work"], []).append(row["sensitivity_1"])
    found = ", ".join(f"{work} {100 * np.mean(shares):.0f} %" for work, shares in kinds.items())
    unseen = next(row for row in rows if row["work"] == UNSEEN)
    return f"{found}; unseen patients {100 * unseen['sensitivity_1']:.1f} %"


def write(out: Path, made: Trial, rows: Sequence[Row], titles: Mapping[str, str], about: Mapping[str, Any]) -> None:
    """Write OUT (JSON), and beside it the map as PNG and SVG.

    Args:
      out: the JSON file.
      made: the trial.
      rows: of `trial.judge`, of all detectors.
      titles: theirs, by name, in the order of display.
      about: what else the file says of the trial.
    """
    from launch.benchmark.heatmap import heat_map
    from memjax.audit.report.theme import LIGHT, encoded, style

    parties = made.parties
    told = {
        **about,
        "copies": len(made.copied),
        "gallery_images": len(parties.gallery),
        "gallery_patients": parties.gallery.n_patients,
        "reference_patients": parties.reference.n_patients,
        "control_patients": parties.control.n_patients,
        "left_out": parties.left_out,
        "controls": trial.CONTROLS,
        "roc_rates": trial.ROC_RATES,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"about": told, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    with style(LIGHT):
        figure = heat_map(rows, titles, caption(made), LIGHT)
        for kind in ("png", "svg"):
            out.with_suffix(f".{kind}").write_bytes(encoded(figure, kind))


def caption(made: Trial) -> str:
    """Say what the trial's images were."""
    parties = made.parties
    size = " x ".join(map(str, made.query.shape[1:-1]))
    return (
        f"Images of {size}. Each cell: {len(made.copied)} copies of images of {parties.gallery.n_patients} patients "
        f"({len(parties.gallery)} images); thresholds from {parties.reference.n_patients} unseen patients, "
        f"false positives counted on {parties.control.n_patients} others."
    )


def _judged(
    made: Trial, detectors: "Sequence[Detector]", setting: "Setting", query: "Images", gallery: "Images"
) -> tuple[list[Row], dict[str, str]]:
    """Let every detector search, and judge each, and all together; returns the rows, and the titles by name."""
    titles = {detector.name: detector.title for detector in detectors}
    found: list[Calibrated] = []
    rows: list[Row] = []

    def judge(one: Calibrated) -> None:
        judged = trial.judge(made, one)
        rows.extend(judged)
        print(f"{titles[one.name]}: {summary(judged)}", flush=True)

    for detector in detectors:
        near = detector.search(query, gallery, dataclasses.replace(setting, what=detector.title))
        found.append(trial.calibrate(made, detector, near.query_to_gallery))
        judge(found[-1])
    if len(found) > 1:
        titles[TOGETHER] = "All of these together"
        judge(trial.together(found))
    return rows, titles


def _words(detector: "Detector") -> dict[str, Any]:
    return {
        "name": detector.name,
        "title": detector.title,
        "source": detector.source,
        "score": detector.score_name,
        "invariant_to": detector.invariant_to,
    }


def _plan(asked: Asked, data: "Store", heldout: "Store | float", seen: frozenset[str]) -> Trial:
    from tqdm import tqdm

    parties = divide(data, heldout, trained_on=seen, seed=asked.seed)
    manifest = data.manifest
    cells = planted.cells_of(manifest.shape[:-1], manifest.axes, manifest.label_channels)
    return trial.plan(
        parties,
        cells,
        copies=asked.copies,
        seed=asked.seed,
        progress=lambda some: tqdm(some, desc="planting copies", unit=" cell", disable=None),
    )


def _mask(data: "Store") -> np.ndarray | None:
    """Return the foreground, bool [*space], if the images have a common background."""
    from memjax.audit.describe import common_foreground
    from memjax.orientation import orientations

    return common_foreground(data, orientations(data.manifest.shape[:-1], "all"))[0]


def _setting(made: Trial, data: "Store", mask: np.ndarray | None) -> "tuple[Setting, Images, Images]":
    """Return how detectors search, the queries and the gallery."""
    from memjax.audit.describe import ArrayImages
    from memjax.audit.detectors.setting import Reference, Setting
    from memjax.mesh import audit_mesh

    def images(some: np.ndarray) -> ArrayImages:
        return ArrayImages(some, np.tile(np.array([0, 255], np.float32), (len(some), 1)))

    labels = data.manifest.label_channels
    reference = made.parties.reference
    setting = Setting(
        mesh=audit_mesh(None),
        mask=mask,
        channels=tuple(c for c in range(data.manifest.shape[-1]) if c not in labels) if labels else None,
        reference=Reference(images=images(reference.images), ids=np.arange(len(reference))),
        progress=boot.pairs_bar,
    )
    return setting, images(made.query), images(made.parties.gallery.images)


def _all_names(embeddings: "dict[str, Embedding]", *, has_background: bool) -> list[str]:
    from memjax.audit.detectors.detector import NAMES

    return [
        *(name for name in NAMES if has_background or name != "foreground"),
        *(f"{kind}:{name}" for name, embedding in embeddings.items() for kind in embedding.kinds),
    ]


def _notes(data: "Store", made: Trial) -> list[str]:
    notes = [f"{count} images were left out: {why}." for why, count in made.parties.left_out.items() if count]
    if not data.manifest.has_patients:
        notes.append(f"The patients of {data.path} are unknown, so every image counts as a patient of its own.")
    return notes
