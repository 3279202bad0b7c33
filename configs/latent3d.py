"""Latent diffusion in volumes, both stages: Dar et al. (arXiv 2307.01148) after Khader et al. (Sci Rep 13:7303).

    python -m launch.train   --config=configs/latent3d.py:mrnet,autoencoder --data=stores/mrnet --workdir=runs/mrnet_ae
      --config.perceptual.file=lpips.npz
    python -m launch.prepare --input=stores/mrnet --latents=runs/mrnet_ae --out=stores/mrnet_latents
    python -m launch.train   --config=configs/latent3d.py:mrnet,ddpm --data=stores/mrnet_latents
      --workdir=runs/mrnet_ldm
    python -m launch.sample  --run=runs/mrnet_ldm --seeds=0:3600 --out=stores/mrnet_synthetic

Values are those that ran, not those of the published settings: a learning rate of 1.875e-5 for the autoencoder,
critics from step 5000 on, noise predicted with absolute differences in 300 cosine steps, and no augmentation. Their
downsampling of the coronary volumes is not known; 2 is by analogy. A batch of 10 is seen twice a step.

Words after the colon, separated by commas: a dataset, `pccta` (64 x 64 x 64), `mrnet` (256 x 256 x 32, sagittal slices
last), `brats64`, `brats128`; a stage, `autoencoder` or `ddpm`; if wished
    kl       the second model of the follow-up (arXiv 2402.01054): a Gaussian instead of a codebook, MONAI's tutorial
    low      less compression: 4 instead of 8 along each axis (mrnet)
    a size   of the U-Net (`unet_sizes.py`): khader-16, khader-32, khader-64, monai-3d, 1m, 4m, 16m, 64m, 250m
    f8, f32  features of the autoencoder at full resolution, instead of 16
    flips, rotations   vary the autoencoder's images: mirrored, and turned by up to 5 degrees within slices, each with
             probability 0.5. Latents are varied when they are encoded: launch.prepare --views
    smoke    four steps of a toy on phantoms, which needs no --data
"""

from ml_collections import config_dict

from configs import common, ddpm
from configs.unet_sizes import PRESETS

# By how much each axis shrinks, steps of the autoencoder and of the diffusion, and the U-Net: in Khader et al.'s code
# its width is that of a slice of latents.
_DATASETS = {
    "pccta": ((2, 2, 2), 50_000, 100_000, "khader-32"),
    "mrnet": ((8, 8, 8), 57_000, 77_000, "khader-32"),
    "brats64": ((2, 2, 2), 50_000, 100_000, "khader-32"),
    "brats128": ((8, 8, 8), 50_000, 100_000, "khader-16"),
}
_FEATURES = {"f8": 8, "f16": 16, "f32": 32}
_STAGES = ("autoencoder", "ddpm")
_SWITCHES = ("kl", "low", "flips", "rotations", "smoke")
_SLICES = 2  # the axis that counts slices: axial ones of volumes in R, A, S; in the store of MRNet the last, too


def get_config(words: str = "pccta,autoencoder") -> config_dict.ConfigDict:
    """Return the config that these words, separated by commas, describe."""
    dataset, stage, size, features, found = "pccta", "autoencoder", "", 16, set()
    for word in words.split(","):
        if word in _DATASETS:
            dataset = word
        elif word in _STAGES:
            stage = word
        elif word in PRESETS:
            size = word
        elif word in _FEATURES:
            features = _FEATURES[word]
        elif word in _SWITCHES:
            found.add(word)
        else:
            known = [*_DATASETS, *_STAGES, *_FEATURES, *_SWITCHES, *PRESETS]
            raise ValueError(f"{word!r} is none of {', '.join(known)}")
    downsample, steps, ddpm_steps, default = _DATASETS[dataset]
    if "low" in found:
        downsample, default = tuple(min(factor, 4) for factor in downsample), "khader-64"
    if stage == "ddpm" and found & {"flips", "rotations"}:
        raise ValueError(
            "latents are varied when they are encoded: launch.prepare --latents=RUN --views=N --flip_axes=…"
        )
    if stage == "ddpm":
        c = _ddpm(size or ("monai-3d" if "kl" in found else default), ddpm_steps, is_kl="kl" in found)
    else:
        c = _autoencoder(downsample, features, steps, is_kl="kl" in found)
        sideways = 1 if dataset == "mrnet" else 0  # rows and columns there, R, A and S elsewhere
        c.augment.update(enabled=bool(found & {"flips", "rotations"}), flip_axes=(sideways,), rotate_plane=(0, 1))
        c.augment.rotate_degrees = 5.0 if "rotations" in found else 0.0
    if "smoke" in found:
        shrink(c)
    return c


