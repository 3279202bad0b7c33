"""Claims: of many processes one has each, what the dead left behind is taken over once, and losers find out."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from launch.studying import claims as claims_module
from launch.studying.claims import ClaimLost, Claims
from memjax.errors import UserError

# What a process does with Claims(FOLDER); it says what happened, line by line, and may wait for a line.
_PRELUDE = """
import os, signal, sys, time
from pathlib import Path
from launch.studying.claims import Claims
signal.signal(signal.SIGINT, signal.default_int_handler)  # which is ignored where these tests run in the background
folder = Path(sys.argv[1])
claims = Claims(folder / "claims", expires_s=600, beat_s=0.01)
print("ready", flush=True)
sys.stdin.readline()
"""

_TAKE_ALL = """
import random
names = [f"train-{i}" for i in range(150)]
random.Random(int(sys.argv[2])).shuffle(names)
held = [claim for name in names if (claim := claims.take(name))]
print(*[claim.name for claim in held], flush=True)
sys.stdin.readline()
"""

# Whoever has the name makes a folder that must not be there, and removes it; then gives back.
_TAKE_TURNS = """
turns = 0
end = time.monotonic() + 60
while turns < 60 and time.monotonic() < end:
    claim = claims.take("audit-0")
    if claim is None:
        continue
    with claim:
        os.mkdir(folder / "inside")
        claim.check()
        os.rmdir(folder / "inside")
        turns += 1
print(turns, flush=True)
"""

_HOLD = """
with claims.take("train-0") as claim:
    print("holds", flush=True)
    time.sleep(60)
"""


class Process:
    """A real process; its lines can be awaited."""

    def __init__(self, code: str, folder: Path, *more: object):
        arguments = [sys.executable, "-c", _PRELUDE + code, str(folder), *map(str, more)]
        root = Path(__file__).parent.parent
        self.popen = subprocess.Popen(
            arguments, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.line() == "ready", self.popen.communicate()

    def line(self) -> str:
        return self.popen.stdout.readline().strip()

    def go(self) -> None:
        self.popen.stdin.write("\n")
        self.popen.stdin.flush()

    def end(self) -> int:
        _, errors = self.popen.communicate(timeout=60)
        self.errors = errors
        return self.popen.returncode


@pytest.fixture
def start(tmp_path):
    begun = []

    def start(code: str, *more: object) -> Process:
        begun.append(Process(code, tmp_path, *more))
        return begun[-1]

    yield start
    for process in begun:
        process.popen.kill()
        process.popen.communicate()


def from_elsewhere(path: Path, *, silent_s: float) -> None:
    """Make a claim's file one of a machine that cannot be seen from here, and as old as this."""
    said = json.loads(path.read_text())
    path.write_text(json.dumps(said | {"machine": "another", "host": "elsewhere"}))
    seen = time.time() - silent_s
    os.utime(path, (seen, seen))


@pytest.fixture
def left_behind(tmp_path):
    """A claim on train-0 in tmp_path/claims, made elsewhere, and silent for an hour."""
    other = Claims(tmp_path / "claims", expires_s=3000, beat_s=1000).take("train-0")
    from_elsewhere(other._path, silent_s=3600)
    yield other
    other.release()


def test_of_several_processes_each_name_has_one(start):
    processes = [start(_TAKE_ALL, seed) for seed in range(4)]
    for process in processes:
        process.go()
    taken = [process.line().split() for process in processes]
    together = sorted(name for names in taken for name in names)
    assert together == sorted(f"train-{i}" for i in range(150))  # each once, none left out
    assert sum(map(bool, taken)) > 1  # otherwise this was no race


def test_in_turns_nobody_is_inside_with_another(start, tmp_path):
    processes = [start(_TAKE_TURNS) for _ in range(3)]
    for process in processes:
        process.go()
    turns = [process.line() for process in processes]
    assert [process.end() for process in processes] == [0, 0, 0], [process.errors for process in processes]
    assert sum(map(int, turns)) > 60  # of one process alone there are no more
    files = [path.name for path in (tmp_path / "claims").iterdir()]
    assert 1 < len(files) < 20, files  # old generations are removed, and so are the clocks


