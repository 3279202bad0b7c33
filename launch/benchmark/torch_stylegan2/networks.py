"""The networks of StyleGAN2 in PyTorch, layer by layer those of `memjax.models`: from the papers, channels first.

Modulated convolutions in both forms that users have: `grouped` convolves every image with a kernel of its own, one
group each; `rescaled` scales features before and after one convolution that all images share.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

FORMS = ("grouped", "rescaled")

_FIR = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
_KERNEL = torch.outer(_FIR, _FIR)[None, None]


def filtered(x: Tensor, padding: int, gain: float = 1.0, stride: int = 1) -> Tensor:
    """Return every channel through the filter."""
    c = x.shape[1]
    return functional.conv2d(x, (gain * _KERNEL).expand(c, 1, 4, 4), padding=padding, stride=stride, groups=c)


def upsampled(x: Tensor) -> Tensor:
    """Return x at twice the resolution, through the filter."""
    c = x.shape[1]
    return functional.conv_transpose2d(x, (4 * _KERNEL).expand(c, 1, 4, 4), padding=1, stride=2, groups=c)


def activated(x: Tensor) -> Tensor:
    """Return the leaky ReLU that keeps the second moment."""
    return functional.leaky_relu(x, 0.2) * math.sqrt(2)


class Dense(nn.Module):
    """A matrix and a bias with equalized learning rate."""

    def __init__(self, inputs: int, outputs: int, multiplier: float = 1.0, bias: float = 0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / multiplier)
        self.bias = nn.Parameter(torch.full((outputs,), bias / multiplier))
        self.multiplier, self.scale = multiplier, multiplier / math.sqrt(inputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return x times the matrix, plus the bias."""
        bias = self.bias if self.multiplier == 1 else self.bias * self.multiplier
        return functional.linear(x, self.weight * self.scale, bias)


