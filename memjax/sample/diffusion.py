"""Draw from a trained diffusion model: the images of seed ids, by its own sampler or another."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from memjax.artifacts.weights import into
from memjax.build import build
from memjax.keys import key_for
from memjax.mesh import batch_sharding, replicated
from memjax.models.denoiser import denoiser
from memjax.nn.once import compiler_options
from memjax.objectives.steppers import Sampler
from memjax.sample.draw import Draw


def make_draw(
    config: Mapping[str, Any],
    leaves: Mapping[str, np.ndarray],
    *,
    shape: tuple[int, ...],
    n_classes: int | None,
    changes: Mapping[str, Any],
    mesh: Mesh,
) -> tuple[Draw, dict[str, Any]]:
    """Return what draws images of seed ids (and labels), and the sampler's settings.

    Args:
      config: of the run.
      leaves: its weights by name.
      shape: of the images, [*space, channels].
      n_classes: labels that the model tells apart; None: none.
      changes: settings of the sampler that differ from the run's.
      mesh: whose devices share each batch; its size must be a multiple of theirs.

    Raises:
      UserError: the weights are not those of this config and shape, or there is no such sampler.
    """
    sampler = build(Sampler, {**config["sampler"], **changes}, "sampler")
    model = denoiser(shape, model=config["model"], diffusion=config["diffusion"], n_classes=n_classes)
    template = jax.eval_shape(model.init, key_for(0, "init"))
    params = jax.device_put(into(template, leaves), replicated(mesh))
    split = batch_sharding(mesh)
    drawn = jax.jit(
        lambda params, ids, label: model.draw(params, ids, sampler, label),
        out_shardings=split,
        compiler_options=compiler_options(mesh.devices.flat[0].platform),
    )

    def draw(seed_ids: np.ndarray, label: np.ndarray | None) -> np.ndarray:
        ids, labels = (
            None if values is None else jax.device_put(jnp.asarray(values, jnp.int32), split)
            for values in (seed_ids, label)
        )
        return np.asarray(drawn(params, ids, labels))

    return draw, dataclasses.asdict(sampler)
