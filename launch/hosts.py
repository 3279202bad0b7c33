"""Which processes work together: what the cluster's environment says, or the flags.

One command for every process: Slurm's `srun`, Open MPI's `mpirun` and the hosts of a TPU slice say by their
environment which of how many a process is; elsewhere --coordinator, --n_processes and --process_id do. A process that
was not started together with others is alone, also inside an allocation.
"""

import dataclasses
import os
import re
import shlex
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from absl import flags

from launch import boot, rollcall
from launch.watch import Watch
from memjax.errors import UserError
from memjax.team import ALONE, Team

_CLUSTER = flags.DEFINE_enum(
    "cluster",
    "auto",
    ["auto", "none", "slurm", "mpi", "tpu"],
    "Several processes: who says which one this is; auto: srun, mpirun or a TPU slice, whichever started it; none: "
    "this process is alone.",
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "Several processes: HOST:PORT of process 0; default: what the cluster says."
)
_PROCESSES = flags.DEFINE_integer(
    "n_processes", None, "Several processes: how many; default: what the cluster says.", lower_bound=1
)
_PROCESS = flags.DEFINE_integer(
    "process_id",
    None,
    "Several processes: which one this is, from 0 on; default: what the cluster says.",
    lower_bound=0,
)
_JOIN = flags.DEFINE_integer(
    "join_timeout", 300, "Several processes: seconds within which all must be there.", lower_bound=1
)
_LOST = flags.DEFINE_integer(
    "lost_timeout", 100, "Several processes: seconds without a sign of life after which one is lost.", lower_bound=10
)
_BEHIND = flags.DEFINE_integer(
    "behind_timeout",
    1800,
    "Several processes: seconds that one may stay at a step for which the others wait.",
    lower_bound=10,
)

_TPU_PORT = 8482
_HIGH_PORTS = range(61440, 65536)  # above those that Linux gives to connections


@dataclasses.dataclass(frozen=True, kw_only=True)
class Processes:
    """Several processes that work together, and which of them this one is.

    `devices` are the devices of this host, by number, that are this process's; None: all that it sees.
    """

    coordinator: str
    count: int
    index: int
    devices: tuple[int, ...] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Told:
    """What a cluster says; `coordinator` is None where it does not say."""

    by: str
    count: int
    index: int
    coordinator: str | None = None
    devices: tuple[int, ...] | None = None


def join(facts: Mapping[str, Any], *, in_step: bool = True) -> Team:
    """Start JAX's distributed runtime if this process is one of several; before anything asks for a device.

    Args:
      facts: JSON-like; what all of them must have been asked alike, the code aside, which is compared anyhow.
      in_step: all run the same programs at the same time, over all devices, and JAX hears SIGTERM, for
        `boot.StopRequests` to tell all; else each works by itself, and SIGTERM ends it, as it ends a single process.

    Returns:
      All of them, who can meet without JAX.

    Raises:
      UserError: the flags and the cluster contradict each other, a process is missing, or was asked for something else.
    """
    found = processes(
        os.environ,
        cluster=_CLUSTER.value,
        coordinator=_COORDINATOR.value,
        n_processes=_PROCESSES.value,
        process_id=_PROCESS.value,
    )
    if found is None:
        return ALONE
    import jax

    peers = rollcall.call(
        found.coordinator,
        found.count,
        found.index,
        {"jax": jax.__version__, "code": code(), **facts},
        timeout_s=_JOIN.value,
        tell=boot.say,
    )
    watch = Watch(peers, found.count, lost_after_s=_LOST.value, behind_after_s=_BEHIND.value)
    boot.at_end.append(watch.ended)
    boot.at_step.append(watch.at_step)
    jax.config.update("jax_enable_preemption_service", in_step)
    if not in_step:  # else whoever compiles for a GPU waits for the others to try some of the ways to run it
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_shard_autotuning=false".strip()
    jax.distributed.initialize(
        found.coordinator,
        found.count,
        found.index,
        local_device_ids=found.devices,
        cluster_detection_method="deactivate",  # else JAX takes one GPU of a host, however many are this process's
        initialization_timeout=_JOIN.value,
        heartbeat_timeout_seconds=2 * _LOST.value,  # JAX aborts, with a number for a name: the watch comes first
    )
    return Team(found.index, found.count, watch.meet)