def _autoencoder(downsample: tuple[int, ...], features: int, steps: int, *, is_kl: bool) -> config_dict.ConfigDict:
    c = common.common("autoencoder", "cxr5216")
    c.steps, c.batch_size = steps, 2
    c.autoencoder = {
        "downsample": downsample,
        "features": features,
        "latent_channels": 3 if is_kl else 8,
        "bottleneck": "kl" if is_kl else "vq",
        "groups": 32,
        "remat": False,
        "dtype": "bfloat16",
    }
    c.codebook = {"n_codes": 16384, "decay": 0.99, "restart_below": 1.0}
    c.loss = {"l1": 4.0, "commitment": 0.25, "kl": 1e-6, "perceptual": 4.0, "slice_axis": _SLICES}
    # lpips wants a file of weights (memjax/models/vgg.py says how to make it); `random` are the features of an
    # untrained network, and `none` goes with loss.perceptual=0.
    c.perceptual = {"kind": "lpips", "file": config_dict.placeholder(str)}
    c.adversary = {
        "slices": 1.0,
        "volume": 1.0,
        "features": 4.0,
        "start": 5000,
        "loss": "hinge",  # or squares
        "width": 64,
        "layers": 3,
        "dtype": "bfloat16",
    }
    c.optim = {
        "lr": 1.875e-5,
        "warmup": 0,
        "schedule": "constant",
        "steps": 0,
        "final": 0.0,
        "betas": (0.5, 0.9),
        "epsilon": 1e-8,
        "weight_decay": 0.0,
        "clip": 1.0,
    }
    c.critics_optim = {**c.optim}
    if is_kl:  # MONAI's tutorial: absolute differences, least squares, Adam at 1e-4
        c.loss.l1, c.loss.perceptual, c.loss.kl = 1.0, 1e-3, 1e-6
        c.adversary.update(slices=0.0, volume=0.01, features=0.0, loss="squares", width=32)
        for optim in (c.optim, c.critics_optim):
            optim.update(lr=1e-4, betas=(0.9, 0.999), clip=config_dict.placeholder(float))
    c.every = {"log": 100, "save": 2000, "evaluate": 2000, "preview": 2000, "monitor": 0}
    return c


def _ddpm(size: str, steps: int, *, is_kl: bool) -> config_dict.ConfigDict:
    c = ddpm.get_config("cxr5216")
    c.steps, c.batch_size, c.microbatches = steps, 20, 2
    c.model = {**PRESETS[size], "dropout": 0.0, "remat": False, "dtype": "float32"}
    if c.model.get("network") == "slices":
        c.model.depth_axis = _SLICES
    c.optim.update(lr=1e-4, warmup=0, clip=config_dict.placeholder(float))
    if is_kl:
        c.diffusion.update(steps=1000, schedule="scaled_linear", beta_min=0.0015, beta_max=0.0195)
        c.sampler.update(method="ancestral", steps=1000, clip=False)
        return c
    c.diffusion.update(steps=300, schedule="cosine", target="eps", loss="l1", max_beta=0.9999)
    c.ema.update(decay=0.995, every=10, copy_until=2000)
    c.sampler.update(method="ancestral", steps=300, clip=True)
    return c


def shrink(c: config_dict.ConfigDict) -> None:
    """Make a toy of the config: every part runs, on phantoms, in seconds."""
    if c.task == "ddpm":
        ddpm.shrink(c, "vessel")
        c.model = {**PRESETS["khader-16"], "width": 8, "mults": (1, 2), "heads": 2, "head_channels": 8, "groups": 4}
        c.microbatches = 1
    else:
        common.shrink(c, "vessel")
        c.autoencoder.update(features=4, groups=4, dtype="float32", downsample=(2, 2, 2))
        c.codebook.n_codes = 16
        c.loss.perceptual, c.perceptual.kind = 0.0, "none"
        c.adversary.update(width=4, layers=1, start=2, dtype="float32")
        c.every.monitor = 0
    c.phantoms.size = (8, 8, 8)