class Conv(nn.Module):
    """A convolution with equalized learning rate, at the same or half the resolution."""

    def __init__(self, inputs: int, outputs: int, size: int = 3, *, down: bool = False, bias: bool = True):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, size, size))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.scale, self.size, self.down = 1 / math.sqrt(inputs * size**2), size, down

    def forward(self, x: Tensor) -> Tensor:
        """Return x convolved, plus the bias."""
        weight = self.weight * self.scale
        if not self.down:
            return functional.conv2d(x, weight, self.bias, padding=self.size // 2)
        if self.size == 1:
            return functional.conv2d(filtered(x, 1, stride=2), weight, self.bias)
        return functional.conv2d(filtered(x, 2), weight, self.bias, stride=2)


class Modulated(nn.Module):
    """A convolution with a kernel of each image's own, at the same or twice the resolution."""

    def __init__(self, inputs: int, outputs: int, size: int, w_dim: int, form: str, *, up: bool = False):
        super().__init__()
        self.affine = Dense(w_dim, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, size, size))
        self.scale, self.size, self.form, self.up = 1 / math.sqrt(inputs * size**2), size, form, up

    def forward(self, x: Tensor, w: Tensor, *, demodulate: bool = True) -> Tensor:
        """Return each image convolved with its own kernel."""
        style, weight = self.affine(w), self.weight * self.scale
        if self.form == "rescaled":
            y = self._convolved(x * style[:, :, None, None], weight, 1)
            if demodulate:
                energy = style.square() @ weight.square().sum((2, 3)).t()
                y = y * (energy + 1e-8).rsqrt()[:, :, None, None]
        else:
            b, c, h, _ = x.shape
            weights = weight * style[:, None, :, None, None]
            if demodulate:
                weights = weights * (weights.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
            y = self._convolved(x.reshape(1, b * c, h, h), weights.flatten(0, 1), b)
            y = y.reshape(b, -1, *y.shape[2:])
        return filtered(y, 1, gain=4.0) if self.up else y

    def _convolved(self, x: Tensor, weight: Tensor, groups: int) -> Tensor:
        if not self.up:
            return functional.conv2d(x, weight, padding=self.size // 2, groups=groups)
        weight = weight.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)
        return functional.conv_transpose2d(x, weight, stride=2, groups=groups)


class Layer(nn.Module):
    """A modulated convolution, noise, bias and the activation."""

    def __init__(self, inputs: int, outputs: int, w_dim: int, form: str, *, up: bool = False):
        super().__init__()
        self.conv = Modulated(inputs, outputs, 3, w_dim, form, up=up)
        self.strength = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Return features."""
        x = self.conv(x, w)
        noise = torch.randn(len(x), 1, *x.shape[2:])
        return activated(x + noise * self.strength + self.bias[:, None, None])


class ToRgb(nn.Module):
    """A modulated convolution over single positions, to images."""

    def __init__(self, inputs: int, channels: int, w_dim: int, form: str):
        super().__init__()
        self.conv = Modulated(inputs, channels, 1, w_dim, form)
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Return images."""
        return self.conv(x, w, demodulate=False) + self.bias[:, None, None]


class Generator(nn.Module):
    """Mapping and synthesis, `skip`: images of all resolutions are summed."""

    def __init__(self, w_dim: int, depth: int, widths: Sequence[int], form: str, channels: int = 1):
        super().__init__()
        self.w_dim, self.styles = w_dim, 2 * len(widths)
        self.mapping = nn.ModuleList(Dense(w_dim, w_dim, 0.01) for _ in range(depth))
        self.constant = nn.Parameter(torch.randn(widths[0], 4, 4))
        self.layers, self.rgbs = nn.ModuleList(), nn.ModuleList()
        for k, width in enumerate(widths):
            if k:
                self.layers.append(Layer(widths[k - 1], width, w_dim, form, up=True))
            self.layers.append(Layer(width, width, w_dim, form))
            self.rgbs.append(ToRgb(width, channels, w_dim, form))

    def map(self, z: Tensor) -> Tensor:
        """Return the styles of latents."""
        x = z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt()
        for dense in self.mapping:
            x = activated(dense(x))
        return x

    def forward(self, ws: Tensor) -> Tensor:
        """Return the images of styles [b, styles, w]."""
        x = self.constant.expand(len(ws), -1, -1, -1)
        ws = ws.unbind(1)
        x = self.layers[0](x, ws[0])
        rgb = self.rgbs[0](x, ws[1])
        for k in range(1, len(self.rgbs)):
            x = self.layers[2 * k - 1](x, ws[2 * k - 1])
            x = self.layers[2 * k](x, ws[2 * k])
            rgb = upsampled(rgb) + self.rgbs[k](x, ws[2 * k + 1])
        return rgb


class Discriminator(nn.Module):
    """From the image down to 4 x 4 with residual connections, minibatch standard deviation, two dense layers."""

    def __init__(self, widths: Sequence[int], group: int, channels: int = 1):
        super().__init__()
        self.group = group
        self.rgb = Conv(channels, widths[-1], 1)
        down = [(widths[k], widths[k - 1]) for k in reversed(range(1, len(widths)))]
        self.same = nn.ModuleList(Conv(width, width) for width, _ in down)
        self.down = nn.ModuleList(Conv(*pair, down=True) for pair in down)
        self.past = nn.ModuleList(Conv(*pair, 1, down=True, bias=False) for pair in down)
        self.last = Conv(widths[0] + 1, widths[0])
        self.dense, self.out = Dense(16 * widths[0], widths[0]), Dense(widths[0], 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        x = activated(self.rgb(images))
        for same, down, past in zip(self.same, self.down, self.past, strict=True):
            x = (activated(down(activated(same(x)))) + past(x)) * math.sqrt(0.5)
        b, _, h, _ = x.shape
        parts = x.unflatten(0, (-1, self.group))
        std = ((parts - parts.mean(1, keepdim=True)).square().mean(1) + 1e-8).sqrt().mean((1, 2, 3))
        std = std.repeat_interleave(self.group)[:, None, None, None].expand(b, 1, h, h)
        x = activated(self.last(torch.cat([x, std], 1)))
        return self.out(activated(self.dense(x.flatten(1))))[:, 0]
