"""The descriptor in training: one step of a contrastive loss, and what held-out patients' images say of it.

Negatives are those of the whole batch, on whatever devices it lies. Dar et al., 2023 (arXiv 2307.01148) train on
triplets, their follow-up (arXiv 2402.01054) on the cross entropy; anchors are images, positives views of them.
"""

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, Key

from memjax.errors import UserError
from memjax.keys import key_at, key_for
from memjax.mesh import check_batch, replicated
from memjax.models.descriptor import Descriptor
from memjax.nn.once import compiler_options
from memjax.objectives import contrastive
from memjax.objectives.retrieval import Score, retrieval, similarity
from memjax.train.ema import Ema
from memjax.train.optim import Optimizer
from memjax.train.state import State, first_state
from memjax.train.update import Batch, Metrics, updated
from memjax.trees import Tree

_PREVIEWED, _SEARCHED = 8, 64  # images shown of each set, and among how many the nearest other one is looked for


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loss:
    """What is asked of a batch's descriptors; the keys of `config.loss`.

    kind: `ntxent`, the cross entropy, or `triplet`.
    temperature: of the cross entropy.
    positives: `views`, an image's own view alone, or `patients`: all images of the same known patient in the batch, and
      their views (cross entropy).
    margin: of triplets.
    mining: of triplets, the negative: `semi_hard`, or `following`, the next other patient's image in the batch.
    unit: triplets of descriptors of length one, as FaceNet's; Dar et al. compare plain ones.
    """

    kind: str = "ntxent"
    temperature: float = 0.07
    positives: str = "views"
    margin: float = 1.0
    mining: str = "semi_hard"
    unit: bool = False

    def __post_init__(self):
        for name, known in _WORDS.items():
            if getattr(self, name) not in known:
                raise UserError(f"config.loss.{name}={getattr(self, name)!r} is not known; give {' or '.join(known)}.")
        if not (self.temperature > 0 and self.margin > 0):
            raise UserError(f"config.loss.temperature={self.temperature} and margin={self.margin} must be above 0.")
        if self.kind == "triplet" and self.positives == "patients":
            raise UserError(
                "config.loss.positives=patients is for config.loss.kind=ntxent: a triplet has one positive; give it a "
                "view of another image of the patient by config.pair=patient."
            )

    @property
    def score(self) -> Score:
        """What is near, as the loss sees it."""
        return "cosine" if self.kind == "ntxent" or self.unit else "distance"

    def __call__(self, image: Float[Array, "b d"], view: Float[Array, "b d"], batch: Batch) -> Float[Array, "b"]:
        """Return one loss an image; `batch` tells their `id` and `patient`."""
        is_stranger = contrastive.strangers(batch["id"], batch["patient"])
        if self.kind == "ntxent":
            is_relative = contrastive.relatives(batch["patient"]) if self.positives == "patients" else None
            return contrastive.nt_xent(image, view, is_stranger, is_relative, temperature=self.temperature)
        if self.unit:
            image, view = contrastive.unit(image), contrastive.unit(view)
        if self.mining == "semi_hard":
            negative = contrastive.semi_hard(image, view, is_stranger)
        else:
            negative = contrastive.following(is_stranger)
        losses = contrastive.triplet(image, view, image[negative], margin=self.margin)
        return jnp.where(is_stranger.any(1), losses, 0.0)


_WORDS = {
    "kind": ("ntxent", "triplet"),
    "positives": ("views", "patients"),
    "mining": ("semi_hard", "following"),
}


