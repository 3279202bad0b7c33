"""StyleGAN2's training in PyTorch: the phases of `memjax.train.stylegan2` in their proportions, Adam and the average.

Lazy regularizers need gradients of gradients, which `torch.compile` does not do: eager, as everybody trains it.
"""

import copy
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from launch.benchmark.torch_stylegan2.networks import Discriminator, Generator

if TYPE_CHECKING:
    from launch.benchmark.gan_workloads import GanWorkload


class Training:
    """Both networks, their optimizers and averages."""

    def __init__(self, work: "GanWorkload", form: str, layout: torch.memory_format):
        self.work = work
        generator = Generator(work.w_dim, work.depth, work.widths, form)
        self.generator = generator.to(memory_format=layout)
        self.discriminator = Discriminator(work.widths, work.group).to(memory_format=layout)
        self.average = copy.deepcopy(self.generator).requires_grad_(False)
        self.real = torch.randn(work.batch, 1, work.side, work.side).to(memory_format=layout)
        self.w_avg, self.path_mean = torch.zeros(work.w_dim), torch.zeros(())
        self.optimizers = [
            _adam(self.generator, work.lr, work.path_every),
            _adam(self.discriminator, work.lr, work.r1_every),
        ]

    def iterate(self, step: int) -> Tensor:
        """Do the phases that are due and return the sum of both networks' losses."""
        self._turn(self.generator, self.discriminator)
        loss = self._advance(0, self._fooling())
        if step % self.work.path_every == 0:
            self._advance(0, self._path())
        self._turn(self.discriminator, self.generator)
        loss = loss + self._advance(1, self._telling())
        if step % self.work.r1_every == 0:
            self._advance(1, self._r1())
        self._average(step)
        return loss

    def parameters(self) -> int:
        """Return how many numbers both networks learn."""
        return sum(p.numel() for network in (self.generator, self.discriminator) for p in network.parameters())

    def _turn(self, learning: nn.Module, fixed: nn.Module) -> None:
        learning.requires_grad_(True)
        fixed.requires_grad_(False)

    def _advance(self, network: int, loss: Tensor) -> Tensor:
        self.optimizers[network].zero_grad(set_to_none=True)
        loss.backward()
        self.optimizers[network].step()
        return loss.detach()

    def _latents(self, n: int) -> tuple[Tensor, Tensor]:
        """Return styles, most of them mixed of two latents, and w of the first."""
        w, other = (self.generator.map(torch.randn(n, self.generator.w_dim)) for _ in range(2))
        styles = self.generator.styles
        crossover = torch.randint(1, styles, (n,))
        crossover[torch.rand(n) >= self.work.mixing] = styles
        is_first = torch.arange(styles) < crossover[:, None]
        return torch.where(is_first[:, :, None], w[:, None], other[:, None]), w

    def _fooling(self) -> Tensor:
        ws, w = self._latents(self.work.batch)
        self.w_avg.lerp_(w.detach().mean(0), 0.005)
        return functional.softplus(-self.discriminator(self.generator(ws))).mean()

    def _path(self) -> Tensor:
        ws, _ = self._latents(self.work.batch // 2)
        images = self.generator(ws)
        y = torch.randn_like(images) / self.work.side
        (gradient,) = torch.autograd.grad((images * y).sum(), ws, create_graph=True)
        lengths = gradient.square().sum(2).mean(1).sqrt()
        self.path_mean.lerp_(lengths.detach().mean(), 0.01)
        return self.work.path_every * self.work.path_weight * (lengths - self.path_mean).square().mean()

    def _telling(self) -> Tensor:
        with torch.no_grad():
            fake = self.generator(self._latents(self.work.batch)[0])
        return (
            functional.softplus(self.discriminator(fake)) + functional.softplus(-self.discriminator(self.real))
        ).mean()

    def _r1(self) -> Tensor:
        real = self.real.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(self.discriminator(real).sum(), real, create_graph=True)
        gain = self.work.r1_every * 0.0002 * self.work.side**2 / self.work.batch / 2
        return gain * gradient.square().sum((1, 2, 3)).mean()

    def _average(self, step: int) -> None:
        seen = (step + 1) * self.work.batch
        half_life = min(self.work.half_life_images, seen * self.work.ramp)
        share = 1 - 2 ** (-self.work.batch / half_life)
        torch._foreach_lerp_(list(self.average.parameters()), [p.detach() for p in self.generator.parameters()], share)


def rounds(name: str, work: "GanWorkload", *, threads: int) -> tuple[Callable[[], float], int]:
    """Return one round of the peer of this name (`grouped`, `rescaled channels last`), and its number of parameters."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    form, _, layout = name.partition(" ")
    training = Training(work, form, torch.channels_last if layout else torch.contiguous_format)

    def run() -> float:
        for step in range(work.steps):
            loss = training.iterate(step)
        assert math.isfinite(loss), (name, loss)
        return loss.item()

    return run, training.parameters()


def _adam(network: nn.Module, lr: float, every: int) -> torch.optim.Adam:
    c = every / (every + 1)  # lazy regularization: arXiv 1912.04958, appendix B
    return torch.optim.Adam(network.parameters(), lr * c, betas=(0.0, 0.99**c), eps=1e-8, fused=True)
