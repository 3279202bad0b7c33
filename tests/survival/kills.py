"""Kill, stop, starve and damage small trainings at random moments, and count how they end.

    python tests/survival/kills.py [--times=30] [--seed=0] [--only=WORDS] [--folder=DIR]

Each time the smallest diffusion model is trained for a few steps, something is done to it at a random moment (while it
starts, calls the roll, compiles, trains, saves, or ends), and the same command is given again, to as many processes or
to fewer, until the training is done. What is counted: whether it is done, whether every step's loss is that of a
training that nothing happened to, whether somebody was left waiting, whether a traceback was shown, and what the others
said. No part of the test suite: it takes a minute for each time. Needs root for the full disk, and nothing else.
"""

import collections
import contextlib
import dataclasses
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
from launching import ROOT, command

from memjax.artifacts.metrics import read_metrics

STEPS, EVERY = 12, 3  # steps in all, and between two saves
SAME = 1e-4  # relative: other numbers of processes sum in another order
LOST_S, JOIN_S = 30, 180
STUCK_S = 900  # a whole training takes a tenth of it, on a busy machine, too
TRAINING = [
    "--config=configs/ddpm.py:smoke", f"--config.steps={STEPS}", f"--config.every.save={EVERY}",
    "--config.every.monitor=0", "--config.every.preview=0", "--config.every.evaluate=0", "--config.optim.warmup=1",
]  # fmt: skip


class Unexpected(Exception):
    """How a time ended, where that is not as it should be: the word that is counted, and what was seen."""


@dataclasses.dataclass
class Lab:
    """Where everything is: phantoms and compiled programs are shared by all times."""

    folder: Path
    rng: random.Random
    seen: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    turns: collections.Counter = dataclasses.field(default_factory=collections.Counter)  # of each choice of moments
    reference: dict[int, float] = dataclasses.field(default_factory=dict)
    first_step_s: dict[int, float] = dataclasses.field(default_factory=dict)  # by how many processes
    size: int = 0  # of a whole run, in bytes


