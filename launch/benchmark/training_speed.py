"""The training benchmark: steps, and sampling, of ours and of PyTorch networks; they take turns in one process."""

import time
from collections.abc import Callable
from typing import Any

from launch.benchmark import autoencoder_workloads, gan_workloads, training_peers, training_workloads
from launch.benchmark.autoencoder_workloads import AutoencoderWorkload
from launch.benchmark.gan_workloads import GanWorkload
from launch.benchmark.training_workloads import Workload

Work = Workload | GanWorkload | AutoencoderWorkload
WORKLOADS: dict[str, tuple[Work, ...]] = {
    "ddpm": training_workloads.WORKLOADS,
    "stylegan2": gan_workloads.WORKLOADS,
    "autoencoder": autoencoder_workloads.WORKLOADS,
}  # by task

SAMPLED = 64  # images drawn at once
SAMPLING_STEPS = 50  # of DDIM

_WARM_UP = 4  # steps


def candidate(work: Work, name: str, *, threads: int, sampling: bool) -> tuple[Callable[[], float], int]:
    """Return what one candidate does once, and its number of parameters.

    That is a step of a diffusion model or an autoencoder, a round of steps of a StyleGAN2, or drawing `SAMPLED` images.
    """
    if isinstance(work, GanWorkload):
        if name == "ours":
            return gan_workloads.ours(work)
        from launch.benchmark.torch_stylegan2.training import rounds

        return rounds(name, work, threads=threads)
    if isinstance(work, AutoencoderWorkload):
        if name == "ours":
            return autoencoder_workloads.ours(work)
        from launch.benchmark import torch_autoencoder

        return torch_autoencoder.step(name, work, threads=threads)
    if name == "ours":
        draw = training_workloads.ours_sampling
        return draw(work, SAMPLED, SAMPLING_STEPS) if sampling else training_workloads.ours(work)
    make = training_peers.sampling if sampling else training_peers.step
    return make(name, work, threads=threads, **({"images": SAMPLED, "steps": SAMPLING_STEPS} if sampling else {}))


def compare(work: Work, *, rounds: int, threads: int, sampling: bool) -> list[dict[str, Any]]:
    """Return a row for each peer: medians over the rounds, after some that do not count.

    Those are four steps, or one round of a StyleGAN2: while XLA's heap grows, a step takes up to twice as long.
    """
    names = ("ours", *work.peers)
    made = {name: candidate(work, name, threads=threads, sampling=sampling) for name in names}
    steps = SAMPLING_STEPS if sampling else work.steps
    warm_up = -(-_WARM_UP // steps)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(warm_up + rounds):
        for name, (run, _) in made.items():
            start = time.perf_counter()
            run()
            if number >= warm_up:
                seconds[name].append(time.perf_counter() - start)
    for name, all_rounds in seconds.items():
        print(f"{work.name} {name}: " + " ".join(f"{s:.3f}" for s in all_rounds) + " s", flush=True)
    median = {name: sorted(all_rounds)[len(all_rounds) // 2] for name, all_rounds in seconds.items()}
    images = SAMPLED if sampling else work.batch * work.steps
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
