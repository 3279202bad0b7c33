"""What people would train a diffusion model with otherwise, and draw from: PyTorch networks.

MONAI's network has the same layers as ours, to the parameter, for images and for volumes. That of
denoising-diffusion-pytorch is another one (see configs/unet_sizes.py), for images, at the width that comes nearest in
parameters. Each is tried in PyTorch's own layout too, and with channels last.
"""

import importlib
import sys
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from launch.benchmark.training_workloads import Workload


def step(name: str, work: "Workload", *, threads: int) -> tuple[Callable[[], float], int]:
    """Return one training step of the peer of this name (forward, backward, Adam), and its number of parameters."""
    import torch

    net, xt, t = _made(name, work, work.batch, threads)
    eps = torch.randn_like(xt)
    optimizer = torch.optim.Adam(net.parameters(), 1e-4)

    def run() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.mse_loss(net(xt, t), eps)
        loss.backward()
        optimizer.step()
        return loss.item()

    return run, sum(parameter.numel() for parameter in net.parameters())


def sampling(name: str, work: "Workload", *, threads: int, images: int, steps: int) -> tuple[Callable[[], float], int]:
    """Return drawing so many images at once with DDIM (arXiv 2010.02502, eta = 0), and the number of parameters."""
    import torch

    net, noise, _ = _made(name, work, images, threads)
    alpha_bar = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), 0)
    ladder = torch.linspace(999, 0, steps).long()
    signal = [*alpha_bar[ladder].tolist(), 1.0]

    def run() -> float:
        x = noise
        with torch.inference_mode():
            for i, t in enumerate(ladder):
                eps = net(x, t.expand(images))
                x0 = ((x - (1 - signal[i]) ** 0.5 * eps) / signal[i] ** 0.5).clamp(-1, 1)
                eps = (x - signal[i] ** 0.5 * x0) / (1 - signal[i]) ** 0.5
                x = signal[i + 1] ** 0.5 * x0 + (1 - signal[i + 1]) ** 0.5 * eps
        return x.mean().item()

    return run, sum(parameter.numel() for parameter in net.parameters())


def _made(name: str, work: "Workload", images: int, threads: int) -> Any:
    """Return the network, noise and times in the layout that the name says, `monai` or `monai channels last`."""
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    network, _, layout = name.partition(" ")
    net = {"monai": _monai, "lucidrains": _lucidrains}[network](work)
    xt = torch.randn(images, work.channels, *work.space)
    if layout:
        last = torch.channels_last if len(work.space) == 2 else torch.channels_last_3d
        net, xt = (thing.to(memory_format=last) for thing in (net, xt))
    return net, xt, torch.randint(0, 1000, (images,))


def _monai(work: "Workload") -> Any:
    from monai.networks.nets.diffusion_model_unet import DiffusionModelUNet

    return DiffusionModelUNet(
        spatial_dims=len(work.space),
        in_channels=work.channels,
        out_channels=work.channels,
        num_res_blocks=work.blocks,
        channels=[mult * work.width for mult in work.mults],
        attention_levels=work.attention,
        num_head_channels=work.head_channels,
        norm_eps=1e-5,
    )


def _lucidrains(work: "Workload") -> Any:
    try:
        import torchvision  # noqa: F401  (whether it can be)
    except (ImportError, RuntimeError):  # one that is compiled for another torch; the network needs none of it
        standing_in = types.ModuleType("torchvision")
        for part in ("transforms", "utils"):
            setattr(standing_in, part, types.ModuleType(f"torchvision.{part}"))
        sys.modules["torchvision"] = standing_in
    unet = importlib.import_module("denoising_diffusion_pytorch").Unet
    return unet(dim=work.lucidrains, dim_mults=work.mults, channels=work.channels)
