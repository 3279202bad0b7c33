"""From a study's config to its cells, and from each cell to the stages that make it."""

import copy
import dataclasses
import functools
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from configs.studies.base import AXES, CONTROLS
from launch.studying.stage import Kind, Stage, with_needs
from memjax.data.manifest import read_manifest
from memjax.data.store import is_store
from memjax.digest import file_digest
from memjax.errors import UserError
from memjax.study.row import Value

_NUMBERS = {"n_train": 0, "thinning": 1, "duplicates": 1, "images_seen": 0, "samples": 0, "seed": 0}  # and the least
_SWITCHES = ("deduplicate", "ada", "early_stop", "release")
_NO_PART_OF_A_MODEL = ("steps", "every", "monitor", "phantoms", "samples", "n_train", "fsdp")
_KEYS = ("axes", "audit", "augmentations", "claims", "descriptor", "duplicated_share", "generators", "model_sizes")
_KEYS += ("quality", "question", "samples", "sources", "title", "without")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """One combination of the axes' values.

    name: what differs from other cells: "generator=ddpm,n_train=64".
    axes: every axis, also those with one value.
    parts: the stages whose results the table reads, by what they are: data, train (of what was trained), sample,
      descriptor and quality (if asked for), audit.
    """

    name: str
    axes: Mapping[str, Value]
    parts: Mapping[str, Stage]

    @property
    def stages(self) -> list[Stage]:
        """All stages, each once, in an order of work."""
        found: dict[str, Stage] = {}
        for part in self.parts.values():
            found |= {stage.name: stage for stage in with_needs(part)}
        return list(found.values())


def cells(config: Mapping[str, Any]) -> list[Cell]:
    """Return the cells of a study in the order of work, which is that of the axes' values.

    Args:
      config: as `configs/studies` makes them, as plain values.

    Raises:
      UserError: the config is no study's, or one of its cells cannot be.
    """
    _check_keys(config)
    axes = {name: _values(config, name) for name in AXES}
    varying = [name for name, values in axes.items() if len(values) > 1]
    found = []
    for combination in itertools.product(*axes.values()):
        chosen = dict(zip(axes, combination, strict=True))
        if any(all(chosen[axis] == value for axis, value in left_out.items()) for left_out in config["without"]):
            continue
        name = ",".join(f"{axis}={chosen[axis]}" for axis in varying) or "all"
        try:
            found.append(Cell(name=name, axes=chosen, parts=_parts(config, chosen)))
        except UserError as error:
            raise UserError(f"the cell {name} cannot be: {error}") from None
    if not found:
        raise UserError("config.without leaves out every cell; leave one.")
    return found


def _check_keys(config: Mapping[str, Any]) -> None:
    for name in _KEYS:
        if name not in config:
            raise UserError(f"the config has no key {name!r}: it is no study's; give one of configs/studies/.")
    for name in config["axes"]:
        if name not in AXES:
            raise UserError(f"config.axes.{name} does not exist; there are {', '.join(AXES)}.")
    for left_out in config["without"]:
        if strange := [axis for axis in left_out if axis not in AXES]:
            raise UserError(f"config.without names the axis {strange[0]!r}; there are {', '.join(AXES)}.")
    if not config["sources"] or not config["generators"]:
        raise UserError("config.sources and config.generators must not be empty; see configs/studies/base.py.")


def _values(config: Mapping[str, Any], name: str) -> tuple[Value, ...]:
    """Return an axis's values, each of them legal by itself."""
    given = config["axes"].get(name, AXES[name])
    values = tuple(given) if isinstance(given, list | tuple) else (given,)
    names = {
        "source": tuple(config["sources"]),
        "generator": (*config["generators"], *CONTROLS),
        "model_size": ("", *config["model_sizes"]),
        "augmentation": tuple(config["augmentations"]),
    }.get(name)
    if names is not None and values == (None,):
        values = names[:1]
    if not values or len(set(values)) < len(values):
        raise UserError(f"config.axes.{name}={given!r} must be different values, one or more.")
    for value in values:
        if names is not None and value not in names:
            raise UserError(f"config.axes.{name}: {value!r} is none of {', '.join(filter(None, names))}.")
        if name in _SWITCHES and not isinstance(value, bool):
            raise UserError(f"config.axes.{name}: {value!r} must be True or False.")
        if name in _NUMBERS and not (isinstance(value, int) and value >= _NUMBERS[name]):
            raise UserError(f"config.axes.{name}: {value!r} must be a whole number from {_NUMBERS[name]} on.")
    return values


