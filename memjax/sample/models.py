"""From a trained run's config and weights to what draws images of seed ids: one way for every kind of model."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, Key

from memjax.artifacts.weights import into
from memjax.build import build
from memjax.errors import UserError
from memjax.keys import key_for
from memjax.mesh import batch_sharding, replicated
from memjax.models.denoiser import denoiser
from memjax.models.gan import Gan, Truncation, gan
from memjax.nn.once import compiler_options
from memjax.objectives.steppers import Sampler
from memjax.sample.draw import Draw
from memjax.trees import Tree


class _Model(NamedTuple):
    """A model as sampling sees it: what weights it wants, and images in [-1, 1] of weights, seed ids and labels."""

    weights: Callable[[Key[Array, ""]], Tree]
    images: Callable[[Tree, Int[Array, "b"], Int[Array, "b"] | None], Float[Array, "b *space c"]]


class _Kind(NamedTuple):
    called: str
    sampler: type
    model: Callable[..., _Model]


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
      UserError: the weights are not those of this config and shape, or the model's sampler has no such setting.
    """
    sampler = make_sampler(config, changes)
    model = _KINDS[config["task"]].model(config, shape, n_classes, sampler)
    weights = jax.device_put(into(jax.eval_shape(model.weights, key_for(0, "init")), leaves), replicated(mesh))
    split = batch_sharding(mesh)
    options = compiler_options(mesh.devices.flat[0].platform)
    drawn = jax.jit(model.images, out_shardings=split, compiler_options=options)

    def draw(seed_ids: np.ndarray, label: np.ndarray | None) -> np.ndarray:
        ids, labels = (
            None if values is None else jax.device_put(jnp.asarray(values, jnp.int32), split)
            for values in (seed_ids, label)
        )
        return np.asarray(drawn(weights, ids, labels))

    return draw, dataclasses.asdict(sampler)


def make_sampler(config: Mapping[str, Any], changes: Mapping[str, Any]) -> Any:
    """Return how images of a run are drawn: its own settings, some of them changed.

    Raises:
      UserError: the sampler of such a model has no such setting.
    """
    if config["task"] not in _KINDS:
        raise UserError(
            f"the run trained a model of task {config['task']}, which draws no images; give a run of "
            f"{' or '.join(_KINDS)}: for latents, that of the diffusion model on them."
        )
    kind = _KINDS[config["task"]]
    known = [field.name for field in dataclasses.fields(kind.sampler)]
    if strange := [name for name in changes if name not in known]:
        raise UserError(
            f"the run is a {kind.called} (task {config['task']}), whose sampler has no {' and no '.join(strange)}; "
            f"it has {', '.join(known)}."
        )
    return build(kind.sampler, {**config["sampler"], **changes}, "sampler")


def stylegan(config: Mapping[str, Any], shape: tuple[int, ...], n_classes: int | None) -> Gan:
    """Return the networks of a run of task stylegan2."""
    blocks = {name: config[name] for name in ("mapping", "synthesis", "discriminator")}
    return gan(shape, **blocks, n_classes=n_classes)


def stylegan_weights(model: Gan, key: Key[Array, ""]) -> Tree:
    """Return weights of the form in which training writes them."""
    return {"generator": model.init(key)["generator"], "w_avg": jnp.zeros(model.w_dim)}


def _stylegan(config: Mapping[str, Any], shape: tuple[int, ...], n_classes: int | None, sampler: Truncation) -> _Model:
    model = stylegan(config, shape, n_classes)

    def images(weights: Tree, ids: Int[Array, "b"], label: Int[Array, "b"] | None) -> Float[Array, "b *space c"]:
        return model.draw(weights["generator"], weights["w_avg"], ids, sampler, label)

    return _Model(lambda key: stylegan_weights(model, key), images)


def _denoiser(config: Mapping[str, Any], shape: tuple[int, ...], n_classes: int | None, sampler: Sampler) -> _Model:
    model = denoiser(shape, model=config["model"], diffusion=config["diffusion"], n_classes=n_classes)
    return _Model(model.init, lambda params, ids, label: model.draw(params, ids, sampler, label))


_KINDS = {
    "ddpm": _Kind("diffusion model", Sampler, _denoiser),
    "stylegan2": _Kind("StyleGAN", Truncation, _stylegan),
}
