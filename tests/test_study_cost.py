"""What a study would cost: counted by hand, measured on what was really written, scaled from planted seconds."""

import re
import shutil
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from PIL import Image

from configs import ddpm
from configs.studies import base
from launch.studying.cost import estimate, told
from launch.studying.grid import cells
from launch.studying.machine import hardware
from launch.studying.perform import perform

N, SAMPLES, BATCH = 40, 30, 8


def study(**axes) -> dict:
    """Chest phantoms of 16 x 16, of which 10 are held out, and a toy of a diffusion model."""
    c = base.base("A study", "Does it?", ("A2",)).to_dict()
    phantoms = {"kind": "chest", "size": (16, 16), "n_patients": N, "seed": 0}
    c["sources"] = {"x": {"input": "", "phantoms": phantoms, "heldout_patients": 10, "unseen_patients": 0, "seed": 0}}
    model = ddpm.get_config("smoke").to_dict()
    model["every"] |= {"monitor": 0, "save": 100}
    model["steps"] = 10
    c["generators"] = {"ddpm": model}
    c["model_sizes"] = {"wide": {"ddpm": {"model": {"width": 16}}}}
    c["samples"] = SAMPLES
    c["quality"]["features"] = "none"
    c["axes"] |= {"generator": "ddpm"} | axes
    return c


def finish(stage, folder, seconds, **facts):
    stage.folder(folder).mkdir(parents=True, exist_ok=True)
    stage.finish(folder, seconds, facts)


def of_kind(costs, kind):
    return next(one for one in costs.kinds if one.kind == kind)


def written_bytes(folder) -> int:
    return sum(file.stat().st_size for file in folder.rglob("images.npy"))


def chosen(grid, folder) -> None:
    """Do for real what comes before the training."""
    for stage in {stage.name: stage for cell in grid for stage in cell.stages}.values():
        if stage.kind in ("source", "data"):
            finish(stage, folder, 1.0, **perform(stage, folder))


def test_before_anything_is_done_it_counts_what_there_is_to_do(tmp_path):
    grid = cells(study(n_train=(8, 20), seed=(0, 1), generator=("ddpm", "training")))
    costs = estimate(grid, tmp_path / "not_there")
    assert {one.kind: (one.n, one.n_shared, one.images) for one in costs.kinds} == {
        "source": (1, 7, N),
        "data": (4, 4, 2 * (8 + 10) + 2 * (20 + 10)),
        "train": (4, 0, 4 * 10 * BATCH),
        "sample": (8, 0, 8 * SAMPLES),
        "audit": (8, 0, 8 * SAMPLES),
    }
    assert all(one.n_untimed == one.n and not one.n_done and not one.n_unsized for one in costs.kinds)
    text = told(costs)
    assert "8 cells, 0 done" in text and "n_train=8,seed=0: to do" in text.replace("generator=ddpm,", "")
    assert re.search(r"train +4 +0 +4 +0 +320 trained on +\? ", text), text
    assert "left: ? of one process" in text
    assert not (tmp_path / "not_there").exists()


def test_what_it_says_of_images_is_what_is_written(tmp_path):
    grid = cells(study(n_train=(8, 0), duplicates=3, seed=0))
    before = estimate(grid, tmp_path)
    chosen(grid, tmp_path)
    after = estimate(grid, tmp_path)
    headers = {"source": 1, "data": 4}  # files of images
    for kind, n in headers.items():
        folders = [path for path in (tmp_path / "stages").iterdir() if path.name.startswith(kind)]
        assert of_kind(before, kind).size_bytes == sum(map(written_bytes, folders)) - n * 256
        assert of_kind(after, kind).n_done == len(folders) and of_kind(after, kind).size_bytes == 0
    for kind in ("train", "sample", "audit"):  # what is expected of images is what they are
        assert (of_kind(before, kind).images, of_kind(before, kind).size_bytes) == (
            of_kind(after, kind).images,
            of_kind(after, kind).size_bytes,
        )


def test_a_training_writes_two_states_and_its_weights(tmp_path):
    c = study()
    every = c["generators"]["ddpm"]["every"]

    def copies() -> float:
        return of_kind(estimate(cells(c), tmp_path), "train").size_bytes / (4 * parameters(8))

    assert 1 <= copies() / (4 + 1) < 1.01  # saved once: with average and two moments, and the weights
    every["save"] = 2
    assert 1 <= copies() / (2 * 4 + 1) < 1.01
    every["monitor"] = 5  # two looks; and its state is kept as well
    assert 1 <= copies() / (3 * 4 + 2) < 1.01


def test_times_are_scaled_by_images_by_parameters_and_by_pairs(tmp_path):
    grid = cells(study(n_train=(8, 20), model_size=("", "wide")))
    chosen(grid, tmp_path)
    first, alike, wide = grid[0], grid[2], grid[1]
    assert (alike.axes["n_train"], alike.axes["model_size"], wide.axes["model_size"]) == (20, "", "wide")
    finish(first.parts["train"], tmp_path, 100.0, step=10)

    def left(cell, kind):
        return of_kind(estimate([first, cell], tmp_path), kind)

    assert left(alike, "train").seconds == pytest.approx(100)  # as many images of the same model
    assert left(wide, "train").seconds / 100 == pytest.approx(parameters(16) / parameters(8))
    assert left(wide, "sample").n_untimed == 2
    finish(first.parts["sample"], tmp_path, 6.0)
    assert left(alike, "sample").seconds == pytest.approx(6)
    assert left(wide, "sample").seconds / 6 == pytest.approx(parameters(16) / parameters(8))
    finish(first.parts["audit"], tmp_path, 10.0)
    pairs = {n: SAMPLES * n + (SAMPLES + n) * 10 for n in (8, 20)}
    assert left(alike, "audit").seconds / 10 == pytest.approx(pairs[20] / pairs[8])


