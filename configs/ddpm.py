"""Pixel-space diffusion models on the datasets of Akbar, Wang & Eklund (arXiv 2305.07644).

    python -m launch.train --config=configs/ddpm.py:brats   --data=stores/brats20  --workdir=runs/ddpm_brats20
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

from configs.unet_sizes import PRESETS

# What differs between the paper's datasets; sizes and channels come from the store.
_DATASETS = {
    "brats": {"steps": 400_000, "n_train": 0, "phantoms": "brain_slices"},
    "cxr5216": {"steps": 200_000, "n_train": 0, "phantoms": "chest"},
    "cxr1300": {"steps": 200_000, "n_train": 1300, "phantoms": "chest"},
}


def get_config(words: str = "cxr5216") -> config_dict.ConfigDict:
    """Return the config that these words, separated by commas, describe."""
    dataset, size, smoke = "cxr5216", "improved-lsun256", False
    for word in words.split(","):
        if word in _DATASETS:
            dataset = word
        elif word in PRESETS:
            size = word
        elif word == "smoke":
            smoke = True
        else:
            raise ValueError(f"{word!r} is none of {', '.join([*_DATASETS, *PRESETS, 'smoke'])}")

    c = config_dict.ConfigDict()
    c.task = "ddpm"
    c.seed = 0
    c.steps = _DATASETS[dataset]["steps"]
    c.batch_size = 64
    c.microbatches = 1  # parts that a batch's gradient is summed over
    c.n_train = _DATASETS[dataset]["n_train"]  # images to train on, the first of a permutation of patients; 0: all
    c.fsdp = 1  # devices that share one copy of parameters and optimizer
    c.with_labels = False  # condition on the store's labels
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
    c.augment = {
        "enabled": False,  # False: nothing of the following is done
        "flip_axes": (1,),
        "flip_p": 0.5,
        "quarter_turns": False,
        "rotate_degrees": 5.0,
        "rotate_p": 0.5,
        "intensity": 0.0,
    }
    c.sampler = {
        "method": "ancestral",  # ancestral, ddim, dpm++2m
        "steps": 250,
        "eta": 0.0,
        "clip": True,
        "variance": "small",
        "guidance": 0.0,
    }
    c.every = {"log": 100, "save": 5000, "evaluate": 5000, "preview": 5000, "monitor": 0}
    c.monitor = {"seeds": 128, "symmetry": "none", "percentile": 95.0, "p_value": 0.001}
    c.phantoms = {}  # what to draw where there is no --data
    return shrink(c, _DATASETS[dataset]["phantoms"]) if smoke else c


def shrink(c: config_dict.ConfigDict, phantoms: str) -> config_dict.ConfigDict:
    """Return the config as a toy: every part runs, on phantoms, in seconds."""
    c.steps, c.batch_size, c.n_train = 4, 8, 0
    c.model.width, c.model.mults, c.model.blocks = 8, (1,), 1  # two levels take three times as long to compile
    c.model.attention, c.model.heads, c.model.head_channels, c.model.groups = (), 1, None, 4
    c.model.dtype = "float32"
    c.diffusion.steps, c.diffusion.schedule = 10, "cosine"
    c.sampler.steps = 2
    c.every = {"log": 1, "save": 2, "evaluate": 4, "preview": 4, "monitor": 2}
    c.monitor.seeds = 8
    size = (16, 16, 32) if phantoms == "brain_slices" else (16, 16)
    n_train = 2 if phantoms == "brain_slices" else 12  # a volume gives several slices
    c.phantoms = {"kind": phantoms, "size": size, "n_train": n_train, "n_heldout": n_train, "seed": 0}
    return c
