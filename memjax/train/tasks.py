"""From a config to the task it names."""

from collections.abc import Mapping, Sequence
from typing import Any

from jax.sharding import Mesh

from memjax.build import build
from memjax.errors import UserError
from memjax.models.autoencoder import autoencoder
from memjax.models.denoiser import denoiser
from memjax.models.descriptor import descriptor
from memjax.models.gan import Truncation, gan
from memjax.models.vgg import make_perceptual
from memjax.objectives.ada import Ada
from memjax.objectives.steppers import Sampler
from memjax.train.autoencoder import AutoencoderTask, Coding, Weights
from memjax.train.critics import Adversary, Critics
from memjax.train.ddpm import Ddpm
from memjax.train.descriptor import DescriptorTask, Loss
from memjax.train.ema import Ema
from memjax.train.optim import make_optimizer
from memjax.train.stylegan2 import Regularization, StyleGan2
from memjax.train.task import Task


def make_task(
    config: Mapping[str, Any], *, shape: tuple[int, ...], mesh: Mesh, label_share: Sequence[float] = ()
) -> Task:
    """Return the task that `config["task"]` names, for images of this shape [*space, channels].

    Args:
      config: as `configs/` makes them.
      shape: of an image.
      mesh: where it is trained.
      label_share: how often each class occurs among the training images; none: no labels.

    Raises:
      UserError: there is no such task, or a block of the config does not fit its constructor.
    """
    if config["task"] not in _TASKS:
        raise UserError(f"there is no task {config['task']!r}; config.task must be one of {', '.join(_TASKS)}.")
    return _TASKS[config["task"]](config, shape, mesh, label_share)


def _ddpm(config: Mapping[str, Any], shape: tuple[int, ...], mesh: Mesh, label_share: Sequence[float]) -> Task:
    return Ddpm(
        denoiser(shape, model=config["model"], diffusion=config["diffusion"], n_classes=len(label_share) or None),
        optimizer=build(make_optimizer, config["optim"], "optim"),
        ema=build(Ema, config["ema"], "ema"),
        sampler=build(Sampler, config["sampler"], "sampler"),
        batch_size=config["batch_size"],
        microbatches=config["microbatches"],
        drop_label=config["drop_label"],
        label_share=label_share,
        seed=config["seed"],
        mesh=mesh,
    )


def _stylegan2(config: Mapping[str, Any], shape: tuple[int, ...], mesh: Mesh, label_share: Sequence[float]) -> Task:
    blocks = {name: config[name] for name in ("mapping", "synthesis", "discriminator")}
    return StyleGan2(
        gan(shape, **blocks, n_classes=len(label_share) or None),
        optim={network: config[f"{network}_optim"] for network in ("generator", "discriminator")},
        regularize=build(Regularization, config["regularize"], "regularize"),
        mixing=config["mixing"],
        ada=build(Ada, config["ada"], "ada"),
        ema=build(Ema, config["ema"], "ema"),
        truncation=build(Truncation, config["sampler"], "sampler"),
        batch_size=config["batch_size"],
        seed=config["seed"],
        mesh=mesh,
        label_share=label_share,
    )


def _autoencoder(config: Mapping[str, Any], shape: tuple[int, ...], mesh: Mesh, label_share: Sequence[float]) -> Task:
    weights = build(Weights, config["loss"], "loss")
    adversary = build(Adversary, config["adversary"], "adversary")
    critics = None
    if adversary.slices or adversary.volume:
        optimizer = build(make_optimizer, config["critics_optim"], "critics_optim")
        critics = Critics(adversary, optimizer=optimizer, slice_axis=weights.slice_axis)
    return AutoencoderTask(
        autoencoder(shape, config["autoencoder"]),
        weights=weights,
        coding=build(Coding, config["codebook"], "codebook"),
        critics=critics,
        perceptual=build(make_perceptual, config["perceptual"], "perceptual"),
        optimizer=build(make_optimizer, config["optim"], "optim"),
        batch_size=config["batch_size"],
        seed=config["seed"],
        mesh=mesh,
    )


def _descriptor(config: Mapping[str, Any], shape: tuple[int, ...], mesh: Mesh, label_share: Sequence[float]) -> Task:
    return DescriptorTask(
        descriptor(shape, model=config["model"]),
        loss=build(Loss, config["loss"], "loss"),
        optimizer=build(make_optimizer, config["optim"], "optim"),
        ema=build(Ema, config["ema"], "ema"),
        batch_size=config["batch_size"],
        seed=config["seed"],
        mesh=mesh,
    )


_TASKS = {"ddpm": _ddpm, "stylegan2": _stylegan2, "autoencoder": _autoencoder, "descriptor": _descriptor}
