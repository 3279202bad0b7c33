"""The patch discriminators of an autoencoder: how they are trained, and what they ask of its reconstructions.

Esser et al., 2021 (arXiv 2012.09841), and for volumes Ge et al., 2022 (TATS, arXiv 2204.03638), whose losses Khader et
al. took: one critic looks at whole volumes, one at a random slice of each, and features are to match, too.
"""

import dataclasses
from typing import cast

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key

from memjax.errors import UserError
from memjax.models.patchgan import PatchGan, random_slices
from memjax.objectives import patches
from memjax.train.optim import Optimizer
from memjax.trees import Tree


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adversary:
    """What the discriminators count; the keys of `config.adversary`.

    slices: of the critic of random slices; 0: there is none.
    volume: of the critic of whole images; 0: there is none.
    features: of the match of both critics' features.
    start: step from which on there are critics. Khader et al.: 10,000 of a counter that counts both optimizers.
    loss: `hinge`, or `squares` (MONAI's tutorial).
    width: features of the first layer.
    layers: of stride two.
    """

    slices: float = 1.0
    volume: float = 1.0
    features: float = 4.0
    start: int = 5000
    loss: str = "hinge"
    width: int = 64
    layers: int = 3
    dtype: str = "float32"

    def __post_init__(self):
        for name in ("slices", "volume", "features", "start"):
            if getattr(self, name) < 0:
                raise UserError(f"config.adversary.{name}={getattr(self, name)} must be 0 or more.")
        if self.loss not in patches.LOSSES:
            raise UserError(f"config.adversary.loss={self.loss!r} must be one of {', '.join(patches.LOSSES)}.")


class Critics:
    """One critic of whole images, one of slices, or one of both kinds.

    Args:
      adversary: what they count.
      optimizer: what follows their gradients.
      slice_axis: across which volumes are cut.

    Raises:
      UserError: pictures have no slices.
    """

    def __init__(self, adversary: Adversary, *, optimizer: Optimizer, slice_axis: int):
        self._adversary = adversary
        self._optimizer = optimizer
        self._slice_axis = slice_axis
        self._network = PatchGan(width=adversary.width, layers=adversary.layers, dtype=jnp.dtype(adversary.dtype))
        self._loss = patches.LOSSES[adversary.loss]
        self._weights = {name: getattr(adversary, name) for name in ("slices", "volume") if getattr(adversary, name)}

    def init(self, key: Key[Array, ""], shape: tuple[int, ...]) -> Tree:
        """Return parameters and optimizer before the first step, for images of this shape [*space, c]."""
        if "slices" in self._weights and len(shape) != 4:  # three axes and channels
            raise UserError(
                "config.adversary.slices is for volumes, these images are pictures; set it to 0 and keep "
                "config.adversary.volume, which looks at whole images."
            )
        images = jnp.zeros((1, *shape))
        params = {
            name: self._network.init(jax.random.fold_in(key, i), self._seen(name, images, key))["params"]
            for i, name in enumerate(self._weights)
        }
        return {"params": params, "optimizer": self._optimizer.transform.init(params)}

    def step(
        self, critics: Tree, step: Int[Array, ""], x: Float[Array, "b *space c"], y: Array, key: Key[Array, ""]
    ) -> tuple[Tree, Float[Array, "b *space c"], dict[str, Array]]:
        """Return the critics one step later, the gradient by y of what they ask of it, and what is told.

        Before `start` nothing is computed, and nothing changes.
        """

        def at_work(critics: Tree) -> tuple[Tree, Array, dict[str, Array]]:
            params = critics["params"]
            asked, pushed = jax.value_and_grad(lambda y: self._asked(params, x, y, key))(y)
            (loss, logits), gradient = jax.value_and_grad(self._told_apart, has_aux=True)(params, x, y, key)
            updates, optimizer = self._optimizer.transform.update(gradient, critics["optimizer"], params)
            after = {"params": optax.apply_updates(params, updates), "optimizer": optimizer}
            return after, pushed, {"loss_critics": loss, "loss_fooling": asked, **logits}

        def idle(critics: Tree) -> tuple[Tree, Array, dict[str, Array]]:
            told = jax.eval_shape(at_work, critics)[2]
            return critics, jnp.zeros_like(y), jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), told)

        return jax.lax.cond(step >= self._adversary.start, at_work, idle, critics)

    def _asked(self, params: Tree, x: Array, y: Array, key: Key[Array, ""]) -> Float[Array, ""]:
        """Return what the reconstruction y is to become smaller in."""
        total = jnp.zeros(())
        for name, weight in self._weights.items():
            logits, features = self._judged(params[name], self._seen(name, y, key))
            _, wanted = self._judged(params[name], self._seen(name, x, key))
            total += weight * self._loss.generator(logits).mean()
            total += self._adversary.features * patches.feature_matching(wanted, features).mean()
        return total

    def _told_apart(
        self, params: Tree, x: Array, y: Array, key: Key[Array, ""]
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        total, told = jnp.zeros(()), {}
        for name in self._weights:
            real, fake = (self._judged(params[name], self._seen(name, images, key))[0] for images in (x, y))
            total += self._loss.discriminator(real, fake).mean()
            told |= {f"logit_real_{name}": real.mean(), f"logit_fake_{name}": fake.mean()}
        return total, told

    def _judged(self, params: Tree, images: Array) -> tuple[Array, list[Array]]:
        return cast("tuple[Array, list[Array]]", self._network.apply({"params": params}, images))

    def _seen(self, name: str, images: Array, key: Key[Array, ""]) -> Array:
        return random_slices(key, images, self._slice_axis) if name == "slices" else images
