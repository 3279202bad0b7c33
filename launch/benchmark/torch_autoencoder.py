"""The autoencoder's layers in PyTorch, written for the benchmark: what people would train it with otherwise.

The same layers as `memjax.models.autoencoder`, to the parameter, and the same codebook; and MONAI's VQVAE, whose
layers are others, with as many channels.
"""

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from launch.benchmark.autoencoder_workloads import AutoencoderWorkload


def step(name: str, work: "AutoencoderWorkload", *, threads: int) -> tuple[Callable[[], float], int]:
    """Return one training step of the peer of this name (forward, backward, Adam, codebook), and its parameters."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    network, _, layout = name.partition(" ")
    net: Any = {"pytorch": _Autoencoder, "monai": _monai}[network](work)
    x = torch.randn(work.batch, 1, *(work.side,) * 3)
    if layout:
        net, x = (thing.to(memory_format=torch.channels_last_3d) for thing in (net, x))
    optimizer = torch.optim.Adam(net.parameters(), 1e-4)

    def run() -> float:
        optimizer.zero_grad(set_to_none=True)
        y, commitment = net(x)
        loss = 4 * functional.l1_loss(y, x) + commitment
        loss.backward()
        optimizer.step()
        return loss.item()

    return run, sum(parameter.numel() for parameter in net.parameters())


def _monai(work: "AutoencoderWorkload") -> Any:
    from monai.networks.nets.vqvae import VQVAE

    stages = work.stages
    widths = [work.features * 2 ** (i + 1) for i in range(stages)]
    return VQVAE(
        spatial_dims=3,
        in_channels=1,
        out_channels=1,
        channels=widths,
        num_res_layers=1,
        num_res_channels=widths,
        downsample_parameters=((2, 4, 1, 1),) * stages,
        upsample_parameters=((2, 4, 1, 1, 0),) * stages,
        num_embeddings=work.n_codes,
        embedding_dim=work.latent_channels,
    )


class _Autoencoder(nn.Module):
    def __init__(self, work: "AutoencoderWorkload"):
        super().__init__()
        widths = [work.features * 2**i for i in range(work.stages + 1)]
        down = [_Conv(1, widths[0], 3, 1)]
        for a, b in itertools.pairwise(widths):
            down += [_Conv(a, b, 4, 2), _Block(b)]
        self.encoder = nn.Sequential(*down, _norm(widths[-1]), nn.Conv3d(widths[-1], work.latent_channels, 1))
        up: list[nn.Module] = [nn.Conv3d(work.latent_channels, widths[-1], 1), _norm(widths[-1])]
        for a, b in zip([widths[-1], *widths[:0:-1]], widths[:0:-1], strict=False):
            up += [_Up(a, b), _Block(b), _Block(b)]
        self.decoder = nn.Sequential(*up, _Conv(widths[1], 1, 3, 1))
        codes = torch.randn(work.n_codes, work.latent_channels)
        self.register_buffer("codes", codes)
        self.register_buffer("sums", codes.clone())
        self.register_buffer("counts", torch.ones(work.n_codes))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.encoder(x)
        flat = h.detach().movedim(1, -1).reshape(-1, h.shape[1])
        distance = (self.codes**2).sum(1) - 2 * flat @ self.codes.T
        ids = distance.argmin(1)
        q = self.codes[ids].reshape(len(h), *h.shape[2:], -1).movedim(-1, 1)
        self._follow(flat, ids)
        commitment = 0.25 * functional.mse_loss(h, q)
        return self.decoder(h + (q - h).detach()), commitment

    @torch.no_grad()
    def _follow(self, flat: Tensor, ids: Tensor) -> None:
        n = len(self.codes)
        counts = torch.bincount(ids, minlength=n).to(flat.dtype)
        sums = torch.zeros_like(self.sums).index_add_(0, ids, flat)
        self.counts.lerp_(counts, 0.01)
        self.sums.lerp_(sums, 0.01)
        total = self.counts.sum()
        codes = self.sums / ((self.counts + 1e-7) / (total + n * 1e-7) * total)[:, None]
        drawn = flat[torch.randperm(len(flat)).repeat(-(-n // len(flat)))[:n]]
        self.codes.copy_(torch.where((self.counts < 1)[:, None], drawn, codes))


class _Conv(nn.Conv3d):
    """Borders are repeated, k - s places in all."""

    def __init__(self, c: int, d: int, taps: int, stride: int):
        super().__init__(c, d, taps, stride)
        self.pads = ((taps - stride + 1) // 2, (taps - stride) // 2) * 3

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(functional.pad(x, self.pads, "replicate"))


class _Up(nn.ConvTranspose3d):
    def __init__(self, c: int, d: int):
        super().__init__(c, d, 4, 2, padding=3)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(functional.pad(x, (1,) * 6, "replicate"))


class _Block(nn.Sequential):
    def __init__(self, c: int):
        super().__init__(_norm(c), _Conv(c, c, 3, 1), _norm(c), _Conv(c, c, 3, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


def _norm(c: int) -> nn.Module:
    return nn.Sequential(nn.GroupNorm(min(32, c), c, 1e-6), nn.SiLU())
