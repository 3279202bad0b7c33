"""What a study ran on, in one line for its report."""

import os
from collections import Counter

from launch import boot


def hardware() -> str:
    """Return the devices as JAX sees them, and their memory: "2 CPU cores, 23 GB" or "8 x NVIDIA A100, 79 GB each".

    GB are 2^30 bytes. No name of the machine, nor of its owner.
    """
    import jax

    devices = jax.devices()
    if devices[0].platform == "cpu":
        cores = boot.workers()
        memory = _memory()
        return f"{cores} CPU core{'s' if cores > 1 else ''}" + (f", {memory}" if memory else "")
    told, local = [], jax.local_devices()
    for kind, n in Counter(device.device_kind for device in devices).items():
        limits = [(one.memory_stats() or {}).get("bytes_limit", 0) for one in local if one.device_kind == kind]
        memory = f", {max(limits) / 2**30:.0f} GB{' each' if n > 1 else ''}" if any(limits) else ""
        told.append((f"{n} x {kind}" if n > 1 else kind) + memory)
    return "; ".join(told)


def _memory() -> str:
    try:
        return f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GB"
    except (ValueError, OSError, AttributeError):  # only where there is POSIX
        return ""
