"""Real processes on one machine train what one process trains, whatever the task; fewer of them go on with it."""

import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest
from launching import ROOT, command

from memjax.artifacts.metrics import read_metrics

DEVICES = 4  # over all processes
ENVIRONMENT = {
    **os.environ,
    # Compiling dominates: without optimizing, and by the older emitters, it takes a third of the time.
    "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false",
}
STEPS = 3
SAME, NEAR_ZERO = 2e-5, 1e-6  # relative and absolute: processes sum in another order; measured: a tenth of it
# The config of each task, and what is changed in it so that it compiles in seconds (tests/survival/tasks.py changes
# nothing).
TASKS = {
    "ddpm": ("configs.ddpm", "smoke", {"optim.warmup": 1, "optim.lr": 0.01}),
    "stylegan2": ("configs.stylegan2", "smoke", {"regularize.path_weight": 0.0, "every.evaluate": 0}),
    "autoencoder": ("configs.latent3d", "pccta,autoencoder,smoke", {"adversary.volume": 0.0, "every.evaluate": 0}),
    "latents": ("configs.latent3d", "pccta,ddpm,smoke", {"model.mults": (1,), "every.evaluate": 0}),
    "descriptor": ("configs.descriptor", "cxr,smoke", {}),
}
TIMES = ("images_per_s", "step_", "data_wait_share")  # how the names of what differs each time begin

# One of several processes, or the only one, that trains one task after the other.
PROCESS = """
import importlib, json, os, pathlib
from launch import boot, hosts, training

def main():
    hosts.code = dict  # somebody may work on the code while this runs
    hosts.join({})
    folder = pathlib.Path(os.environ["TASKS"])
    for name, (module, words, changes) in json.loads((folder / "tasks.json").read_text()).items():
        config = importlib.import_module(module).get_config(words)
        config.update_from_flattened_dict(changes)
        training.train(config.to_dict(), folder / name, data=None)

boot.run(main)
"""


def together(n, call, **environment):
    """Run n processes of this command, to which the flags of those that work together are added; all end well."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    joined = [f"--coordinator=127.0.0.1:{port}", f"--n_processes={n}"] if n > 1 else []
    devices = f"--xla_force_host_platform_device_count={DEVICES // n}"
    environment |= {**ENVIRONMENT, "XLA_FLAGS": f"{ENVIRONMENT['XLA_FLAGS']} {devices}"}
    processes = [
        subprocess.Popen(
            [*call, *joined, *([f"--process_id={i}"] if n > 1 else [])],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(n)
    ]
    said = [process.communicate(timeout=900)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * n, said


def train_all(folder, n, tasks=TASKS):
    """Train every task with n processes; return the folder of their runs."""
    often = {"steps": STEPS, "every.monitor": 0, "every.preview": 0, "every.evaluate": STEPS, "every.save": STEPS}
    changed = {name: (module, words, {**often, **changes}) for name, (module, words, changes) in tasks.items()}
    folder.mkdir()
    (folder / "tasks.json").write_text(json.dumps(changed))
    together(n, [sys.executable, "-c", PROCESS], TASKS=str(folder))
    return folder


def train(run, n, steps):
    """Give the command of the diffusion model, which may have begun already, to n processes."""
    flags = ["--config=configs/ddpm.py:smoke", f"--workdir={run}", f"--config.steps={steps}", "--config.optim.lr=0.01",
             "--config.optim.warmup=1", "--config.every.monitor=0", "--config.every.preview=0",
             "--config.every.evaluate=0"]  # fmt: skip
    together(n, command("train", *flags))


def metrics(run):
    """Return all that a run told of its model: values by step and name."""
    rows = read_metrics(run / "metrics.jsonl")
    return {(row["step"], name): value for row in rows for name, value in row.items() if not name.startswith(TIMES)}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folder of all tasks' runs, by how many processes trained them."""
    folder = tmp_path_factory.mktemp("tasks")
    return {n: train_all(folder / str(n), n) for n in (1, 2, 4)}


def assert_same(told, wanted):
    for (step, name), value in wanted.items():
        np.testing.assert_allclose(told[step, name], value, rtol=SAME, atol=NEAR_ZERO, err_msg=f"{name} at step {step}")


@pytest.mark.parametrize("n", [2, 4])
@pytest.mark.parametrize("task", TASKS)
def test_several_processes_learn_what_one_does(runs, task, n):
    wanted, told = metrics(runs[1] / task), metrics(runs[n] / task)
    assert {step for step, _ in told} == set(range(1, STEPS + 1))
    assert list(told) == list(wanted)
    assert_same(told, wanted)


def test_fewer_go_on_with_what_more_began(runs):
    for began, goes_on in ((2, 1), (4, 2)):
        train(runs[began] / "ddpm", goes_on, 2 * STEPS)
    told = metrics(runs[4] / "ddpm")
    assert {step for step, _ in told} == set(range(1, 2 * STEPS + 1))
    assert_same(told, metrics(runs[2] / "ddpm"))
