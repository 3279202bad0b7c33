"""The files for clusters: their own languages can read them, they hand on flags and signals, they start again.

Whether a real Slurm takes its files is seen with tests/slurm/run.sh and study.sh; stand-ins have its and
Google's place here.
"""

import itertools
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from absl import flags
from launching import launch

ROOT = Path(__file__).parent.parent
RUN = ROOT / "launch/slurm/run.sbatch"
STUDY = ROOT / "launch/slurm/study.sbatch"
JOBSETS = sorted((ROOT / "launch/kubernetes").glob("*.yaml"))
TPU = ROOT / "launch/tpu/train.sh"

# In place of Python and of srun, which runs what it is given: says with what it was called, and ends as told.
_PYTHON = """#!/bin/bash
trap 'echo heard USR1 >> calls; exit 75' USR1
trap 'echo heard TERM >> calls; exit "${ENDS:-75}"' TERM
printf '%s\\n' "$(printf '<%s> ' "$@")" >> calls
[ "$HOW" = waits ] && while :; do sleep 0.05; done
exit "$HOW"
"""
_SRUN = '#!/bin/bash\nwhile [ "${1#--}" != "$1" ]; do shift; done\nexec "$@"\n'
_SCONTROL = '#!/bin/bash\necho "scontrol $*" >> calls\n'
# In place of gcloud: a slice that is there once it was made, and is taken away by the first training.
_GCLOUD = """#!/bin/bash
cd "${0%/*}"
echo "$*" >> calls
case "$*" in
    *" describe "*) cat state ;;
    *" create "*) echo READY > state ;;
    *" delete "*) : > state ;;
    *launch.train*) [ -e taken ] && exit "$HOW"; touch taken; echo PREEMPTED > state; exit 255 ;;
esac
"""
# A study is an array of tasks, of which the last has the array's own number; SIGTERM ends it as an exception does.
_TASK = {"SLURM_ARRAY_JOB_ID": "8", "SLURM_ARRAY_TASK_ID": "3", "ENDS": "143"}


@pytest.fixture
def folder(tmp_path):
    """A folder with the stand-ins, for PATH."""
    for name, code in (("python", _PYTHON), ("srun", _SRUN), ("scontrol", _SCONTROL), ("gcloud", _GCLOUD)):
        (tmp_path / name).write_text(code)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "calls").touch()
    (tmp_path / "state").touch()
    return tmp_path


