"""Sizes of StyleGANs by name: those of the papers, and a ladder from 1 to 64 million parameters.

Each entry has the blocks of `memjax.models.gan.gan`: mapping, synthesis, discriminator. Channels and classes come from
the data; precision (`low_precision`, `dtype`, `clamp`: 4, "bfloat16" and 256 on accelerators) is for the config to add.
What goes with a size in training, gamma, learning rate, batch and averages, is in `configs/stylegan2.py`.

The ladder is for measuring memorization against model size, so it has one dial, the widest features: each step doubles
it and changes nothing else. Widths are that up to 32 x 32 and halve with each doubling after it; z and w have as many
numbers too, as a fixed 512 would make the mapping most of the smallest. Counted: generator with its mapping, plus
discriminator, at 64 x 64, one channel, no classes.

    1m    1.01 M    4m    4.03 M    16m    16.10 M    64m    64.36 M
"""

from typing import Any

Blocks = dict[str, dict[str, Any]]


def _blocks(
    base: int,
    *,
    depth: int,
    max_channels: int = 512,
    latent: int = 512,
    generator: str = "skip",
    style: str = "modulated",
    discriminator: str = "residual",
    group: int = 4,
) -> Blocks:
    # StyleGAN blurs by (1, 2, 1) what nearest neighbours doubled and what means are about to halve, (1, 1): together
    # this same filter.
    both = {"base": base, "max_channels": max_channels, "taps": (1.0, 3.0, 3.0, 1.0)}
    return {
        "mapping": {"z_dim": latent, "w_dim": latent, "depth": depth, "lr_multiplier": 0.01},
        "synthesis": {**both, "architecture": generator, "style": style},
        "discriminator": {**both, "architecture": discriminator, "group": group, "group_channels": 1},
    }


def _ladder(widest: int) -> Blocks:
    return _blocks(32 * widest, max_channels=widest, latent=widest, depth=2)


PRESETS: dict[str, Blocks] = {
    "1m": _ladder(76),
    "4m": _ladder(152),
    "16m": _ladder(304),
    "64m": _ladder(608),
    # Karras et al., 2020 (arXiv 1912.04958), configuration F: 30.37 M and 29.01 M at 1024 x 1024 in three channels.
    "stylegan2": _blocks(32768, depth=8),
    # The next three are sizes of Karras et al., 2020 (arXiv 2006.06676), whose mapping has 8 layers but where said.
    "paper256": _blocks(16384, depth=8, group=8),
    # What its code takes when nothing is said, below 512 x 512.
    "auto": _blocks(16384, depth=2),
    "cifar": _blocks(32768, depth=2, discriminator="plain", group=32),
    # Karras et al., 2019 (arXiv 1812.04948): 26.21 M and 23.08 M at 1024 x 1024 in three channels; the paper's 26.2 M
    # and 23.1 M have an image at each resolution, to grow. Its code says 8192, over half the side: 16 channels there.
    "stylegan1": _blocks(16384, depth=8, generator="plain", style="adain", discriminator="plain"),
}
