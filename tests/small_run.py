"""Runs that were never trained: a config's own network with weights out of a hat, as `launch.train` would write it."""

from pathlib import Path

import jax
import numpy as np

from configs.ddpm import get_config
from memjax.artifacts.run import Run
from memjax.artifacts.weights import write_weights
from memjax.keys import key_for
from memjax.models.denoiser import denoiser

_SHAPE = (16, 16, 1)


def untrained(path: Path, *, steps: int = 2) -> Path:
    """Write a diffusion run of 16 x 16 bytes whose sampler takes so many steps, without compiling anything."""
    config = get_config("smoke").to_dict()
    config["sampler"]["steps"] = steps
    facts = {
        "data": {
            "digest": "0" * 64,
            "shape": _SHAPE,
            "dtype": "uint8",
            "axes": ("row", "column"),
            "channels": ("x",),
            "label_channels": (),
            "spacing_mm": None,
            "latent": None,
            "classes": [],
            "class_share": [],
        }
    }
    model = denoiser(_SHAPE, model=config["model"], diffusion=config["diffusion"], n_classes=None)
    rng = np.random.default_rng(0)
    template = jax.eval_shape(model.init, key_for(0, "init"))
    weights = jax.tree.map(lambda leaf: 0.3 * rng.standard_normal(leaf.shape, np.float32), template)
    with Run.open(path, config, facts=facts) as run:
        write_weights(run.weights_dir, 3, weights, {"config": config, "facts": facts})
    return path
