"""The autoencoder in training: what it is asked, its codebook, and the discriminators that sharpen its images.

Khader et al., 2023 (Sci Rep 13:7303) after Esser et al., 2021 (VQ-GAN): absolute differences, commitment, a perceptual
distance and, from some step on, two patch discriminators, one of whole volumes and one of a random slice of each.
Both are updated from the same reconstruction, so an image goes through the autoencoder once a step; in their code it
goes twice.
"""

import dataclasses
import functools
from collections.abc import Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float, Key

from memjax.errors import UserError
from memjax.keys import key_at, key_for
from memjax.mesh import check_batch, replicated
from memjax.models.autoencoder import Autoencoder
from memjax.models.patchgan import random_slices
from memjax.nn.once import compiler_options
from memjax.objectives import quantize
from memjax.objectives.fidelity import psnr, ssim
from memjax.objectives.perceptual import Perceptual
from memjax.objectives.quantize import Codebook
from memjax.train.critics import Critics
from memjax.train.optim import Optimizer
from memjax.train.task import Batch
from memjax.trees import Tree, norm

_BEST_PSNR = 100.0  # dB: of an image that is its reconstruction it is infinite, and so would be the mean
_PREVIEWED = 8  # images of each set, each beside its reconstruction


@dataclasses.dataclass(frozen=True, kw_only=True)
class Weights:
    """What each part of the loss counts; the keys of `config.loss`.

    l1: mean absolute difference.
    commitment: squared distance of latents from their codes (VQ).
    kl: divergence from the standard normal, summed over a latent (KL).
    perceptual: distance of the features of a random slice.
    slice_axis: across which volumes are cut for the perceptual distance and the discriminator of slices.
    """

    l1: float = 4.0
    commitment: float = 0.25
    kl: float = 1e-6
    perceptual: float = 4.0
    slice_axis: int = 0

    def __post_init__(self):
        for name in ("l1", "commitment", "kl", "perceptual"):
            if getattr(self, name) < 0:
                raise UserError(f"config.loss.{name}={getattr(self, name)} must be 0 or more.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Coding:
    """The codebook and how it moves; the keys of `config.codebook`.

    n_codes: how many codes there are.
    decay: of the mean counts and sums of latents, a step.
    restart_below: codes with a smaller mean count are put in the place of a random latent; 0: never.
    """

    n_codes: int = 16384
    decay: float = 0.99
    restart_below: float = 1.0

    def __post_init__(self):
        if self.n_codes < 2 or not 0 <= self.decay < 1 or self.restart_below < 0:
            raise UserError(
                f"config.codebook.n_codes={self.n_codes} must be 2 or more, decay={self.decay} from 0 to below 1, "
                f"restart_below={self.restart_below} 0 or more."
            )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class AutoencoderState:
    """After `step` steps. `params` and `optimizer` are of the autoencoder, `critics` have their own of both."""

    step: Tree  # int32 scalar
    params: Tree
    optimizer: Tree
    critics: Tree
    codebook: Tree  # a `Codebook`; None without codes


class AutoencoderTask:
    """Fit an autoencoder. Everything drawn at step k follows from (seed, k).

    Args:
      autoencoder: the model.
      weights: of the loss.
      coding: the codebook (VQ).
      critics: the discriminators; None: there are none.
      perceptual: the perceptual distance; None: there is none.
      optimizer: what follows the autoencoder's gradient.
      batch_size: images a step, over all devices.
      seed: of slices, of the Gaussian's noise, of codes that begin again.
      mesh: where it lives.

    Raises:
      UserError: the batch does not divide, or the parts do not go together.
    """

    def __init__(
        self,
        autoencoder: Autoencoder,
        *,
        weights: Weights,
        coding: Coding,
        critics: Critics | None,
        perceptual: Perceptual | None,
        optimizer: Optimizer,
        batch_size: int,
        seed: int,
        mesh: Mesh,
    ):
        check_batch(mesh, batch_size)
        axes = len(autoencoder.shape) - 1
        if axes == 3 and not 0 <= weights.slice_axis < axes:  # pictures are their own slices
            raise UserError(f"config.loss.slice_axis={weights.slice_axis}, volumes have axes 0 to 2; name one.")
        self.autoencoder = autoencoder
        self.batch_size = batch_size
        self._weights = weights
        self._coding = coding
        self._critics = critics
        self._perceptual = perceptual
        self._optimizer = optimizer
        self._seed = seed
        self._mesh = mesh
        self._options = compiler_options(mesh.devices.flat[0].platform)
        self._has_codes = autoencoder.bottleneck == "vq"
        if (perceptual is None) != (weights.perceptual == 0):
            raise UserError(
                f"config.loss.perceptual={weights.perceptual} and config.perceptual.kind do not go together; give a "
                "weight above 0 with lpips or random, 0 with none."
            )
        # Refused here, before a run's folder is made: images that are too small for a part.
        jax.eval_shape(self.init, key_for(seed, "init"))
        images = jax.ShapeDtypeStruct((1, *autoencoder.shape), jnp.float32)
        jax.eval_shape(self._difference, images, images, key_for(seed, "slice"))

    def init(self, key: Key[Array, ""]) -> AutoencoderState:
        """Return the state before the first step; the codebook's first codes come with the first batch."""
        first, second = jax.random.split(key)
        params = self.autoencoder.init(first)
        shape = (self._coding.n_codes, self.autoencoder.latent_shape[-1])
        return AutoencoderState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            optimizer=self._optimizer.transform.init(params),
            critics=self._critics.init(second, self.autoencoder.shape) if self._critics else {},
            codebook=Codebook(jnp.zeros(shape), jnp.ones(shape[:1]), jnp.zeros(shape)) if self._has_codes else None,
        )

    def step(self, state: AutoencoderState, batch: Batch) -> tuple[AutoencoderState, dict[str, jax.Array]]:
        """Return the state one step later, and scalars to tell."""
        keys = {name: key_at(key_for(self._seed, name), state.step) for name in ("slice", "codes", "posterior")}
        x = batch["image"]
        (y, loss), pull, (told, codebook) = jax.vjp(
            lambda params: self._passed(params, x, state, keys), state.params, has_aux=True
        )
        (value, parts), toward_y = jax.value_and_grad(self._difference, has_aux=True)(y, x, keys["slice"])
        told |= parts | {"loss": value + loss}
        critics = state.critics
        if self._critics:
            critics, pushed, more = self._critics.step(critics, state.step, x, y, keys["slice"])
            toward_y, told = toward_y + pushed, told | more
        (gradient,) = pull((toward_y, jnp.ones_like(loss)))
        updates, optimizer = self._optimizer.transform.update(gradient, state.optimizer, state.params)
        after = AutoencoderState(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            optimizer=optimizer,
            critics=critics,
            codebook=codebook,
        )
        lr = jnp.asarray(self._optimizer.rate(state.step), jnp.float32)
        return after, told | {"grad_norm": norm(gradient), "lr": lr}

    def _passed(
        self, params: Tree, x: Array, state: AutoencoderState, keys: Mapping[str, Key[Array, ""]]
    ) -> tuple[tuple[Float[Array, "b *space c"], Float[Array, ""]], tuple[dict[str, Array], Codebook | None]]:
        """Return reconstructions and the bottleneck's loss; and, beside, what is told and the codebook's next state."""
        if self._has_codes:
            h, loss, told, codebook = self._through_codes(params, x, state, keys["codes"])
        else:
            h, loss, told = self._through_gaussian(params, x, keys["posterior"])
            codebook = None
        return (self.autoencoder.decode(params, h), loss), (told, codebook)

    def _through_codes(
        self, params: Tree, x: Array, state: AutoencoderState, key: Key[Array, ""]
    ) -> tuple[Float[Array, "b *small d"], Float[Array, ""], dict[str, Array], Codebook]:
        """Return codes, what they cost, what is told, and the codebook one step later."""
        h = self.autoencoder.encode(params, x)
        first_key, restart_key = jax.random.split(key)
        at_rest, before = jax.lax.stop_gradient(h), state.codebook
        codebook = jax.lax.cond(
            state.step == 0,
            lambda h: quantize.first_codebook(h, first_key, self._coding.n_codes),
            lambda h: before,
            at_rest,
        )
        ids = quantize.nearest(at_rest, codebook.codes)
        q = codebook.codes[ids]
        commitment = quantize.commitment(h, q).mean()
        after = quantize.updated(
            codebook, at_rest, ids, restart_key, decay=self._coding.decay, restart_below=self._coding.restart_below
        )
        told = {
            "commitment": commitment,
            "perplexity": quantize.perplexity(quantize.tally(ids, self._coding.n_codes)),
            "dead_codes": (codebook.counts < max(self._coding.restart_below, 1e-3)).mean(),
            "latent_mean": h.mean(),
            "latent_std": h.std(),
        }
        return quantize.straight_through(h, q), self._weights.commitment * commitment, told, after

    def _through_gaussian(
        self, params: Tree, x: Array, key: Key[Array, ""]
    ) -> tuple[Float[Array, "b *small d"], Float[Array, ""], dict[str, Array]]:
        """Return latents drawn from the Gaussian, what it costs, and what is told."""
        mean, log_variance = self.autoencoder.posterior(params, x)
        divergence = 0.5 * (jnp.square(mean) + jnp.exp(log_variance) - log_variance - 1)
        kl = divergence.reshape(len(x), -1).sum(1).mean()
        h = mean + jnp.exp(0.5 * log_variance) * jax.random.normal(key, mean.shape)
        return h, self._weights.kl * kl, {"kl": kl, "latent_mean": mean.mean(), "latent_std": mean.std()}

    def _difference(
        self, y: Array, x: Array, key: Key[Array, ""]
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """Return what a reconstruction's difference from its image costs, and its parts."""
        l1 = jnp.abs(y - x).mean()
        total, told = self._weights.l1 * l1, {"l1": l1}
        if self._perceptual:
            of_x, of_y = (random_slices(key, one, self._weights.slice_axis) for one in (x, y))
            told["perceptual"] = self._perceptual.losses(self._perceptual.params, of_x, of_y).mean()
            total += self._weights.perceptual * told["perceptual"]
        return total, told

    def evaluate(self, state: AutoencoderState, batches: Mapping[str, Iterable[Batch]]) -> dict[str, float]:
        """Return each set's PSNR (dB), SSIM, absolute difference, and the use that it makes of the latent."""
        told = {}
        for name, several in batches.items():
            found = [jax.device_get(self._measured(self.weights(state), dict(batch))) for batch in several]
            if not found:
                continue
            sums, counts = (np.sum([part[i] for part in found], axis=0) for i in (0, 1))
            n, psnr_, ssim_, l1, mean, square = (float(value) for value in sums)
            told |= {
                f"{name}/psnr": psnr_ / n,
                f"{name}/ssim": ssim_ / n,
                f"{name}/l1": l1 / n,
                f"{name}/latent_mean": mean / n,
                f"{name}/latent_std": max(square / n - (mean / n) ** 2, 0.0) ** 0.5,
            }
            if self._has_codes:
                told[f"{name}/perplexity"] = float(quantize.perplexity(jnp.asarray(counts)))
                told[f"{name}/unused_codes"] = float((counts == 0).mean())
        return told

    @functools.cached_property
    def _measured(self) -> "jax.stages.Wrapped":
        """Compiled once: (weights, batch) -> sums over its images, and how often each code is used by them."""

        def measured(weights: Tree, batch: Batch) -> tuple[Float[Array, "6"], Float[Array, "k"]]:
            x, mask = batch["image"], batch["mask"].astype(jnp.float32)
            h = self.autoencoder.encode(weights, x)
            y = self.autoencoder.images(weights, h)
            of_image = tuple(range(1, x.ndim))
            rows = [
                jnp.ones(len(x)),
                jnp.minimum(psnr(x, y), _BEST_PSNR),
                ssim(x, y),
                jnp.abs(x - y).mean(of_image),
                h.mean(of_image),
                jnp.square(h).mean(of_image),
            ]
            sums = jnp.stack([jnp.sum(row, where=mask > 0) for row in rows])
            if not self._has_codes:
                return sums, jnp.zeros(0)
            ids = quantize.nearest(h, weights["codes"]).reshape(len(x), -1)
            each = jnp.broadcast_to(mask[:, None], ids.shape)
            return sums, jnp.zeros(self._coding.n_codes).at[ids.reshape(-1)].add(each.reshape(-1))

        return jax.jit(measured, out_shardings=replicated(self._mesh), compiler_options=self._options)

    def preview(self, state: AutoencoderState, batches: Mapping[str, Iterable[Batch]]) -> dict[str, np.ndarray]:
        """Return the first images of each set, each before its reconstruction."""
        told = {}
        for name, several in batches.items():
            batch = next(iter(several), None)
            if batch is not None:
                x, y = jax.device_get(self._reconstructed(self.weights(state), batch["image"]))
                told[f"reconstructed_{name}"] = np.stack([x, y], 1).reshape(-1, *x.shape[1:])[: 2 * _PREVIEWED]
        return told

    @functools.cached_property
    def _reconstructed(self) -> "jax.stages.Wrapped":
        def reconstructed(weights: Tree, x: Array) -> tuple[Array, Array]:
            return x, self.autoencoder.images(weights, self.autoencoder.encode(weights, x))

        return jax.jit(reconstructed, out_shardings=replicated(self._mesh), compiler_options=self._options)

    def draw(self, state: AutoencoderState, seed_ids: np.ndarray) -> np.ndarray:
        """Raise `UserError`: an autoencoder draws nothing by itself."""
        raise UserError(
            "an autoencoder draws no images; set every.monitor to 0, and train a diffusion model on latents."
        )

    def weights(self, state: AutoencoderState) -> Tree:
        """Return the autoencoder's parameters and its codes."""
        return state.params if state.codebook is None else {**state.params, "codes": state.codebook.codes}
