"""StyleGAN2 in training (Karras et al. 2020, arXiv 1912.04958): four phases, two optimizers, averages and ADA.

A step is one batch of real images through the phases that are due, in the order of the table `_phases`. Regularizers
are lazy (its appendix B): every so many steps, times so many. All of it is one program; what is not due is skipped.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, Key

from memjax.errors import UserError
from memjax.keys import key_at, key_for
from memjax.mesh import batch_sharding, check_batch, replicated
from memjax.models.gan import Gan, Truncation
from memjax.nn.once import compiler_options
from memjax.objectives import adversarial
from memjax.objectives.ada import Ada
from memjax.train.drawing import PREVIEWED, draw_by_seed
from memjax.train.ema import Ema
from memjax.train.lazy import Regularization, lazy_optimizer
from memjax.trees import Tree, norm

Batch = Mapping[str, Array]
Stats = dict[str, Array]

_W_DECAY = 0.995  # of the mean of w, a step: the paper's code


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class GanState:
    """After `step` steps. `params` and `optimizer` by network; `ema` is of the generator.

    `stats`: the mean of w, of path lengths, ADA's probability and the signs it is tuned on, and the last penalties.
    """

    step: Tree  # int32 scalar
    params: Tree
    optimizer: Tree
    ema: Tree
    stats: Tree


class _Phase(NamedTuple):
    """One kind of update. `losses` are (params of its network, state, batch, key) -> [b], what is told, new stats."""

    name: str
    network: str
    losses: Callable[[Tree, GanState, Batch, Key[Array, ""]], tuple[Array, tuple[Stats, Stats]]]
    every: int
    gain: float


class StyleGan2:
    """Fit a generator and its discriminator. Everything drawn at step k follows from (seed, k).

    Args:
      gan: both networks.
      optim: keywords of `make_optimizer` for the generator and for the discriminator.
      regularize: the lazy regularizers.
      mixing: probability that an image takes its styles from two latents.
      ada: augmentation of what the discriminator sees.
      ema: how the generator that samples are drawn from is averaged.
      truncation: how previews are drawn.
      batch_size: images a step, over all devices.
      seed: of latents, noise, mixing and augmentation.
      mesh: where it lives.
      label_share: how often each class occurs; none: the images have no labels.

    Raises:
      UserError: the batch does not divide, or a value is out of range.
    """

    def __init__(
        self,
        gan: Gan,
        *,
        optim: Mapping[str, Mapping[str, Any]],
        regularize: Regularization,
        mixing: float,
        ada: Ada,
        ema: Ema,
        truncation: Truncation,
        batch_size: int,
        seed: int,
        mesh: Mesh,
        label_share: Sequence[float] = (),
    ):
        if not 0 <= mixing <= 1:
            raise UserError(f"config.mixing={mixing} must be from 0 to 1.")
        check_batch(mesh, batch_size)
        # Refused here, before a run's folder is made: batches that do not divide into groups.
        images = jax.ShapeDtypeStruct((batch_size, *gan.shape), jnp.float32)
        label = jax.ShapeDtypeStruct((batch_size,), jnp.int32) if label_share else None
        discriminator = jax.eval_shape(gan.init, key_for(seed, "init"))["discriminator"]
        jax.eval_shape(gan.criticize, discriminator, images, label)
        ada.check(gan.shape[-1])
        self.gan = gan
        self.batch_size = batch_size
        self._regularize = regularize
        self._mixing = mixing
        self._ada = ada
        self._ema = ema
        self._truncation = truncation
        self._seed = seed
        self._mesh = mesh
        self._options = compiler_options(mesh.devices.flat[0].platform)
        self._label_share = label_share
        gamma = regularize.gamma
        gamma = adversarial.default_gamma(gan.shape[0], batch_size) if gamma is None else gamma
        phases = [
            _Phase("generator", "generator", self._fooling, 1, 1.0),
            _Phase(
                "path", "generator", self._path, regularize.path_every, regularize.path_every * regularize.path_weight
            ),
            _Phase("discriminator", "discriminator", self._telling, 1, 1.0),
            _Phase("r1", "discriminator", self._r1, regularize.r1_every, regularize.r1_every * gamma / 2),
        ]
        self._phases = [phase for phase in phases if phase.gain > 0]
        laziness = {phase.network: phase.every for phase in self._phases if phase.name in ("path", "r1")}
        self._optimizer = {
            network: lazy_optimizer(optim[network], laziness.get(network, 0))
            for network in ("generator", "discriminator")
        }

    def init(self, key: Key[Array, ""]) -> GanState:
        """Return the state before the first step."""
        params = self.gan.init(key)
        return GanState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            optimizer={name: self._optimizer[name].transform.init(params[name]) for name in params},
            ema=jax.tree.map(jnp.copy, params["generator"]),  # donated: no two leaves may be one buffer
            stats={
                "w_avg": jnp.zeros(self.gan.w_dim, jnp.float32),
                "ada_p": jnp.asarray(self._ada.p, jnp.float32),
                **{name: jnp.zeros((), jnp.float32) for name in ("path_mean", "sign_sum", "path_length", "r1")},
            },
        )

    def step(self, state: GanState, batch: Batch) -> tuple[GanState, dict[str, jax.Array]]:
        """Return the state one step later, and scalars to tell."""
        key = key_at(key_for(self._seed, "phase"), state.step)
        told: dict[str, jax.Array] = {}
        for number, phase in enumerate(self._phases):
            state, found = self._advance(phase, state, batch, jax.random.fold_in(key, number))
            told |= found
        step = state.step + 1
        state = dataclasses.replace(
            state,
            step=step,
            ema=self._ema.update(state.ema, state.params["generator"], step, self.batch_size),
            stats=self._with_tuned_ada(state.stats, step),
        )
        return state, told | {name: state.stats[name] for name in ("path_length", "r1", "ada_p")}

    def _advance(
        self, phase: _Phase, state: GanState, batch: Batch, key: Key[Array, ""]
    ) -> tuple[GanState, dict[str, jax.Array]]:
        """Return the state after one phase, if it is due; only phases of every step have something to tell."""
        name = phase.network

        def update(state: GanState) -> tuple[GanState, Stats]:
            def loss(params: Tree) -> tuple[Float[Array, ""], tuple[Stats, Stats]]:
                losses, more = phase.losses(params, state, batch, key)
                return phase.gain * jnp.mean(losses), more

            (value, (told, stats)), gradient = jax.value_and_grad(loss, has_aux=True)(state.params[name])
            updates, optimizer = self._optimizer[name].transform.update(
                gradient, state.optimizer[name], state.params[name]
            )
            params = optax.apply_updates(state.params[name], updates)
            after = dataclasses.replace(
                state,
                params={**state.params, name: params},
                optimizer={**state.optimizer, name: optimizer},
                stats={**state.stats, **stats},
            )
            return after, {f"loss_{phase.name}": value, f"grad_norm_{phase.name}": norm(gradient), **told}

        if phase.every == 1:
            return update(state)
        is_due = state.step % phase.every == 0
        return jax.lax.cond(is_due, lambda state: update(state)[0], lambda state: state, state), {}

    def _fooling(self, params: Tree, state: GanState, batch: Batch, key: Key[Array, ""]) -> tuple[Array, Any]:
        """Phase `generator`: the non-saturating loss, and the mean of w."""
        draw_key, augment_key = jax.random.split(key)
        ws, noise, w = self._latents(params, draw_key, self.batch_size, batch.get("label"))
        images = self._seen(self.gan.synthesize(params, ws, noise), state, augment_key)
        logits = self.gan.criticize(state.params["discriminator"], images, batch.get("label"))
        w_avg = _W_DECAY * state.stats["w_avg"] + (1 - _W_DECAY) * jax.lax.stop_gradient(w).mean(0)
        return adversarial.generator_loss(logits), ({}, {"w_avg": w_avg})

    def _path(self, params: Tree, state: GanState, batch: Batch, key: Key[Array, ""]) -> tuple[Array, Any]:
        """Phase `path`: how much longer or shorter than their mean the paths in images are that steps in w make."""
        n = max(self.batch_size // self._regularize.path_shrink, 1)
        draw_key, direction_key = jax.random.split(key)
        label = batch["label"][:n] if "label" in batch else None
        ws, noise, _ = self._latents(params, draw_key, n, label)
        y = self._split(jax.random.normal(direction_key, (n, *self.gan.shape)))
        lengths = adversarial.path_lengths(lambda ws: self.gan.synthesize(params, ws, noise), ws, y)
        penalty, mean = adversarial.path_penalty(lengths, state.stats["path_mean"], self._regularize.path_decay)
        return penalty, ({}, {"path_mean": mean, "path_length": jax.lax.stop_gradient(lengths).mean()})

    def _telling(self, params: Tree, state: GanState, batch: Batch, key: Key[Array, ""]) -> tuple[Array, Any]:
        """Phase `discriminator`: the logistic loss of real and drawn images, and the signs that ADA is tuned on."""
        draw_key, *augment_keys = jax.random.split(key, 3)
        generator, label = state.params["generator"], batch.get("label")
        ws, noise, _ = self._latents(generator, draw_key, self.batch_size, label)
        drawn = self._seen(self.gan.synthesize(generator, ws, noise), state, augment_keys[0])
        seen = self._seen(batch["image"], state, augment_keys[1])
        real, fake = self.gan.compare(params, seen, drawn, label)
        sign = jnp.sign(jax.lax.stop_gradient(real)).mean()
        told = {"sign_real": sign, "logit_real": real.mean(), "logit_fake": fake.mean()}
        return adversarial.discriminator_loss(real, fake), (told, {"sign_sum": state.stats["sign_sum"] + sign})

    def _r1(self, params: Tree, state: GanState, batch: Batch, key: Key[Array, ""]) -> tuple[Array, Any]:
        """Phase `r1`: the discriminator's squared gradient at real images."""
        label = batch.get("label")
        penalty = adversarial.r1(
            lambda real: self.gan.criticize(params, self._seen(real, state, key), label), batch["image"]
        )
        return penalty, ({}, {"r1": jax.lax.stop_gradient(penalty).mean()})

    def _latents(
        self, generator: Tree, key: Key[Array, ""], n: int, label: Array | None
    ) -> tuple[Float[Array, "n styles w"], tuple[Array, ...], Float[Array, "n w"]]:
        """Return styles, some of them mixed of two latents, noise, and w of the first latent."""
        z_key, other_key, mix_key, noise_key = jax.random.split(key, 4)
        noise = tuple(self._split(one) for one in self.gan.noise(noise_key, n))
        keys = [z_key, other_key] if self._mixing else [z_key]
        z = jnp.stack([self._split(jax.random.normal(key, (n, self.gan.z_dim))) for key in keys], 1)
        labels = None if label is None else jnp.repeat(label, len(keys))
        found = self.gan.map(generator, z.reshape(-1, self.gan.z_dim), labels).reshape(n, len(keys), -1)
        w, other = found[:, 0], found[:, -1]
        return adversarial.mix_styles(mix_key, w, other, self.gan.styles, self._mixing), noise, w

    def _split(self, x: Array) -> Array:
        """Split what was drawn over the devices as a batch is: left alone, every device would compute all of it."""
        if len(x) % self._mesh.size:
            return x
        return jax.lax.with_sharding_constraint(x, batch_sharding(self._mesh))

    def _seen(self, images: Array, state: GanState, key: Key[Array, ""]) -> Array:
        """Return images as the discriminator sees them."""
        return self._ada.augment(images, key, state.stats["ada_p"]) if self._ada.enabled else images

    def _with_tuned_ada(self, stats: Stats, step: Int[Array, ""]) -> Stats:
        """Return the statistics with ADA's probability moved, where that is due after `step` finished steps."""
        is_due = step % self._ada.every == 0
        p = stats["ada_p"]
        if self._ada.enabled:
            p = jnp.where(is_due, self._ada.next_p(p, stats["sign_sum"] / self._ada.every, self.batch_size), p)
        return {**stats, "ada_p": p, "sign_sum": jnp.where(is_due, 0.0, stats["sign_sum"])}

    def evaluate(self, state: GanState, batches: Mapping[str, Iterable[Batch]]) -> dict[str, float]:
        """Return the discriminator's mean logit of each set: where it knows its images by heart, they differ."""
        told = {}
        for name, several in batches.items():
            total, count = 0.0, 0.0
            for batch in several:
                found, n = jax.device_get(self._logits(state.params["discriminator"], dict(batch)))
                total, count = total + float(found), count + float(n)
            if count:
                told[f"{name}/logit"] = total / count
        return told

    @functools.cached_property
    def _logits(self) -> "jax.stages.Wrapped":
        """Compiled once: (discriminator, batch) -> logits summed over its images, and how many those were."""

        def summed(params: Tree, batch: Batch) -> tuple[Float[Array, ""], Float[Array, ""]]:
            image, mask = batch["image"], batch["mask"].astype(jnp.float32)
            if not self._label_share:
                return jnp.sum(self.gan.criticize(params, image) * mask), mask.sum()

            def of_class(number: Int[Array, ""]) -> Float[Array, ""]:
                return jnp.sum(self.gan.criticize(params, image, jnp.full(len(image), number, jnp.int32)) * mask)

            # Held-out images come without labels: the mean over classes.
            every_class = jnp.arange(len(self._label_share), dtype=jnp.int32)
            logits = jax.lax.map(of_class, every_class)
            return jnp.dot(logits, jnp.asarray(self._label_share, jnp.float32)), mask.sum()

        return jax.jit(summed, out_shardings=replicated(self._mesh), compiler_options=self._options)

    def preview(self, state: GanState, batches: Mapping[str, Iterable[Batch]]) -> dict[str, np.ndarray]:
        """Return the images of the first seed ids."""
        return {"samples": self.draw(state, np.arange(PREVIEWED))}

    def draw(self, state: GanState, seed_ids: np.ndarray) -> np.ndarray:
        """Return images of the averaged generator, float32 [n, h, w, c] in [-1, 1], labelled by their seed ids."""
        return draw_by_seed(
            lambda ids, label: self._drawn(state.ema, state.stats["w_avg"], ids, label),
            seed_ids,
            label_share=self._label_share,
            mesh=self._mesh,
        )

    @functools.cached_property
    def _drawn(self) -> "jax.stages.Wrapped":
        def drawn(
            generator: Tree, w_avg: Float[Array, "w"], ids: Int[Array, "b"], label: Int[Array, "b"] | None
        ) -> Float[Array, "b height width c"]:
            return self.gan.draw(generator, w_avg, ids, self._truncation, label)

        return jax.jit(drawn, out_shardings=replicated(self._mesh), compiler_options=self._options)

    def weights(self, state: GanState) -> Tree:
        """Return the averaged generator and the mean of w."""
        return {"generator": state.ema, "w_avg": state.stats["w_avg"]}
