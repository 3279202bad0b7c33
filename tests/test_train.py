"""Training and sampling by command: a run's folder, going on, stopping, and what is refused."""

import csv
import json
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest
from launching import ROOT, command, launch, store

from memjax.artifacts.metrics import read_metrics
from memjax.artifacts.weights import read_weights
from memjax.data.phantoms import draw
from memjax.data.store import Store

SMOKE = "--config=configs/ddpm.py:smoke"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A smoke run of four steps, trained whole."""
    folder = tmp_path_factory.mktemp("train") / "run"
    done = launch("train", SMOKE, f"--workdir={folder}", "--devices=1")
    assert done.status == 0, done.said
    return folder


def weights(folder):
    return read_weights(folder / "weights")[0]


def test_a_run_leaves_what_the_readme_says(run):
    assert {"config.json", "metrics.jsonl", "events", "checkpoints", "weights", "previews", "exposures.csv"} <= {
        path.name for path in run.iterdir()
    }
    assert (run / "complete").read_text() == "4\n"
    told = json.loads((run / "config.json").read_text())
    assert told["config"]["task"] == "ddpm" and told["facts"]["data"]["n"] == 12
    rows = read_metrics(run / "metrics.jsonl")
    assert {row["step"] for row in rows} == {1, 2, 3, 4}
    names = {name for row in rows for name in row}
    assert {"loss", "heldout/loss", "train/loss", "monitor/copied_fraction", "images_per_s"} <= names
    with (run / "exposures.csv").open() as file:
        seen = [int(row["exposures"]) for row in csv.DictReader(file)]
    assert sum(seen) == 4 * 8 and set(seen) <= {2, 3}


def test_the_same_command_again_does_nothing_more(run):
    before = weights(run)
    done = launch("train", SMOKE, f"--workdir={run}", "--devices=1")
    assert done.status == 0 and "going on after step 4" in done.said
    np.testing.assert_array_equal(weights(run)["stem/kernel"], before["stem/kernel"])


def test_samples_are_a_store_and_are_drawn_once(run, tmp_path):
    flags = [f"--run={run}", "--seeds=0:12", f"--out={tmp_path / 'samples'}", "--batch_size=8"]
    assert launch("sample", *flags).status == 0
    drawn = Store.open(tmp_path / "samples")
    assert len(drawn) == 12 and drawn.manifest.shape == (16, 16, 1)
    assert [item.source for item in drawn.items][:2] == ["seed_00000000", "seed_00000001"]
    assert drawn.manifest.preparation["seed_ids"] == "0:12"
    stamp = (tmp_path / "samples" / "images.npy").stat().st_mtime_ns
    assert launch("sample", *flags).status == 0
    assert (tmp_path / "samples" / "images.npy").stat().st_mtime_ns == stamp
    part = [f"--run={run}", "--seeds=5:7", f"--out={tmp_path / 'part'}", "--devices=2"]
    assert launch("sample", *part).status == 0
    found = Store.open(tmp_path / "part").images.astype(int)
    assert np.abs(found - drawn.images[5:7].astype(int)).max() <= 1  # grey levels; other batches, other roundings


def test_what_sampling_refuses(run, tmp_path):
    out = f"--out={tmp_path / 'samples'}"
    assert launch("sample", f"--run={tmp_path}", "--seeds=0:3", out).is_refusal("is no run")
    assert launch("sample", f"--run={run}", "--seeds=3:3", out).is_refusal("--seeds=3:3", "FIRST:END")
    assert launch("sample", f"--run={run}", "--seeds=0:3", out, "--step=3").is_refusal("3")
    assert launch("sample", f"--run={run}", "--seeds=0:3", out, "--steps=11").is_refusal("11")
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "mine.txt").write_text("keep")
    assert launch("sample", f"--run={run}", "--seeds=0:3", out).is_refusal("exists already")
    assert (tmp_path / "samples" / "mine.txt").read_text() == "keep"


@pytest.mark.parametrize(("given", "told"), [
    ([SMOKE, "--config.model.widht=3"], ["widht", "width"]),
    ([SMOKE, "--config.seed=1.5"], ["config.seed"]),
    (["--config=configs/ddpm.py:smke"], ["smke", "cxr1300"]),
    (["--config=configs/nothing.py"], ["configs/nothing.py"]),
    (["--config=configs/ddpm.py"], ["--data is missing"]),
    ([], ["--config is missing"]),
    ([SMOKE, "--config.batch_size=16", "--devices=1"], ["batch_size=16", "12 images"]),
    ([SMOKE, "--config.batch_size=12"], ["batch of 12", "8 devices", "8 or 16"]),
    ([SMOKE, "--config.model.mults=(1,2,2,2,2,2)", "--devices=1"], ["16 x 16", "32"]),
    ([SMOKE, "--config.diffusion.target=noise"], ["diffusion.target"]),
    ([SMOKE, "--config.every.log=0"], ["every.log=0"]),
    ([SMOKE, "--config.fsdp=3"], ["--config.fsdp=3"]),
    ([SMOKE, "--profile=5,3"], ["--profile"]),
    ([SMOKE, "--data=nowhere"], ["nowhere"]),
    ([SMOKE, "--heldout=nowhere"], ["--heldout=nowhere without --data"]),
    ([SMOKE, "--config.microbatches=0"], ["config.microbatches=0"]),
    ([SMOKE, "--config.n_train=-1"], ["config.n_train=-1"]),
    ([SMOKE, "--config.n_train=13"], ["config.n_train=13", "there are 12"]),
    ([SMOKE, "--stop_on_memorization", "--config.every.monitor=0"], ["--config.every.monitor=STEPS"]),
    ([SMOKE, "--n_processes=2"], ["--coordinator=HOST:PORT"]),
])  # fmt: skip
def test_what_training_refuses_before_it_begins(tmp_path, given, told):
    assert launch("train", *given, f"--workdir={tmp_path / 'run'}").is_refusal(*told)


def test_a_changed_config_is_told_by_key_and_a_longer_run_is_no_change(run):
    changed = launch("train", SMOKE, f"--workdir={run}", "--config.optim.lr=0.5", "--devices=1")
    assert changed.is_refusal("optim.lr was 0.0001, is 0.5", "--allow_config_change")


def test_a_run_goes_on_with_its_own_images_only(run, tmp_path):
    colours = np.repeat(draw("chest", range(12), size=(16, 16)).images, 3, axis=-1)
    other = store(tmp_path / "colours", colours, split=["train"] * 12).path
    refused = launch("train", SMOKE, f"--workdir={run}", f"--data={other}", "--config.every.monitor=0", "--devices=1")
    assert refused.is_refusal("facts.data.shape was [16, 16, 1], is [16, 16, 3]", "facts.data.digest")


def test_weights_of_other_images_are_refused(run, tmp_path):
    damaged = tmp_path / "run"
    shutil.copytree(run, damaged, ignore=shutil.ignore_patterns("compiled", "checkpoints"))
    newest = max((damaged / "weights").iterdir())
    newest.write_bytes(newest.read_bytes()[:-100])
    flags = ["--seeds=0:3", f"--out={tmp_path / 'samples'}"]
    assert launch("sample", f"--run={damaged}", *flags).is_refusal(newest.name)
    shutil.rmtree(damaged / "weights")
    assert launch("sample", f"--run={damaged}", *flags).is_refusal("weights")
    assert not (tmp_path / "samples").exists()


def test_signals_profile_a_run_and_end_it_with_0_and_it_goes_on_bit_for_bit(run, tmp_path):
    never = [f"--config.every.{name}=0" for name in ("monitor", "evaluate", "preview")]
    long = [
        SMOKE,
        "--config.steps=4000",
        "--profile_steps=3",
        *never,
        "--config.every.save=1000",
        "--devices=1",
        f"--cache={tmp_path / 'compiled'}",  # of all three runs
        f"--workdir={tmp_path / 'run'}",
    ]
    process = subprocess.Popen(command("train", *long), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    metrics = tmp_path / "run" / "metrics.jsonl"
    while not (metrics.exists() and metrics.stat().st_size) and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGUSR2)
    process.send_signal(signal.SIGUSR2)
    while not list((tmp_path / "run" / "profile").rglob("*.xplane.pb")) and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert "process 0 of 1 on " in said and "MiB of state a device; 8 of 8 images a step" in said
    assert said.count("profiling steps ") == 1 and str(tmp_path / "run" / "profile" / "step_") in said
    stopped = max(row["step"] for row in read_metrics(metrics))
    assert 0 < stopped < 4000 and not (tmp_path / "run" / "complete").exists()

    short = [long[0], f"--config.steps={stopped + 5}", *long[2:]]
    done = launch("train", *short)
    assert done.status == 0 and f"going on after step {stopped}" in done.said
    assert launch("train", *short[:-1], f"--workdir={tmp_path / 'whole'}").status == 0
    whole = weights(tmp_path / "whole")
    for name, leaf in weights(tmp_path / "run").items():
        np.testing.assert_array_equal(leaf, whole[name], err_msg=name)
