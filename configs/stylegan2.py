"""StyleGAN on the four datasets of Akbar, Wang & Eklund (arXiv 2305.07644).

    python -m launch.train --config=configs/stylegan2.py:brats20  --data=stores/brats20  --workdir=runs/sg2_brats20
    python -m launch.train --config=configs/stylegan2.py:brats21  --data=stores/brats21  --workdir=runs/sg2_brats21
    python -m launch.train --config=configs/stylegan2.py:cxr5216  --data=stores/cxr      --workdir=runs/sg2_cxr5216
    python -m launch.train --config=configs/stylegan2.py:cxr1300  --data=stores/cxr      --workdir=runs/sg2_cxr1300

Which StyleGAN the paper trained is not known; `paper256`, StyleGAN2's setting for 256 x 256 (25 million images), is our
choice, and `stylegan1` is the other reading. No augmentation, no ADA. Meant for 8 GPUs of 80 GB (batch 64, the four
highest resolutions in bfloat16); not trained here: this machine has none.

Words after the colon, separated by commas: a dataset; if wished a preset (`stylegan2`, `paper256`, `auto`, `cifar`,
`stylegan1`: networks and training) or a size of the ladder in `stylegan_sizes.py` (trained as `auto`: memorization
against model size); `ada`, adaptive discriminator augmentation (without colour where there are five channels); and
`smoke`, which draws phantoms, trains four steps of a toy in seconds, and needs no --data. `--config.KEY=VALUE` changes
any value below.
"""

from ml_collections import config_dict

from configs import common
from configs.stylegan_sizes import PRESETS

# How the networks of each preset are trained; `images` is how many are seen, in all.
_AUTO = {"batch": 16, "lr": 0.0025, "gamma": None, "half_life": 5_000, "ramp": 0.05}
_TRAINING = {
    "stylegan2": {"batch": 32, "lr": 0.002, "gamma": 10.0, "half_life": 10_000},
    "paper256": {"batch": 64, "lr": 0.0025, "gamma": 1.0, "half_life": 20_000},
    "auto": _AUTO,
    "cifar": {
        "batch": 64,
        "lr": 0.0025,
        "gamma": 0.01,
        "half_life": 500_000,
        "ramp": 0.05,
        "mixing": 0.0,
        "path_weight": 0.0,
        "images": 100_000_000,
    },
    # No lazy regularizers; samples are truncated in their first eight styles.
    "stylegan1": {
        "batch": 32,
        "lr": 0.002,
        "gamma": 10.0,
        "half_life": 10_000,
        "path_weight": 0.0,
        "r1_every": 1,
        "psi": 0.7,
        "truncated": 8,
    },
}


def get_config(words: str = "cxr5216") -> config_dict.ConfigDict:
    """Return the config that these words, separated by commas, describe."""
    dataset, preset, switches = common.chosen(words, PRESETS, "paper256", ["ada"])
    how = {"mixing": 0.9, "path_weight": 2.0, "r1_every": 16, "images": 25_000_000, "psi": 1.0, "ramp": None}
    how |= {"truncated": None} | _TRAINING.get(preset, _AUTO)

    c = common.common("stylegan2", dataset)
    c.batch_size = how["batch"]
    c.steps = how["images"] // how["batch"]
    c.mapping = dict(PRESETS[preset]["mapping"])
    c.synthesis = {**PRESETS[preset]["synthesis"], "low_precision": 4, "dtype": "bfloat16", "clamp": 256.0}
    c.discriminator = {**PRESETS[preset]["discriminator"], "low_precision": 4, "dtype": "bfloat16", "clamp": 256.0}
    c.mixing = how["mixing"]  # probability of taking styles from two latents
    c.regularize = {
        "gamma": _optional(how["gamma"]),  # of R1; None: 0.0002 resolution^2 / batch
        "r1_every": how["r1_every"],
        "path_weight": how["path_weight"],
        "path_every": 4,
        "path_decay": 0.01,
        "path_shrink": 2,  # path lengths of half a batch
    }
    optim = {"lr": how["lr"], "warmup": 0, "betas": (0.0, 0.99), "epsilon": 1e-8}  # lazy regularizers' correction: ours
    c.generator_optim, c.discriminator_optim = dict(optim), dict(optim)
    c.ema = {"half_life_images": float(how["half_life"]), "ramp": _optional(how["ramp"]), "every": 1, "copy_until": 0}
    c.ada = {
        "enabled": "ada" in switches,
        "blit": True,
        "geometry": True,
        "colour": "ada" in switches and not dataset.startswith("brats"),  # defined for one and three channels
        "target": 0.6,
        "every": 4,
        "speed_images": 500_000,
        "p": 0.0,
    }
    c.sampler = {"psi": how["psi"], "layers": _optional(how["truncated"], int), "noise": True}
    if "smoke" in switches:
        shrink(c, common.DATASETS[dataset]["phantoms"])
    return c


def shrink(c: config_dict.ConfigDict, phantoms: str) -> None:
    """Make a toy of the config: every part runs, on phantoms, in seconds."""
    common.shrink(c, phantoms)
    c.mapping.z_dim = c.mapping.w_dim = 8
    c.mapping.depth = 2
    for network in (c.synthesis, c.discriminator):
        network.base, network.max_channels, network.low_precision, network.dtype = 128, 8, 0, "float32"
    c.discriminator.group = 4
    c.regularize.path_every = c.regularize.r1_every = 2


def _optional(value: float | None, kind: type = float) -> config_dict.FieldReference | float:
    """Return the value, or a place that a command line can fill."""
    return config_dict.placeholder(kind) if value is None else kind(value)
