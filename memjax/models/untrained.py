"""An untrained network that describes images of any kind by few numbers: pictures or volumes, any channels.

Naeem et al. 2020 (arXiv 2002.09797) propose 64 numbers of a VGG16 with random weights where images are not like the
photographs that trained networks know. Here it is a smaller network, one convolution a level, so that volumes are
affordable, and always the same for a seed.
"""

import dataclasses
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from memjax.models.descriptor import pooled
from memjax.nn.conv import conv

SIZE = 64  # numbers of an image

_WIDTHS = (16, 32, 64, 64, 64, 64)  # features of each level
_GRID = 4  # positions along an axis that are not halved any more


@dataclasses.dataclass(frozen=True)
class Untrained:
    """Images of `shape` [*space, channels] and their `SIZE` numbers. Make with `untrained`."""

    shape: tuple[int, ...]
    kernels: Sequence[np.ndarray]  # [*taps, c, d] of each level
    last: np.ndarray  # [grid * features, SIZE]

    def apply(self, x: Float[Array, "n *space c"]) -> Float[Array, "n d"]:
        """Return 64 numbers of each image in [-1, 1]; of other ranges they grow with the values."""
        for kernel in self.kernels:
            x = jax.nn.relu(conv(x, jnp.asarray(kernel)))
            x = pooled(x, [_halved(n) for n in x.shape[1:-1]])
        return x.reshape(len(x), -1) @ self.last


def untrained(shape: Sequence[int], *, seed: int = 0) -> Untrained:
    """Return the network for images of this shape; kernels after He et al. 2015 (arXiv 1502.01852).

    Each level halves every axis that is longer than four positions; there are as many levels as that takes, six at
    most.
    """
    rng = np.random.default_rng(seed)
    *space, channels = shape
    kernels = []
    for width in _WIDTHS:
        taps = (3,) * len(space)
        kernels.append(_drawn(rng, (*taps, channels, width), gain=2.0))
        channels, space = width, [_halved(n) for n in space]
        if max(space) <= _GRID:
            break
    return Untrained(tuple(shape), kernels, _drawn(rng, (math.prod(space) * channels, SIZE), gain=1.0))


def _drawn(rng: np.random.Generator, shape: tuple[int, ...], gain: float) -> np.ndarray:
    """Return normal numbers that keep the scale of what they are multiplied with."""
    return (rng.standard_normal(shape) * (gain / math.prod(shape[:-1])) ** 0.5).astype(np.float32)


def _halved(n: int) -> int:
    return n if n <= _GRID else max(_GRID, math.ceil(n / 2))
