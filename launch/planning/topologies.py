"""From `v5e:4x4` to devices that programs can be compiled for, whether this computer has any or not."""

import dataclasses
import importlib.util
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from launch.planning.machines import MACHINES, Machine
from memjax.errors import UserError

_EXTRAS = {"tpu": ("libtpu", "plan"), "cuda": ("jax_cuda12_plugin", "plan-gpu")}
_GPU_FLAGS = "--xla_gpu_enable_triton_gemm=false --xla_gpu_autotune_level=0"  # both would ask a GPU


@dataclasses.dataclass(frozen=True)
class Topology:
    """So many devices of a kind, and how they are wired."""

    machine: str  # a key of MACHINES
    shape: str

    def __str__(self) -> str:
        return f"{self.machine}:{self.shape}"

    @property
    def of(self) -> Machine:
        """What each device is."""
        return MACHINES[self.machine]

    @property
    def n_devices(self) -> int:
        """How many there are."""
        return math.prod(map(int, self.shape.split("x")))

    @property
    def of_one_process(self) -> "Topology":
        """The devices that one process has, of these: its host's."""
        if self.n_devices <= self.of.per_host:
            return self
        return next(one for one in family(self.machine) if one.n_devices == self.of.per_host)

    @property
    def memory_bytes(self) -> int:
        """Of all devices together."""
        return self.n_devices * self.of.memory_bytes

    @property
    def per_node(self) -> int:
        """How many devices have the fast links among them: a node of GPUs, a whole slice of TPUs."""
        return min(self.of.per_host, self.n_devices) if self.of.platform == "cuda" else self.n_devices

    def devices(self) -> list[Any]:
        """Return the devices, to compile for.

        Raises:
          UserError: what compiles for them is not installed, or there are fewer simulated ones.
        """
        import jax
        from jax.experimental import topologies

        check_installed(self)
        if self.of.platform == "cpu":
            devices = jax.devices("cpu")
            if len(devices) < self.n_devices:
                raise UserError(
                    f"--topology={self}: JAX began with {len(devices)} simulated devices; run it in a process of its "
                    f"own, or set XLA_FLAGS=--xla_force_host_platform_device_count={self.n_devices} before."
                )
            return devices[: self.n_devices]
        if self.of.platform == "tpu":
            more = {"chips_per_host_bounds": [1, 1, 1]} if self.n_devices == 1 else {}
            return list(topologies.get_topology_desc(str(self), platform="tpu", **more).devices)
        found = topologies.get_topology_desc(
            self.machine,
            platform="cuda",
            topology=f"1x{self.n_devices // self.per_node}x{self.per_node}",
            target_config=_target(self.of),
        )
        return list(found.devices)


def parse(text: str) -> Topology:
    """Return the topology of `v5e:4x4`, `h100:8`, `h100:2x8` (two nodes) or `cpu:8`.

    Raises:
      UserError: there is no such machine or shape; those that there are are listed.
    """
    name, _, shape = text.strip().partition(":")
    if name not in MACHINES:
        raise UserError(f"--topology={text}: there is no machine {name!r}; there are {listed()}.")
    machine = MACHINES[name]
    if machine.platform == "cuda" and shape.isdecimal() and int(shape) > 8 and int(shape) % 8 == 0:
        shape = f"{int(shape) // 8}x8"  # whole nodes
    if shape not in machine.shapes:
        raise UserError(
            f"--topology={text}: {machine.called} does not come as {shape or 'that'}; choose "
            f"{', '.join(f'{name}:{one}' for one in machine.shapes)}."
        )
    return Topology(name, shape)


def listed() -> str:
    """Return all topologies, for a person."""
    return "; ".join(f"{name}:{'|'.join(machine.shapes)}" for name, machine in MACHINES.items())


def family(name: str) -> list[Topology]:
    """Return all topologies of a machine, the smallest first."""
    return sorted((Topology(name, shape) for shape in MACHINES[name].shapes), key=lambda one: one.n_devices)


def check_installed(topology: Topology) -> None:
    """Raise `UserError` unless what compiles for it is installed."""
    module, extra = _EXTRAS.get(topology.of.platform, ("jax", ""))
    if importlib.util.find_spec(module) is None:
        raise UserError(
            f"--topology={topology}: compiling for {topology.of.called} needs {module}, which is not installed; run "
            f"pip install -e '.[{extra}]'" + (" (5.5 GB)." if extra == "plan-gpu" else ".")
        )


def set_environment(topologies: Iterable[Topology]) -> None:
    """Set what compilers read of the environment; before JAX is imported."""
    chosen = list(topologies)
    flags = os.environ.get("XLA_FLAGS", "")
    # All that there can be: where a batch does not fit, larger topologies are asked, too.
    simulated = max((family(one.machine)[-1].n_devices for one in chosen if one.of.platform == "cpu"), default=0)
    if simulated and "force_host_platform_device_count" not in flags:
        flags += f" --xla_force_host_platform_device_count={simulated}"
    if any(one.of.platform == "cuda" for one in chosen):
        folder = _cuda_compiler()
        flags += f" {_GPU_FLAGS}" + (f" --xla_gpu_cuda_data_dir={folder}" if folder else "")
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
        os.environ["JAX_SKIP_CUDA_CONSTRAINTS_CHECK"] = "1"
        if folder:
            os.environ["PATH"] = f"{folder / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
    if any(one.of.platform == "tpu" for one in chosen):
        os.environ["TPU_SKIP_MDS_QUERY"] = "1"  # it would ask a cloud's server what this computer is
        os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-4")  # any: else it warns that it does not know
        os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
        os.environ["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "true"  # no device is taken: several plans may be made at once
    os.environ["XLA_FLAGS"] = flags.strip()
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # XLA's warnings that it compiles for long, and for no device


def _cuda_compiler() -> Path | None:
    """Return the folder of NVIDIA's assembler, as pip installs it."""
    spec = importlib.util.find_spec("nvidia")
    for place in spec.submodule_search_locations or () if spec else ():
        if (found := Path(place, "cuda_nvcc")).joinpath("bin").exists():
            return found
    return None


def _target(machine: Machine) -> str:
    """Return the description of a GPU that XLA compiles for, as a text proto."""
    told = dict(machine.target)
    description = told.pop("description")
    major, minor = told.pop("capability")  # type: ignore[misc]
    about = {
        "threads_per_block_limit": 1024,
        "threads_per_warp": 32,
        "shared_memory_per_block": 49152,
        "threads_per_core_limit": 2048,
        "block_dim_limit_x": 2147483647,
        "block_dim_limit_y": 65535,
        "block_dim_limit_z": 65535,
        "registers_per_core_limit": 65536,
        "registers_per_block_limit": 65536,
        **told,
    }
    lines = [f"  {name}: {value}" for name, value in about.items()]
    lines.append(f"  cuda_compute_capability {{ major: {major} minor: {minor} }}")
    versions = "dnn_version_info { major: 9 minor: 8 }\nruntime_version { major: 12 minor: 9 }"
    return "\n".join(
        [
            "gpu_device_info {",
            *lines,
            "}",
            'platform_name: "CUDA"',
            versions,
            f'device_description_str: "{description}"',
        ]
    )
