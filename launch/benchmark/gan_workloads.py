"""What the training benchmark of StyleGAN2 works on: networks by name, and rounds of training of ours."""

import dataclasses
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass(frozen=True)
class GanWorkload:
    """StyleGAN2 of the `auto` style, one channel, float32; `peers` are names of `torch_stylegan2.training`."""

    name: str
    side: int
    batch: int
    base: int  # features at one resolution have base / side channels,
    max_channels: int  # but no more than this
    w_dim: int  # also of z
    parameters: int  # of both networks, ours and the peers'
    steps: int = 16  # of a round: every phase in its proportion
    depth: int = 2
    group: int = 4
    lr: float = 0.0025
    mixing: float = 0.9
    path_every: int = 4
    path_weight: float = 2.0
    r1_every: int = 16
    half_life_images: float = 5000.0
    ramp: float = 0.05
    peers: tuple[str, ...] = ("rescaled", "rescaled channels last", "grouped", "grouped channels last")

    @property
    def title(self) -> str:
        """What the table says."""
        return f"StyleGAN2 {self.side}x{self.side}, batch {self.batch}, {self.steps} iterations"

    @property
    def widths(self) -> list[int]:
        """Channels at 4, 8, ... up to the side of the images."""
        return [min(self.base // (4 << k), self.max_channels) for k in range(self.side.bit_length() - 2)]

    @property
    def config(self) -> dict[str, Any]:
        """What `memjax.train.tasks.make_task` is given: the config of the preset `auto`, at this size."""
        from configs import stylegan2

        c = stylegan2.get_config("cxr1300,auto")
        # In float32 nothing wants a clamp, and the peers have none.
        size = {"clamp": None, "base": self.base, "max_channels": self.max_channels, "low_precision": 0}
        c.batch_size = self.batch
        c.mapping.update(z_dim=self.w_dim, w_dim=self.w_dim, depth=self.depth)
        c.synthesis.update(size)
        c.discriminator.update(size, group=self.group)
        return c.to_dict()


WORKLOADS = (
    GanWorkload("gan32", 32, 16, 2048, 256, 256, 6_468_108),
    GanWorkload("gan64", 64, 16, 2048, 256, 256, 6_558_479),
)


def ours(work: GanWorkload) -> tuple[Callable[[], float], int]:
    """Return one round of the steps that training runs, already compiled, and the parameters of both networks."""
    from launch.benchmark.task_step import task_step

    advance, parameters = task_step(work.config, (work.side, work.side, 1))

    def run() -> float:
        told = [advance() for _ in range(work.steps)][-1]
        return float(told["loss_generator"] + told["loss_discriminator"])

    return run, parameters