class Training:
    """One call of the command: so many processes of one device each."""

    def __init__(self, lab: Lab, run: Path, n: int, *more: str):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        flags = [*TRAINING, f"--workdir={run}", f"--cache={lab.folder / 'compiled'}"]
        if (lab.folder / "data").is_dir():
            flags += [f"--data={lab.folder / 'data' / 'train'}"]
        if n > 1:
            flags += [f"--coordinator=127.0.0.1:{port}", f"--n_processes={n}"]
            flags += [f"--lost_timeout={LOST_S}", f"--join_timeout={JOIN_S}"]
        environment = {
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_force_host_platform_device_count=1",
        }
        self.run, self.n = run, n
        self.began = time.monotonic()
        self._said = [lab.folder / f"said{i}.txt" for i in range(n)]
        with contextlib.ExitStack() as files:
            self.processes = [
                subprocess.Popen(
                    command("train", *flags, *([f"--process_id={i}"] if n > 1 else []), *more),
                    cwd=ROOT,
                    env=environment,
                    stdout=subprocess.DEVNULL,
                    stderr=files.enter_context(said.open("w")),
                )
                for i, said in enumerate(self._said)
            ]

    def lives(self) -> bool:
        """Say whether any process does."""
        return any(process.poll() is None for process in self.processes)

    def end(self, but: Sequence[int] = (), within_s: float = STUCK_S) -> tuple[list[int | None], list[str]]:
        """Wait for all (`but` some), and return their statuses and what they said."""
        until = time.monotonic() + within_s
        stuck = []
        for i, process in enumerate(self.processes):
            if i not in but:
                try:
                    process.wait(max(0.1, until - time.monotonic()))
                except subprocess.TimeoutExpired:
                    stuck.append(i)
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait()
        texts = [said.read_text(encoding="utf-8", errors="replace") for said in self._said]
        if stuck:
            raise Unexpected("stuck", f"processes {stuck} of {self.n} after {within_s} s", texts)
        for i, text in enumerate(texts):
            if "Traceback" in text and i not in but:
                raise Unexpected("traceback", i, [process.returncode for process in self.processes], texts)
        return [process.returncode for process in self.processes], texts

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a moment, or for the end of all processes."""
        while self.lives() and not condition() and time.monotonic() < self.began + STUCK_S:
            time.sleep(0.002)

    def moment(self, lab: Lab, kinds: tuple[str, ...] = ("start", "steps", "save", "end")) -> str:
        """Wait for a random moment in one part of a training after the other, and say in which."""
        kind, rng = kinds[lab.turns[kinds] % len(kinds)], lab.rng
        lab.turns[kinds] += 1
        metrics, checkpoints = self.run / "metrics.jsonl", self.run / "checkpoints"
        if kind == "start":
            after_s = rng.uniform(0, lab.first_step_s[self.n])
            self.until(lambda: time.monotonic() > self.began + after_s)
            return kind
        if kind == "save":
            after = rng.randrange(STEPS // EVERY)  # saves that are done
            self.until(lambda: len(list(checkpoints.glob("*tmp*"))) > 0 and len(saves(self.run)) >= min(after, 2))
            time.sleep(rng.uniform(0, 0.1))
        else:
            rows = STEPS if kind == "end" else rng.randrange(1, STEPS)
            self.until(lambda: metrics.exists() and len(read_metrics(metrics)) >= rows)
            time.sleep(rng.uniform(0, 1.0 if kind == "end" else 0.1))
        return kind


def killed(lab: Lab, run: Path) -> str:
    """One of four is killed; the same command goes on with 4, 2 or 1."""
    training = Training(lab, run, 4)
    moment, who = training.moment(lab), lab.rng.randrange(4)
    training.processes[who].kill()
    statuses, said = training.end(but=[who])
    how = others_said(statuses, said, who, "was killed")
    goes_on(lab, run, lab.rng.choice([4, 4, 2, 1]))
    return f"{'process 0' if who == 0 else 'another'} of four killed ({moment}): others {how}"


def stopped(lab: Lab, run: Path) -> str:
    """One of two or four is stopped (SIGSTOP): the others miss it."""
    n = lab.rng.choice([2, 4])
    training = Training(lab, run, n)
    moment, who = training.moment(lab, ("start", "steps", "steps", "save")), lab.rng.randrange(n)
    if training.processes[who].poll() is not None:
        training.end()
        goes_on(lab, run, n)
        return "one stopped: was done before"
    training.processes[who].send_signal(signal.SIGSTOP)
    since = time.monotonic()
    statuses, said = training.end(but=[who])
    after_s = time.monotonic() - since
    how = others_said(statuses, said, who, "gives no sign of life")
    goes_on(lab, run, lab.rng.choice([n, 1]))
    within = f"within {10 * (1 + int(after_s // 10))} s"
    return f"{'process 0' if who == 0 else 'another'} of {n} stopped ({moment}): others {how}, {within}"


def suspended(lab: Lab, run: Path) -> str:
    """All of two are stopped for longer than one may be silent, and continued: as a scheduler does with a whole job."""
    training = Training(lab, run, 2)
    moment = training.moment(lab, ("start", "steps", "save"))
    for number, then_s in ((signal.SIGSTOP, 2.5 * LOST_S), (signal.SIGCONT, 0)):
        for process in training.processes:
            process.send_signal(number)
        time.sleep(then_s)
    ends = sorted({str(status) for status in training.end()[0]})
    goes_on(lab, run, 2)
    return f"all stopped for {2.5 * LOST_S:.0f} s and continued ({moment}): {' and '.join(ends)}"


def alone(lab: Lab, run: Path) -> str:
    """The only process is killed, or asked to end."""
    number = lab.rng.choice([signal.SIGKILL, signal.SIGTERM])
    cache = f"--cache={run}.compiled" if lab.rng.random() < 0.5 else ""  # its own is written while it may be killed
    training = Training(lab, run, 1, *([cache] if cache else []))
    moment = training.moment(lab)
    training.processes[0].send_signal(number)
    statuses, said = training.end()
    if statuses[0] not in (0, -number):
        raise Unexpected("status", statuses, said)
    ended = "killed" if statuses[0] else "ended in order"
    goes_on(lab, run, 1 if cache else lab.rng.choice([1, 2]), *([cache] if cache else []))
    return f"alone, {number.name} ({moment}): {ended}"


def asked(lab: Lab, run: Path) -> str:
    """One of several is asked to end: all do, with the same status."""
    n, number = lab.rng.choice([2, 4]), lab.rng.choice([signal.SIGTERM, signal.SIGUSR1])
    training = Training(lab, run, n)
    moment, who = training.moment(lab, ("start", "steps", "steps", "save")), lab.rng.randrange(n)
    training.processes[who].send_signal(number)
    statuses, said = training.end()
    if len(set(statuses)) > 1:
        how = f"{statuses[who]}, others {others_said(statuses, said, who, 'was killed')}"
    else:
        how = f"all {statuses[0]}"
    goes_on(lab, run, lab.rng.choice([n, 1]))
    return f"one of {n} asked to end by {number.name} ({moment}): {how}"


def damaged(lab: Lab, run: Path) -> str:
    """A file of the newest checkpoint is cut, changed or lost: the one before is gone on with."""
    until = STEPS - EVERY
    Training(lab, run, 1, f"--config.steps={until}").end()
    newest, before = saves(run)[-1], saves(run)[-2]
    part = run / "checkpoints" / str(newest) / lab.rng.choice(["", "state", "state", "position", "digests"])
    files = [file for file in sorted(part.rglob("*")) if file.is_file()]
    file, how = lab.rng.choice(files), lab.rng.choice(["cut", "changed", "lost"])
    data = bytearray(file.read_bytes())
    if how == "lost":
        file.unlink()
    elif how == "cut":
        file.write_bytes(data[: len(data) // 2])
    elif data:
        data[lab.rng.randrange(len(data))] ^= 1 << lab.rng.randrange(8)
        file.write_bytes(data)
    said = "".join(goes_on(lab, run, lab.rng.choice([1, 2])))
    where = file.relative_to(run / "checkpoints" / str(newest)).parts[0]
    if f"going on after step {newest}" in said:
        return f"newest checkpoint {how} in {where}: nothing of weight, gone on with"
    if f"checkpoint {newest} is damaged" not in said or f"going on after step {before}" not in said:
        raise Unexpected("not told", file, how, said)
    return f"newest checkpoint {how} in {where}: passed over for the one before, and said so"


def full(lab: Lab, run: Path) -> str:
    """The disk is full at some time: one sentence; after room is made the same command goes on."""
    size, n = int(lab.size * lab.rng.uniform(0.02, 1.2)), lab.rng.choice([1, 2])
    with disk(run, size):
        training = Training(lab, run, n)
        statuses, said = training.end()
        errors = [line for text in said for line in text.splitlines() if line.startswith("error:")]
        was_full = any("is full" in line for line in errors)
        if set(statuses) not in ({0}, {2}) or was_full != (statuses[0] == 2) or len(errors) != n * was_full:
            raise Unexpected("full disk", statuses, said)
        how = f"{'none' if not saves(run) else 'some'} saved" if was_full else "was large enough"
        subprocess.run(["mount", "-o", f"remount,size={8 * lab.size}", run], check=True)
        told = "".join(goes_on(lab, run, n))
        if was_full and saves(run) and "damaged" in told:
            raise Unexpected("not whole", told)
    return f"full disk, {n} process{'es' if n > 1 else ''}: {how}"


KINDS = (killed, stopped, killed, damaged, killed, alone, full, killed, asked, killed, suspended)


def others_said(statuses: Sequence[int | None], said: Sequence[str], who: int, words: str) -> str:
    """Return in a word how the others ended, and whether they named the process that was hit."""
    ends = set()
    for i, (status, text) in enumerate(zip(statuses, said, strict=True)):
        if i == who:
            continue
        named = f"process {who} of " in text or f"processes {who}" in text
        errors = [line for line in text.splitlines() if line.startswith("error:")]
        if status == 75 and named and words in text:
            ends.add("75, naming it")
        elif status in (0, 75) and not errors:
            ends.add(f"{status} in order")
        elif len(errors) == 1 and status in (2, 75):
            known = ("did not join", "lost process 0", "found no process 0")
            ends.add(f"{status}, {next((word for word in known if word in errors[0]), errors[0])}")
        else:
            raise Unexpected("status", who, statuses, said)
    return " / ".join(sorted(ends))


def goes_on(lab: Lab, run: Path, n: int, *more: str) -> list[str]:
    """Give the command again, and compare every step's loss."""
    statuses, said = Training(lab, run, n, *more).end()
    if set(statuses) != {0} or not (run / "complete").exists():
        raise Unexpected("does not go on", n, statuses, said)
    told = losses(run)
    if list(told) != list(lab.reference):
        raise Unexpected("steps", list(told))
    if not np.allclose(list(told.values()), list(lab.reference.values()), rtol=SAME, atol=0):
        raise Unexpected("different", told, lab.reference)
    return said


