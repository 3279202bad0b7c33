"""From a config, a store and a run folder to a trained model: what `launch.train`, the demo and studies share."""

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launch import boot
from memjax.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from jax.sharding import Mesh

    from memjax.data.pipeline import Pipeline
    from memjax.data.store import Store
    from memjax.data.views import Views
    from memjax.train.loop import Data, Outcome
    from memjax.train.patience import Patience
    from memjax.train.profiler import Profiling
    from memjax.train.stretches import Source, Stretches

_EVALUATED = 256  # images of each set that the loss by noise level is taken over, at most


@dataclasses.dataclass(frozen=True)
class Sets:
    """The images of a run: those trained on, and those of other people, if there are any."""

    store: "Store"
    ids: "np.ndarray"
    heldout: "tuple[Store, np.ndarray] | None"


def train(
    config: Mapping[str, Any],
    workdir: Path,
    *,
    data: Path | None,
    heldout: Path | None = None,
    stop_on_memorization: bool = False,
    allow_config_change: bool = False,
    workers: int = 0,
    n_devices: int | None = None,
    keep_weights: int = 2,
    profiling: "Profiling | None" = None,
    is_asked_to_stop: Callable[[int], bool] = lambda step: False,
) -> "Outcome":
    """Train, or go on training, and write everything that belongs to the run.

    Args:
      config: as `configs/` makes them.
      workdir: the run's folder.
      data: an image store; None: draw the config's phantoms.
      heldout: an image store of people not trained on; None: the split of `data` that is held out.
      stop_on_memorization: end when the monitor sees copying.
      allow_config_change: go on although the config differs from the run's.
      workers: processes that load images; 0: threads.
      n_devices: None: all.
      keep_weights: how many looks' weights stay (see `memjax.train.exports`); 0: all.
      profiling: which steps this process is profiled in.
      is_asked_to_stop: asked after every step; if so, the state is saved, and that was all.

    Raises:
      UserError: something that was given does not fit.
    """
    import jax

    from launch.monitor import MemorizationMonitor
    from memjax import __version__
    from memjax.artifacts.checkpoint import Checkpoints
    from memjax.artifacts.run import Run
    from memjax.artifacts.weights import written_steps
    from memjax.build import build
    from memjax.data.exposures import write_exposures
    from memjax.mesh import audit_mesh, train_mesh
    from memjax.train.loop import Every, fit
    from memjax.train.tasks import make_task

    _check(config, stop_on_memorization)
    sets = _sets(config, workdir, data, heldout)
    patience = _patience(config, sets)
    mesh = train_mesh(config["fsdp"], n_devices)
    pipeline = _pipeline(config, sets, workers)
    classes = pipeline.classes if config["with_labels"] else ()
    every = build(Every, config["every"], "every")
    facts = {"version": __version__, "data": _facts(sets, classes)}
    task = make_task(config, shape=sets.store.manifest.shape, mesh=mesh, label_share=facts["data"]["class_share"])
    writes = jax.process_index() == 0
    with (
        Run.open(
            workdir,
            config,
            facts=facts,
            allow_config_change=allow_config_change,
            may_write=writes,
        ) as run,
        Checkpoints(run.checkpoints_dir) as checkpoints,
    ):
        monitor = None
        if every.monitor:
            monitor = build(
                MemorizationMonitor,
                config["monitor"],
                "monitor",
                draw=task.draw,
                sets=sets,
                mesh=audit_mesh(),
                may_stop=stop_on_memorization,
            )
        outcome = fit(
            task,
            dataclasses.replace(
                _data(pipeline, sets, mesh, config["batch_size"], _views(config)),
                source=_source(config, sets),
                source_before=None if _was_changed(run.path) else _source(config, sets),
            ),
            mesh=mesh,
            seed=config["seed"],
            steps=config["steps"],
            every=every,
            run=run,
            checkpoints=checkpoints,
            about={"config": dict(config), "facts": facts},
            monitor=monitor,
            patience=patience,
            keep_weights=keep_weights,
            is_asked_to_stop=is_asked_to_stop,
            progress=boot.steps_bar("training", "steps"),
            profiling=profiling,
            tell=boot.say if writes else lambda text: None,
            announce=boot.say,
        )
        if writes and not outcome.was_asked:
            kept = max(written_steps(run.weights_dir), default=0)  # before the end, if another state was better
            if outcome.is_copying:
                boot.say(
                    f"stopped after step {outcome.step}: the model copies; "
                    + (f"the newest weights are of step {kept}" if kept else "it has no weights of before")
                )
            elif patience:
                early = f"stopped after step {outcome.step}: " if outcome.step < config["steps"] else ""
                boot.say(f"{early}{patience.metric} was best after step {outcome.best_step}, of which the weights are")
            counts = _exposures(config, sets, outcome.stretches, kept)
            if counts is None:
                (workdir / "exposures.csv").unlink(missing_ok=True)
                boot.say(
                    "how often each image was seen is not known, as the run was trained on another store before "
                    "(--allow_config_change): there is no exposures.csv"
                )
            else:
                write_exposures(workdir / "exposures.csv", sets.store, counts)
            if not outcome.is_copying:
                run.complete(outcome.step)
    return outcome


