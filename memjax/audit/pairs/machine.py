"""What the machine offers: memory to size blocks by, and which products are quick."""

from pathlib import Path
from typing import NamedTuple

from jax.sharding import Mesh


def available_bytes(mesh: Mesh) -> int | None:
    """Return the free memory of all devices together, or of the host where they have none of their own.

    None where it is not known.
    """
    stats = [device.memory_stats() for device in mesh.local_devices]
    if all(told and "bytes_limit" in told for told in stats):
        return sum(told["bytes_limit"] - told.get("bytes_in_use", 0) for told in stats)
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")), None)


class Quick(NamedTuple):
    """Which products are quicker than those of float32."""

    bytes: bool  # int8, summed in int32
    halves: bool  # bfloat16, summed in float32


def quick_products(mesh: Mesh) -> Quick:
    """Say which products are quick: accelerators have units for all of them, processors tell."""
    if mesh.devices.flat[0].platform != "cpu":
        return Quick(bytes=True, halves=True)
    try:
        told = set(Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split())
    except OSError:
        return Quick(bytes=False, halves=False)
    return Quick(bytes=bool(told & {"avx512_vnni", "avx_vnni"}), halves=bool(told & {"avx512_bf16", "amx_bf16"}))