def parameters(width: int) -> int:
    from memjax.models.denoiser import denoiser
    from memjax.trees import count

    model = ddpm.get_config("smoke").to_dict()
    net = denoiser((16, 16, 1), model=model["model"] | {"width": width}, diffusion=model["diffusion"], n_classes=None)
    return count(jax.eval_shape(net.init, jax.random.key(0)))


def test_longer_trainings_cost_what_they_have_more(tmp_path):
    grid = cells(study(images_seen=(10 * BATCH, 25 * BATCH)))
    chosen(grid, tmp_path)
    short, long = (cell.parts["train"] for cell in grid)
    assert of_kind(estimate(grid, tmp_path), "train").images == 25 * BATCH
    finish(short, tmp_path, 50.0, step=10)
    left = of_kind(estimate(grid, tmp_path), "train")
    assert (left.images, left.seconds) == (15 * BATCH, pytest.approx(75))
    (short.folder(tmp_path) / "run" / "checkpoints" / "21").mkdir(parents=True)  # interrupted there
    (short.folder(tmp_path) / "run" / "checkpoints" / "24.orbax-checkpoint-tmp").mkdir()
    assert of_kind(estimate(grid, tmp_path), "train").images == 4 * BATCH
    finish(long, tmp_path, 60.0, step=25)
    wanted = cells(study(images_seen=(10 * BATCH, 25 * BATCH, 40 * BATCH)))
    assert of_kind(estimate(wanted, tmp_path), "train").seconds == pytest.approx(15 / 25 * (50 + 60))


def test_latents_are_of_the_shape_that_the_autoencoder_makes(tmp_path):
    from configs import demo

    c = study()
    c["sources"]["x"]["phantoms"] |= {"kind": "vessel", "size": (16, 16, 16)}
    models = {name: demo.get_config(f"{name},volumes").to_dict() for name in ("autoencoder", "ddpm")}
    models["ddpm"]["model"]["mults"] = (1,)
    c["generators"] = {"ddpm": {**models, "views": 3}}
    c["augmentations"]["flips"] = {"flip_axes": (0,)}
    c["axes"]["augmentation"] = "flips"
    latents = of_kind(estimate(cells(c), tmp_path), "latents")
    assert latents.images == 3 * (N - 10) + 10  # held-out images once
    assert latents.size_bytes == latents.images * 4**3 * 4 * 4  # a quarter of each side, 4 numbers of 4 bytes


def test_a_disk_too_small_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    costs = estimate(cells(study()), tmp_path)
    assert f"the disk of {tmp_path} has 1 kB free" in costs.shortage
    assert f"warning: {costs.shortage}" in told(costs)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=costs.size_bytes))
    assert estimate(cells(study()), tmp_path).shortage == ""


def test_images_that_nobody_has_opened_are_not_guessed(tmp_path):
    (tmp_path / "given").mkdir()
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(tmp_path / "given" / "a.png")
    c = study()
    c["sources"]["x"] |= {"input": str(tmp_path / "given")}
    costs = estimate(cells(c), tmp_path / "study")
    assert of_kind(costs, "train").images == 10 * BATCH
    assert [of_kind(costs, kind).n_unsized for kind in ("source", "data", "train", "sample", "audit")] == [1] * 5
    assert "not known before the images are prepared" in told(costs)


def test_a_model_that_cannot_be_is_told_before_anything_runs(tmp_path):
    c = study()
    c["sources"]["x"]["phantoms"]["size"] = (18, 18)
    c["generators"]["ddpm"]["model"]["mults"] = (1, 1, 1)
    costs = estimate(cells(c), tmp_path)
    (problem,) = costs.problems  # once, of all its stages
    assert problem.startswith("the cell all cannot be: ")
    assert f"error: {problem}" in told(costs)
    assert of_kind(costs, "audit").images == SAMPLES  # of the others the costs are told all the same


def test_nothing_is_left_of_what_is_done(tmp_path):
    grid = cells(study())
    chosen(grid, tmp_path)
    for stage in grid[0].stages:
        if not stage.is_done(tmp_path):
            finish(stage, tmp_path, 1.0, step=10)
    costs = estimate(grid, tmp_path)
    assert (costs.seconds, costs.size_bytes, costs.problems) == (0, 0, [])
    assert "1 cells, 1 done" in told(costs) and "?" not in told(costs)


def test_hardware_is_told_without_names_of_machines(monkeypatch):
    monkeypatch.setattr("launch.boot.workers", lambda: 2)
    assert re.fullmatch(r"2 CPU cores, \d+ GB", hardware())
    gpu = SimpleNamespace(platform="gpu", device_kind="NVIDIA H100", memory_stats=lambda: {"bytes_limit": 79 << 30})
    monkeypatch.setattr(jax, "devices", lambda: [gpu] * 8)
    monkeypatch.setattr(jax, "local_devices", lambda: [gpu] * 8)
    assert hardware() == "8 x NVIDIA H100, 79 GB each"
    monkeypatch.setattr(jax, "devices", lambda: [gpu])
    assert hardware() == "NVIDIA H100, 79 GB"