def losses(run: Path) -> dict[int, float]:
    """Return each step's loss, in the order of the file."""
    rows = [(row["step"], row["loss"]) for row in read_metrics(run / "metrics.jsonl") if "loss" in row]
    if len(dict(rows)) != len(rows):
        raise Unexpected("steps", rows)
    return dict(rows)


def saves(run: Path) -> list[int]:
    """Return the steps whose saves are done."""
    return sorted(int(path.name) for path in (run / "checkpoints").glob("*") if path.name.isdecimal())


@contextlib.contextmanager
def disk(folder: Path, size: int) -> Iterator[None]:
    """Mount a disk of so many bytes."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={max(size, 1 << 15)}", "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def prepare(lab: Lab) -> None:
    """Train with 1, 2 and 4 processes, to which nothing happens."""
    for n in (1, 2, 4):
        for warm in ("cold", "warm"):  # all times begin with what is compiled
            run = lab.folder / f"{warm}{n}"
            training = Training(lab, run, n)
            training.until(lambda run=run: (run / "metrics.jsonl").exists() and len(losses(run)) > 0)
            lab.first_step_s[n] = time.monotonic() - training.began
            statuses, said = training.end()
            if set(statuses) != {0}:
                raise SystemExit(f"nothing was done to it, and it ended with {statuses}: {said}")
            if not lab.reference:
                lab.reference = losses(run)
                (run / "data").rename(lab.folder / "data")
                lab.size = sum(path.stat().st_size for path in run.rglob("*") if path.is_file())
            np.testing.assert_allclose(list(losses(run).values()), list(lab.reference.values()), rtol=SAME)
        print(f"{n} process(es): {time.monotonic() - training.began:.0f} s, first step {lab.first_step_s[n]:.0f} s")


def main(times: int = 30, seed: int = 0, only: str = "", folder: str = "") -> int:
    """Do it so many times, and tell the counts; return how many did not end as they should."""
    lab = Lab(Path(folder or tempfile.mkdtemp(prefix="memjax-survival-")), random.Random(seed))
    lab.folder.mkdir(exist_ok=True)
    prepare(lab)
    kinds = [kind for kind in KINDS if not only or kind.__name__ in only.split(",")]
    wrong = 0
    for time_ in range(times):
        run, kind = lab.folder / f"run{time_}", kinds[time_ % len(kinds)]
        try:
            outcome = kind(lab, run)
            shutil.rmtree(run, ignore_errors=True)
        except Unexpected as error:
            wrong += 1
            outcome = f"WRONG: {kind.__name__}: {error.args[0]}"
            (lab.folder / f"wrong{time_}.txt").write_text("\n".join(map(str, error.args)), encoding="utf-8")
        lab.seen[outcome] += 1
        print(f"{time_ + 1}/{times}: {outcome}", flush=True)
    print(f"\n{times - wrong} of {times} done, each step's loss as of the undisturbed training; {wrong} not")
    for outcome, n in sorted(lab.seen.items()):
        print(f"{n:4d}  {outcome}")
    return wrong


if __name__ == "__main__":
    given: dict[str, Any] = dict(argument.removeprefix("--").split("=", 1) for argument in sys.argv[1:])
    given |= {name: int(given[name]) for name in ("times", "seed") if name in given}
    sys.exit(bool(main(**given)))
