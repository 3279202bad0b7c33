"""The programs of a config, lowered for devices that need not be there: training, and drawing.

Each is made as the launcher makes it: the same function, donation, shardings and compiler options. Nothing is
allocated; arrays are shapes.
"""

import dataclasses
import functools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding

from memjax.keys import key_for
from memjax.mesh import batch_sharding, placed, replicated, state_shardings, train_mesh
from memjax.models.autoencoder import autoencoder
from memjax.models.denoiser import denoiser
from memjax.models.descriptor import descriptor
from memjax.nn.once import compiler_options
from memjax.sample.models import make_sampler, stylegan, stylegan_weights
from memjax.train.loop import jitted_step
from memjax.train.tasks import make_task

_CALLED = {"params": "parameters", "optimizer": "optimizer", "ema": "average"}  # others: "other state"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Program:
    """A program before it is compiled."""

    name: str
    lowered: jax.stages.Lowered
    held: Mapping[str, int]  # bytes of its arguments on one device, by kind
    images: int  # that one run is of
    unit: str  # what those are: images, or pairs
    shares: Sequence[float] = ()  # how often its conditions' branches are taken, where that is known
    hosts: Sequence[int] = ()  # of its devices, in the mesh's order; none: all are one's


def train_program(config: Mapping[str, Any], shape: tuple[int, ...], devices: Sequence[Any]) -> Program:
    """Return one training step, as `memjax.train.loop` compiles it.

    Raises:
      UserError: the batch or `fsdp` does not divide over the devices, or a block of the config is wrong.
    """
    mesh = train_mesh(config["fsdp"], devices=devices)
    shares = (0.5, 0.5) if config["with_labels"] else ()  # how many classes hardly matters
    task = make_task(_without_files(config), shape=shape, mesh=mesh, label_share=shares)
    abstract = jax.eval_shape(task.init, key_for(config["seed"], "init"))
    shardings = state_shardings(mesh, abstract)
    state = placed(abstract, shardings)
    batch = _batch(config, shape, batch_sharding(mesh))
    held = Counter[str]()
    for field in dataclasses.fields(state):
        held[_CALLED.get(field.name, "other state")] += held_bytes(getattr(state, field.name))
    held["batch"] = held_bytes(batch)
    return Program(
        name="train",
        lowered=jitted_step(task, shardings, mesh).lower(state, batch),
        held=held,
        images=config["batch_size"],
        unit="images",
        shares=_shares(config),
        hosts=hosts(mesh),
    )


def draw_program(config: Mapping[str, Any], shape: tuple[int, ...], devices: Sequence[Any], batch: int) -> Program:
    """Return what draws a batch of images, all steps of the sampler; of an autoencoder or a descriptor, its use.

    Args:
      config: of the run.
      shape: of its images.
      devices: that share the batch.
      batch: images at a time; rounded up to a multiple of the devices.
    """
    mesh = train_mesh(devices=devices)
    split, key = batch_sharding(mesh), key_for(0, "init")
    batch = -(-batch // mesh.size) * mesh.size
    given: Any = jax.ShapeDtypeStruct((batch,), np.int32, sharding=split)  # seed ids
    out = split
    if config["task"] == "ddpm":
        sampler = make_sampler(config, {})
        model = denoiser(shape, model=config["model"], diffusion=config["diffusion"])
        weights = jax.eval_shape(model.init, key)
        apply = lambda weights, ids: model.draw(weights, ids, sampler)  # noqa: E731
    elif config["task"] == "stylegan2":
        truncation, networks = make_sampler(config, {}), stylegan(config, shape, None)
        weights = jax.eval_shape(functools.partial(stylegan_weights, networks), key)
        apply = lambda weights, ids: networks.draw(weights["generator"], weights["w_avg"], ids, truncation)  # noqa: E731
    elif config["task"] == "autoencoder":
        coder = autoencoder(shape, config["autoencoder"])
        weights = dict(jax.eval_shape(coder.init, key))
        if coder.bottleneck == "vq":
            codes = (config["codebook"]["n_codes"], coder.latent_shape[-1])
            weights["codes"] = jax.ShapeDtypeStruct(codes, np.float32)
        given = jax.ShapeDtypeStruct((batch, *coder.latent_shape), np.float32, sharding=split)
        apply = coder.images
    else:
        network = descriptor(shape, model=config["model"])
        weights = jax.eval_shape(network.init, key)
        given = jax.ShapeDtypeStruct((batch, *shape), np.float32, sharding=split)
        apply, out = network.apply, replicated(mesh)
    weights = placed(weights, jax.tree.map(lambda leaf: replicated(mesh), weights))
    jitted = jax.jit(apply, out_shardings=out, compiler_options=compiler_options(devices[0].platform))
    held = {"parameters": held_bytes(weights), "batch": held_bytes(given)}
    lowered = jitted.lower(weights, given)
    return Program(name="draw", lowered=lowered, held=held, images=batch, unit="images", hosts=hosts(mesh))


def hosts(mesh: Mesh) -> list[int]:
    """Return which host each device of a mesh is of, in the mesh's order."""
    return [device.process_index for device in mesh.devices.flat]


def held_bytes(tree: Any) -> int:
    """Return what one device holds of arrays."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * np.dtype(leaf.dtype).itemsize
        for leaf in jax.tree.leaves(tree)
    )


def _batch(config: Mapping[str, Any], shape: tuple[int, ...], sharding: NamedSharding) -> dict[str, Any]:
    """Return the shapes of a batch, as `memjax.data.pipeline` makes it."""
    n = config["batch_size"]
    names = {"image": (n, *shape)} | ({"view": (n, *shape)} if config["task"] == "descriptor" else {})
    found = {name: jax.ShapeDtypeStruct(of, jnp.float32, sharding=sharding) for name, of in names.items()}
    counts = ["id"] + ["label"] * bool(config["with_labels"]) + ["patient"] * (config["task"] == "descriptor")
    return found | {name: jax.ShapeDtypeStruct((n,), jnp.int32, sharding=sharding) for name in counts}


def _without_files(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config with untrained features of the same size in place of LPIPS's, if no file has those."""
    block = config.get("perceptual") or {}
    if block.get("kind") == "lpips" and not block.get("file"):
        return {**config, "perceptual": {"kind": "random", "file": None, "width": 64}}
    return dict(config)


def _shares(config: Mapping[str, Any]) -> list[float]:
    """Return how often StyleGAN's lazy regularizers are due, in the order of its phases."""
    if config["task"] != "stylegan2":
        return []
    lazy = config["regularize"]
    path = [lazy["path_every"]] if lazy["path_weight"] > 0 else []
    r1 = [lazy["r1_every"]] if lazy["gamma"] is None or lazy["gamma"] > 0 else []
    return [1 / every for every in [*path, *r1] if every > 1]
