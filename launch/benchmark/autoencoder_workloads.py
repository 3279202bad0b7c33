"""What the training benchmark of the autoencoder works on: networks by name, and a step of ours."""

import dataclasses
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass(frozen=True)
class AutoencoderWorkload:
    """The 3-D VQ autoencoder, cubes of one channel, float32; `peers` are names of `torch_autoencoder`."""

    name: str
    side: int
    batch: int
    stages: int  # each halves all axes
    parameters: int  # ours and PyTorch's
    features: int = 16
    latent_channels: int = 8
    n_codes: int = 1024
    steps: int = 1  # of training, timed at once
    peers: tuple[str, ...] = ("pytorch", "pytorch channels last", "monai", "monai channels last")

    @property
    def title(self) -> str:
        """What the table says."""
        return f"autoencoder {self.side}^3, batch {self.batch}, {self.parameters / 1e6:.2f} M parameters"

    @property
    def config(self) -> dict[str, Any]:
        """What `memjax.train.tasks.make_task` is given: neither perceptual distance nor critics, as the peers."""
        from configs import latent3d

        c = latent3d.get_config("pccta,autoencoder")
        c.batch_size = self.batch
        c.autoencoder.update(
            downsample=(2**self.stages,) * 3,
            features=self.features,
            latent_channels=self.latent_channels,
            dtype="float32",
        )
        c.codebook.n_codes = self.n_codes
        c.loss.perceptual, c.perceptual.kind = 0.0, "none"
        c.adversary.slices = c.adversary.volume = 0.0
        return c.to_dict()


WORKLOADS = (
    AutoencoderWorkload("ae32", 32, 4, 2, 1_391_081),
    AutoencoderWorkload("ae64", 64, 2, 1, 266_825),
)


def ours(work: AutoencoderWorkload) -> tuple[Callable[[], float], int]:
    """Return one training step of ours (forward, backward, Adam, codebook; donated), already compiled, and its size."""
    from launch.benchmark.task_step import task_step

    advance, parameters = task_step(work.config, (*(work.side,) * 3, 1))
    return lambda: float(advance()["loss"]), parameters
