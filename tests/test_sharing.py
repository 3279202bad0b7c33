"""Several real processes share one sampling, and one audit: the files are those of one process."""

import os
import signal
import socket
import subprocess
import time

import pytest
from launching import ROOT, command, files_below, noise, pictures, store
from small_run import untrained

from memjax.data.store import Store

ENVIRONMENT = {
    **os.environ,
    # One device a process, and what dominates, compiling, without optimizing.
    "XLA_FLAGS": f"{os.environ['XLA_FLAGS'].replace('device_count=8', 'device_count=1')} "
    "--xla_backend_optimization_level=0",
}


def started(name, count, flags):
    """Start a launcher in so many processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = [f"--coordinator=127.0.0.1:{port}", f"--n_processes={count}"] if count > 1 else []
    return [
        subprocess.Popen(
            command(name, *flags, *shared, *([f"--process_id={i}"] if count > 1 else [])),
            cwd=ROOT,
            env=ENVIRONMENT,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(count)
    ]


def ended(processes):
    """Return the exit status of each process, and what each said."""
    said = [process.communicate(timeout=300)[1] for process in processes]
    return [process.returncode for process in processes], said


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return untrained(tmp_path_factory.mktemp("run") / "run")


def test_two_processes_draw_the_store_of_one_and_go_on_where_others_were_killed(run, tmp_path):
    def flags(out, **more):
        told = {"run": run, "out": tmp_path / out, "seeds": "3:40", "batch_size": 4, **more}
        return [f"--{name}={value}" for name, value in told.items()]

    status, said = ended(started("sample", 1, flags("one")))
    assert status == [0], said
    processes = started("sample", 2, flags("two", steps=10))  # as the killed ones of another job: other images
    part = tmp_path / "two.parts" / "1.partial" / "journal.jsonl"
    until(lambda: part.exists(), processes)
    processes[1].send_signal(signal.SIGTERM)
    status, said = ended(processes)
    assert status == [75, -signal.SIGTERM] and "error: process 1 of 2 (" in said[0], said

    status, said = ended(started("sample", 2, flags("two")))
    assert status == [0, 0], said
    assert files_below(tmp_path / "two") == files_below(tmp_path / "one")
    assert len(Store.open(tmp_path / "two")) == 37 and not (tmp_path / "two.parts").exists()
    assert "37 images of 16 x 16 x 1" in said[0] and "37 images of" not in said[1]


def test_two_processes_write_the_report_of_one(tmp_path):
    """Training images that make two blocks of the search or more, some for each process."""
    train, synthetic = noise(600, 1, size=(128, 128)), noise(12, 2, size=(128, 128))
    synthetic[:3] = train[[5, 300, 599]]
    pictures(tmp_path / "train", {f"p{i // 2}_{i}.png": image for i, image in enumerate(train)})
    store(tmp_path / "synthetic", synthetic[..., None])
    store(tmp_path / "heldout", noise(24, 3, size=(128, 128))[..., None])

    def flags(out):
        told = {role: tmp_path / role for role in ("train", "synthetic", "heldout")}
        told |= {"out": tmp_path / out, "symmetry": "none", "patient_regex": r"([pq]\d+)_"}
        return [f"--{name}={value}" for name, value in told.items()]

    status, said = ended(started("audit", 1, flags("one")))
    assert status == [3], said
    status, said = ended(started("audit", 2, flags("two")))
    assert status == [3, 3], said
    assert "copies found: " in said[0] and "copies found: " not in said[1]
    for name in ("report.json", "pairs.csv"):
        one, two = ((tmp_path / out / name).read_bytes() for out in ("one", "two"))
        assert one.replace(bytes(tmp_path / "one"), b"OUT") == two.replace(bytes(tmp_path / "two"), b"OUT")
    assert [path.name for path in (tmp_path / "two" / "cache").glob("*unfinished*")] == []


def until(condition, processes):
    end = time.monotonic() + 120
    while not condition() and time.monotonic() < end and all(process.poll() is None for process in processes):
        time.sleep(0.01)
    assert condition(), ended(processes)
