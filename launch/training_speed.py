"""The training benchmark: one step, and sampling, of ours and of PyTorch networks; they take turns in one process."""

import time
from collections.abc import Callable
from typing import Any

from launch import training_peers
from launch.training_workloads import Workload, ours, ours_sampling

SAMPLED = 64  # images drawn at once
SAMPLING_STEPS = 50  # of DDIM


def candidate(work: Workload, name: str, *, threads: int, sampling: bool) -> tuple[Callable[[], float], int]:
    """Return what one candidate does once (a step, or drawing `SAMPLED` images), and its number of parameters."""
    if name == "ours":
        return ours_sampling(work, SAMPLED, SAMPLING_STEPS) if sampling else ours(work)
    make = training_peers.sampling if sampling else training_peers.step
    return make(name, work, threads=threads, **({"images": SAMPLED, "steps": SAMPLING_STEPS} if sampling else {}))


def compare(work: Workload, *, rounds: int, threads: int, sampling: bool) -> list[dict[str, Any]]:
    """Return a row for each peer: medians over the rounds, after one that does not count."""
    names = ("ours", *work.peers)
    made = {name: candidate(work, name, threads=threads, sampling=sampling) for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds + 1):
        for name, (run, _) in made.items():
            start = time.perf_counter()
            run()
            if number:
                seconds[name].append(time.perf_counter() - start)
    for name, all_rounds in seconds.items():
        print(f"{work.name} {name}: " + " ".join(f"{s:.3f}" for s in all_rounds) + " s", flush=True)
    median = {name: sorted(all_rounds)[len(all_rounds) // 2] for name, all_rounds in seconds.items()}
    images = SAMPLED if sampling else work.batch
    what = f"drawing {SAMPLED} in {SAMPLING_STEPS} steps, " if sampling else ""
    return [
        {
            "work": f"{what}{work.title}",
            "peer": f"{name} ({made[name][1] / 1e6:.2f} M)",
            "ratio": median[name] / median["ours"],
            "ours_s": median["ours"],
            "peer_s": median[name],
            "ours_images_per_s": images / median["ours"],
        }
        for name in work.peers
    ]
