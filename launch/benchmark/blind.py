"""Show that Fréchet distances cannot see copying: generators of known truth, each scored and each audited.

Among them are one that hands back its training images, and a perfect one: real images of patients it never saw.
"""

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from launch import boot
from launch.benchmark import planted
from launch.benchmark.parties import Parties, divide
from launch.benchmark.planted_stores import planted_manifest

if TYPE_CHECKING:
    from memjax.audit.fidelity.features import Features
    from memjax.audit.findings import Findings, ImageSet, Role
    from memjax.data.manifest import Manifest
    from memjax.data.store import Store

_MOST = 1000  # images of each generator
_PHANTOMS, _SIZE = 1200, (32, 32)  # patients drawn where no images are given, and rows and columns

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
    """What the demonstration is asked for.

    data: the image store; None: chest phantoms are drawn.
    heldout: an image store of unseen patients, or which share of the patients of `data` are to be unseen.
    out: the JSON file to write; pictures go beside it.
    features: what the scores are computed in, as in `launch.fidelity`.
    weights: the file of a network's weights, where `features` takes one.
    seed: of all that is drawn.
    """

    data: Path | None
    heldout: Path | float = 0.5
    out: Path
    features: str = "random"
    weights: Path | None = None
    seed: int = 0


def main(asked: Asked) -> None:
    """Score and audit every generator, print the table, write it and the figure.

    Raises:
      UserError: there are too few patients, or the weights are not there.
    """
    from launch.measuring import make_features
    from memjax.data.store import Store
    from memjax.mesh import audit_mesh

    with tempfile.TemporaryDirectory() as folder:
        data = Store.open(asked.data) if asked.data else _phantoms(Path(folder) / "phantoms", asked.seed)
        heldout = Store.open(asked.heldout) if isinstance(asked.heldout, Path) else asked.heldout
        parties = divide(data, heldout, seed=asked.seed)
        features = make_features(
            asked.features, shape=data.manifest.shape, mesh=audit_mesh(None), weights=asked.weights, seed=asked.seed
        )
        rows = compare(parties, data.manifest, features, Path(folder), seed=asked.seed)
        about = {
            "data": str(asked.data or "chest phantoms"),
            "heldout": str(asked.heldout) if isinstance(asked.heldout, Path) else asked.heldout,
            "shape": list(data.manifest.shape),
            "features": rows[0]["quality"]["features"],
            "seed": asked.seed,
            "train_images": len(parties.gallery),
            "train_patients": parties.gallery.n_patients,
            "heldout_images": len(parties.reference),
            "unseen_images": len(parties.control),
            "images_of_each": rows[0]["n"],
        }
    print(table(rows))
    write(asked.out, rows, about)
    boot.say(f"the table: {asked.out}, and the figure: {asked.out.with_suffix('.png')}")


