"""A diffusion model whole: the network with its diffusion, as training fits it and as sampling draws from it."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from memjax.build import build
from memjax.errors import UserError
from memjax.keys import key_for, keys_of
from memjax.models.slice_unet import SliceUNet, check_space
from memjax.models.unet import UNet
from memjax.objectives.diffusion import Diffusion
from memjax.objectives.steppers import Sampler, sample
from memjax.trees import Tree

_NETWORKS = {"unet": UNet, "slices": SliceUNet}


@dataclasses.dataclass(frozen=True)
class Denoiser:
    """Images of `shape` [*space, channels] with `n_classes` labels, None: without. Make with `denoiser`."""

    shape: tuple[int, ...]
    network: UNet | SliceUNet
    diffusion: Diffusion
    n_classes: int | None

    def init(self, key: Key[Array, ""]) -> Tree:
        """Return the first parameters."""
        label = None if self.n_classes is None else jnp.zeros(1, jnp.int32)
        return self.network.init(key, jnp.zeros((1, *self.shape)), jnp.zeros(1, jnp.int32), label)["params"]

    def output(
        self,
        params: Tree,
        xt: Float[Array, "b *space c"],
        t: Int[Array, "b"],
        label: Int[Array, "b"] | None = None,
        dropout_key: Key[Array, ""] | None = None,
    ) -> Float[Array, "b *space d"]:
        """Return what the network says of noised images, float32."""
        output = self.network.apply({"params": params}, xt, t, label, dropout_key=dropout_key)
        assert isinstance(output, jax.Array)  # parameters only: nothing mutable comes back
        return output

    def losses(
        self,
        params: Tree,
        x0: Float[Array, "b *space c"],
        eps: Float[Array, "b *space c"],
        t: Int[Array, "b"],
        label: Int[Array, "b"] | None = None,
        dropout_key: Key[Array, ""] | None = None,
    ) -> Float[Array, "b"]:
        """Return one loss an image, unweighted over noise levels beyond what the diffusion says."""
        xt = self.diffusion.noised(x0, eps, t)
        return self.diffusion.losses(self.output(params, xt, t, label, dropout_key), x0, eps, t)

    def draw(
        self, params: Tree, seed_ids: Int[Array, "b"], sampler: Sampler, label: Int[Array, "b"] | None = None
    ) -> Float[Array, "b *space c"]:
        """Return the images of these seed ids: in [-1, 1] where the sampler clips, else about there.

        An image is a function of parameters, sampler, label and its own seed id: not of the batch it is drawn in.
        With `sampler.guidance` both the labelled and the unlabelled prediction are asked for (Ho & Salimans 2022).
        """
        keys = keys_of(key_for(0, "sample"), seed_ids)
        first, later = jax.vmap(lambda key: jax.random.split(key), out_axes=1)(keys)
        noise = jax.vmap(lambda key: jax.random.normal(key, self.shape))(first)

        def denoise(xt: Array, t: Array) -> Array:
            if label is None or self.n_classes is None or not sampler.guidance:
                return self.output(params, xt, t, label)
            nobody = jnp.full_like(label, self.n_classes)
            twice = jnp.concatenate([xt, xt]), jnp.concatenate([t, t]), jnp.concatenate([label, nobody])
            with_label, without = jnp.split(self.output(params, *twice), 2)
            # The variance, where it is learned, stays that of the labelled model.
            guidance = jnp.where(jnp.arange(with_label.shape[-1]) < self.shape[-1], sampler.guidance, 0.0)
            return with_label + guidance * (with_label - without)

        x0 = sample(denoise, noise, later, diffusion=self.diffusion, sampler=sampler)
        return jnp.clip(x0, -1, 1) if sampler.clip else x0


def denoiser(
    shape: tuple[int, ...], *, model: Mapping[str, Any], diffusion: Mapping[str, Any], n_classes: int | None = None
) -> Denoiser:
    """Return the diffusion model that a config's blocks describe, for images of this shape [*space, channels].

    Args:
      shape: of an image.
      model: `network`, "unet" (`UNet`; also where there is no such key) or "slices" (`SliceUNet`), and its keywords.
      diffusion: keywords of `Diffusion`.
      n_classes: labels that the network tells apart; None: none.

    Raises:
      UserError: there is no such network, it is not for such images, or a block has keys that do not exist.
    """
    name = model.get("network", "unet")
    if name not in _NETWORKS:
        raise UserError(f"config.model.network={name!r} does not exist; choose from {', '.join(_NETWORKS)}.")
    if name == "slices":
        check_space(shape[:-1])  # before the keys that only networks for images have
    process = build(Diffusion, diffusion, "diffusion")
    network = build(
        _NETWORKS[name],
        {key: value for key, value in model.items() if key != "network"},
        "model",
        channels=shape[-1],
        learned_variance=process.learned_variance,
        n_classes=n_classes,
    )
    return Denoiser(shape, network, process, n_classes)