def _parts(config: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Stage]:
    data = _data(config, chosen)
    parts = {"data": data}
    if chosen["generator"] in CONTROLS:
        sample = _control(config, chosen, data)
    else:
        parts["train"] = _trained(config, chosen, data)
        settings = {"n": chosen["samples"] or config["samples"], "seed": chosen["seed"]}
        sample = Stage(kind="sample", settings=settings, after={"run": parts["train"]})
    parts["sample"] = sample
    descriptor = _descriptor(config, chosen, data)
    if descriptor:
        parts["descriptor"] = descriptor
    audit = _audit(config, data, sample, descriptor)
    if chosen["release"]:
        parts["sample"] = Stage(kind="release", settings={"chosen_by": "the score"}, after={"audit": audit})
        audit = _audit(config, data, parts["sample"], descriptor)
    parts["audit"] = audit
    if config["quality"]["features"] != "none":
        parts["quality"] = _quality(config, data, parts["sample"], descriptor)
    return parts


def _data(config: Mapping[str, Any], chosen: Mapping[str, Any]) -> Stage:
    """Return the choice of images: of a source's patients, some are held out, some are trained on."""
    given = config["sources"][chosen["source"]]
    if given["input"]:
        path = Path(given["input"]).expanduser()
        if not path.exists():
            name = chosen["source"]
            raise UserError(f"config.sources.{name}.input={path}: there is nothing; give --data={name}=DIR.")
        content = {"digest": read_manifest(path).digest} if is_store(path) else {"path": str(path.resolve())}
        settings = {"input": content, "preparation": dict(given.get("preparation", {}))}
        source = Stage(kind="source", settings=settings, aside={"path": str(path)})
    else:
        source = Stage(kind="source", settings={"phantoms": dict(given["phantoms"])})
    times = 1 if chosen["deduplicate"] else chosen["duplicates"]
    settings = {"n_train": chosen["n_train"], "thinning": chosen["thinning"], "deduplicate": chosen["deduplicate"]}
    settings["duplicates"] = times
    settings |= {"heldout": given["heldout_patients"], "unseen": given["unseen_patients"], "split_seed": given["seed"]}
    if chosen["n_train"] or times > 1:
        settings["seed"] = chosen["seed"]
    if times > 1:
        settings["share"] = config["duplicated_share"]
    if chosen["generator"] == "unseen" and not given["unseen_patients"]:
        raise UserError(
            f"the generator `unseen` hands back images of patients who are neither trained on nor held out: set "
            f"config.sources.{chosen['source']}.unseen_patients."
        )
    return Stage(kind="data", settings=settings, after={"source": source})


def _control(config: Mapping[str, Any], chosen: Mapping[str, Any], data: Stage) -> Stage:
    for axis in ("model_size", "augmentation", "ada", "early_stop", "images_seen"):
        if chosen[axis] != AXES[axis] and len(_values(config, axis)) > 1:
            raise UserError(
                f"{axis}={chosen[axis]} says nothing of {chosen['generator']}, which nobody trains; use config.without."
            )
    n = chosen["samples"] or config["samples"]
    settings = {"control": chosen["generator"], "n": n, "seed": chosen["seed"]}
    return Stage(kind="sample", settings=settings, after={"data": data})


