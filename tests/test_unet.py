"""The U-Net: one code path for images and volumes, told the time and the class, the same however it is computed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.models.unet import UNet

TINY = {"width": 4, "mults": (1, 2), "blocks": 1, "attention": (4,), "heads": 1}


def inputs(shape, seed=0):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.uniform(-1, 1, shape), jnp.float32), jnp.asarray(rng.integers(0, 1000, shape[0]))


def awake(net, *args, seed=0):
    """Return random parameters: at the start the last layers are zero and nothing shows."""
    shapes = jax.eval_shape(net.init, jax.random.key(0), *args)
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(0.3 * rng.standard_normal(leaf.shape), leaf.dtype), shapes)


@pytest.mark.parametrize("shape", [(2, 8, 8, 1), (1, 8, 4, 5), (1, 4, 8, 4, 2)])
@pytest.mark.parametrize("learned_variance", [False, True])
def test_shapes(shape, learned_variance):
    net = UNet(channels=shape[-1], learned_variance=learned_variance, **TINY)
    out = jax.eval_shape(lambda key: net.init_with_output(key, *inputs(shape))[0], jax.random.key(0))
    assert out.shape == (*shape[:-1], shape[-1] * (1 + learned_variance))
    assert out.dtype == jnp.float32


def test_time_reaches_the_output():
    net = UNet(channels=1, **TINY)
    x, t = inputs((2, 8, 8, 1))
    params = awake(net, x, t)
    apply = jax.jit(net.apply)
    y, later = apply(params, x, t), apply(params, x, t + 1)
    assert np.all(np.isfinite(y))
    assert np.abs(y - later).max(axis=(1, 2, 3)).min() > 1e-3