def test_a_stale_claim_is_taken_over_once(left_behind, tmp_path):
    """Many try at the same moment, and the one that came back finds out."""
    assert Claims(tmp_path / "claims", expires_s=4000).take("train-0") is None  # patient
    racers, found = 8, []
    barrier = threading.Barrier(racers)

    def race() -> None:
        claims = Claims(tmp_path / "claims", expires_s=600)
        barrier.wait()
        found.append(claims.take("train-0"))

    threads = [threading.Thread(target=race) for _ in range(racers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [claim for claim in found if claim]
    assert len(found) == racers and len(winners) == 1
    winners[0].check()
    with pytest.raises(ClaimLost, match=r"train-0 was taken over by process \d+ on"):
        left_behind.check()
    left_behind.release()
    assert Claims(tmp_path / "claims").take("train-0") is None  # what the loser gives back is not the winner's
    winners[0].release()


def test_a_holder_that_lost_finds_out_at_its_next_sign_of_life(tmp_path):
    slept = Claims(tmp_path, expires_s=600, beat_s=0.3).take("train-0")
    from_elsewhere(slept._path, silent_s=3600)
    with Claims(tmp_path, expires_s=600).take("train-0") as other:
        wait_until(lambda: slept.is_lost)
        assert not other.is_lost
    slept.release()


def test_signs_of_life_keep_a_claim(tmp_path):
    claims = Claims(tmp_path, expires_s=600, beat_s=0.02)
    with claims.take("train-0") as claim:
        from_elsewhere(claim._path, silent_s=3600)
        wait_until(lambda: claim._path.stat().st_mtime > time.time() - 60)
        assert Claims(tmp_path, expires_s=600).take("train-0") is None
        assert "elsewhere" in str(claims.holder("train-0"))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_what_a_dead_process_left_is_taken_at_once(start, tmp_path, number):
    claims = Claims(tmp_path / "claims")
    process = start(_HOLD)
    process.go()
    assert process.line() == "holds"
    holder = claims.holder("train-0")
    assert holder.pid == process.popen.pid and -5 < holder.silent_s < 60
    assert claims.take("train-0") is None
    os.kill(process.popen.pid, number)
    if number == signal.SIGKILL:
        wait_until(lambda: claims.holder("train-0") is None)  # a zombie until it is waited for
    else:
        assert process.end() == {signal.SIGTERM: 128 + 15, signal.SIGINT: -2}[number]
        assert (tmp_path / "claims" / "train-0.000").stat().st_mtime == 0  # given back, not found dead
    with claims.take("train-0") as claim:
        assert claim._path.name == "train-0.001"


def test_a_number_that_another_process_has_now_is_no_sign_of_life(tmp_path):
    claims = Claims(tmp_path)
    with claims.take("train-0") as claim:
        said = json.loads(claim._path.read_text())
        claim._path.write_text(json.dumps(said | {"started": said["started"] - 1}))
        assert claims.holder("train-0") is None


def test_one_that_lives_here_is_not_taken_over_for_its_silence(tmp_path):
    claims = Claims(tmp_path)
    with claims.take("train-0") as claim:
        os.utime(claim._path, (time.time() - 7200,) * 2)  # the laptop slept
        assert claims.take("train-0") is None


@pytest.mark.parametrize("content", [b"", b"\0" * 200, b"[1]", b'{"pid": "x", "machine": 7}', b'{"pid": 1e400}'])
def test_a_damaged_claim_holds_for_as_long_as_it_is_fresh(tmp_path, content):
    claims = Claims(tmp_path, expires_s=600)
    file = tmp_path / "train-0.000"
    file.write_bytes(content)
    assert "an unknown machine" in str(claims.holder("train-0"))
    assert claims.take("train-0") is None
    os.utime(file, (time.time() - 700,) * 2)
    with claims.take("train-0") as claim:
        claim.check()


def test_whoever_looked_long_ago_does_not_get_what_others_have_had_since(tmp_path, monkeypatch):
    """Between a look at generation 0 and the making of 1, others came and went, and 1 was removed as old."""
    slow, others = Claims(tmp_path), Claims(tmp_path)
    others.take("train-0").release()
    held = []

    def meanwhile(name, generation):
        for _ in range(20):
            others.take(name).release()
        held.append(others.take(name))

    monkeypatch.setattr(slow, "_holder", meanwhile)
    assert slow.take("train-0") is None
    held[0].check()
    assert not slow.path("train-0", 1).exists()
    held[0].release()


def test_an_error_gives_the_claim_back(tmp_path):
    claims = Claims(tmp_path)
    with pytest.raises(ZeroDivisionError), claims.take("train-0"):
        raise ZeroDivisionError
    with claims.take("train-0") as claim:
        claim.check()


def test_names_do_not_get_into_each_others_way(tmp_path):
    claims = Claims(tmp_path)
    with claims.take("train"), claims.take("train.000"), claims.take("train-0"):
        assert claims.take("train") is None
        assert claims.holder("train.00") is None
    with claims.take("train") as claim:
        claim.check()


def test_sigterm_does_afterwards_what_it_did_before(tmp_path):
    heard = signal.getsignal(signal.SIGTERM)
    with Claims(tmp_path).take("a"):
        assert signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) == heard


def test_clocks_of_machines_do_not_matter(left_behind, tmp_path, monkeypatch):
    """A machine whose clock is a day ahead does not take what gave a sign of life ten seconds ago."""
    from_elsewhere(left_behind._path, silent_s=10)
    now = time.time()
    monkeypatch.setattr(claims_module.time, "time", lambda: now + 86400)
    claims = Claims(tmp_path / "claims", expires_s=600)
    assert claims.take("train-0") is None
    assert claims.holder("train-0").silent_s < 100


def test_a_full_disk_stops_nobody_who_holds_a_claim(left_behind, tmp_path, monkeypatch):
    claims = Claims(tmp_path / "claims", beat_s=0.02)
    mine = claims.take("audit-0")

    def full(path, *arguments, **named):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(Path, "touch", full)
    monkeypatch.setattr(claims_module.json, "dump", full)
    os.utime(mine._path, (time.time() - 3600,) * 2)
    wait_until(lambda: mine._path.stat().st_mtime > time.time() - 60)
    mine.check()
    assert claims.take("train-0") is None  # what time it is cannot be asked, so nobody is called dead
    with pytest.raises(UserError, match=r"disk of .*audit-1\.000 is full"):
        claims.take("audit-1")
    monkeypatch.undo()
    claims.take("audit-1").release()  # the attempt did not leave a claim
    mine.release()


def wait_until(is_so) -> None:
    end = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)
