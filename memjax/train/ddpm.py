"""The diffusion model in training (Ho et al. 2020, Nichol & Dhariwal 2021): one step, its evaluation, its previews."""

import functools
from collections.abc import Iterable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, Key

from memjax.errors import UserError
from memjax.keys import key_at, key_for, keys_of
from memjax.mesh import check_batch, replicated
from memjax.models.denoiser import Denoiser
from memjax.nn.once import compiler_options
from memjax.objectives.steppers import Sampler
from memjax.train.drawing import PREVIEWED, draw_by_seed
from memjax.train.ema import Ema
from memjax.train.optim import Optimizer
from memjax.train.state import State, first_state
from memjax.train.update import Batch, Metrics, mean_gradient, updated
from memjax.trees import Tree

_LEVELS = 10  # noise levels of the held-out loss: the middles of ten equal parts of the timesteps


class Ddpm:
    """Fit a denoiser. Times and noise of step k follow from (seed, k); the loss of an image is the diffusion's.

    Args:
      denoiser: the model.
      optimizer: what follows the gradient.
      ema: how the parameters that samples are drawn from are averaged.
      sampler: how previews are drawn.
      batch_size: images a step, over all devices.
      seed: of times, noise, dropout and dropped labels.
      mesh: where it lives; previews are split over its devices.
      microbatches: parts that the gradient is summed over, to save memory.
      drop_label: share of the labels that are hidden, so that guidance has an unlabelled model.
      label_share: how often each class occurs; none: the images have no labels.

    Raises:
      UserError: the batch does not divide, or a value is out of range.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        *,
        optimizer: Optimizer,
        ema: Ema,
        sampler: Sampler,
        batch_size: int,
        seed: int,
        mesh: Mesh,
        microbatches: int = 1,
        drop_label: float = 0.1,
        label_share: Sequence[float] = (),
    ):
        if microbatches < 1:
            raise UserError(f"config.microbatches={microbatches} is too small; give 1 or more.")
        if not 0 <= drop_label < 1:
            raise UserError(f"config.drop_label={drop_label} must be from 0 to below 1.")
        check_batch(mesh, batch_size, microbatches)
        self.denoiser = denoiser
        self.batch_size = batch_size
        self._optimizer = optimizer
        self._ema = ema
        self._sampler = sampler
        self._microbatches = microbatches
        self._drop_label = drop_label
        self._label_share = label_share
        self._seed = seed
        self._mesh = mesh
        self._options = compiler_options(mesh.devices.flat[0].platform)
        self._has_dropout = denoiser.network.dropout > 0

    def init(self, key: Key[Array, ""]) -> State:
        """Return the state before the first step."""
        return first_state(self.denoiser.init(key), self._optimizer.transform)

    def step(self, state: State, batch: Batch) -> tuple[State, Metrics]:
        """Return the state one step later, and scalars to tell."""
        key = {name: key_at(key_for(self._seed, name), state.step) for name in ("time", "noise", "dropout", "label")}
        x0 = batch["image"]
        whole = {
            "x0": x0,
            "eps": jax.random.normal(key["noise"], x0.shape, x0.dtype),
            "t": self.denoiser.diffusion.uniform_times(key["time"], len(x0)),
        }
        if self.denoiser.n_classes is not None:
            is_hidden = jax.random.bernoulli(key["label"], self._drop_label, batch["label"].shape)
            whole["label"] = jnp.where(is_hidden, self.denoiser.n_classes, batch["label"])

        def losses(params: Tree, part: Batch, number: Int[Array, ""]) -> Float[Array, "b"]:
            dropout_key = key_at(key["dropout"], number) if self._has_dropout else None
            return self.denoiser.losses(
                params, part["x0"], part["eps"], part["t"], part.get("label"), dropout_key=dropout_key
            )

        loss, gradient = mean_gradient(losses, state.params, whole, self._microbatches)
        state, metrics = updated(state, gradient, self._optimizer, self._ema, self.batch_size)
        return state, {"loss": loss, **metrics}

    def evaluate(self, state: State, batches: Mapping[str, Iterable[Batch]]) -> dict[str, float]:
        """Return each set's loss under the averaged parameters, at ten noise levels and their mean.

        An image meets the same noise at every step of the run, so that what changes is the model. Sets come without
        labels: of a model that knows labels it is the loss of its unlabelled part (the label that hidden ones have in
        training), and where training hides none, and so trains no such part, the mean over classes as they occur.
        """
        told = {}
        for name, several in batches.items():
            sums, count = np.zeros(_LEVELS), 0.0
            for batch in several:
                losses, n = jax.device_get(self._level_losses(state.ema, dict(batch)))
                sums, count = sums + losses, count + float(n)
            if count:
                levels = sums / count
                times = _times(self.denoiser.diffusion.steps)
                told |= {f"{name}/loss_t{t:04d}": float(loss) for t, loss in zip(times, levels, strict=True)}
                told[f"{name}/loss"] = float(levels.mean())
        return told

    @functools.cached_property
    def _level_losses(self) -> "jax.stages.Wrapped":
        """Compiled once: (params, batch) -> losses by level summed over the batch, and how many images those were."""

        def summed(params: Tree, batch: Batch) -> tuple[Float[Array, "levels"], Float[Array, ""]]:
            x0, mask = batch["image"], batch["mask"].astype(jnp.float32)
            keys = keys_of(key_for(self._seed, "held_out"), batch["id"])

            def at_level(t: Int[Array, ""]) -> Float[Array, ""]:
                eps = jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, t), x0.shape[1:]))(keys)

                def of_class(number: Int[Array, ""] | int | None) -> Float[Array, ""]:
                    label = None if number is None else jnp.full(len(x0), number, jnp.int32)
                    found = self.denoiser.losses(params, x0, eps, jnp.full(len(x0), t, jnp.int32), label)
                    return jnp.sum(found * mask)

                n_classes = self.denoiser.n_classes
                if n_classes is None or self._drop_label:
                    return of_class(n_classes)
                share = jnp.asarray(self._label_share, jnp.float32)
                return jnp.dot(jax.lax.map(of_class, jnp.arange(n_classes, dtype=jnp.int32)), share)

            return jax.lax.map(at_level, jnp.asarray(_times(self.denoiser.diffusion.steps), jnp.int32)), mask.sum()

        return jax.jit(summed, out_shardings=replicated(self._mesh), compiler_options=self._options)

    def preview(self, state: State, batches: Mapping[str, Iterable[Batch]]) -> dict[str, np.ndarray]:
        """Return the images of the first seed ids."""
        return {"samples": self.draw(state, np.arange(PREVIEWED))}

    def draw(self, state: State, seed_ids: np.ndarray) -> np.ndarray:
        """Return images of the averaged parameters, float32 [n, *space, c], labelled by their seed ids.

        They are in [-1, 1] where the sampler clips.
        """
        return draw_by_seed(
            lambda ids, label: self._drawn(state.ema, ids, label),
            seed_ids,
            label_share=self._label_share,
            mesh=self._mesh,
        )

    @functools.cached_property
    def _drawn(self) -> "jax.stages.Wrapped":
        def drawn(params: Tree, ids: Int[Array, "b"], label: Int[Array, "b"] | None) -> Float[Array, "b *space c"]:
            return self.denoiser.draw(params, ids, self._sampler, label)

        return jax.jit(drawn, out_shardings=replicated(self._mesh), compiler_options=self._options)

    def weights(self, state: State) -> Tree:
        """Return the averaged parameters."""
        return state.ema


def _times(steps: int) -> list[int]:
    return [int((level + 0.5) * steps / _LEVELS) for level in range(_LEVELS)]