def _trained(config: Mapping[str, Any], chosen: Mapping[str, Any], data: Stage) -> Stage:
    name = chosen["generator"]
    given = copy.deepcopy(dict(config["generators"][name]))
    is_latent = "autoencoder" in given
    train = given["ddpm"] if is_latent else given
    if chosen["model_size"]:
        sizes = config["model_sizes"][chosen["model_size"]]
        if name not in sizes:
            raise UserError(f"config.model_sizes.{chosen['model_size']} says nothing of the generator {name}.")
        _merge(train, sizes[name], f"config.model_sizes.{chosen['model_size']}.{name}")
    if chosen["ada"]:
        if "ada" not in train:
            raise UserError(f"ada is for StyleGAN2, not for {name}; leave it out with config.without.")
        train["ada"]["enabled"] = True
    if chosen["early_stop"] and not train["every"]["monitor"]:
        raise UserError(f"early_stop needs a monitor: set config.generators.{name}.every.monitor to some steps.")
    augmentation = dict(config["augmentations"][chosen["augmentation"]])
    if not is_latent:
        _merge(train["augment"], augmentation | {"enabled": bool(augmentation)}, "config.augmentations")
        return _training("train", train, chosen, {"data": data})
    autoencoder = _training("autoencoder", given["autoencoder"], {**chosen, "images_seen": 0}, {"data": data})
    settings = {"views": given.get("views", 1) if augmentation else 1, "augmentation": augmentation}
    settings["seed"] = chosen["seed"]
    latents = Stage(kind="latents", settings=settings, after={"data": data, "run": autoencoder})
    return _training("train", train, chosen, {"data": latents})


def _training(kind: Kind, train: dict[str, Any], chosen: Mapping[str, Any], after: Mapping[str, Stage]) -> Stage:
    """Return a training of a whole number of steps, which goes on from shorter ones of the same settings."""
    steps = -(-chosen["images_seen"] // train["batch_size"]) if chosen["images_seen"] else train["steps"]
    train["seed"] = chosen["seed"]
    stops = chosen["early_stop"] and kind == "train"
    kept = {name: value for name, value in train.items() if name not in _NO_PART_OF_A_MODEL}
    settings = {"config": kept, "early_stop": stops}
    if stops:
        settings["watched"] = {"steps": steps, "every": train["every"]["monitor"], "monitor": train["monitor"]}
    watch = {name: train[name] for name in _NO_PART_OF_A_MODEL if name in train}
    return Stage(kind=kind, settings=settings, after=after, mark=steps, aside={"watch": watch})


def training_config(stage: Stage) -> dict[str, Any]:
    """Return the whole config of a training."""
    return {**stage.settings["config"], **stage.aside["watch"], "steps": stage.mark, "n_train": 0, "phantoms": {}}


def _descriptor(config: Mapping[str, Any], chosen: Mapping[str, Any], data: Stage) -> Stage | None:
    if not config["descriptor"]:
        return None
    train = copy.deepcopy(dict(config["descriptor"]))
    return _training("descriptor", train, {**chosen, "images_seen": 0, "early_stop": False}, {"data": data})


def _audit(config: Mapping[str, Any], data: Stage, sample: Stage, descriptor: Stage | None) -> Stage:
    after = {"data": data, "sample": sample, **({"descriptor": descriptor} if descriptor else {})}
    return Stage(kind="audit", settings=dict(config["audit"]), after=after)


def _quality(config: Mapping[str, Any], data: Stage, sample: Stage, descriptor: Stage | None) -> Stage:
    settings, aside = dict(config["quality"]), {}
    after = {"data": data, "sample": sample}
    if settings["weights"]:
        aside["weights"] = str(Path(settings["weights"]).expanduser())
        settings["weights"] = _content(aside["weights"])
    if settings["features"] == "descriptor":
        if descriptor is None:
            raise UserError("config.quality.features=descriptor needs one: give config.descriptor its config.")
        after["descriptor"] = descriptor
    return Stage(kind="quality", settings=settings, after=after, aside=aside)


@functools.cache  # every cell asks
def _content(path: str) -> str:
    """Return the digest of a file."""
    if not Path(path).is_file():
        raise UserError(f"config.quality.weights={path}: there is no such file.")
    return file_digest(Path(path))


def _merge(into: dict[str, Any], changes: Mapping[str, Any], where: str) -> None:
    """Put changes into a nested config, whose keys are all there already."""
    for key, value in changes.items():
        if key not in into:
            raise UserError(f"{where} sets {key!r}, which the config does not have.")
        if isinstance(value, Mapping) and isinstance(into[key], dict):
            _merge(into[key], value, where)
        else:
            into[key] = value