def processes(
    environment: Mapping[str, str],
    *,
    cluster: str = "auto",
    coordinator: str | None = None,
    n_processes: int | None = None,
    process_id: int | None = None,
    metadata: Callable[[str], str] | None = None,
) -> Processes | None:
    """Return the processes that this one belongs to; None: it is alone.

    Args:
      environment: the process's.
      cluster: who is believed: auto, none, slurm, mpi or tpu.
      coordinator: HOST:PORT of process 0; None: what the cluster says. So for the other two.
      n_processes: how many there are.
      process_id: which one this is.
      metadata: answers what Google's metadata server knows of this TPU host, by key; None: ask it.

    Raises:
      UserError: something is missing, or the flags contradict the cluster.
    """
    given = {"coordinator": coordinator, "n_processes": n_processes, "process_id": process_id}
    given = {name: value for name, value in given.items() if value is not None}
    flags_given = " ".join(f"--{name}={value}" for name, value in given.items())
    if cluster == "none":
        if given:
            raise UserError(f"--cluster=none says that this process is alone, {flags_given} that it is not; give one.")
        return None
    told = _told(environment, cluster, metadata)
    if told and told.count == 1:  # alone, unless the flags say otherwise
        told = None
    if not told and not given:
        return None
    if told:
        for name, his in (("n_processes", told.count), ("process_id", told.index)):
            if given.get(name, his) != his:
                raise UserError(
                    f"--{name}={given[name]}, but {told.by} started this as process {told.index} of {told.count}; "
                    "leave the flag away."
                )
    count = told.count if told else n_processes
    index = told.index if told else process_id
    coordinator = coordinator or (told.coordinator if told else None)
    if coordinator is None:
        said = f"{told.by} does not say where process 0 is" if told else f"{flags_given} is not all"
        raise UserError(f"{said}; give --coordinator=HOST:PORT, the address of process 0, the same to all processes.")
    if count is None or index is None:
        raise UserError(
            f"{flags_given} is not all; give --n_processes=N and --process_id=I as well, or start the command with "
            "srun or mpirun, which say both."
        )
    if index >= count:
        raise UserError(f"--process_id={index} of --n_processes={count}: processes are counted from 0 to {count - 1}.")
    rollcall.address(coordinator)
    devices = told.devices if told else None
    return Processes(coordinator=coordinator, count=count, index=index, devices=devices) if count > 1 else None


def asked() -> dict[str, Any]:
    """Return what the flags ask for, as facts to join by: all but this module's own, which differ."""
    return {name: value for name, value in flags.FLAGS.flag_values_dict().items() if name not in _own_flags()}


def command() -> str:
    """Return the command line as one person would type it again for one process."""
    words, mine = [], _own_flags()
    given = iter(shlex.split(boot.command()))
    for word in given:
        name, has_value, _ = word.removeprefix("-").removeprefix("-").partition("=")
        if not word.startswith("-") or name not in mine:
            words.append(word)
        elif not has_value:
            next(given, None)
    return shlex.join(words)


def code() -> dict[str, str]:
    """Return a checksum of each source file of memjax and its launchers, by name: what runs here, whatever git says."""
    import memjax

    root = Path(memjax.__file__).parent.parent
    files = sorted(path for part in ("memjax", "launch") for path in (root / part).rglob("*.py"))
    return {str(path.relative_to(root)): f"{zlib.crc32(path.read_bytes()):08x}" for path in files}


def _own_flags() -> set[str]:
    return {flag.name for flag in flags.FLAGS.flags_by_module_dict()[__name__]}


def _told(environment: Mapping[str, str], cluster: str, metadata: Callable[[str], str] | None) -> _Told | None:
    """Return what the cluster says; None: there is none, or it did not start this process."""
    # Open MPI first: inside a Slurm job its processes see Slurm's variables, too, of the one who starts them.
    known = {"mpi": _by_open_mpi, "slurm": _by_slurm, "tpu": _by_tpu_variables}
    for name, recognise in known.items():
        if cluster in ("auto", name) and (told := recognise(environment)):
            return told
    if cluster == "tpu":
        return _by_tpu_metadata(metadata or _ask_google)
    if cluster != "auto":
        starter = {"mpi": "mpirun (Open MPI)", "slurm": "srun"}[cluster]
        raise UserError(
            f"--cluster={cluster}, but nothing in the environment says so; start the command with {starter}."
        )
    return None


def _by_slurm(environment: Mapping[str, str]) -> _Told | None:
    """Slurm: `srun` sets what is said of its step. In a batch script or `salloc` without it a process is alone."""
    job, step = environment.get("SLURM_JOB_ID"), environment.get("SLURM_STEP_ID")
    nodes, count = environment.get("SLURM_STEP_NODELIST"), environment.get("SLURM_STEP_NUM_TASKS")
    index = environment.get("SLURM_PROCID")
    if job is None or step is None or nodes is None or count is None or index is None:
        return None
    port = _HIGH_PORTS[(int(job) * 31 + int(step)) % len(_HIGH_PORTS)]  # two steps of a job may run on one host
    tasks = _tasks_by_node(environment.get("SLURM_STEP_TASKS_PER_NODE", ""))
    node = int(environment.get("SLURM_NODEID", "0"))
    on_node = environment.get("SLURM_GPUS_ON_NODE", "")
    return _Told(
        by="Slurm",
        count=int(count),
        index=int(index),
        coordinator=f"{_first_host(nodes)}:{port}",
        devices=_share(
            environment,
            int(environment.get("SLURM_LOCALID", "0")),
            tasks[node] if node < len(tasks) else 1,
            on_node=int(on_node) if on_node.isdecimal() else None,
        ),
    )


