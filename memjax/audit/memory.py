"""How much memory there is to size blocks by."""

from pathlib import Path

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
