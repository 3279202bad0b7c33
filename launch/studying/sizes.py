"""How much work a stage of a study is and how many bytes it writes: from shapes and settings, without doing it."""

import dataclasses
import functools
import json
import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from launch.studying.grid import training_config
from launch.studying.stage import Stage
from memjax.artifacts.run import saved_steps
from memjax.data.manifest import read_manifest
from memjax.data.store import is_store
from memjax.digest import settings_digest

_CHECKPOINTS = 2  # kept of a training; one more where one is protected
_WEIGHTS = 3  # files kept at most: of two looks, and what it ended with
_PAGE_BYTES = 3_000_000  # of a report with its figures
_COARSE = 32  # voxels across a head whose slices are counted
_ROW_BYTES = 300  # of an image in an audit's tables and kept searches


@dataclasses.dataclass(frozen=True)
class Rate:
    """What a stage has in common with others that take as long for each unit of work, and how many units it is."""

    of: Hashable
    amount: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work:
    """What a stage is to do. None: not known before its images are prepared."""

    images: int | None  # to see, draw, compare …
    size_bytes: int | None  # to write
    rates: Sequence[Rate] = ()  # those of its likes first


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Images:
    """Images that a stage reads or writes; about as many, before they are chosen."""

    shape: tuple[int, ...]  # [*space, channels]
    value_bytes: int
    n_train: int
    n_heldout: int = 0
    n_unseen: int = 0

    @property
    def n(self) -> int:
        return self.n_train + self.n_heldout + self.n_unseen

    @property
    def values(self) -> int:
        """Of one image."""
        return math.prod(self.shape)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Model:
    parameters: int  # of all networks that are trained
    state_bytes: int
    weights_bytes: int


