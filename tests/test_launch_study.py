"""A whole small study by its launcher: table, page, a killed one, bad input."""

import csv
import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.launching import QUICK, ROOT, command, launch, launch_process

SMOKE = f"--config={ROOT}/configs/studies/a2_dataset_size.py:smoke"
OF_THE_RUN = ("seconds",)  # columns that a second run of the same study need not repeat


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "table.csv").open(encoding="utf-8", newline="") as file:
        return [{key: value for key, value in row.items() if key not in OF_THE_RUN} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("study") / "one"
    run = launch_process("study", SMOKE, f"--workdir={folder}", environment=QUICK)
    assert run.status == 0, run.said
    return folder


def test_every_cell_has_its_row_and_its_audit(done):
    rows = table(done)
    assert [row["cell"] for row in rows] == ["n_train=8", "n_train=0"]
    assert all(row["status"] == "done" and (done / row["report"]).exists() for row in rows)
    assert [row["n_train"] for row in rows] == ["8", "24"]  # 48 patients, of whom 24 are set aside
    assert all(float(row["fid"]) > 0 for row in rows)
    assert "Number of training images" in (done / "report.html").read_text(encoding="utf-8")


def test_a_finished_study_is_not_done_again(done):
    before = {path: path.stat().st_mtime_ns for path in done.glob("stages/*/done*.json")}
    run = launch("study", SMOKE, f"--workdir={done}")
    assert run.status == 0
    assert before == {path: path.stat().st_mtime_ns for path in done.glob("stages/*/done*.json")}
    assert ": train" not in run.said


def test_a_killed_study_ends_with_the_same_table(done, tmp_path):
    folder = tmp_path / "killed"
    folder.mkdir()
    (folder / "compiled").symlink_to(done / "compiled")  # the same programs again
    with subprocess.Popen(
        command("study", SMOKE, f"--workdir={folder}"),
        cwd=ROOT,
        env={**os.environ, **QUICK},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        for line in process.stderr:
            if ": sample" in line:
                process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    run = launch_process("study", SMOKE, f"--workdir={folder}", environment=QUICK)
    assert run.status == 0, run.said
    assert "n_train=8: train" not in run.said
    for mine, theirs in zip(table(folder), table(done), strict=True):
        assert mine == theirs


def test_a_dry_run_tells_cells_and_cost_and_does_nothing(tmp_path):
    run = launch("study", SMOKE, f"--workdir={tmp_path / 'dry'}", "--dry_run")
    assert run.status == 0
    assert "2 cells" in run.said and "train" in run.said
    assert not (tmp_path / "dry").exists()


def test_more_training_images_than_there_are_is_said_before_anything_is_trained(tmp_path):
    run = launch("study", SMOKE, f"--workdir={tmp_path / 'many'}", "--config.axes.n_train=(8, 25)")
    assert run.is_refusal("the cell n_train=25 cannot be", "24 images to train on", "give 0 for all")
    assert ": train" not in run.said


def test_real_images_take_the_place_of_phantoms(tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (40, 16, 16), np.uint8)
    np.savez(tmp_path / "images.npz", images=images, patient=np.arange(40))
    run = launch("study", SMOKE, f"--workdir={tmp_path / 'real'}", f"--data={tmp_path / 'images.npz'}", "--dry_run")
    assert run.status == 0, run.said
    run = launch("study", SMOKE, f"--workdir={tmp_path / 'real'}", f"--data={tmp_path / 'nowhere'}")
    assert run.is_refusal("nowhere: there is nothing")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([f"--config={ROOT}/configs/ddpm.py:smoke"], ["it is no study's", "configs/studies/"]),
        ([f"--config={ROOT}/configs/studies/none.py"], ["there is no such file"]),
        ([], ["--config is missing"]),
        ([SMOKE, "--config.axes.generator=('vae',)"], ["'vae' is none of"]),
        ([SMOKE, "--data=brains=DIR"], ["brains=DIR: there is nothing", "--data=chest=DIR"]),
    ],
)
def test_what_is_no_study_is_refused(tmp_path, flags, words):
    assert launch("study", *flags, f"--workdir={tmp_path / 'out'}").is_refusal(*words)
    assert not (tmp_path / "out").exists()
