"""The demo's models: small ones, trained on the same few phantoms for long enough to memorize what they memorize.

    python -m launch.demo [--volumes]

Words: the model, `ddpm` or `stylegan2` on `pictures` (chest radiographs, 32 x 32), `autoencoder` or `ddpm` (on its
latents) on `volumes` (vessels, 32^3); and `smoke`.
"""

from ml_collections import config_dict

from configs import ddpm, latent3d, stylegan2

_MODELS = {"pictures": ("stylegan2", "ddpm"), "volumes": ("autoencoder", "ddpm")}


def get_config(words: str = "ddpm,pictures") -> config_dict.ConfigDict:
    """Return the config that these words, separated by commas, describe."""
    model, kind, *more = words.split(",") if "," in words else (words, "pictures")
    if model not in _MODELS.get(kind, ()) or more not in ([], ["smoke"]):
        known = " or ".join(f"{name},{kind}" for kind, names in _MODELS.items() for name in names)
        raise ValueError(f"{words!r} must be {known}, and then smoke if wished")
    c = _ddpm(kind) if model == "ddpm" else _stylegan2() if model == "stylegan2" else _autoencoder()
    c.samples = 200 if kind == "pictures" else 100
    c.every = {"log": 50, "save": 500, "evaluate": 500, "preview": 500, "monitor": 500}
    c.monitor.seeds = 64
    phantoms = {
        "pictures": {"kind": "chest", "size": (32, 32), "n_train": 40, "n_heldout": 150, "seed": 0},
        "volumes": {"kind": "vessel", "size": (32, 32, 32), "n_train": 32, "n_heldout": 60, "seed": 0},
    }[kind]
    if more and kind == "volumes":
        latent3d.shrink(c)
        phantoms["size"] = c.phantoms.size
    elif more:
        (ddpm if model == "ddpm" else stylegan2).shrink(c, "chest")
    if more:
        c.samples = 24
    if model == "autoencoder":
        c.every.monitor = 0  # it draws nothing
    c.phantoms = phantoms
    return c


def _ddpm(kind: str) -> config_dict.ConfigDict:
    if kind == "volumes":
        c = latent3d.get_config("pccta,ddpm,khader-16")
        c.steps, c.batch_size, c.microbatches = 2000, 16, 1
        c.model.update(width=16, mults=(1, 2), heads=4, head_channels=16)
    else:
        c = ddpm.get_config("cxr5216,1m")
        c.steps, c.batch_size = 2000, 16
        c.model.width, c.model.mults, c.model.blocks, c.model.attention = 16, (1, 2, 2), 1, ()
        c.model.groups, c.model.dtype = 4, "float32"
    # Noise predicted at the end of a cosine says nothing of the image, and few steps do not mend that: v does.
    c.diffusion.schedule, c.diffusion.target = "cosine", "v"
    c.optim.lr, c.optim.warmup = 1e-3, 100
    c.ema.update(decay=0.995, every=1, copy_until=0)
    c.sampler.method, c.sampler.steps = "dpm++2m", 20
    return c


def _autoencoder() -> config_dict.ConfigDict:
    c = latent3d.get_config("pccta,autoencoder")
    c.steps, c.batch_size = 400, 8
    c.autoencoder.update(downsample=(4, 4, 4), features=8, latent_channels=4, dtype="float32")
    c.codebook.n_codes = 256
    # Nothing is judged by features here: VGG's weights do not ship with the code, and critics take longer than this.
    c.loss.perceptual, c.perceptual.kind = 0.0, "none"
    c.adversary.slices = c.adversary.volume = 0.0
    c.optim.update(lr=1e-3, warmup=50, betas=(0.9, 0.99))
    return c


def _stylegan2() -> config_dict.ConfigDict:
    c = stylegan2.get_config("cxr5216,auto")
    c.steps = 2000
    c.mapping.z_dim = c.mapping.w_dim = 64
    for network in (c.synthesis, c.discriminator):
        network.base, network.max_channels, network.low_precision, network.dtype = 512, 64, 0, "float32"
    c.ema.half_life_images = 2000.0
    return c