def _check(config: Mapping[str, Any], stop_on_memorization: bool) -> None:
    """Raise `UserError` for numbers that make no training."""
    for name, least in (("steps", 1), ("batch_size", 1), ("fsdp", 1), ("n_train", 0)):
        if config[name] < least:
            raise UserError(f"config.{name}={config[name]} is too small; give {least} or more.")
    if stop_on_memorization and not config["every"]["monitor"]:
        raise UserError("--stop_on_memorization needs a monitor; give --config.every.monitor=STEPS, for example 1000.")
    if config["task"] == "autoencoder" and config["every"]["monitor"]:
        raise UserError(
            "config.every.monitor looks for copies among drawn images, and an autoencoder draws none; set it to 0, and "
            "watch the diffusion model on its latents."
        )
    if config["task"] == "descriptor" and config["every"]["monitor"]:
        raise UserError(
            "config.every.monitor looks for copies among drawn images, and a descriptor draws none; set it to 0."
        )


def _sets(config: Mapping[str, Any], workdir: Path, data: Path | None, heldout: Path | None) -> Sets:
    import numpy as np

    from memjax.data.split import heldout_ids
    from memjax.data.store import Store

    if data is None:
        if heldout is not None:
            raise UserError(f"--heldout={heldout} without --data: phantoms bring their own; give --data=STORE as well.")
        train_store, other = draw_phantoms(config["phantoms"], workdir / "data")
        return Sets(train_store, _chosen(config, train_store), (other, heldout_ids(other.items)))
    store = Store.open(data)
    ids = _chosen(config, store)
    if heldout is None:
        away = heldout_ids(store.items)
        return Sets(store, ids, (store, away) if len(away) else None)
    other = Store.open(heldout)
    if other.manifest.shape != store.manifest.shape:
        raise UserError(
            f"--heldout={heldout} has images of shape {other.manifest.shape}, --data={data} of "
            f"{store.manifest.shape}; prepare them alike."
        )
    away = heldout_ids(other.items)
    return Sets(store, ids, (other, away if len(away) else np.arange(len(other))))


def _chosen(config: Mapping[str, Any], store: "Store") -> "np.ndarray":
    """Return the ids of the images to train on."""
    from memjax.data.halves import half_of
    from memjax.data.split import first_images, training_ids

    ids = training_ids(store.items)
    if not len(ids):
        raise UserError(f"{store.path} has no images to train on: all are held out; prepare it with others.")
    if config["task"] == "descriptor" and config["half"] is not None:
        ids = half_of(store, ids, config["half"])
    return first_images(store.items, ids, config["n_train"], config["seed"]) if config["n_train"] else ids


def draw_phantoms(phantoms: Mapping[str, Any], folder: Path) -> "tuple[Store, Store]":
    """Draw the phantoms of a config, once: `folder`/train to train on, and `folder`/heldout.

    Raises:
      UserError: the config names none.
    """
    import jax
    from jax.experimental import multihost_utils

    from memjax.data.phantom_store import write_phantoms
    from memjax.data.phantoms import draw
    from memjax.data.store import Store

    if not phantoms:
        raise UserError("--data is missing; give an image store to train on (launch.prepare makes one).")
    n, away = phantoms["n_train"], phantoms["n_heldout"]
    stores = []
    for name, patients in (("train", range(n)), ("heldout", range(n, n + away))):
        path = folder / name
        if not path.exists() and jax.process_index() == 0:
            boot.say(f"drawing {phantoms['kind']} phantoms of {len(patients)} patients to {path} …")
            drawn = draw(phantoms["kind"], patients, seed=phantoms["seed"], size=tuple(phantoms["size"]))
            write_phantoms(path, drawn, split=name)
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices(f"phantoms {name}")
        stores.append(Store.open(path))
    return stores[0], stores[1]