def _by_open_mpi(environment: Mapping[str, str]) -> _Told | None:
    """Open MPI: `mpirun` sets OMPI_COMM_WORLD_*; where it runs itself, version 4 says, too."""
    count, index = environment.get("OMPI_COMM_WORLD_SIZE"), environment.get("OMPI_COMM_WORLD_RANK")
    if count is None or index is None:
        return None
    local = int(environment.get("OMPI_COMM_WORLD_LOCAL_SIZE", "1"))
    job = environment.get("OMPI_MCA_ess_base_jobid") or environment.get("PMIX_NAMESPACE", "")
    port = _HIGH_PORTS[zlib.crc32(job.encode()) % len(_HIGH_PORTS)]
    at = re.search(r"tcp://([^,:]+)|tcp6://\[([^,\]]+)", environment.get("OMPI_MCA_orte_hnp_uri", ""))
    host = "127.0.0.1" if local == int(count) else (at and (at[1] or f"[{at[2]}]"))
    return _Told(
        by="Open MPI",
        count=int(count),
        index=int(index),
        coordinator=f"{host}:{port}" if host else None,
        devices=_share(environment, int(environment.get("OMPI_COMM_WORLD_LOCAL_RANK", "0")), local),
    )


def _by_tpu_variables(environment: Mapping[str, str]) -> _Told | None:
    """TPU slices of Google Kubernetes Engine: variables say which host of which slice this is."""
    hosts = environment.get("TPU_WORKER_HOSTNAMES") or environment.get("TPU_PROCESS_ADDRESSES")
    worker = environment.get("TPU_WORKER_ID", "")
    if not hosts or not worker.isdecimal():
        return None
    return _slices(hosts.split(","), int(worker), environment)


def _by_tpu_metadata(metadata: Callable[[str], str]) -> _Told:
    """TPU machines of Google Compute Engine: their metadata server says the same."""
    try:
        worker, hosts = metadata("agent-worker-number"), metadata("worker-network-endpoints")
        settings = metadata("tpu-env")
    except OSError as error:
        raise UserError(
            f"--cluster=tpu, but Google's metadata server does not answer ({error}); run it on the hosts of a TPU "
            "slice, or give --coordinator, --n_processes and --process_id."
        ) from None
    slices = dict(re.findall(r"^(MEGASCALE_\w+):\s*'?([^'\s]*)", settings, re.MULTILINE))
    return _slices([host.rpartition(":")[2] for host in hosts.split(",")], int(worker), slices)


def _slices(hosts: list[str], worker: int, settings: Mapping[str, str]) -> _Told:
    slices, slice_ = int(settings.get("MEGASCALE_NUM_SLICES") or 1), int(settings.get("MEGASCALE_SLICE_ID") or 0)
    first = (settings.get("MEGASCALE_COORDINATOR_ADDRESS") or hosts[0]).partition(":")[0]
    return _Told(
        by="the TPU slice",
        count=len(hosts) * slices,
        index=len(hosts) * slice_ + worker,
        coordinator=f"{first}:{_TPU_PORT}",
    )


def _ask_google(key: str) -> str:
    url = f"http://metadata.google.internal/computeMetadata/v1/instance/attributes/{key}"
    request = urllib.request.Request(url, headers={"Metadata-Flavor": "Google"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        if key == "tpu-env" and error.code == 404:
            return ""  # one slice
        raise


def _first_host(nodes: str) -> str:
    """Return the first host of Slurm's `node[007-015,20],other`."""
    first = re.match(r"(?:[^,\[]|\[[^\]]*\])+", nodes)
    return re.sub(r"\[([^\],-]*)[^\]]*\]", r"\1", first[0] if first else nodes)


def _tasks_by_node(text: str) -> list[int]:
    """Return Slurm's `4(x2),1` as [4, 4, 1]."""
    return [int(tasks) for tasks, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", text) for _ in range(int(times or 1))]


def _share(
    environment: Mapping[str, str], local: int, n_local: int, *, on_node: int | None = None
) -> tuple[int, ...] | None:
    """Return which of the GPUs that a process sees are its own; None: all of them, or those that the user tells JAX.

    Args:
      environment: says which GPUs it sees.
      local: which of the processes on this host it is.
      n_local: how many there are on this host.
      on_node: how many GPUs the job has on this host, if that is known.

    Raises:
      UserError: they cannot be shared out.
    """
    visible = environment.get("CUDA_VISIBLE_DEVICES", environment.get("ROCR_VISIBLE_DEVICES"))
    if n_local == 1 or environment.get("JAX_LOCAL_DEVICE_IDS"):
        return None
    if visible is None:
        return (local,)  # as JAX does: one each; processors take no notice
    n_visible = len([device for device in visible.split(",") if device.strip()])
    is_own = n_visible < n_local if on_node is None else n_visible < on_node  # the scheduler has shared them out
    if is_own or not n_visible:
        return None
    if n_visible % n_local:
        raise UserError(
            f"{n_visible} GPUs of this host for its {n_local} processes; ask for one process a host, which uses them "
            "all, or for as many processes as GPUs."
        )
    each = n_visible // n_local
    return tuple(range(local * each, (local + 1) * each))
