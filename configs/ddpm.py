"""Pixel-space diffusion models on the datasets of Akbar, Wang & Eklund (arXiv 2305.07644).

    python -m launch.train --config=configs/ddpm.py:brats20 --data=stores/brats20  --workdir=runs/ddpm_brats20
    python -m launch.train --config=configs/ddpm.py:brats21 --data=stores/brats21  --workdir=runs/ddpm_brats21
    python -m launch.train --config=configs/ddpm.py:cxr5216 --data=stores/cxr      --workdir=runs/ddpm_cxr5216
    python -m launch.train --config=configs/ddpm.py:cxr1300 --data=stores/cxr      --workdir=runs/ddpm_cxr1300

Which diffusion model the paper trained is not known (`improved-diffusion`'s kind is likely); these are our choice: the
improved-diffusion network for 256 x 256, about 110 M parameters, 1000 linear steps, noise predicted by L2, no
augmentation. Meant for 8 GPUs of 80 GB (batch 64 in bfloat16); not trained here: this machine has none.

Words after the colon, separated by commas: a dataset; if wished a size of the ladder in `unet_sizes.py` (`1m`, `4m`,
`16m`, `64m`, `250m`: memorization against model size) or another network there; and `smoke`, which draws phantoms,
trains four steps of a toy in seconds, and needs no --data. `--config.KEY=VALUE` changes any value below.
"""

from ml_collections import config_dict

from configs import common
from configs.unet_sizes import PRESETS

_STEPS = {"brats20": 400_000, "brats21": 400_000, "cxr5216": 200_000, "cxr1300": 200_000}


def get_config(words: str = "cxr5216") -> config_dict.ConfigDict:
    """Return the config that these words, separated by commas, describe."""
    dataset, size, switches = common.chosen(words, PRESETS, "improved-lsun256")
    c = common.common("ddpm", dataset)
    c.steps = _STEPS[dataset]
    c.batch_size = 64
    c.microbatches = 1  # parts that a batch's gradient is summed over
    c.drop_label = 0.1
    c.model = {**PRESETS[size], "keep_axes": (), "dropout": 0.0, "remat": False, "dtype": "bfloat16"}
    c.diffusion = {
        "steps": 1000,
        "schedule": "linear",  # linear, scaled_linear, cosine, sigmoid
        "target": "eps",  # eps, x0, v
        "loss": "l2",  # l1, l2, hybrid (the variance is learned)
        "vlb_weight": 0.001,
        "min_snr": config_dict.placeholder(float),
        "beta_min": 1e-4,
        "beta_max": 0.02,
        "max_beta": 0.999,
    }
    c.optim = {
        "lr": 1e-4,
        "warmup": 1000,
        "schedule": "constant",  # or cosine, down to `final` * lr at step `steps`
        "steps": 0,
        "final": 0.0,
        "betas": (0.9, 0.999),
        "epsilon": 1e-8,
        "weight_decay": 0.0,
        "clip": 1.0,
    }
    c.ema = {
        "decay": 0.9999,
        "every": 1,
        "copy_until": 0,
        "half_life_images": config_dict.placeholder(float),  # in place of decay
        "ramp": config_dict.placeholder(float),
    }
    c.sampler = {
        "method": "ancestral",  # ancestral, ddim, dpm++2m
        "steps": 250,
        "eta": 0.0,
        "clip": True,
        "variance": "small",
        "guidance": 0.0,
    }
    if "smoke" in switches:
        shrink(c, common.DATASETS[dataset]["phantoms"])
    return c


def shrink(c: config_dict.ConfigDict, phantoms: str) -> None:
    """Make a toy of the config: every part runs, on phantoms, in seconds."""
    common.shrink(c, phantoms)
    c.model.width, c.model.mults, c.model.blocks = 8, (1,), 1  # two levels take three times as long to compile
    c.model.attention, c.model.heads, c.model.head_channels, c.model.groups = (), 1, None, 4
    c.model.dtype = "float32"
    c.diffusion.steps, c.diffusion.schedule = 10, "cosine"
    c.sampler.steps = 2
