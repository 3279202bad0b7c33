"""The configs of the studies: every one at every scale is a grid that can be, and studies share what they can."""

import dataclasses
import importlib
import itertools
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.studies import base, parts
from configs.studies.sources import SOURCES
from launch.studying.grid import cells
from launch.studying.stage import Stage
from memjax.build import build
from memjax.data.augment import Augmentation
from memjax.data.manifest import Item
from memjax.data.phantoms import draw
from memjax.data.preparation import Preparation
from memjax.data.readers.base import ReadOptions
from memjax.data.subset import split_patients, thinned_ids
from memjax.digest import settings_digest
from memjax.mesh import train_mesh
from memjax.models.autoencoder import autoencoder
from memjax.study import axes
from memjax.study.claims import CLAIMS
from memjax.train.tasks import make_task

STUDIES = sorted(
    path.stem
    for path in Path(parts.__file__).parent.glob("*.py")
    if path.stem not in ("__init__", "base", "parts", "sources", "generators")
)
SCALES = ("", "small", "smoke")
EVERY = list(itertools.product(STUDIES, SCALES))


def config_of(study: str, scale: str):
    return importlib.import_module(f"configs.studies.{study}").get_config(scale)


def grid_of(study: str, scale: str):
    return cells(config_of(study, scale).to_dict())


def trainings(study: str, scale: str, kind: str = "train") -> set[str]:
    return {stage.name for cell in grid_of(study, scale) for stage in cell.stages if stage.kind == kind}


@pytest.mark.parametrize(("study", "scale"), EVERY)
def test_every_study_is_a_grid_that_can_be(study, scale):
    config = config_of(study, scale)
    assert set(config) == set(base.base("", "", ()))
    assert config.title and config.question.endswith("?") and set(config.claims) <= set(CLAIMS)
    grid = cells(config.to_dict())
    names = [cell.name for cell in grid]
    assert len(set(names)) == len(names) > 0
    assert set(config.axes) == set(base.AXES) and all(isinstance(values, tuple) for values in config.axes.values())
    asked = {cell.axes["generator"] for cell in grid}
    assert asked - set(base.CONTROLS) == set(config.generators)  # what is left over would mislead a reader
    assert {cell.axes["source"] for cell in grid} == set(config.sources)
    assert {cell.axes["model_size"] for cell in grid} - {""} == set(config.model_sizes)
    for axis, values in config.axes.items():  # and every value is in some cell
        assert {cell.axes[axis] for cell in grid} == set(values) - {None} or values == (None,)
    for cell in grid:
        made = config.generators.get(cell.axes["generator"], {})
        batch = made.get("batch_size", made.get("autoencoder", {}).get("batch_size", 0))
        assert cell.axes["n_train"] == 0 or cell.axes["n_train"] >= batch, f"{cell.name}: no batch of {batch}"


def test_the_papers_claims_all_have_a_study():
    asked = Counter(claim for study in STUDIES for claim in config_of(study, "").claims)
    assert set(asked) == set(CLAIMS)
    assert len(STUDIES) == 16


@pytest.mark.parametrize("study", STUDIES)
def test_a_smoke_study_is_tiny(study):
    config = config_of(study, "smoke")
    assert len(grid_of(study, "smoke")) <= 4
    assert max(len(values) for values in config.axes.values()) <= 2
    for generator in config.generators.values():
        for train in (generator.autoencoder, generator.ddpm) if "autoencoder" in generator else (generator,):
            assert train.steps <= 8


def test_a_word_that_is_no_scale_is_refused():
    with pytest.raises(ValueError, match="'tiny' is none of small, smoke"):
        config_of("a1_generators", "tiny")


def items_of(phantoms) -> list[Item]:
    """The rows that a store of these phantoms would have, of slices as many a patient as the first patient has."""
    kind, size = phantoms["kind"], phantoms["size"]
    slices = draw(kind, [0], size=size).slice if kind == "brain_slices" else (None,)
    rows = itertools.product(range(phantoms["n_patients"]), slices)
    return [
        Item(id=i, source=f"{i}", patient=f"{patient}", slice=z, split="", label="", low=0.0, high=1.0, sha256="")
        for i, (patient, z) in enumerate(rows)
    ]


