"""Several real processes on one machine train what one process trains, and fewer of them go on with it."""

import os
import socket
import subprocess

import numpy as np
import pytest
from launching import ROOT, command, store

from memjax.artifacts.metrics import read_metrics
from memjax.data.phantoms import draw

SAME = 2e-5  # relative: processes sum in another order
DEVICES = 4  # over all processes
ENVIRONMENT = {
    **os.environ,
    # Compiling dominates: without optimizing it takes half the time.
    "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_backend_optimization_level=0",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    images = draw("chest", range(30), size=(16, 16)).images
    return store(tmp_path_factory.mktemp("data") / "store", images, split=["train"] * 20 + ["heldout"] * 10).path


def train(folder, data, n_processes, steps):
    """Train with so many processes; return the losses by step, those of earlier calls included."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = ["--config=configs/ddpm.py:smoke", f"--data={data}", f"--workdir={folder}", f"--config.steps={steps}",
             "--config.optim.warmup=1", "--config.optim.lr=0.01", "--config.every.monitor=0"]  # fmt: skip
    if n_processes > 1:
        flags += [f"--coordinator=127.0.0.1:{port}", f"--n_processes={n_processes}"]
    devices = f"--xla_force_host_platform_device_count={DEVICES // n_processes}"
    environment = {**ENVIRONMENT, "XLA_FLAGS": f"{ENVIRONMENT['XLA_FLAGS']} {devices}"}
    processes = [
        subprocess.Popen(
            command("train", *flags, *([f"--process_id={i}"] if n_processes > 1 else [])),
            cwd=ROOT,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(n_processes)
    ]
    said = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * n_processes, said
    return {row["step"]: row["loss"] for row in read_metrics(folder / "metrics.jsonl") if "loss" in row}


@pytest.fixture(scope="module")
def alone(tmp_path_factory, data):
    return train(tmp_path_factory.mktemp("alone") / "run", data, 1, 6)


def test_two_processes_learn_what_one_does_and_one_goes_on_with_it(alone, data, tmp_path):
    assert list(alone) == [1, 2, 3, 4, 5, 6]
    two = train(tmp_path / "run", data, 2, 3)
    np.testing.assert_allclose(list(two.values()), [alone[step] for step in (1, 2, 3)], rtol=SAME)
    all_six = train(tmp_path / "run", data, 1, 6)
    assert list(all_six) == [1, 2, 3, 4, 5, 6]
    np.testing.assert_allclose(list(all_six.values()), list(alone.values()), rtol=SAME)


def test_four_processes_learn_what_one_does(alone, data, tmp_path):
    four = train(tmp_path / "run", data, 4, 4)
    np.testing.assert_allclose(list(four.values()), [alone[step] for step in (1, 2, 3, 4)], rtol=SAME)
