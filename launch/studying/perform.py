"""How each kind of stage is done, by the ordinary launchers' own functions."""

import dataclasses
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launch import boot
from launch.studying.grid import training_config
from launch.studying.stage import Stage
from memjax.digest import settings_digest
from memjax.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from memjax.audit.findings import Findings, ImageSet
    from memjax.data.preparation import Preparation

_READ = ("layout", "plane", "colour", "with_masks", "array_axis", "min_bright")  # of `ReadOptions`


def perform(stage: Stage, workdir: Path) -> dict[str, Any]:
    """Do a stage whose needs are done, and return what the table wants to know of it.

    An interrupted stage, done again, goes on where it stopped.

    Raises:
      UserError: it cannot be done.
      KeyboardInterrupt: it was asked to stop, and has saved what it had.
    """
    folder = stage.folder(workdir)
    folder.mkdir(parents=True, exist_ok=True)
    return _HOW[stage.kind](stage, workdir, folder)


def images_of(stage: Stage, workdir: Path, name: str = "images") -> Path:
    """Return the store that a stage writes."""
    return stage.folder(workdir) / name


def _source(stage: Stage, workdir: Path, folder: Path) -> dict[str, Any]:
    from memjax.data.phantom_store import write_phantoms
    from memjax.data.phantoms import draw
    from memjax.data.prepare import build, inspect

    out, look = folder / "images", ""
    if "phantoms" in stage.settings:
        given = stage.settings["phantoms"]
        name, is_phantom = f"{given['kind'].replace('_', ' ')} phantoms", True
        if not out.exists():
            boot.say(f"drawing {name} of {given['n_patients']} patients …")
            patients = range(given["n_patients"])
            write_phantoms(out, draw(given["kind"], patients, seed=given["seed"], size=tuple(given["size"])))
    else:
        path = Path(stage.aside["path"])
        name, is_phantom, look = path.name, False, outward_look(path)
        if not out.exists():
            how = _preparation(stage.settings["preparation"])
            build(inspect(path, how, workers=boot.workers()), out, how, workers=boot.workers())
    return {"name": name, "is_phantom": is_phantom, "look": look}