def start(script: Path, folder: Path, *given: str, how: object, **environment: str) -> subprocess.Popen:
    environment = {**os.environ, "SLURM_SUBMIT_DIR": str(folder), "SLURM_JOB_ID": "8", "HOW": str(how), **environment}
    environment["PATH"] = f"{folder}:{environment['PATH']}"
    return subprocess.Popen(
        ["bash", script, *given], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def calls(folder: Path) -> list[str]:
    return (folder / "calls").read_text().splitlines()


def known_flags(*launchers: str) -> set[str]:
    """Return the flags of some launchers; default: of that of trainings."""
    found: set[str] = set()
    for launcher in launchers or ("train",):
        launch(launcher, "--help")
        found |= set(flags.FLAGS)
    return found


@pytest.mark.parametrize(
    "script", [RUN, STUDY, TPU, *sorted(ROOT.glob("tests/slurm/*.sh"))], ids=lambda path: path.name
)
def test_bash_can_read_it(script):
    checked = subprocess.run(["bash", "-n", script], capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize("script", [RUN, STUDY], ids=lambda path: path.stem)
def test_directives_save_and_queue_up_again(script):
    lines = script.read_text().splitlines()
    assert lines[0] == "#!/bin/bash"
    head = list(itertools.takewhile(lambda line: not line or line.startswith("#"), lines))
    found = [re.fullmatch(r"#SBATCH --([a-z-]+)(?:=(\S+))?", line) for line in head]
    directives = {option[1]: option[2] for option in found if option}
    assert len(directives) == sum(line.startswith("#SBATCH") for line in lines)  # else Slurm overlooks one
    assert "requeue" in directives
    assert directives["open-mode"] == "append"  # or a second start removes the log of the first
    who, _, seconds = directives["signal"].partition("@")
    assert who == "B:USR1" and int(seconds) >= 60  # to the script alone: it hands it on
    logs = set(re.findall("%[A-Za-z]", directives["output"]))
    if script == STUDY:
        assert re.fullmatch(r"\d+-\d+", directives["array"]) and {"%A", "%a"} <= logs  # one for each task
        return
    # One process a node, which has all of its GPUs.
    assert (directives["nodes"], directives["ntasks-per-node"]) == ("1", "1")
    assert "%j" in logs


@pytest.mark.parametrize(
    ("how", "restarts", "again"),
    [(0, "0", False), (1, "0", False), (2, "0", False), (130, "0", False), (75, "0", True), (75, "19", True),
     (75, "20", False), (137, "0", True)],
)  # fmt: skip
def test_who_asks_for_it_or_was_killed_queues_up_again_so_many_times(folder, how, restarts, again):
    job = start(RUN, folder, "train", "--workdir=a b", how=how, SLURM_RESTART_COUNT=restarts)
    said, _ = job.communicate(timeout=60)
    assert job.returncode == how, said
    assert calls(folder) == [
        "<-m> <launch.train> <--stopped_status=75> <--workdir=a b> ",
        *(["scontrol requeue 8"] if again else []),
    ]
    assert ("queues up again" in said) == again and ("no more of them" in said) == (restarts == "20")


def test_others_than_trainings_have_their_own_flags_alone(folder):
    """3 is an audit that found copies: no reason to run it again."""
    job = start(RUN, folder, "audit", "--train=a b", how=3)
    said, _ = job.communicate(timeout=60)
    assert (job.returncode, said) == (3, "")
    assert calls(folder) == ["<-m> <launch.audit> <--train=a b> "]


@pytest.mark.parametrize("given", [[], ["--workdir=run"]])
def test_what_is_to_be_run_must_be_said(folder, given):
    job = start(RUN, folder, *given, how=0)
    said, _ = job.communicate(timeout=60)
    assert job.returncode == 2 and said.startswith("error: say first what is to be run") and said.count("\n") == 1
    assert calls(folder) == []


@pytest.mark.parametrize("status", [0, 1, 2])
def test_a_study_has_flags_and_hands_on_its_exit_status(folder, status):
    task = start(STUDY, folder, "--workdir=a b", how=status, **_TASK)
    said, _ = task.communicate(timeout=60)
    assert (task.returncode, said) == (status, "")
    assert calls(folder) == ["<-m> <launch.study> <--workdir=a b> "]


@pytest.mark.parametrize("script", [RUN, STUDY], ids=lambda path: path.stem)
@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_signals_are_handed_on(script, folder, number):
    """SIGTERM to the script is how a person ends it, and a cluster that puts the job back itself."""
    given, environment = ([], _TASK) if script == STUDY else (["train"], {})
    job = start(script, folder, *given, how="waits", **environment)
    end = time.monotonic() + 30
    while not calls(folder) and time.monotonic() < end:
        time.sleep(0.01)
    job.send_signal(number)
    job.communicate(timeout=60)
    heard, name, status = signal.Signals(number).name[3:], "8", 75
    if script == STUDY:  # which saves when it hears SIGTERM
        heard, name, status = "TERM", "8_3", 143
    assert job.returncode == status
    again = [f"scontrol requeue {name}"] if number == signal.SIGUSR1 else []
    assert calls(folder)[1:] == [f"heard {heard}", *again]


@pytest.mark.parametrize("path", JOBSETS, ids=lambda path: path.stem)
def test_a_jobset_says_what_its_processes_need(path):
    content = yaml.safe_load(path.read_text())
    assert (content["apiVersion"], content["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    (replicated,) = content["spec"]["replicatedJobs"]
    job = replicated["template"]["spec"]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    given = dict(flag.removeprefix("--").split("=", 1) for flag in container["args"])
    assert set(given) <= known_flags()
    assert job["completions"] == job["parallelism"] > 1 and job["completionMode"] == "Indexed"
    if "n_processes" in given:
        assert int(given["n_processes"]) == job["completions"]
        assert given["process_id"] == "$(JOB_COMPLETION_INDEX)"
        name = content["metadata"]["name"]
        host, port = given["coordinator"].split(":")
        assert host == f"{name}-{replicated['name']}-0-0.{name}"  # the name that JobSet gives the first pod
        assert int(port) in {one["containerPort"] for one in container["ports"]}
    else:
        assert given["cluster"] == "tpu"
    # Mistakes end it, everything else starts all anew: a Job that repairs a single pod would leave the others waiting.
    (rule,) = job["podFailurePolicy"]["rules"]
    assert (rule["action"], rule["onExitCodes"]["values"]) == ("FailJob", [1, 2])
    assert content["spec"]["failurePolicy"]["rules"][0]["action"] == "FailJobSet"
    assert content["spec"]["failurePolicy"]["maxRestarts"] > 0
    assert job["backoffLimit"] == 0 and pod["restartPolicy"] == "Never"
    assert given["stopped_status"] == "75" and pod["terminationGracePeriodSeconds"] >= 60  # else SIGTERM counts as done
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}


@pytest.mark.parametrize(("status", "more"), [(0, 0), (2, 0), (75, 1)])
def test_a_tpu_slice_that_is_taken_away_is_made_anew(folder, status, more):
    """Also one whose training was told first, saved its state and asks to be run again."""
    job = start(TPU, folder, "--workdir=/shared/a b", how=status, PAUSE_S="0", RESTARTS="2")
    said, _ = job.communicate(timeout=60)
    assert job.returncode == status, said
    done = [line for line in calls(folder) if " describe " not in line]
    verbs = [line.partition("tpu-vm ")[2].split()[0] for line in done]
    made = ["create", "ssh", "scp", "ssh"]
    assert verbs == [*made, "ssh", "delete", *made, "ssh", *["ssh"] * more]
    trainings = [line for line in done if "launch.train" in line]
    assert len(set(trainings)) == 1 and all("--worker=all" in line for line in trainings)
    command = trainings[0].partition("launch.train")[2]
    assert r"--workdir=/shared/a\ b" in command
    assert {word.split("=")[0].removeprefix("--") for word in command.split() if word[:2] == "--"} <= known_flags()
    for line in done:
        if " scp " in line:
            files = [word for word in line.split() if not word.startswith("-")][4:]
            assert all((ROOT / name).exists() for name in files if ":" not in name), files


def test_the_page_names_what_there_is():
    text = (ROOT / "docs/clusters.md").read_text()
    files = set(re.findall(r"launch/[\w/]+\.(?:sbatch|yaml|sh)", text))
    assert {path.relative_to(ROOT).as_posix() for path in [RUN, STUDY, *JOBSETS, TPU]} <= files
    assert all((ROOT / path).exists() for path in files)
    schedulers = {"nodes", "signal"}
    assert set(re.findall(r"--([a-z]\w*)(?![\w-])", text)) - schedulers <= known_flags("train", "sample", "audit")
