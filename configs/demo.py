"""The demo's model: a small diffusion model, trained on few phantoms for long enough to memorize some of them.

    python -m launch.demo [--volumes]

Some four minutes on two cores, all in all. Words: `pictures` (chest radiographs, 24 x 24) or `volumes` (vessels,
16^3), and `smoke`.
"""

from ml_collections import config_dict

from configs import ddpm


def get_config(words: str = "pictures") -> config_dict.ConfigDict:
    """Return the config that these words, separated by commas, describe."""
    kind, *more = words.split(",")
    if kind not in ("pictures", "volumes") or more not in ([], ["smoke"]):
        raise ValueError(f"{words!r} must be pictures or volumes, then smoke if wished")
    c = ddpm.get_config("cxr5216,1m")
    c.samples = 200
    c.steps, c.batch_size = 2000, 16
    c.model.width, c.model.mults, c.model.blocks, c.model.attention = 16, (1, 2, 2), 1, ()
    c.model.groups, c.model.dtype = 4, "float32"
    # Noise predicted at the end of a cosine says nothing of the image, and few steps do not mend that: v does.
    c.diffusion.schedule, c.diffusion.target = "cosine", "v"
    c.optim.lr, c.optim.warmup = 1e-3, 100
    c.ema.decay = 0.995
    c.sampler.method, c.sampler.steps = "dpm++2m", 20
    c.every = {"log": 50, "save": 500, "evaluate": 500, "preview": 500, "monitor": 500}
    c.monitor.seeds = 64
    c.phantoms = {"kind": "chest", "size": (24, 24), "n_train": 40, "n_heldout": 150, "seed": 0}
    if kind == "volumes":
        c.steps = 1500
        c.model.width, c.model.mults, c.model.attention = 16, (1, 2, 2), (4,)
        c.phantoms = {"kind": "vessel", "size": (16, 16, 16), "n_train": 32, "n_heldout": 60, "seed": 0}
        c.samples = 100
    if more:
        phantoms = c.phantoms
        ddpm.shrink(c, "chest")
        c.phantoms = phantoms
        c.samples = 24
    return c