class DescriptorTask:
    """Fit a descriptor. Batches have `image`, `view`, `id`, and `patient`, -1 where nobody knows it.

    Args:
      descriptor: the network.
      loss: what is asked.
      optimizer: what follows the gradient.
      ema: how the parameters that images are described with are averaged.
      batch_size: images a step, over all devices; each is another's negative.
      seed: of dropout.
      mesh: where it lives.

    Raises:
      UserError: the batch does not divide, or has no negatives.
    """

    def __init__(
        self,
        descriptor: Descriptor,
        *,
        loss: Loss,
        optimizer: Optimizer,
        ema: Ema,
        batch_size: int,
        seed: int,
        mesh: Mesh,
    ):
        check_batch(mesh, batch_size)
        if batch_size < 2:
            raise UserError(
                f"config.batch_size={batch_size}: the other images of a batch are what an image is told from; give 2 "
                "or more, better 10."
            )
        self.descriptor = descriptor
        self.batch_size = batch_size
        self._loss = loss
        self._optimizer = optimizer
        self._ema = ema
        self._seed = seed
        self._mesh = mesh
        self._options = compiler_options(mesh.devices.flat[0].platform)

    def init(self, key: Key[Array, ""]) -> State:
        """Return the state before the first step."""
        return first_state(self.descriptor.init(key), self._optimizer.transform)

    def step(self, state: State, batch: Batch) -> tuple[State, Metrics]:
        """Return the state one step later, and scalars to tell."""
        key = key_at(key_for(self._seed, "dropout"), state.step) if self.descriptor.has_dropout else None
        everywhere = replicated(self._mesh)
        about = jax.lax.with_sharding_constraint({name: batch[name] for name in ("id", "patient")}, everywhere)

        def mean_loss(params: Tree) -> tuple[Float[Array, ""], tuple[Float[Array, "b d"], Float[Array, "b d"]]]:
            # Every device compares all: left to XLA, comparisons of b x b x d numbers travel instead of descriptors.
            image, view = jax.lax.with_sharding_constraint(self._pairs(params, batch, key), everywhere)
            return self._loss(image, view, about).mean(), (image, view)

        (loss, (image, view)), gradient = jax.value_and_grad(mean_loss, has_aux=True)(state.params)
        state, metrics = updated(state, gradient, self._optimizer, self._ema, self.batch_size)
        is_stranger = contrastive.strangers(about["id"], about["patient"])
        if self._loss.score == "cosine":
            image, view = contrastive.unit(image), contrastive.unit(view)
        distance = contrastive.squared_distances(view, image)
        of_stranger = jnp.min(distance, 1, where=is_stranger, initial=jnp.inf)
        return state, {"loss": loss, "batch_recall": jnp.mean(jnp.diagonal(distance) < of_stranger), **metrics}

    def _pairs(
        self, params: Tree, batch: Batch, key: Key[Array, ""] | None = None
    ) -> tuple[Float[Array, "b d"], Float[Array, "b d"]]:
        """Return the descriptors of images and of views."""
        # Side by side, so that each device has the view of each image that it has.
        both = jnp.stack([batch["image"], batch["view"]], 1)
        desc = self.descriptor.apply(params, both.reshape(-1, *both.shape[2:]), key)
        desc = desc.reshape(*both.shape[:2], -1)
        return desc[:, 0], desc[:, 1]

    def evaluate(self, state: State, batches: Mapping[str, Iterable[Batch]]) -> dict[str, float]:
        """Return how well each set's views find their images, and images others of their patient, where there are any.

        And their mean loss, all by the averaged parameters. See `memjax.objectives.retrieval.Retrieval` for the names.
        """
        told = {}
        for name, several in batches.items():
            found = [self._described_part(state.ema, batch) for batch in several]
            if not found:
                continue
            whole = _Described(*(np.concatenate(parts) for parts in zip(*found, strict=True)))
            said = retrieval(whole.image, whole.view, whole.patient, score=self._loss.score)
            told[f"{name}/loss"] = float(whole.losses.mean())
            told |= {f"{name}/{key}": value for key, value in said._asdict().items() if not np.isnan(value)}
        return told

    def preview(self, state: State, batches: Mapping[str, Iterable[Batch]]) -> dict[str, np.ndarray]:
        """Return the first images of each set, each before its view and the nearest of the other images."""
        told = {}
        for name, several in batches.items():
            parts, shown = [], []
            for batch in several:
                parts.append(self._described_part(state.ema, batch))
                shown.append(jax.device_get(self._gathered({key: batch[key] for key in ("image", "view")})))
                if sum(len(part.image) for part in parts) >= _SEARCHED:
                    break
            if sum(len(part.image) for part in parts) < 2:
                continue
            desc = np.concatenate([part.image for part in parts])
            near = similarity(desc[:_PREVIEWED], desc, self._loss.score)
            np.fill_diagonal(near, -np.inf)
            image, view = (
                np.concatenate([one[key][: len(part.image)] for one, part in zip(shown, parts, strict=True)])
                for key in ("image", "view")
            )
            rows = np.stack([image[: len(near)], view[: len(near)], image[near.argmax(1)]], 1)
            told[f"nearest_{name}"] = rows.reshape(-1, *image.shape[1:])
        return told

    def _described_part(self, params: Tree, batch: Batch) -> "_Described":
        """Return descriptors of those images of a batch that are not there to fill it up, which are its last."""
        image, view, patient, losses, mask = jax.device_get(self._described(params, dict(batch)))
        count = int(mask.sum())
        return _Described(image[:count], view[:count], patient[:count], losses[:count])

    @functools.cached_property
    def _described(self) -> "jax.stages.Wrapped":
        def described(params: Tree, batch: Batch) -> tuple[Array, ...]:
            image, view = self._pairs(params, batch)
            return image, view, batch["patient"], self._loss(image, view, batch), batch["mask"]

        return jax.jit(described, out_shardings=replicated(self._mesh), compiler_options=self._options)

    @functools.cached_property
    def _gathered(self) -> "jax.stages.Wrapped":
        """Bring what lies on many devices to every process."""
        return jax.jit(lambda tree: tree, out_shardings=replicated(self._mesh))

    def draw(self, state: State, seed_ids: np.ndarray) -> np.ndarray:
        """Raise `UserError`: a descriptor draws nothing."""
        raise UserError("a descriptor draws no images; set every.monitor to 0.")

    def weights(self, state: State) -> Tree:
        """Return the averaged parameters."""
        return state.ema


class _Described(NamedTuple):
    image: Float[np.ndarray, "n d"]
    view: Float[np.ndarray, "n d"]
    patient: Int[np.ndarray, "n"]
    losses: Float[np.ndarray, "n"]  # each among the images of its batch
