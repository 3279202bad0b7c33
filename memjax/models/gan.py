"""A StyleGAN whole: generator and discriminator, as training fits them and as sampling draws from the first."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from memjax.build import build
from memjax.errors import UserError
from memjax.keys import key_for, keys_of
from memjax.models.stylegan_discriminator import Discriminator
from memjax.models.stylegan_generator import Synthesis
from memjax.models.stylegan_mapping import Mapping as MappingNetwork
from memjax.models.stylegan_sides import sides
from memjax.trees import Tree


@dataclasses.dataclass(frozen=True)
class Truncation:
    """How far from the average style an image may be: arXiv 1812.04948, appendix B. Keys of a config's block.

    Raises:
      UserError: a value is out of range.
    """

    psi: float = 1.0  # share of the way from the average to each image's own w; 1: all of it, 0: none
    layers: int | None = None  # how many styles, from the coarsest, are truncated; None: all
    noise: bool = True  # False: images without it

    def __post_init__(self):
        if not 0 <= self.psi <= 1:
            raise UserError(f"psi={self.psi} is out of range; give 0 (the average image) to 1 (no truncation).")
        if self.layers is not None and self.layers < 0:
            raise UserError(f"layers={self.layers} is out of range; give 0 or more, or none to truncate all styles.")

    def styles(self, w: Float[Array, "b w"], w_avg: Float[Array, "w"], styles: int) -> Float[Array, "b styles w"]:
        """Return each image's styles, truncated."""
        ws = jnp.broadcast_to(w[:, None], (len(w), styles, w.shape[-1]))
        if self.psi == 1:
            return ws
        is_truncated = jnp.arange(styles) < (styles if self.layers is None else self.layers)
        return jnp.where(is_truncated[:, None], w_avg + self.psi * (ws - w_avg), ws)


