"""Who works together is understood from the environment or the flags, and who is missing or differs is named."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from launching import ROOT, launch

from launch import boot, rollcall
from launch.rollcall import call
from launch.watch import Peer, Watch
from memjax.errors import UserError

# As `srun` on two nodes of four GPUs sets them, one process a node.
SLURM = {
    "SLURM_JOB_ID": "70", "SLURM_STEP_ID": "0", "SLURM_STEP_NODELIST": "gpu[07-08]", "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_PROCID": "1", "SLURM_NODEID": "1", "SLURM_LOCALID": "0", "SLURM_STEP_TASKS_PER_NODE": "1(x2)",
    "SLURM_NTASKS": "2", "CUDA_VISIBLE_DEVICES": "0,1,2,3", "SLURM_GPUS_ON_NODE": "4",
}  # fmt: skip
# A batch script, or a shell in an allocation of eight tasks: nothing was started by `srun`.
ALLOCATION = {"SLURM_JOB_ID": "70", "SLURM_NTASKS": "8", "SLURM_PROCID": "0", "SLURM_JOB_NODELIST": "gpu[07-08]"}
MPI = {
    "OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2", "OMPI_MCA_ess_base_jobid": "1531576320",
    "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1,10.148.0.1:34911",
}  # fmt: skip
TPU = {"TPU_WORKER_HOSTNAMES": "t0.sub,t1.sub", "TPU_WORKER_ID": "1"}
SECOND_SLICE = {"MEGASCALE_NUM_SLICES": "2", "MEGASCALE_SLICE_ID": "1", "MEGASCALE_COORDINATOR_ADDRESS": "s0-0:8080"}
METADATA = {
    "agent-worker-number": "2",
    "worker-network-endpoints": "unknown:unknown:10.0.0.4,unknown:unknown:10.0.0.5,10.0.0.6,10.0.0.7",
    "tpu-env": "ACCELERATOR_TYPE: 'v5litepod-16'\nMEGASCALE_NUM_SLICES: ''\n",
}


@pytest.fixture
def processes():
    """What `hosts.processes` says as (coordinator, count, index, devices), loaded as launchers load it."""
    launch("train", "--help")
    from launch import hosts

    def said(environment, **flags):
        found = hosts.processes(environment, **flags)
        return found and (found.coordinator, found.count, found.index, found.devices)

    return said


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("node7", "node7"),
        ("node7,a[1-2]", "node7"),
        ("node[007-015,20],a", "node007"),
        ("a1b[3,5]", "a1b3"),
        ("rack[2-3]n[04-05]", "rack2n04"),
    ],
)
def test_slurm_says_who_is_where(processes, nodes, first):
    coordinator, count, index, devices = processes({**SLURM, "SLURM_STEP_NODELIST": nodes})
    host, port = coordinator.split(":")
    assert (host, count, index, devices) == (first, 2, 1, None)  # one process a host uses all of its devices
    assert 61440 <= int(port) < 65536
    other_step = processes({**SLURM, "SLURM_STEP_ID": "1"})[0]
    assert other_step.split(":")[1] != port  # steps of one job may run side by side


def test_gpus_of_a_host_are_shared_out_unless_the_scheduler_did(processes):
    four = {**SLURM, "SLURM_STEP_NUM_TASKS": "6", "SLURM_STEP_TASKS_PER_NODE": "2,4", "SLURM_LOCALID": "3"}
    assert processes(four)[3] == (3,)
    assert processes({**four, "SLURM_NODEID": "0", "SLURM_LOCALID": "1"})[3] == (2, 3)
    assert processes({**four, "CUDA_VISIBLE_DEVICES": "0"})[3] is None  # --gpus-per-task=1
    assert processes({**four, "JAX_LOCAL_DEVICE_IDS": "0,2"})[3] is None  # which JAX heeds where nothing else is said
    with pytest.raises(UserError, match="4 GPUs of this host for its 3 processes"):
        processes({**four, "SLURM_STEP_TASKS_PER_NODE": "3(x2)", "SLURM_STEP_NUM_TASKS": "6", "SLURM_LOCALID": "0"})
    assert processes(MPI)[3] == (1,)
    assert processes({**MPI, "CUDA_VISIBLE_DEVICES": "0,1,2,3"})[3] == (2, 3)


@pytest.mark.parametrize(
    "environment",
    [{}, ALLOCATION, {**SLURM, "SLURM_STEP_NUM_TASKS": "1"}, {**MPI, "OMPI_COMM_WORLD_SIZE": "1"},
     {"TPU_WORKER_HOSTNAMES": "localhost", "TPU_WORKER_ID": "0"}],
)  # fmt: skip
def test_whoever_was_started_alone_is_alone(processes, environment):
    assert processes(environment) is None
    assert processes(environment, coordinator="a:1234", n_processes=3, process_id=2) == ("a:1234", 3, 2, None)


def test_open_mpi_and_tpu_slices_say_it_their_way(processes):
    coordinator, *rest = processes({**SLURM, **MPI})  # mpirun in a Slurm job
    assert coordinator.startswith("10.96.0.1:") and rest[:2] == [4, 3]
    version_5 = {key: value for key, value in MPI.items() if "OMPI_MCA" not in key}
    with pytest.raises(UserError, match=r"Open MPI does not say where process 0 is; give --coordinator=HOST:PORT"):
        processes(version_5)
    assert processes(version_5, coordinator="n0:5000")[:3] == ("n0:5000", 4, 3)
    one_host = processes({**version_5, "OMPI_COMM_WORLD_LOCAL_SIZE": "4"})
    assert one_host[0].startswith("127.0.0.1:")
    assert processes(TPU) == ("t0.sub:8482", 2, 1, None)
    assert processes({**TPU, **SECOND_SLICE}) == ("s0-0:8482", 4, 3, None)
    assert processes({}, cluster="tpu", metadata=METADATA.__getitem__) == ("10.0.0.4:8482", 4, 2, None)


@pytest.mark.parametrize(
    ("environment", "flags", "told"),
    [
        (SLURM, {"n_processes": 4}, "--n_processes=4, but Slurm started this as process 1 of 2"),
        (MPI, {"process_id": 0}, "--process_id=0, but Open MPI started this as process 3 of 4"),
        (SLURM, {"cluster": "none", "process_id": 1}, "--cluster=none says that this process is alone"),
        ({}, {"cluster": "slurm"}, "start the command with srun"),
        (ALLOCATION, {"n_processes": 2}, "--n_processes=2 is not all; give --coordinator=HOST:PORT"),
        ({}, {"coordinator": "a:1234", "process_id": 0}, "give --n_processes=N"),
        ({}, {"coordinator": "a:1234", "n_processes": 2, "process_id": 2}, "counted from 0 to 1"),
        ({}, {"coordinator": "a", "n_processes": 2, "process_id": 0}, "--coordinator=a must be HOST:PORT"),
    ],
)
def test_contradictions_are_told(processes, environment, flags, told):
    with pytest.raises(UserError) as error:
        processes(environment, **flags)
    assert told in str(error.value)


def roll(port, calls, timeout_s=10.0):
    """Call the roll with one thread for each (index, count, facts); return what refused each, "" if nothing did."""
    said, peers = [""] * len(calls), []

    def one(number, index, count, facts):
        try:
            for peer in call(f"127.0.0.1:{port}", count, index, facts, timeout_s=timeout_s):
                peers.append((index, peer.index))
                peer.connection.close()
        except UserError as error:
            said[number] = str(error)

    threads = [threading.Thread(target=one, args=(number, *given)) for number, given in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    if len(calls) == 4 and not any(said):  # process 0 has a connection to each of the others
        assert sorted(peers) == [*((0, i) for i in (1, 2, 3)), *((i, 0) for i in (1, 2, 3))]
    return said


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


ASKED = {"config": {"optim": {"lr": 0.1}, "steps": 3}, "code": {"memjax/keys.py": "0a"}}


def test_the_roll_call_names_who_is_missing_or_differs_to_all_alike(port):
    assert roll(port, [(index, 4, ASKED) for index in (2, 0, 3, 1)]) == [""] * 4

    three = [(index, 4, ASKED) for index in (0, 1, 3)]
    missing = roll(port, three, timeout_s=3.0)  # within which the others come on a busy machine, too
    assert len(set(missing)) == 1 and missing[0].startswith("process 2 of 4 did not join within 3 s")

    other = {"config": {"optim": {"lr": 0.2}}, "code": {"memjax/keys.py": "0b"}}
    differs = roll(port, [*three, (2, 4, other)])
    assert len(set(differs)) == 1
    for word in ("process 2 (", "memjax/keys.py", "config.optim.lr is 0.2, not 0.1", "config.steps is nothing, not 3"):
        assert word in differs[0]

    twice = roll(port, [*three, (3, 4, ASKED)])
    assert all("say that they are process 3 of 4" in said for said in twice)
    numbers = roll(port, [*three, (2, 3, ASKED)])
    assert all("knows of 3 processes" in said for said in numbers)
    assert "found no process 0" in roll(port, three[1:2], timeout_s=0.5)[0]


def test_of_what_lies_behind_the_answer_nothing_is_lost():
    near, far = socket.socketpair()
    with near, far:
        far.sendall(b'{"refused": null}\n{"step": 0}\n')
        assert rollcall._line(near) == {"refused": None} and near.recv(100) == b'{"step": 0}\n'


def test_a_report_tells_the_command_of_one_process(processes, monkeypatch):
    from launch import hosts

    given = "python -m launch.audit --n_processes=2 --train=a --process_id 1 '--out=b c' -coordinator h:1 --k=3"
    monkeypatch.setattr(boot, "command", lambda: given)
    assert hosts.command() == "python -m launch.audit --train=a '--out=b c' --k=3"


def test_strangers_at_the_door_change_nothing(port):
    said = []
    waiting = threading.Thread(target=lambda: said.append(roll(port, [(0, 2, ASKED)])))
    waiting.start()
    for noise in (b"GET / HTTP/1.1\r\n\r\n", b'{"index": "x"}\n', b""):
        while True:
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=5) as stranger:
                    stranger.sendall(noise)
                break
            except ConnectionRefusedError:
                time.sleep(0.01)
    assert roll(port, [(1, 2, ASKED)]) == [""]
    waiting.join(60)
    assert said == [[""]]


@pytest.mark.parametrize(
    ("numbers", "status"),
    [([signal.SIGTERM], 0), ([signal.SIGUSR1], 75), ([signal.SIGTERM, signal.SIGUSR1, signal.SIGTERM], 75)],
)
def test_a_run_that_was_asked_to_stop_says_by_its_status_whether_to_run_it_again(numbers, status):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)]
    with boot.StopRequests() as stop:
        assert not stop(1)
        for number in numbers:
            signal.raise_signal(number)
        assert stop(2)
        assert stop.status() == status
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            stop.status()
        with pytest.raises(KeyboardInterrupt):  # who presses it twice does not want to wait
            signal.raise_signal(signal.SIGINT)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)] == before


@pytest.fixture
def watching():
    """Process 0 and its two others as (watches, what each said, how each was ended)."""
    with watch_of_three(lost_after_s=10) as three:
        yield three


@contextlib.contextmanager
def watch_of_three(**limits):
    with socket.create_server(("127.0.0.1", 0)) as server:
        pairs = [(server.accept()[0], far) for far in map(socket.create_connection, [server.getsockname()] * 2)]
    said, ended = [[], [], []], [[], [], []]
    peers = [[Peer(i + 1, f"h{i + 1}", near) for i, (near, _) in enumerate(pairs)]]
    peers += [[Peer(0, "h0", far)] for _, far in pairs]
    watches = [
        Watch(
            of,
            3,
            tell=said[i].append,
            end=ended[i].append,
            **{"grace_s": 0.05, "linger_s": 0.05, "news_s": 20.0, **limits},
        )
        for i, of in enumerate(peers)
    ]
    yield watches, said, ended
    for watch in watches:
        watch._is_ending.set()
        watch._thread.join(20)
    for connection in sum(pairs, ()):
        connection.close()


def until(condition):
    end = time.monotonic() + 20
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    assert condition()


@pytest.mark.parametrize(
    ("last", "status", "told"),
    [(None, 75, "error: process 2 of 3 (h2) was killed"), (2, 2, "error: process 2 of 3 (h2) failed with status 2")],
)
def test_who_is_killed_or_fails_ends_the_others_who_name_it(watching, last, status, told):
    watches, said, ended = watching
    if last is None:
        watches[2]._peers[0].connection.shutdown(socket.SHUT_RDWR)  # as the system does for who is killed
    else:
        watches[2].ended(last)
    until(lambda: ended[0] and ended[1])
    assert ended[:2] == [[status], [status]]
    assert said[0] == said[1] and len(said[0]) == 1 and said[0][0].startswith(told)


def test_the_error_that_a_failure_elsewhere_causes_here_is_not_told_as_its_own(watching):
    watches, said, ended = watching
    watches[2]._grace_s = watches[0]._grace_s = watches[1]._grace_s = 60
    threads = [threading.Thread(target=watch.ended, args=(1,)) for watch in watches]
    watches[2]._news_s = 0.0
    for thread in threads[::-1]:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert ended == [[1], [1], [1]] and said[2] == []
    assert said[0] == said[1] == ["error: process 2 of 3 (h2) failed with status 1; see what it says."]


def test_who_ends_in_order_ends_nobody(watching):
    watches, said, ended = watching
    for watch, status in zip(watches[::-1], (0, 75, 0), strict=True):
        watch.ended(status)
        for peer in watch._peers.values():
            peer.connection.shutdown(socket.SHUT_WR)
    for watch in watches:
        watch._thread.join(20)
    assert said == ended == [[], [], []]


def test_processes_meet_when_all_have_come_and_hear_what_all_say(watching):
    watches, said, ended = watching
    heard = [[], [], []]

    def come(i):
        for n in range(3):
            time.sleep(0.05 * ((i + n) % 3))
            heard[i].append(watches[i].meet([i, n, "x" * (100_000 if i == 1 else 1)]))  # more than is read at once

    threads = [threading.Thread(target=come, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    for words in heard:
        assert [[word[:2] for word in one] for one in words] == [[[i, n] for i in range(3)] for n in range(3)]
    assert said == ended == [[], [], []]


def test_process_0_ends_last_for_jax_aborts_the_others_when_it_is_gone():
    with watch_of_three(lost_after_s=10, linger_s=20) as (watches, said, ended):
        failing = threading.Thread(target=watches[0].ended, args=(2,))
        failing.start()
        until(lambda: ended[1] and ended[2])
        failing.join(0.2)
        assert ended == [[], [2], [2]] and said[1] == said[2] != []
        for watch in watches[1:]:
            watch._peers[0].connection.shutdown(socket.SHUT_RDWR)  # as the system does at their end
        failing.join(10)
        assert ended == [[2]] * 3


@pytest.mark.parametrize("silent", [2, 0])
def test_who_lives_but_gives_no_sign_of_it_is_named(silent):
    with watch_of_three(lost_after_s=1.0) as (watches, said, ended):
        watches[silent]._is_ending.set()  # nothing is closed, nothing is said, as of a process that is stopped
        others = [i for i in range(3) if i != silent]
        until(lambda: all(ended[i] for i in others))
        for i in others:
            assert ended[i] == [75] and len(said[i]) == 1
            assert said[i][0].startswith(f"error: process {silent} of 3 (h{silent}) gives no sign of life for 1 s")


def test_what_fails_for_want_of_the_silent_one_is_told_as_that():
    with watch_of_three(lost_after_s=6.0, news_s=0.0) as (watches, said, ended):
        watches[2]._is_ending.set()
        until(lambda: watches[1]._silent_elsewhere)
        watches[1].ended(1)  # of a collective that did not come to an end, for example
        until(lambda: ended[0])
        assert ended == [[75], [75], []] and said[0] == said[1]
        assert said[0][0].startswith("error: process 2 of 3 (h2) gives no sign of life")


@pytest.mark.parametrize("behind", [1, 0])
def test_who_stands_still_while_others_wait_is_named(behind):
    with watch_of_three(lost_after_s=2.0, behind_after_s=1.2) as (watches, said, ended):
        for step in range(1, 5):  # all go on: nobody is behind, however slow they are, nor who has not begun
            time.sleep(0.4)
            for watch in watches[:step]:
                watch.at_step(step)
        for i, watch in enumerate(watches):
            watch.at_step(4 if i == behind else 5)
        assert not any(ended)
        until(lambda: all(ended))
        assert ended == [[75]] * 3 and said[0] == said[1] == said[2]
        host = f"h{behind}" if behind else socket.gethostname()
        assert said[0][0].startswith(f"error: process {behind} of 3 ({host}) stands still after step 4 for 1 s")


def test_a_host_of_a_slice_that_did_not_join_is_told_how(monkeypatch):
    monkeypatch.setattr("jax.process_count", lambda: 4)
    with pytest.raises(UserError, match=r"one of 4 hosts of a TPU slice.*--cluster=tpu"):
        boot.StopRequests()


# One of several that trains: joins by the flags, and after each step asks whether to stop.
PROCESS = """
import time
from launch import boot, hosts

