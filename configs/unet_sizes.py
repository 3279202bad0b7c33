"""Sizes of U-Nets by name: a ladder from 1 to 250 million parameters, and those of the papers.

Each entry is keyword arguments of `memjax.models.unet.UNet`, or of the network that it names, see
`memjax.models.denoiser.denoiser`; channels, classes, learned variance, axes, dropout and precision are for the config
to add. Counts are for one channel, in two axes, of 64 x 64, unless something else is said.

The ladder is for measuring memorization against model size, so it has one dial: each step doubles the width and changes
nothing else but the groups of group norm, which have 4 channels or more.

    1m    0.94 M    4m    3.75 M    16m    14.97 M    64m    59.83 M    250m    239.16 M
"""


def _ladder(width: int) -> dict[str, object]:
    return {
        "width": width,
        "mults": (1, 2, 2, 2),
        "blocks": 2,
        "attention": (16,),
        "heads": 4,
        "head_channels": None,
        "groups": min(32, width // 4),
        "scale_shift": True,
        "resample": "conv",
    }


def _khader(width: int) -> dict[str, object]:
    return {"network": "slices", "width": width, "mults": (1, 2, 4, 8), "heads": 8, "head_channels": 32, "groups": 8}


PRESETS: dict[str, dict[str, object]] = {
    "1m": _ladder(20),
    "4m": _ladder(40),
    "16m": _ladder(80),
    "64m": _ladder(160),
    "250m": _ladder(320),
    # Ho et al., 2020 (arXiv 2006.11239), CIFAR-10: 35.7 M. One head, and the time is added.
    "ddpm": {
        "width": 128,
        "mults": (1, 2, 2, 2),
        "blocks": 2,
        "attention": (16,),
        "heads": 1,
        "head_channels": None,
        "groups": 32,
        "scale_shift": False,
        "resample": "conv",
    },
    # Nichol and Dhariwal, 2021 (arXiv 2102.09672): what its code does when nothing is asked for, at 64 x 64: 92.0 M.
    "improved": {
        "width": 128,
        "mults": (1, 2, 3, 4),
        "blocks": 2,
        "attention": (16, 8),
        "heads": 4,
        "head_channels": None,
        "groups": 32,
        "scale_shift": True,
        "resample": "conv",
    },
    # The same paper's LSUN 256 x 256: 113.7 M. It learns the variance.
    "improved-lsun256": {
        "width": 128,
        "mults": (1, 1, 2, 2, 4, 4),
        "blocks": 2,
        "attention": (16,),
        "heads": 1,
        "head_channels": None,
        "groups": 32,
        "scale_shift": False,
        "resample": "conv",
    },
    # Dhariwal and Nichol, 2021 (arXiv 2105.05233), without classes, 256 x 256: 552.8 M. It learns the variance.
    "guided-256": {
        "width": 256,
        "mults": (1, 1, 2, 2, 4, 4),
        "blocks": 2,
        "attention": (32, 16, 8),
        "heads": 4,
        "head_channels": 64,
        "groups": 32,
        "scale_shift": True,
        "resample": "residual",
    },
    # The README's network of denoising-diffusion-pytorch, as near as this U-Net comes: 43.9 M; there 35.7 M, with
    # root-mean-square norms; linear attention at every level above the last; a 7 x 7 stem that is joined again at the
    # end; pixels folded into channels on the way down, where channels grow a level later; two blocks a level both ways.
    "lucidrains": {
        "width": 64,
        "mults": (1, 2, 4, 8),
        "blocks": 1,
        "attention": (8,),
        "heads": 4,
        "head_channels": None,
        "groups": 8,
        "scale_shift": True,
        "resample": "conv",
    },
    # MONAI's tutorial of 2-D latent diffusion: the same network as its DiffusionModelUNet, to the parameter (44.4 M),
    # on latents of 16 x 16. Only epsilon of the norms differs, 1e-6 there and 1e-5 here.
    "monai": {
        "width": 128,
        "mults": (1, 2, 4),
        "blocks": 1,
        "attention": (8, 4),
        "heads": 1,
        "head_channels": None,
        "groups": 32,
        "scale_shift": False,
        "resample": "conv",
    },
    # MONAI's tutorial of 3-D latent diffusion, on three channels of latents whose longest side is 24 or 32, say: 3.0 M.
    "monai-3d": {
        "width": 32,
        "mults": (1, 2, 2),
        "blocks": 1,
        "attention": (16, 12, 8, 6),
        "heads": 1,
        "head_channels": None,
        "groups": 32,
        "scale_shift": False,
        "resample": "conv",
    },
    # Khader et al., 2023 (Sci Rep 13:7303), and after them Dar et al., 2023 (arXiv 2307.01148): latents of 8 channels,
    # whose slices have as many rows as the first level has channels: 3.0 M, 10.0 M and 35.7 M.
    "khader-16": _khader(16),
    "khader-32": _khader(32),
    "khader-64": _khader(64),
}