@dataclasses.dataclass(frozen=True)
class Gan:
    """Images of `shape` [side, side, channels] with `n_classes` labels, None: without. Make with `gan`."""

    shape: tuple[int, int, int]
    mapping: MappingNetwork
    synthesis: Synthesis
    discriminator: Discriminator
    n_classes: int | None

    @property
    def z_dim(self) -> int:
        """Numbers in a latent z."""
        return self.mapping.z_dim

    @property
    def w_dim(self) -> int:
        """Numbers in a style w."""
        return self.mapping.w_dim

    @property
    def styles(self) -> int:
        """How many styles an image has."""
        return self.synthesis.styles

    def init(self, key: Key[Array, ""]) -> Tree:
        """Return the first parameters: {"generator": {"mapping", "synthesis"}, "discriminator"}."""
        of_mapping, of_synthesis, of_discriminator = jax.random.split(key, 3)
        group = self.discriminator.group
        label = None if self.n_classes is None else jnp.zeros(group, jnp.int32)
        one = None if label is None else label[:1]
        ws, images = jnp.zeros((1, self.styles, self.w_dim)), jnp.zeros((group, *self.shape))
        return {
            "generator": {
                "mapping": self.mapping.init(of_mapping, jnp.zeros((1, self.z_dim)), one)["params"],
                "synthesis": self.synthesis.init(of_synthesis, ws)["params"],
            },
            "discriminator": self.discriminator.init(of_discriminator, images, label)["params"],
        }

    def map(self, generator: Tree, z: Float[Array, "b z"], label: Int[Array, "b"] | None = None) -> Float[Array, "b w"]:
        """Return the style of each latent."""
        return _applied(self.mapping, generator["mapping"], z, label)

    def synthesize(
        self,
        generator: Tree,
        ws: Float[Array, "b styles w"],
        noise: Sequence[Float[Array, "b _side _side 1"]] | None = None,
    ) -> Float[Array, "b h w2 c"]:
        """Return the images of these styles and noise, None: without, float32 and not clipped."""
        return _applied(self.synthesis, generator["synthesis"], ws, noise)

    def criticize(
        self, discriminator: Tree, images: Float[Array, "b h w c"], label: Int[Array, "b"] | None = None
    ) -> Float[Array, "b"]:
        """Return one logit an image; consecutive images share their minibatch standard deviation."""
        return _applied(self.discriminator, discriminator, images, label)

    def compare(
        self,
        discriminator: Tree,
        real: Float[Array, "b h w c"],
        drawn: Float[Array, "b h w c"],
        label: Int[Array, "b"] | None = None,
    ) -> tuple[Float[Array, "b"], Float[Array, "b"]]:
        """Return the logits of real and of drawn images with the same labels, as `criticize` of each.

        One pass sees both, group beside group, so that images stay on their devices: gradients of two passes would be
        summed over all devices twice.
        """
        group = self.discriminator.group

        def beside(one: Array, other: Array) -> Array:
            parts = [x.reshape(-1, group, *x.shape[1:]) for x in (one, other)]
            return jnp.stack(parts, 1).reshape(-1, *one.shape[1:])

        labels = None if label is None else beside(label, label)
        logits = self.criticize(discriminator, beside(real, drawn), labels).reshape(-1, 2, group)
        return logits[:, 0].reshape(-1), logits[:, 1].reshape(-1)

    def noise(self, key: Key[Array, ""], n: int) -> tuple[Float[Array, "n _side _side 1"], ...]:
        """Return the noise of a batch, for training."""
        areas = [side * side for side in self.synthesis.noise_sides]
        drawn = jax.random.normal(key, (n, sum(areas)))  # all at once: each call takes long to compile
        parts = jnp.split(drawn, np.cumsum(areas)[:-1], 1)
        return tuple(
            part.reshape(n, side, side, 1) for part, side in zip(parts, self.synthesis.noise_sides, strict=True)
        )

    def noise_of(self, keys: Key[Array, "b"]) -> tuple[Float[Array, "b _side _side 1"], ...]:
        """Return the noise of images, each from its own key."""
        return jax.vmap(lambda key: tuple(noise[0] for noise in self.noise(key, 1)))(keys)

    def latents(self, seed_ids: Int[Array, "b"]) -> tuple[Float[Array, "b z"], Key[Array, "b"]]:
        """Return z of these seed ids, and the keys of their noise."""
        keys = jax.vmap(lambda key: jax.random.split(key), out_axes=1)(keys_of(key_for(0, "sample"), seed_ids))
        return jax.vmap(lambda key: jax.random.normal(key, (self.z_dim,)))(keys[0]), keys[1]

    def draw(
        self,
        generator: Tree,
        w_avg: Float[Array, "w"],
        seed_ids: Int[Array, "b"],
        truncation: Truncation,
        label: Int[Array, "b"] | None = None,
    ) -> Float[Array, "b h w2 c"]:
        """Return the images of these seed ids, in [-1, 1].

        An image is a function of weights, truncation, label and its own seed id: not of the batch it is drawn in, but
        for rounding in batches of another size: 4e-6, measured on processors with a single image against sixteen.
        """
        z, noise_keys = self.latents(seed_ids)
        ws = truncation.styles(self.map(generator, z, label), w_avg, self.styles)
        noise = self.noise_of(noise_keys) if truncation.noise else None
        return jnp.clip(self.synthesize(generator, ws, noise), -1, 1)


def gan(
    shape: tuple[int, ...],
    *,
    mapping: Mapping[str, Any],
    synthesis: Mapping[str, Any],
    discriminator: Mapping[str, Any],
    n_classes: int | None = None,
) -> Gan:
    """Return the StyleGAN that a config's blocks of these names describe, for images of this shape.

    Raises:
      UserError: there is none for this shape, or a block has keys that its network has not.
    """
    if len(shape) != 3 or shape[0] != shape[1]:
        *space, _ = shape
        what = "square images" if len(space) == 2 else "images, not volumes"
        raise UserError(
            f"images of {' x '.join(map(str, space))}: StyleGAN draws {what}; "
            + (f"crop or pad them to {max(space)} x {max(space)}." if len(space) == 2 else "take slices, or a DDPM.")
        )
    resolution, channels = shape[0], shape[-1]
    sides(resolution)
    of_images = {"resolution": resolution, "channels": channels}
    return Gan(
        (resolution, resolution, channels),
        build(MappingNetwork, mapping, "mapping", n_classes=n_classes),
        build(Synthesis, synthesis, "synthesis", **of_images),
        build(Discriminator, discriminator, "discriminator", **of_images, n_classes=n_classes),
        n_classes,
    )


def _applied(network: Any, params: Tree, *args: Any) -> Any:
    return network.apply({"params": params}, *args)