def generators(parties: Parties, manifest: "Manifest", n: int, *, seed: int) -> dict[str, np.ndarray]:
    """Return n images of each generator, uint8 [n, *space, channels], by its name for people; none twice.

    Args:
      parties: `gallery` is what generators were trained on, `control` real images of other patients.
      manifest: of the store that the images come from.
      n: how many; no more than there are in either.
      seed: of all that is drawn.
    """
    space, places = manifest.shape[:-1], np.arange(n)
    cells = {cell.name: cell for cell in planted.cells_of(space, manifest.axes, manifest.label_channels)}
    known, unseen = (
        side.images[np.random.default_rng([seed, 4]).permutation(len(side))[:n]]
        for side in (parties.gallery, parties.control)
    )

    def changed(images: np.ndarray, cell: str) -> np.ndarray:
        return planted.plant(images, places, cells[cell], seed=seed)

    return {
        "training images": known,
        "training images, mirrored": changed(known, f"flip {manifest.axes[-1]}"),
        "training images with noise of 2 %": changed(known, "noise 2 %"),
        "half training, half unseen": np.concatenate([known[: n // 2], unseen[n // 2 :]]),
        "unseen patients' images": unseen,
        "unseen patients' images, blurred": changed(unseen, "blur 1 px"),
        "white noise": planted.noises(known, n, seed=seed),
    }


def compare(parties: Parties, manifest: "Manifest", features: "Features", folder: Path, *, seed: int) -> list[Row]:
    """Score and audit each generator; rows in order of their Fréchet distance, smallest first.

    Args:
      parties: training images, images that calibrate the audit and the scores, and images of a perfect generator.
      manifest: of the store that the images come from.
      features: what the scores are computed in.
      folder: for the audits' stores and searches; must exist.
      seed: of all that is drawn.
    """
    from launch.measuring import quality

    n = min(_MOST, len(parties.gallery), len(parties.control))
    train = _images("train", folder, parties.gallery.images, parties.gallery.patient, manifest)
    heldout = _images("heldout", folder, parties.reference.images, parties.reference.patient, manifest)
    rows = []
    for number, (title, images) in enumerate(generators(parties, manifest, n, seed=seed).items()):
        boot.say(f"{title} …")
        place = folder / f"generator{number}"
        place.mkdir()
        synthetic = _images("synthetic", place, images, None, manifest)
        findings = _audited(train, synthetic, heldout, folder / "searches")
        scores = quality(train.store, synthetic.store, heldout.store, features, seed=seed, cache=folder / "vectors")
        rows.append(
            {
                "generator": title,
                "n": n,
                "is_clean": findings.is_clean,
                "copies": dataclasses.asdict(findings.decision.n_copies),
                "copies_by_chance": findings.decision.n_copies_by_chance,
                "patients_memorized": len(findings.decision.patients_memorized),
                "quality": dataclasses.asdict(scores),
            }
        )
    return sorted(rows, key=lambda row: row["quality"]["fid"])


def table(rows: Sequence[Row]) -> str:
    """Return the rows as text: a line for each generator."""
    scores = ("fid", "kid", "precision", "recall", "density", "coverage", "c_t", "auth_pct", "mifid", "fld", "fld_gap")
    head = f"{'generator':34}" + "".join(f"{name:>10}" for name in scores) + f"{'copies':>8}  audit"
    lines = [
        f"{row['generator']:34}"
        + "".join(f"{row['quality'][name]:10.4g}" for name in scores)
        + f"{row['copies']['value']:8.0f}  {'clean' if row['is_clean'] else 'copies found'}"
        for row in rows
    ]
    return "\n".join([head, *lines])


def write(out: Path, rows: Sequence[Row], about: Mapping[str, Any]) -> None:
    """Write OUT (JSON), and beside it the figure as PNG and SVG.

    Args:
      out: the JSON file; its folder is made.
      rows: of `compare`.
      about: what else the file says; `images_of_each`, `train_patients`, `shape` and `features` are told on the figure.
    """
    from launch.benchmark.blind_chart import blind_chart
    from memjax.audit.report.records import write_json
    from memjax.audit.report.theme import LIGHT, encoded, style

    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(out, {"about": about, "rows": list(rows)})
    with style(LIGHT):
        figure = blind_chart(rows, about, LIGHT)
        for kind in ("png", "svg"):
            out.with_suffix(f".{kind}").write_bytes(encoded(figure, kind))


def _audited(train: "ImageSet", synthetic: "ImageSet", heldout: "ImageSet", kept: Path) -> "Findings":
    from memjax.audit.audit import Question, audit
    from memjax.mesh import audit_mesh

    return audit(
        train,
        synthetic,
        heldout,
        Question(),
        mesh=audit_mesh(None, at_most=len(synthetic.store)),
        kept=kept,
        progress=boot.pairs_bar,
    )


def _images(
    role: "Role", folder: Path, images: np.ndarray, patient: np.ndarray | None, manifest: "Manifest"
) -> "ImageSet":
    """Write images, uint8 [n, *space, channels], as a store of the audit."""
    from memjax.audit.findings import ImageSet
    from memjax.data.store import NewItem, StoreWriter

    owners = patient.tolist() if patient is not None and manifest.has_patients else [""] * len(images)
    with StoreWriter(folder / role, shape=images.shape[1:], dtype="uint8", settings=[]) as writer:
        items = [
            NewItem(image=image, source=f"{role}_{i:05d}", patient=owner, value_range=(0.0, 255.0))
            for i, (image, owner) in enumerate(zip(images, owners, strict=True))
        ]
        writer.add("all", items)
        store = writer.finish(planted_manifest(manifest, has_patients=any(owners)))
    return ImageSet(role=role, given=role, store=store)


def _phantoms(path: Path, seed: int) -> "Store":
    from memjax.data.phantom_store import write_phantoms
    from memjax.data.phantoms import draw

    boot.say(f"drawing chest phantoms of {_PHANTOMS} patients …")
    return write_phantoms(path, draw("chest", range(_PHANTOMS), seed=seed, size=_SIZE))