def outward_look(path: Path) -> str:
    """Return a digest of a file's or folder's names, sizes and times: what shows a change without reading it."""
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    seen = [(str(file.relative_to(path)), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return settings_digest(seen)


def _preparation(given: Mapping[str, Any]) -> "Preparation":
    from memjax.build import build
    from memjax.data.preparation import Preparation
    from memjax.data.readers.base import ReadOptions

    read = build(ReadOptions, {name: given[name] for name in _READ if name in given}, "sources.preparation")
    rest = {name: value for name, value in given.items() if name not in _READ}
    return build(Preparation, rest, "sources.preparation", read=read)


def _data(stage: Stage, workdir: Path, folder: Path) -> dict[str, Any]:
    from memjax.audit.distinct import distinct_ids
    from memjax.data.split import first_images, heldout_ids, training_ids
    from memjax.data.store import Store
    from memjax.data.subset import repeated, split_patients, thinned_ids, write_subset
    from memjax.mesh import audit_mesh

    how, source = stage.settings, stage.after["source"]
    store = Store.open(images_of(source, workdir))
    ids, heldout, unseen = split_patients(
        store.items, training_ids(store.items), heldout=how["heldout"], unseen=how["unseen"], seed=how["split_seed"]
    )
    if not how["heldout"]:  # the source's own
        heldout = heldout_ids(store.items)
    if how["thinning"] > 1:
        ids, heldout, unseen = (thinned_ids(store.items, some, how["thinning"]) for some in (ids, heldout, unseen))
    if how["deduplicate"]:
        ids = distinct_ids(store, ids, mesh=audit_mesh(), symmetry="all")
    if how["n_train"]:
        if how["n_train"] > len(ids):
            raise UserError(
                f"n_train={how['n_train']}, but {source.told(workdir)['facts']['name']} has {len(ids)} images to train "
                f"on once {len(heldout) + len(unseen)} are held out; give 0 for all of them, or a smaller number."
            )
        ids = first_images(store.items, ids, how["n_train"], how["seed"])
    copies = None
    if how["duplicates"] > 1:
        copies = repeated(ids, share=how["share"], times=how["duplicates"], seed=how["seed"])
    if not (folder / "train").exists():
        write_subset(folder / "train", store, ids, split="train", copies=copies)
    for name, some in (("heldout", heldout), ("unseen", unseen)):
        if len(some) and not (folder / name).exists():
            write_subset(folder / name, store, some, split="heldout")
    train = Store.open(folder / "train")
    patients = {item.patient for item in train.items}
    return {
        **source.told(workdir)["facts"],
        "shape": list(train.manifest.shape),
        "n_train": len(train),
        "n_train_patients": len(patients) if train.manifest.has_patients else None,
        "n_heldout": len(heldout),
        "is_sliced": not train.manifest.is_volume and any(item.slice is not None for item in train.items),
    }


def _train(stage: Stage, workdir: Path, folder: Path) -> dict[str, Any]:
    from launch import training
    from memjax.artifacts.weights import read_weights, written_steps

    data = stage.after["data"].folder(workdir)
    heldout = data / "heldout"
    stops = stage.settings["early_stop"]
    config = training_config(stage)
    run = _run_folder(folder, stage.mark)
    with boot.StopRequests() as stop:
        outcome = training.train(
            config,
            run,
            data=data / "train",
            heldout=heldout if heldout.exists() else None,
            stop_on_memorization=stops,
            is_asked_to_stop=stop,
        )
    if outcome.was_asked:
        raise KeyboardInterrupt
    if outcome.is_copying and not written_steps(run / "weights"):
        raise UserError(
            f"the monitor saw copies at its first look, after {outcome.step} steps, and there are no weights of "
            "before; let it look earlier (every.monitor of the generator's config)."
        )
    # Where held-out images decide, the best step's weights count, else the last step's.
    leaves, about, _ = read_weights(run / "weights", step=None if stops else outcome.best_step or stage.mark)
    return {
        "run": run.name,
        "parameters": int(sum(leaf.size for leaf in leaves.values())),
        "images_seen": about["step"] * config["batch_size"],
        "step": about["step"],
        "stopped_early": outcome.is_copying,
    }


def _run_folder(folder: Path, steps: int) -> Path:
    """Return where to train: beside a run that went farther and kept nothing of this step."""
    from memjax.artifacts.run import saved_steps
    from memjax.artifacts.weights import written_steps

    run = folder / "run"
    written = written_steps(run / "weights")
    farthest = max(
        [*written, *saved_steps(run)], default=0
    )  # of an interrupted one there is a checkpoint, and no weights
    return run if steps in written or farthest <= steps else folder / f"run-{steps}"


def _run_of(stage: Stage, workdir: Path) -> tuple[Path, int]:
    """Return a training's run, and the step whose weights count."""
    facts = stage.told(workdir)["facts"]
    return stage.folder(workdir) / facts["run"], facts["step"]


def _latents(stage: Stage, workdir: Path, folder: Path) -> dict[str, Any]:
    from launch.latents import encode_store
    from memjax.build import build
    from memjax.data.augment import Augmentation

    augmentation = stage.settings["augmentation"]
    varied = build(Augmentation, {"enabled": True, **augmentation}, "augmentations") if augmentation else None
    run, step = _run_of(stage.after["run"], workdir)
    for name in ("train", "heldout"):
        images = images_of(stage.after["data"], workdir, name)
        if not images.exists() or (folder / name).exists():
            continue
        encode_store(
            images,
            run,
            folder / name,
            step=step,
            views=stage.settings["views"],
            augmentation=varied,
            seed=stage.settings["seed"],
            batch_size=16,
        )
    return {}


def _sample(stage: Stage, workdir: Path, folder: Path) -> dict[str, Any]:
    from launch import sampling

    if (folder / "images").exists():
        return {}
    if "control" in stage.settings:
        _control(stage, workdir, folder / "images")
        return {}
    run, step = _run_of(stage.after["run"], workdir)
    first = stage.settings["seed"] * stage.settings["n"]
    data = stage.after["run"].after["data"]
    autoencoder = _run_of(data.after["run"], workdir)[0] if data.kind == "latents" else None
    sampling.sample(
        run,
        range(first, first + stage.settings["n"]),
        folder / "images",
        step=step,
        autoencoder=autoencoder,
    )
    return {}


def _control(stage: Stage, workdir: Path, out: Path) -> None:
    """Write what a generator would make that knows nothing but real images, or nothing at all."""
    import numpy as np

    from memjax.data.store import NewItem, Store, StoreWriter

    kind, n = stage.settings["control"], stage.settings["n"]
    store = Store.open(images_of(stage.after["data"], workdir, "unseen" if kind == "unseen" else "train"))
    generator = np.random.default_rng(stage.settings["seed"])
    manifest = store.manifest
    if kind == "unseen" and n > len(store):
        raise UserError(
            f"samples={n}, but there are {len(store)} images of unseen patients; give {len(store)} or less."
        )
    ids = generator.permutation(len(store))[:n] if kind == "unseen" else generator.integers(len(store), size=n)

    def drawn(id_: int) -> "np.ndarray":
        image = store.gather(np.array([id_]))[0]
        return generator.permuted(image.reshape(-1)).reshape(image.shape) if kind == "noise" else image

    with StoreWriter(out, shape=manifest.shape, dtype=manifest.dtype, settings=[kind, n, manifest.digest]) as writer:
        for number, id_ in enumerate(ids.tolist()):
            image, name = drawn(id_), f"{kind}_{number:06d}"
            if name not in writer.done:
                item = store.items[id_]
                writer.add(name, [NewItem(image=image, source=name, value_range=(item.low, item.high))])
        writer.finish(dataclasses.replace(manifest, patient_ids="none", source_format=kind, digest=""))


def _sets(stage: Stage, workdir: Path) -> "dict[str, ImageSet]":
    from memjax.audit.findings import ImageSet, Role
    from memjax.data.store import Store

    data = stage.after["data"].folder(workdir)
    places: dict[Role, Path] = {"train": data / "train", "synthetic": images_of(stage.after["sample"], workdir)}
    if (data / "heldout").exists():
        places["heldout"] = data / "heldout"
    return {role: ImageSet(role=role, given=role, store=Store.open(path)) for role, path in places.items()}


def _findings(stage: Stage, workdir: Path, folder: Path) -> "Findings":
    from memjax.audit.audit import Question, audit
    from memjax.audit.decide import Criterion
    from memjax.audit.detectors.detector import make_detectors
    from memjax.mesh import audit_mesh

    how, sets = stage.settings, _sets(stage, workdir)
    mesh = audit_mesh(at_most=len(sets["synthetic"].store))
    embeddings = {}
    if descriptor := stage.after.get("descriptor"):
        from launch.embedding import embedding_of_run

        stores = {role: one.store for role, one in sets.items()}
        run, step = _run_of(descriptor, workdir)
        _, embeddings["descriptor"], _ = embedding_of_run(run, stores, folder / "cache", mesh, step=step)
    names = [*how["detectors"], *(f"{kind}:{name}" for name, one in embeddings.items() for kind in one.kinds)]
    question = Question(
        symmetry=how["symmetry"],
        score=how["score"],
        channels=tuple(how["channels"]) or None,
        criterion=Criterion(rule=how["threshold"], rate=how["rate"]),
        detectors=tuple(make_detectors(names, embeddings)),
    )
    return audit(
        sets["train"],
        sets["synthetic"],
        sets.get("heldout"),
        question,
        mesh=mesh,
        kept=folder / "cache",
        progress=boot.pairs_bar,
    )


def _audit(stage: Stage, workdir: Path, folder: Path) -> dict[str, Any]:
    from launch.studying.outcome import keep
    from memjax.audit.report.report import write

    findings = _findings(stage, workdir, folder)
    write(folder, findings, command=boot.command())
    keep(folder, findings)
    return {"n_synthetic": len(findings.synthetic.store)}


def _release(stage: Stage, workdir: Path, folder: Path) -> dict[str, Any]:
    from memjax.audit.release import release

    audited = stage.after["audit"]
    # The audit's own detector alone chooses: the others, also all together, have to judge what it leaves.
    findings = dataclasses.replace(_findings(audited, workdir, audited.folder(workdir)), agreement=None)
    if not (folder / "released").exists():
        given = images_of(audited.after["sample"], workdir)
        if not release(folder / "released", findings, given):
            shutil.rmtree(folder / "released")
            raise UserError("every synthetic image is a copy: nothing is left to release.")
    if not (folder / "images").exists():
        (folder / "released" / "images").rename(folder / "images")
    return {}


def _quality(stage: Stage, workdir: Path, folder: Path) -> dict[str, Any]:
    from launch.measuring import make_features, quality
    from launch.studying.outcome import keep_quality
    from memjax.mesh import audit_mesh

    how, sets = stage.settings, _sets(stage, workdir)
    stores = {role: one.store for role, one in sets.items()}
    descriptor = stage.after.get("descriptor")
    run, step = _run_of(descriptor, workdir) if descriptor else (None, None)
    features = make_features(
        how["features"],
        weights=Path(stage.aside["weights"]) if how["weights"] else None,
        run=run,
        step=step,
        shape=stores["train"].manifest.shape,
        mesh=audit_mesh(),
    )
    found = quality(
        stores["train"],
        stores["synthetic"],
        stores.get("heldout"),
        features,
        infinity=how["infinity"],
        seed=how["seed"],
    )
    keep_quality(folder, found)
    return {}


_HOW: dict[str, Callable[[Stage, Path, Path], dict[str, Any]]] = {
    "source": _source,
    "data": _data,
    "autoencoder": _train,
    "latents": _latents,
    "train": _train,
    "descriptor": _train,
    "sample": _sample,
    "release": _release,
    "audit": _audit,
    "quality": _quality,
}
