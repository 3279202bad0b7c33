"""A StyleGAN so small that compiling it is all the time it takes, and what several tests ask of its layers."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from memjax.models.gan import gan
from memjax.models.stylegan_generator import StyledConv, ToRgb
from memjax.nn.equalized import EqualConv, EqualDense
from memjax.trees import from_named, named_leaves

SYNTHESIS = {"base": 64, "max_channels": 8}  # 8, 8 and 4 channels at 4, 8 and 16
KEY = jax.random.key(0, impl="unsafe_rbg")  # compiles in no time
DISCRIMINATOR = {"base": 64, "max_channels": 8, "depth": 1}
MAPPING = {"z_dim": 6, "w_dim": 5, "depth": 2}
_LAYERS = EqualDense, EqualConv, StyledConv, ToRgb


def small_gan(channels=1, n_classes=None, synthesis=None, discriminator=None):
    return gan(
        (16, 16, channels),
        mapping=MAPPING,
        synthesis=SYNTHESIS | (synthesis or {}),
        discriminator=DISCRIMINATOR | (discriminator or {}),
        n_classes=n_classes,
    )


def awake(init, *args, by=0.3):
    """Return parameters as at the start, but with noise and biases that are not zero but so large."""
    rng, tree = np.random.default_rng(0), jax.eval_shape(init, jax.random.key(0), *args)
    leaves, shapes = {}, named_leaves(tree)
    for name, leaf in shapes.items():
        value = rng.standard_normal(leaf.shape)
        if name.endswith(("bias", "strength")):
            of_kernel = name.endswith("affine/bias") and name.replace("affine/bias", "kernel") in shapes
            value = by * value + of_kernel  # a style that scales
        if "dense_" in name:  # of a mapping network: the learning rate multiplier
            value = 100 * value
        leaves[name] = jnp.asarray(value, leaf.dtype)
    return from_named(tree, leaves)


def layers_of(net, variables, *args, constant=None):
    """Return {name: (input, output)} of every layer of a network.

    With `constant` given, every layer reads standard normal numbers instead of what the layer before it says: one for
    each channel of an image (True), or one for each position (False). So layers are seen alone.
    """
    seen, rng = {}, np.random.default_rng(7)

    def interceptor(call, args, kwargs, context):
        if context.method_name != "__call__" or not isinstance(context.module, _LAYERS):
            return call(*args, **kwargs)
        name = "/".join(context.module.path)
        if constant is not None:
            x = args[0]
            shape = (len(x), *(1,) * (x.ndim - 2), x.shape[-1]) if constant else x.shape
            args = (jnp.broadcast_to(jnp.asarray(rng.standard_normal(shape), x.dtype), x.shape), *args[1:])
        y = call(*args, **kwargs)
        seen[name] = args[0], y
        return y

    with nn.intercept_methods(interceptor):
        seen[""] = args[0], net.apply(variables, *args)
    return seen


def moment(y):
    """Return the mean square in the middle, where no padding is seen."""
    if y.ndim == 4:
        middle = slice(y.shape[1] // 2 - 1, y.shape[1] // 2 + 1)
        y = y[:, middle, middle]
    return float(jnp.mean(jnp.square(y)))
