"""The devices that plans are made for: memory, speed and links of one, each number with its source.

Speeds are the makers' peaks, dense, so that what follows from them is a bound and no forecast. `link_bytes` is what one
device can send at once to the others of its slice or node (half of the makers' figures, which add both directions);
`between_bytes` what it can send to another node.
"""

import dataclasses
from collections.abc import Mapping

from launch.planning.products import KINDS

GIB = 1 << 30
USABLE = 0.92  # of a GPU's memory; the rest is CUDA's, cuDNN's and NCCL's own
_PODS = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_CUBES = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8")
_NODES = ("1", "2", "4", "8", *(f"{n}x8" for n in (2, 4, 8, 16, 32)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Machine:
    """One kind of device, and the slices or clusters of it that can be had."""

    called: str
    platform: str  # tpu, cuda, cpu
    shapes: tuple[str, ...]  # by number of devices
    memory_bytes: int  # what a program can have
    flops: Mapping[str, float]  # a second, by kind of product (`products.KINDS`)
    memory_bytes_s: float
    link_bytes_s: float
    between_bytes_s: float
    per_host: int  # devices of one process
    source: str
    target: Mapping[str, object] = dataclasses.field(default_factory=dict)  # what XLA asks of a GPU


def _tpu(
    called: str, *, shapes: tuple[str, ...], gib: float, peak: float, memory: float, link: float, source: str
) -> Machine:
    return Machine(
        called=called,
        platform="tpu",
        shapes=shapes,
        memory_bytes=int(gib * GIB),
        # By default a product of float32 is one of bfloat16; the precision `highest` takes six of those.
        flops={"bf16": peak, "f32": peak, "f32 exact": peak / 6, "s8": 2 * peak},
        memory_bytes_s=memory,
        link_bytes_s=link,
        between_bytes_s=link,  # a slice is one network, however many hosts it has
        per_host=4,
        source=source,
    )


def _gpu(
    called: str,
    *,
    memory_bytes: int,
    flops: tuple[float, float, float, float],
    memory: float,
    link: float,
    between: float,
    source: str,
    target: Mapping[str, object],
) -> Machine:
    return Machine(
        called=called,
        platform="cuda",
        shapes=_NODES,
        memory_bytes=int(USABLE * memory_bytes),
        flops=dict(zip(KINDS, flops, strict=True)),
        memory_bytes_s=memory,
        link_bytes_s=link,
        between_bytes_s=between,
        per_host=8,
        source=source,
        target={"device_memory_size": memory_bytes, "memory_bandwidth": int(memory), **target},
    )


_HOPPER = {
    "shared_memory_per_core": 233472,
    "shared_memory_per_block_optin": 232448,
    "core_count": 132,
    "fpus_per_core": 128,
    "l2_cache_size": 52428800,
    "clock_rate_ghz": 1.98,
    "capability": (9, 0),
}
_AMPERE = {
    "shared_memory_per_core": 167936,
    "shared_memory_per_block_optin": 166912,
    "core_count": 108,
    "fpus_per_core": 64,
    "l2_cache_size": 41943040,
    "clock_rate_ghz": 1.41,
    "capability": (8, 0),
}
_HOPPER_FLOPS = (989e12, 495e12, 67e12, 1979e12)  # bfloat16, TF32, float32, int8; without sparsity

MACHINES: dict[str, Machine] = {
    "v5e": _tpu(
        "TPU v5e",
        shapes=_PODS,
        gib=15.75,
        peak=197e12,
        memory=819e9,
        link=200e9,
        source="cloud.google.com/tpu/docs/v5e: 197 TFLOPs bfloat16, 16 GB at 819 GBps, 400 GBps both ways",
    ),
    "v5p": _tpu(
        "TPU v5p",
        shapes=_CUBES,
        gib=95.74,
        peak=459e12,
        memory=2765e9,
        link=600e9,
        source="cloud.google.com/tpu/docs/v5p: 459 TFLOPs bfloat16, 95 GB at 2765 GBps, 1200 GBps both ways",
    ),
    "v6e": _tpu(
        "TPU v6e",
        shapes=_PODS,
        gib=31.25,
        peak=918e12,
        memory=1638e9,
        link=400e9,
        source="cloud.google.com/tpu/docs/v6e: 918 TFLOPs bfloat16, 32 GB at 1638 GBps, 800 GBps both ways",
    ),
    "a100": _gpu(
        "A100 80 GB SXM",
        memory_bytes=85100068864,
        flops=(312e12, 156e12, 19.5e12, 624e12),
        memory=2039e9,
        link=300e9,
        between=25e9,
        source="NVIDIA A100 datasheet: 312 TFLOPS bfloat16, 156 TF32, 2039 GB/s, NVLink 600 GB/s both ways; "
        "DGX A100: eight 200 Gb/s adapters for eight GPUs",
        target={"description": "NVIDIA A100-SXM4-80GB", **_AMPERE},
    ),
    "h100": _gpu(
        "H100 80 GB SXM",
        memory_bytes=84978434048,
        flops=_HOPPER_FLOPS,
        memory=3352e9,
        link=450e9,
        between=50e9,
        source="NVIDIA H100 datasheet: 989 TFLOPS bfloat16, 495 TF32, 3.35 TB/s, NVLink 900 GB/s both ways; "
        "DGX H100: eight 400 Gb/s adapters for eight GPUs",
        target={"description": "NVIDIA H100 80GB HBM3", **_HOPPER},
    ),
    "h200": _gpu(
        "H200 141 GB SXM",
        memory_bytes=151397597184,
        flops=_HOPPER_FLOPS,
        memory=4800e9,
        link=450e9,
        between=50e9,
        source="NVIDIA H200 datasheet: as H100, 141 GB at 4.8 TB/s",
        target={"description": "NVIDIA H200 141GB HBM3e", **_HOPPER},
    ),
    # Of no machine: what is planned for simulated devices says how a program is split, not how fast it is.
    "cpu": Machine(
        called="simulated device",
        platform="cpu",
        shapes=("1", "2", "4", "8", "16", "32", "64", "128", "256"),
        memory_bytes=16 * GIB,
        flops=dict.fromkeys(KINDS, 1e11),
        memory_bytes_s=1e10,
        link_bytes_s=1e9,
        between_bytes_s=1e9,
        per_host=256,
        source="round numbers, to try things out",
    ),
}