def _patience(config: Mapping[str, Any], sets: Sets) -> "Patience | None":
    """Return what ends a run when held-out images say so; None: nothing does."""
    from memjax.build import build
    from memjax.train.patience import Patience

    if config["task"] != "descriptor" or config["stop"]["patience"] == 0:
        return None
    if not config["every"]["evaluate"]:
        raise UserError("config.stop.patience counts evaluations; give config.every.evaluate=STEPS, or patience=0.")
    if sets.heldout is None and config["stop"]["metric"].startswith("heldout/"):
        raise UserError(
            f"config.stop.metric={config['stop']['metric']} is of held-out images, and there are none; give "
            "--heldout=STORE, prepare --data with --heldout_patients, or set config.stop.patience=0."
        )
    return build(Patience, config["stop"], "stop")


def _views(config: Mapping[str, Any]) -> "Views | None":
    """Return what second images of a descriptor's pairs differ by; None for other models, which have no pairs."""
    from memjax.build import build
    from memjax.data.views import Views

    return build(Views, config["views"], "views") if config["task"] == "descriptor" else None


def _pipeline(config: Mapping[str, Any], sets: Sets, workers: int) -> "Pipeline":
    from memjax.build import build
    from memjax.data.augment import Augmentation
    from memjax.data.pipeline import Pipeline

    return Pipeline(
        store=sets.store,
        batch_size=config["batch_size"],
        seed=config["seed"],
        augmentation=build(Augmentation, config["augment"], "augment"),
        with_labels=config["with_labels"],
        workers=workers,
        ids=sets.ids,
        views=_views(config),
        pair=config["pair"] if config["task"] == "descriptor" else "image",
    )


def _data(pipeline: "Pipeline", sets: Sets, mesh: "Mesh", batch_size: int, views: "Views | None") -> "Data":
    """Return this process's rows of everything: batches to train on, and sets to measure the loss on."""
    import numpy as np

    from memjax.data.pipeline import held_out_batches
    from memjax.mesh import own_rows
    from memjax.train.loop import Data

    rows = own_rows(mesh, batch_size)

    def own(store: "Store", ids: "np.ndarray") -> "Iterator[dict[str, np.ndarray]]":
        chosen = ids[np.linspace(0, len(ids) - 1, min(len(ids), _EVALUATED)).astype(int)]  # of all patients alike
        for batch in held_out_batches(store, chosen, batch_size, views):
            yield {name: values[rows] for name, values in batch.items()}

    def named() -> "dict[str, Iterator[dict[str, np.ndarray]]]":
        found = {"train": own(sets.store, sets.ids)}
        return found | ({"heldout": own(*sets.heldout)} if sets.heldout else {})

    return Data(batches_from=lambda step: pipeline.batches(step, rows), sets=named)


def _source(config: Mapping[str, Any], sets: Sets) -> "Source":
    """Return all that decides which images are seen in which step, as `_exposures` reads it."""
    half = {"half": config["half"]} if config["task"] == "descriptor" else {}
    chosen = {name: config[name] for name in ("batch_size", "seed", "n_train")}
    return {"data": sets.store.manifest.digest, **chosen, **half}


def _was_changed(run: Path) -> bool:
    """Return whether a run's config was ever changed."""
    return "earlier" in json.loads((run / "config.json").read_text(encoding="utf-8"))


def _exposures(config: Mapping[str, Any], sets: Sets, stretches: "Stretches", steps: int) -> "np.ndarray | None":
    """Return how often each image of the store was seen in the first steps: int64 [n]; None: not only it was seen."""
    import numpy as np

    from memjax.data.exposures import exposures
    from memjax.train.stretches import pieces

    counts = np.zeros(len(sets.store), np.int64)
    for first, end, source in pieces(stretches, steps):
        if source is None or source["data"] != sets.store.manifest.digest:
            return None
        ids = _chosen({**config, **source}, sets.store)
        how = {"batch_size": source["batch_size"], "seed": source["seed"], "ids": ids}
        counts += exposures(len(counts), steps=end, **how) - exposures(len(counts), steps=first, **how)
    return counts


def _facts(sets: Sets, classes: Sequence[str]) -> dict[str, Any]:
    """Return what samples must know of the training set, and what must not change under a run."""
    manifest = sets.store.manifest
    labels = [sets.store.items[i].label for i in sets.ids]
    return {
        "digest": manifest.digest,
        "heldout_digest": sets.heldout[0].manifest.digest if sets.heldout else None,
        "n": len(sets.ids),
        "shape": manifest.shape,
        "dtype": manifest.dtype,
        "axes": manifest.axes,
        "channels": manifest.channels,
        "label_channels": manifest.label_channels,
        "spacing_mm": manifest.spacing_mm,
        "latent": manifest.latent,
        "classes": list(classes),
        "class_share": [labels.count(name) / len(labels) for name in classes],
    }
