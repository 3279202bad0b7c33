"""The mapping network: from latents z, and a class, to the styles' space w."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from memjax.errors import UserError
from memjax.nn.equalized import EqualDense, leaky_relu, unit_moment


class Mapping(nn.Module):
    """Dense layers that learn slowly: StyleGAN (arXiv 1812.04948, section 2), with classes as in 2006.06676.

    z, and the embedding of the class next to it, are scaled to unit second moment first. Float32 throughout.
    """

    z_dim: int = 512
    w_dim: int = 512
    depth: int = 8
    lr_multiplier: float = 0.01
    n_classes: int | None = None

    @nn.compact
    def __call__(self, z: Float[Array, "b z"] | None, label: Int[Array, "b"] | None = None) -> Float[Array, "b w"]:
        """Return w; without z, what the class alone maps to.

        Raises:
          UserError: there is a label but no classes, or classes but no label.
        """
        check_label(label, self.n_classes)
        parts = [] if z is None else [unit_moment(z)]
        if self.n_classes is not None:
            embedding = EqualDense(self.w_dim, name="embedding")(jax.nn.one_hot(label, self.n_classes))
            parts.append(unit_moment(embedding))
        x = jnp.concatenate(parts, -1)
        for i in range(self.depth):
            x = leaky_relu(EqualDense(self.w_dim, self.lr_multiplier, name=f"dense_{i}")(x))
        return x


def check_label(label: Int[Array, "b"] | None, n_classes: int | None) -> None:
    """Raise `UserError` if there are labels without classes, or classes without labels."""
    if label is not None and n_classes is None:
        raise UserError("there are labels, but the model has n_classes=None; give the number of classes.")
    if label is None and n_classes is not None:
        raise UserError(f"the model has n_classes={n_classes}, but there are no labels; give one for each image.")
