"""An autoencoder in use: images to latents, latents to images, and the scale that diffusion sees latents in.

The scale is stored once, with the latents, as the raw values that stand for -1 and +1. Khader et al. (Sci Rep 13:7303)
map the smallest and the largest number of the whole codebook there, before latents are quantised; after sampling the
map is undone, latents are quantised, and decoded. MONAI's tutorials divide by a standard deviation: -std and +std.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float32

from memjax.artifacts.run import Run
from memjax.artifacts.weights import into, read_weights
from memjax.errors import UserError
from memjax.keys import key_for
from memjax.mesh import batch_sharding, replicated
from memjax.models.autoencoder import Autoencoder, autoencoder
from memjax.nn.once import compiler_options
from memjax.trees import Tree

SCALES = ("codebook", "std")

Images = Float32[np.ndarray, "n *space c"]
Latents = Float32[np.ndarray, "n *small d"]


@dataclasses.dataclass(frozen=True)
class Coder:
    """A trained autoencoder: `encode` and `decode` take and give whole batches, a multiple of the devices each."""

    model: Autoencoder
    weights: Tree
    digest: str  # of the weights
    step: int
    encode: Callable[[Images], Latents]
    decode: Callable[[Latents], Images]


def open_coder(run: Path, *, mesh: Mesh, step: int | None = None, digest: str | None = None) -> Coder:
    """Return the autoencoder that a run trained.

    Args:
      run: the folder that `launch.train` wrote.
      mesh: whose devices share each batch.
      step: of the weights; None: the newest.
      digest: what the weights' digest must be; None: any.

    Raises:
      UserError: there is none, the run is of something else, or the weights are others.
    """
    if not run.exists():
        raise UserError(f"{run}, the autoencoder of these latents, is gone; put it back, or say where it is now.")
    leaves, about, found = read_weights(Run.read(run).weights_dir, step=step)
    config = about["config"]
    if config["task"] != "autoencoder":
        raise UserError(f"{run} trained a model of task {config['task']}, no autoencoder; give an autoencoder's run.")
    if digest is not None and found != digest:
        raise UserError(
            f"{run}: the weights after step {about['step']} have digest {found[:12]}, the latents were made with "
            f"{digest[:12]}; give the run that they were made with, or make them and what was trained on them again."
        )
    model = autoencoder(tuple(about["facts"]["data"]["shape"]), config["autoencoder"])
    template = {**jax.eval_shape(model.init, key_for(0, "init"))}
    if model.bottleneck == "vq":
        codes = (config["codebook"]["n_codes"], model.latent_shape[-1])
        template["codes"] = jax.ShapeDtypeStruct(codes, np.float32)
    weights = jax.device_put(into(template, leaves), replicated(mesh))
    split = batch_sharding(mesh)
    options = compiler_options(mesh.devices.flat[0].platform)

    def compiled(function: Callable[[Tree, Any], Any]) -> Callable[[np.ndarray], np.ndarray]:
        jitted = jax.jit(function, out_shardings=split, compiler_options=options)
        return lambda batch: np.asarray(jitted(weights, jax.device_put(batch, split)))

    return Coder(model, weights, found, about["step"], compiled(model.encode), compiled(model.images))


def scale_of(coder: Coder, kind: str, latents: Callable[[], Latents]) -> tuple[float, float]:
    """Return the raw values that stand for -1 and +1.

    Args:
      coder: the autoencoder.
      kind: `codebook`, its smallest and largest number; `std`, minus and plus the standard deviation of latents.
      latents: some of the training images', asked for where they are needed.

    Raises:
      UserError: there is no codebook, or nothing varies.
    """
    if kind == "codebook":
        if coder.model.bottleneck != "vq":
            raise UserError("the scale `codebook` is of a codebook, which this autoencoder has not; use --scale=std.")
        codes = np.asarray(coder.weights["codes"])
        low, high = float(codes.min()), float(codes.max())
    else:
        high = float(latents().std())
        low = -high
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise UserError(f"the latents' scale would be from {low:g} to {high:g}: the autoencoder is not trained yet.")
    return low, high


def raw(z: Latents, low: float, high: float) -> Latents:
    """Return latents in the autoencoder's own scale."""
    return (z + 1) * np.float32((high - low) / 2) + np.float32(low)
