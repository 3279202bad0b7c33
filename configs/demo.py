"""The demo's models: small ones, trained on the same few phantoms for long enough to memorize what they memorize.

    python -m launch.demo [--volumes]

Words: the model, `ddpm` or `stylegan2`; `pictures` (chest radiographs, 32 x 32) or, for the diffusion model, `volumes`
(vessels, 16^3); and `smoke`.
"""

from ml_collections import config_dict

from configs import ddpm, stylegan2

_MODELS = {"ddpm": ddpm, "stylegan2": stylegan2}


def get_config(words: str = "ddpm,pictures") -> config_dict.ConfigDict:
    """Return the config that these words, separated by commas, describe."""
    model, kind, *more = words.split(",") if "," in words else (words, "pictures")
    if model not in _MODELS or kind not in ("pictures", "volumes") or more not in ([], ["smoke"]):
        raise ValueError(f"{words!r} must be ddpm or stylegan2, then pictures or volumes, then smoke if wished")
    if (model, kind) == ("stylegan2", "volumes"):
        raise ValueError("StyleGAN2 draws pictures; volumes are for ddpm")
    c = _stylegan2() if model == "stylegan2" else _ddpm(kind)
    c.samples = 200 if kind == "pictures" else 100
    c.every = {"log": 50, "save": 500, "evaluate": 500, "preview": 500, "monitor": 500}
    c.monitor.seeds = 64
    phantoms = {
        "pictures": {"kind": "chest", "size": (32, 32), "n_train": 40, "n_heldout": 150, "seed": 0},
        "volumes": {"kind": "vessel", "size": (16, 16, 16), "n_train": 32, "n_heldout": 60, "seed": 0},
    }[kind]
    if more:
        _MODELS[model].shrink(c, "chest")
        c.samples = 24
        if kind == "volumes":  # one level attends to every voxel: of 16^3, that is gigabytes
            phantoms["size"] = (8, 8, 8)
    c.phantoms = phantoms
    return c


def _ddpm(kind: str) -> config_dict.ConfigDict:
    c = ddpm.get_config("cxr5216,1m")
    c.steps, c.batch_size = (2000 if kind == "pictures" else 1500), 16
    c.model.width, c.model.mults, c.model.blocks, c.model.attention = 16, (1, 2, 2), 1, ()
    c.model.groups, c.model.dtype = 4, "float32"
    # Noise predicted at the end of a cosine says nothing of the image, and few steps do not mend that: v does.
    c.diffusion.schedule, c.diffusion.target = "cosine", "v"
    c.optim.lr, c.optim.warmup = 1e-3, 100
    c.ema.decay = 0.995
    c.sampler.method, c.sampler.steps = "dpm++2m", 20
    if kind == "volumes":
        c.model.attention = (4,)
    return c


def _stylegan2() -> config_dict.ConfigDict:
    c = stylegan2.get_config("cxr5216,auto")
    c.steps = 2000
    c.mapping.z_dim = c.mapping.w_dim = 64
    for network in (c.synthesis, c.discriminator):
        network.base, network.max_channels, network.low_precision, network.dtype = 512, 64, 0, "float32"
    c.ema.half_life_images = 2000.0
    return c