@pytest.mark.parametrize("scale", ["small", "smoke"])
def test_the_phantoms_are_enough_for_every_cell(scale):
    """For the largest training set, the thinnest slices, and the control that hands back unseen images."""
    items = {name: items_of(source["phantoms"]) for name, source in SOURCES[scale].items()}
    asked = defaultdict(set)
    for study in STUDIES:
        config = config_of(study, scale)
        for cell in grid_of(study, scale):
            is_unseen = cell.axes["generator"] == "unseen"
            samples = (cell.axes["samples"] or config.samples) if is_unseen else 0
            asked[cell.axes["source"], cell.axes["thinning"]].add((cell.axes["n_train"], samples))
    for (name, thinning), wanted in asked.items():
        source, ids = SOURCES[scale][name], np.arange(len(items[name]))
        away = {"heldout": source["heldout_patients"], "unseen": source["unseen_patients"]}
        train, _, unseen = split_patients(items[name], ids, **away, seed=source["seed"])
        train = thinned_ids(items[name], train, thinning)
        assert max(n for n, _ in wanted) <= len(train), name
        assert max(n for _, n in wanted) <= len(unseen), name


@pytest.mark.parametrize("scale", SCALES)
def test_preparations_and_augmentations_are_known_to_what_they_are_for(scale):
    of_reading = {field.name for field in dataclasses.fields(ReadOptions)}
    for name, source in SOURCES[scale].items():
        how = source["preparation"]
        build(ReadOptions, {key: value for key, value in how.items() if key in of_reading}, name)
        rest = {key: value for key, value in how.items() if key not in of_reading}
        build(Preparation, rest, name).check()
        for changes in parts.augmentations(name).values():
            build(Augmentation, {"enabled": True, **changes}, name).check(how["size"])


def test_both_generators_see_equally_many_images():
    for scale in ("", "small"):
        c = config_of("a1_generators", scale)
        seen = [generator.steps * generator.batch_size for generator in c.generators.values()]
        assert max(seen) - min(seen) < 100


def test_small_studies_share_their_trainings():
    """So that one shared folder holds each training once."""
    assert trainings("a1_generators", "small") == trainings("a2_dataset_size", "small")
    of_a2 = trainings("a2_dataset_size", "small")
    assert trainings("a3_unseen", "small") < of_a2
    assert trainings("a5_fid", "small") < of_a2
    assert trainings("b5_samples", "small") < of_a2
    base_sizes = {cell.parts["train"].name for cell in grid_of("a6_model_size", "small") if "base" in cell.name}
    assert base_sizes < of_a2
    assert len(trainings("c1_overtraining", "small") & of_a2) == 2  # both generators at the usual length
    assert len(trainings("c2_duplication", "small") & of_a2) == 1  # without duplicates
    assert len(trainings("a4_slices", "small") & of_a2) == 2  # the radiographs
    assert len(trainings("mitigation", "small") & of_a2) == 2  # without any measure
    of_b3 = trainings("b3_augmentation", "small")
    assert trainings("b1_volumes64", "small") < of_b3
    assert trainings("b4_pixels_or_embedding", "small") < of_b3
    assert len(trainings("b3_augmentation", "small", "autoencoder")) == 1
    assert trainings("b1_volumes64", "small", "audit") < trainings("b3_augmentation", "small", "audit")


def test_the_generators_fit_the_images():
    """Every network of the small studies can be made for its images: its blocks and sizes fit."""
    mesh = train_mesh(1, 1)
    made = {}
    for stage in {
        one.name: one for study in STUDIES for cell in grid_of(study, "small") for one in cell.stages
    }.values():
        if stage.kind in ("train", "autoencoder", "descriptor"):
            shape = shape_of(stage.after["data"])
            made[settings_digest([stage.settings["config"], shape])] = (stage.settings["config"], shape)
    for config, shape in made.values():
        make_task(config, shape=shape, mesh=mesh)
    assert Counter(config["task"] for config, _ in made.values()) == {
        "ddpm": 7,
        "stylegan2": 2,
        "autoencoder": 2,
        "descriptor": 2,
    }


def shape_of(data: Stage) -> tuple[int, ...]:
    """The shape of the images, or of their latents; real slices of brains have three channels."""
    if data.kind == "latents":
        return autoencoder(
            shape_of(data.after["data"]), data.after["run"].settings["config"]["autoencoder"]
        ).latent_shape
    drawn = data.after["source"].settings["phantoms"]
    return (*drawn["size"], 3 if drawn["kind"] == "brain_slices" else 1)


@given(sizes=st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_one_at_a_time_leaves_one_measure_at_most(sizes):
    axes = {f"axis{i}": tuple(range(size)) for i, size in enumerate(sizes)}
    without = parts.one_at_a_time(axes)
    every = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    left = [cell for cell in every if not any(all(cell[a] == v for a, v in out.items()) for out in without)]
    assert left == [cell for cell in every if sum(value > 0 for value in cell.values()) <= 1]


def test_controls_are_the_same_to_configs_and_to_the_table():
    assert base.CONTROLS == axes.CONTROLS  # `memjax` does not import configs
