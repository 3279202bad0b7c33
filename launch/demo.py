"""The whole way on phantoms that ship with the code: draw, "generate" with a known share of copies, audit, report.

    python -m launch.demo [--out=DIR] [--volumes]

The stand-in generator returns images of unseen patients, and among them copies of training images: exact, flipped,
turned, noised, with changed contrast, slightly deformed. The report shows what was planted beside what was found.
"""

import dataclasses
import itertools
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from launch import boot

if TYPE_CHECKING:
    import numpy as np

    from memjax.audit.findings import Findings, PlantedRow
    from memjax.data.copies import Planted
    from memjax.data.phantoms import Phantoms
    from memjax.data.store import Store

_OUT = flags.DEFINE_string("out", "out/demo", "Where to write; an older demo there is replaced.")
_VOLUMES = flags.DEFINE_bool("volumes", False, "3-D vessel phantoms instead of chest radiographs.")
_SEED = flags.DEFINE_integer("seed", 0, "Of the phantoms and of the stand-in generator.", lower_bound=0)

_MARK = "made by launch.demo\n"  # only a folder with this mark is replaced


@dataclasses.dataclass(frozen=True)
class _Scale:
    kind: str
    size: tuple[int, ...]
    n_train: int  # patients
    n_heldout: int
    n_novel: int
    copies_per_kind: int
    repeated: int  # training images that lie in the set more than once


_PICTURES = _Scale("chest", (64, 64), n_train=400, n_heldout=150, n_novel=240, copies_per_kind=10, repeated=6)
_VOLUMES_SCALE = _Scale("vessel", (32, 32, 32), n_train=80, n_heldout=40, n_novel=60, copies_per_kind=4, repeated=2)


def main() -> None:
    """Draw, plant, audit, report."""
    out = _fresh(Path(_OUT.value))
    scale = _VOLUMES_SCALE if _VOLUMES.value else _PICTURES
    boot.say(f"drawing {scale.kind} phantoms of {scale.n_train + scale.n_heldout + scale.n_novel} patients …")
    stores, planted = _draw(scale, out, _SEED.value)

    boot.keep_freed_memory()
    boot.use_compilation_cache(out / "cache" / "compiled")
    from memjax.audit.audit import Question, audit
    from memjax.audit.findings import ImageSet
    from memjax.audit.report import write
    from memjax.mesh import audit_mesh

    boot.say("comparing every synthetic image with every training image, under every flip and quarter turn …")
    train, synthetic, heldout = (
        ImageSet(role=role, given=role, store=stores[role]) for role in ("train", "synthetic", "heldout")
    )
    findings = audit(
        train,
        synthetic,
        heldout,
        Question(),
        mesh=audit_mesh(),
        kept=out / "cache",
        progress=boot.pairs_bar,
        tell=boot.say,
    )
    findings = dataclasses.replace(findings, planted=_score(findings, planted))
    write(out, findings, command=boot.command())
    boot.say(f"{'':15}planted  called  right image  right orientation")
    for row in findings.planted:
        right = ("-" if count is None else count for count in (row.right_image, row.right_orientation))
        boot.say("{:15}{:>7}{:>8}{:>13}{:>19}".format(row.kind, row.planted, row.found, *right))
    boot.say(f"the report: {out / 'report.html'}")


def _fresh(out: Path) -> Path:
    from memjax.errors import UserError

    if out.exists():
        mark = out / "demo"
        if not mark.is_file() or mark.read_text(encoding="utf-8") != _MARK:
            raise UserError(f"--out={out} exists and was not made by this demo; choose another folder.")
        shutil.rmtree(out)
    out.mkdir(parents=True)
    (out / "demo").write_text(_MARK, encoding="utf-8")
    return out


def _draw(scale: _Scale, out: Path, seed: int) -> "tuple[dict[str, Store], Planted]":
    """Write the three stores; the same patients never serve two purposes."""
    import numpy as np

    from memjax.data.copies import plant_duplicates, stand_in_generator
    from memjax.data.phantoms import draw

    ends = np.cumsum([0, scale.n_train, scale.n_heldout, scale.n_novel]).tolist()
    train, heldout, novel = (
        draw(scale.kind, range(a, b), seed=seed, size=scale.size) for a, b in itertools.pairwise(ends)
    )
    images, groups = plant_duplicates(train.images, count=scale.repeated, rng=np.random.default_rng(seed))
    owner = {image.tobytes(): patient for image, patient in zip(train.images, train.patient, strict=True)}
    patients = [owner[image.tobytes()] for image in images]
    planted = stand_in_generator(
        images, novel.images, copies_per_kind=scale.copies_per_kind, seed=seed, label_channels=train.label_channels
    )
    boot.say(f"{len(images)} training images ({len(groups)} of them repeated), {len(planted.images)} synthetic ones")
    stores = {
        "train": _write(out / "train", images, patients, train),
        "heldout": _write(out / "heldout", heldout.images, heldout.patient, heldout),
        "synthetic": _write(out / "synthetic", planted.images, [""] * len(planted.images), train),
    }
    return stores, planted


def _write(path: Path, images: "np.ndarray", patients: Sequence[str], drawn: "Phantoms") -> "Store":
    from memjax.data.manifest import Manifest
    from memjax.data.store import NewItem, StoreWriter

    known = any(patients)
    with StoreWriter(path, shape=images.shape[1:], dtype="uint8", settings="demo") as writer:
        for i, (image, patient) in enumerate(zip(images, patients, strict=True)):
            writer.add(str(i), [NewItem(image=image, source=f"{path.name}_{i:04d}", patient=patient)])
        return writer.finish(
            Manifest(
                axes=drawn.axes,
                channels=drawn.channels,
                label_channels=drawn.label_channels,
                spacing_mm=drawn.spacing_mm,
                patient_ids="format" if known else "none",
                source_format="phantom",
            )
        )


def _score(findings: "Findings", planted: "Planted") -> "list[PlantedRow]":
    """Hold the calls against what was planted; a repeated training image is right in any of its places."""
    import numpy as np

    from memjax.audit.findings import PlantedRow
    from memjax.data.copies import COPY_KINDS

    kind = np.array(planted.kind)
    called = findings.decision.is_copy
    content = np.array([item.sha256 for item in findings.train.store.items])
    nearest = content[findings.synthetic_to_train.id[:, 0]]
    right = (planted.train_id >= 0) & (nearest == content[planted.train_id])
    names = np.array(findings.orientations)[findings.synthetic_to_train.orientation[:, 0]]
    turned = right & (names == np.array(planted.orientation))
    return [
        PlantedRow(
            kind=name or "unseen patients",
            planted=int((kind == name).sum()),
            found=int((called & (kind == name)).sum()),
            right_image=int((right & (kind == name)).sum()) if name else None,
            right_orientation=int((turned & (kind == name)).sum()) if name else None,
        )
        for name in (*COPY_KINDS, "")
    ]


if __name__ == "__main__":
    boot.run(main)
