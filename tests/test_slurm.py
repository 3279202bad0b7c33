"""The files for Slurm: directives that Slurm takes, and a script that hands on flags, signals and the exit status.

Whether a real Slurm takes them is seen with tests/slurm/one_machine.sh.
"""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
STUDY = ROOT / "launch/slurm/study.sbatch"

# In place of Python: says with what it was called, and how it ends when it is asked to.
_STANDIN = """#!/bin/bash
trap 'echo stopped >> calls; exit 143' TERM
printf '%s\\n' "$*" "$3" >> calls
[ "$HOW" = waits ] && while :; do sleep 0.05; done
exit "$HOW"
"""


@pytest.fixture
def folder(tmp_path):
    """A folder with a stand-in for Python and one for scontrol."""
    for name, code in (("python", _STANDIN), ("scontrol", '#!/bin/bash\necho "scontrol $*" >> calls\n')):
        (tmp_path / name).write_text(code)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "calls").touch()
    return tmp_path


def begin(folder: Path, how: object) -> subprocess.Popen:
    """Start the script as a task of an array, with flags of which one has a space."""
    slurm = {"SLURM_SUBMIT_DIR": str(folder), "SLURM_JOB_ID": "8"}
    slurm |= {"SLURM_ARRAY_JOB_ID": "8", "SLURM_ARRAY_TASK_ID": "3"}  # the last task has the number of the array
    environment = {**os.environ, **slurm, "HOW": str(how), "PATH": f"{folder}:{os.environ['PATH']}"}
    command = ["bash", str(STUDY), "--workdir=a b"]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def calls(folder: Path) -> list[str]:
    return (folder / "calls").read_text().splitlines()


@pytest.mark.parametrize(
    "script", sorted([*ROOT.glob("*/slurm/*.sbatch"), *ROOT.glob("*/slurm/*.sh")]), ids=lambda path: path.name
)
def test_bash_can_read_it(script):
    checked = subprocess.run(["bash", "-n", script], capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_directives_are_those_of_an_array_that_queues_up_again():
    lines = STUDY.read_text().splitlines()
    assert lines[0] == "#!/bin/bash"
    directives = {}
    for number, line in enumerate(lines):
        if line.startswith("#SBATCH"):
            option = re.fullmatch(r"#SBATCH --([a-z-]+)(?:=(\S+))?", line)
            assert option, line  # else Slurm takes part of it as something else, or overlooks it
            directives[option[1]] = option[2]
            assert not any(before and not before.startswith("#") for before in lines[:number]), "after a command"
    assert "requeue" in directives and re.fullmatch(r"\d+-\d+", directives["array"])
    assert re.fullmatch(r"B:USR1@\d+", directives["signal"])  # to the script alone: Python would die of it
    assert int(directives["signal"].partition("@")[2]) >= 60
    assert directives["open-mode"] == "append"  # or a second start removes the log of the first
    assert {"%A", "%a"} <= set(re.findall("%[A-Za-z]", directives["output"]))  # a log for each task


@pytest.mark.parametrize("status", [0, 1, 2])
def test_it_hands_on_flags_and_exit_status(folder, status):
    task = begin(folder, status)
    output, _ = task.communicate(timeout=60)
    assert (task.returncode, output) == (status, "")
    assert calls(folder) == ["-m launch.study --workdir=a b", "--workdir=a b"]


@pytest.mark.parametrize(("number", "is_requeued"), [(signal.SIGUSR1, True), (signal.SIGTERM, False)])
def test_at_the_end_of_its_time_it_stops_the_study_and_queues_up_again(folder, number, is_requeued):
    """SIGTERM is how a person, or a cluster that puts back the task itself, ends it."""
    task = begin(folder, "waits")
    end = time.monotonic() + 30
    while not calls(folder) and time.monotonic() < end:
        time.sleep(0.01)
    task.send_signal(number)
    task.communicate(timeout=60)
    assert task.returncode == 143
    assert calls(folder)[2:] == ["stopped", *(["scontrol requeue 8_3"] if is_requeued else [])]