def main():
    hosts.code = dict  # somebody may work on the code while this runs
    hosts.join({"config": {"seed": 3}})
    with boot.StopRequests() as stop:
        print("joined", flush=True)
        for step in range(1, 3000):
            if stop(step):
                print(step, flush=True)
                return stop.status()
            time.sleep(0.02)

boot.run(main)
"""


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGKILL, signal.SIGSTOP])
def test_a_signal_to_one_process_ends_all_to_be_run_again(port, number):
    joined = [f"--coordinator=127.0.0.1:{port}", "--n_processes=2"]
    joined += ["--lost_timeout=10"] if number == signal.SIGSTOP else []
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, *joined, f"--process_id={i}"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "XLA_FLAGS": ""},
        )
        for i in range(2)
    ]
    for process in processes:
        assert process.stdout and process.stderr
        assert process.stdout.readline() == "joined\n", process.stderr.read()
    processes[1].send_signal(number)
    if number == signal.SIGSTOP:
        processes[0].wait(120)
        processes[1].send_signal(signal.SIGCONT)  # to hear that all end
    ended = [process.communicate(timeout=120) for process in processes]
    if number == signal.SIGKILL:
        assert [process.returncode for process in processes] == [75, -number]
        assert "error: process 1 of 2 (" in ended[0][1] and ") was killed" in ended[0][1]
    elif number == signal.SIGSTOP:
        assert processes[0].returncode == 75
        assert "error: process 1 of 2 (" in ended[0][1] and ") gives no sign of life for 10 s" in ended[0][1]
        assert processes[1].returncode in (75, -signal.SIGABRT)  # JAX may be the first to tell it
    else:
        assert [process.returncode for process in processes] == [75, 75], ended
        assert len({said.splitlines()[-1] for said, _ in ended}) == 1  # the step; before it stand lines of the runtime