class Sizes:
    """The work of a study's stages, as far as it is known from what is in the study's folder."""

    def __init__(self, stages: Sequence[Stage], workdir: Path):
        """Look at `stages`, all of the study, whose results are or will be in `workdir`."""
        self._workdir = workdir
        self._trainings: Mapping[str, list[Stage]] = defaultdict(list)  # those that continue each other, by key
        for stage in stages:
            if stage.mark:
                self._trainings[stage.key].append(stage)
        self._known: dict[str, _Images | None] = {}

    def work(self, stage: Stage) -> Work:
        """Return what a stage is to do.

        Raises:
          UserError: its model does not fit its images.
        """
        return _OF_KIND[stage.kind](self, stage)

    def _prepared(self, stage: Stage) -> Work:
        images = self._images(stage)
        if images is None:
            return Work(images=None, size_bytes=None)
        amount = images.n * images.values
        named = [name for name in ("deduplicate", "phantoms") if stage.settings.get(name)]
        return Work(
            images=images.n,
            size_bytes=amount * images.value_bytes,
            rates=[Rate((stage.kind, *named), amount)],
        )

    def _trained(self, stage: Stage) -> Work:
        config, data = training_config(stage), self._images(stage.after["data"])
        before = self._steps_before(stage)
        images = (self._last_step(stage) - before) * config["batch_size"]
        if data is None:
            return Work(images=images, size_bytes=None)
        model = _model(json.dumps(_model_config(stage)), data.shape)
        looks = _looks(config, stage.mark) - _looks(config, before)
        kept = 0 if before else min(_CHECKPOINTS, stage.mark // config["every"]["save"] + 1) + bool(looks)
        return Work(
            images=images,
            size_bytes=kept * model.state_bytes + min(looks or 1, _WEIGHTS) * model.weights_bytes,
            rates=[
                Rate((stage.kind, _like(stage), data.shape), images),
                Rate((stage.kind, config["task"]), images * model.parameters * math.prod(data.shape[:-1])),
            ],
        )

    def _encoded(self, stage: Stage) -> Work:
        latents, data = self._images(stage), self._images(stage.after["data"])
        if latents is None or data is None:
            return Work(images=None, size_bytes=None)
        return Work(
            images=latents.n,
            size_bytes=latents.n * latents.values * latents.value_bytes,
            rates=[Rate((stage.kind, _like(stage.after["run"]), data.shape), latents.n)],
        )

    def _drawn(self, stage: Stage) -> Work:
        n, images = self._n_drawn(stage), self._images(self._data_of(stage))
        if images is None:
            return Work(images=n, size_bytes=None)
        size_bytes = n * images.values * images.value_bytes
        if "run" not in stage.after:
            return Work(images=n, size_bytes=size_bytes, rates=[Rate((stage.kind, "images"), n * images.values)])
        run = stage.after["run"]
        config, trained_on = training_config(run), self._images(run.after["data"])
        assert trained_on, "of the same data as the images"
        model = _model(json.dumps(_model_config(run)), trained_on.shape)
        evaluations = n * config["sampler"].get("steps", 1)
        return Work(
            images=n,
            size_bytes=size_bytes,
            rates=[
                Rate((stage.kind, _like(run), images.shape), n),
                Rate((stage.kind, config["task"]), evaluations * model.parameters * math.prod(trained_on.shape[:-1])),
            ],
        )

    def _compared(self, stage: Stage) -> Work:
        n, images = self._n_drawn(stage.after["sample"]), self._images(stage.after["data"])
        if images is None:
            return Work(images=n, size_bytes=None)
        pairs = n * images.n_train + (n + images.n_train) * images.n_heldout
        together, how = n + images.n_train + images.n_heldout, settings_digest(stage.settings)
        amount = together if stage.kind == "quality" else pairs
        return Work(
            images=n,
            size_bytes=_PAGE_BYTES + together * _ROW_BYTES if stage.kind == "audit" else 0,
            rates=[Rate((stage.kind, how, images.shape), amount), Rate((stage.kind, how), amount * images.values)],
        )

    def _n_drawn(self, stage: Stage) -> int:
        """Return how many images a sample or what is left of it has, at most."""
        while stage.kind == "release":
            stage = stage.after["audit"].after["sample"]
        return stage.settings["n"]

    def _data_of(self, stage: Stage) -> Stage:
        """Return the choice of images that a stage goes back to."""
        while stage.kind != "data":
            stage = stage.after.get("data") or stage.after.get("run") or stage.after["audit"]
        return stage

    def _steps_before(self, stage: Stage) -> int:
        """Return the step that a training goes on from: where a shorter one ends, or it was interrupted."""
        others = [one for one in self._trainings[stage.key] if one.mark != stage.mark]
        if stage.is_done(self._workdir):
            return max((one.mark for one in others if one.mark < stage.mark), default=0)
        if any(one.mark > stage.mark and one.is_done(self._workdir) for one in others):
            return 0  # that one went past it
        steps = [one.mark for one in others] + saved_steps(stage.folder(self._workdir) / "run")
        return max((step for step in steps if step < stage.mark), default=0)

    def _last_step(self, stage: Stage) -> int:
        if not stage.is_done(self._workdir):
            return stage.mark
        return stage.told(self._workdir)["facts"].get("step", stage.mark)

    def _images(self, stage: Stage) -> _Images | None:
        if stage.name not in self._known:
            found = self._there(stage)
            self._known[stage.name] = found or _EXPECTED[stage.kind](self, stage)
        return self._known[stage.name]

    def _there(self, stage: Stage) -> _Images | None:
        """Return the images that a stage has written already."""
        folder = stage.folder(self._workdir)
        if not stage.is_done(self._workdir):
            return None
        if stage.kind == "source":
            return _of_store(folder / "images")
        n = {name: read_manifest(folder / name).n for name in ("heldout", "unseen") if (folder / name).exists()}
        train = _of_store(folder / "train")
        return dataclasses.replace(train, n_heldout=n.get("heldout", 0), n_unseen=n.get("unseen", 0))

    def _source(self, stage: Stage) -> _Images | None:
        if "phantoms" in stage.settings:
            return _phantoms(stage.settings["phantoms"])
        path, size = Path(stage.aside["path"]), stage.settings["preparation"].get("size")
        if not is_store(path):
            return None
        given = _of_store(path)
        return dataclasses.replace(given, shape=(*size, given.shape[-1])) if size else given

    def _chosen(self, stage: Stage) -> _Images | None:
        source, how = self._images(stage.after["source"]), stage.settings
        if source is None:
            return None
        n = source.n // how["thinning"]
        n_heldout, n_unseen = (
            round(n * how[name]) if how[name] < 1 else int(how[name]) for name in ("heldout", "unseen")
        )
        n_train = min(how["n_train"] or n, max(1, n - n_heldout - n_unseen))
        n_train += round(n_train * how.get("share", 0)) * (how["duplicates"] - 1)
        return dataclasses.replace(source, n_train=n_train, n_heldout=n_heldout, n_unseen=n_unseen)

    def _latents(self, stage: Stage) -> _Images | None:
        from memjax.models.autoencoder import autoencoder

        images = self._images(stage.after["data"])
        if images is None:
            return None
        config = training_config(stage.after["run"])
        return _Images(
            shape=tuple(autoencoder(images.shape, config["autoencoder"]).latent_shape),
            value_bytes=4,
            n_train=images.n_train * stage.settings["views"],
            n_heldout=images.n_heldout,
        )


def _like(stage: Stage) -> str:
    """Return what trainings have in common that differ in length, seed or images."""
    return settings_digest(_model_config(stage))


def _model_config(stage: Stage) -> dict[str, Any]:
    return {**stage.settings["config"], "seed": 0}


def _looks(config: Mapping[str, Any], steps: int) -> int:
    """Return how often weights are written before the last step: by a monitor, or at most so often by patience."""
    every = config["every"]["monitor"]
    if not every and config.get("stop", {}).get("patience"):
        every = config["every"]["evaluate"]
    return steps // every if every else 0


@functools.cache  # a study has few models and many trainings
def _model(config: str, shape: tuple[int, ...]) -> _Model:
    import jax
    import numpy as np

    from memjax.keys import key_for
    from memjax.mesh import train_mesh
    from memjax.train.tasks import make_task
    from memjax.trees import count

    task = make_task(json.loads(config), shape=shape, mesh=train_mesh(1, 1))
    state = jax.eval_shape(task.init, key_for(0, "init"))
    size = sum(math.prod(leaf.shape) * np.dtype(leaf.dtype).itemsize for leaf in jax.tree.leaves(state))
    weights = jax.eval_shape(task.weights, state)
    return _Model(parameters=count(state.params), state_bytes=size, weights_bytes=4 * count(weights))


def _of_store(path: Path) -> _Images:
    import numpy as np

    manifest = read_manifest(path)
    return _Images(shape=tuple(manifest.shape), value_bytes=np.dtype(manifest.dtype).itemsize, n_train=manifest.n)


def _phantoms(given: Mapping[str, Any]) -> _Images:
    from memjax.data.phantoms import draw

    kind, size = given["kind"], tuple(given["size"])
    shape = draw(kind, (), size=size).images.shape[1:]
    per_patient = 1
    if kind == "brain_slices":  # those with enough brain: about as many in a coarse one
        coarse = (*(min(side, _COARSE) for side in size[:2]), *size[2:])
        per_patient = len(draw(kind, range(1), seed=given["seed"], size=coarse).images)
    return _Images(shape=shape, value_bytes=1, n_train=per_patient * given["n_patients"])


_OF_KIND: dict[str, Callable[[Sizes, Stage], Work]] = {
    "source": Sizes._prepared,
    "data": Sizes._prepared,
    "autoencoder": Sizes._trained,
    "latents": Sizes._encoded,
    "train": Sizes._trained,
    "descriptor": Sizes._trained,
    "sample": Sizes._drawn,
    "release": Sizes._drawn,
    "audit": Sizes._compared,
    "quality": Sizes._compared,
}
_EXPECTED: dict[str, Callable[[Sizes, Stage], _Images | None]] = {
    "source": Sizes._source,
    "data": Sizes._chosen,
    "latents": Sizes._latents,
}
