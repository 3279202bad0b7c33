"""The patch discriminator: its layers one by one in numpy, its sizes by hand, and the same on one device and eight."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
import scipy.stats

from memjax.errors import UserError
from memjax.mesh import batch_sharding, train_mesh
from memjax.models.patchgan import PatchGan, random_slices
from memjax.trees import count


def normal(shape: tuple[int, ...], seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def filled(net: PatchGan, x: jax.Array):
    """Parameters none of which is zero or one."""
    shapes = jax.eval_shape(net.init, jax.random.key(0), x)["params"]
    leaves, form = jax.tree.flatten(shapes)
    return jax.tree.unflatten(form, [0.3 * normal(leaf.shape, i) for i, leaf in enumerate(leaves)])


def convolved(x: np.ndarray, layer: dict, stride: int) -> np.ndarray:
    """Two zeros around, then scipy's correlation, every `stride`-th place."""
    axes = x.ndim - 2
    padded = np.pad(x, [(0, 0), *[(2, 2)] * axes, (0, 0)])
    kernel = np.float64(layer["kernel"])
    maps = [
        [
            sum(
                scipy.signal.correlate(padded[b, ..., i], kernel[..., i, o], mode="valid", method="direct")
                for i in range(x.shape[-1])
            )[(slice(None, None, stride),) * axes]
            for o in range(kernel.shape[-1])
        ]
        for b in range(len(x))
    ]
    return np.moveaxis(np.array(maps), 1, -1) + np.float64(layer.get("bias", 0))


def by_numpy(params: dict, x: np.ndarray, layers: int) -> tuple[np.ndarray, list[np.ndarray]]:
    y, features = np.float64(x), []
    for i in range(layers + 1):
        y = convolved(y, params[f"conv_{i}"], 2 if i < layers else 1)
        if i:
            over = tuple(range(y.ndim - 1))
            y = (y - y.mean(over)) / np.sqrt(y.var(over) + 1e-5)
            y = y * np.float64(params[f"norm_{i}"]["scale"]) + np.float64(params[f"norm_{i}"]["bias"])
        y = np.where(y > 0, y, 0.2 * y)
        features.append(y)
    return convolved(y, params["logits"], 1), features


@pytest.mark.parametrize(("shape", "layers"), [((3, 9, 6, 2), 2), ((2, 5, 6, 4, 1), 1)])
def test_values_are_those_of_numpy(shape, layers):
    net, x = PatchGan(width=2, layers=layers), normal(shape)
    params = filled(net, x)
    logits, features = jax.jit(net.apply)({"params": params}, x)
    wanted, wanted_features = by_numpy(params, np.asarray(x), layers)
    assert len(features) == layers + 1
    for found, expected in zip([*features, logits], [*wanted_features, wanted], strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize(("width", "layers", "c"), [(64, 3, 1), (16, 5, 4)])
def test_sizes(axes, width, layers, c):
    net = PatchGan(width=width, layers=layers)
    x = jax.ShapeDtypeStruct((1, *(32,) * axes, c), jnp.float32)
    params = jax.eval_shape(net.init, jax.random.key(0), x)["params"]
    channels = [c, *(width * m for m in (1, 2, 4, 8, 8, 8)[: layers + 1])]
    kernels = sum(4**axes * a * b for a, b in itertools.pairwise(channels))
    norms = 2 * sum(channels[2:])
    assert count(params) == kernels + norms + channels[1] + 4**axes * channels[-1] + 1


def test_places_and_the_smallest_image():
    net = PatchGan(width=1, layers=3)
    for n, places in ((1, [1, 1, 1, 2, 3]), (2, [2, 2, 2, 3, 4]), (64, [33, 17, 9, 10, 11])):
        logits, features = jax.eval_shape(net.init_with_output, jax.random.key(0), jnp.zeros((1, n, n, 1)))[0]
        assert [y.shape[1] for y in (*features, logits)] == places


def test_low_precision_keeps_logits_and_parameters_in_float32():
    net, x = PatchGan(width=4, layers=1, dtype=jnp.bfloat16), normal((2, 8, 8, 1))
    shapes = jax.eval_shape(net.init, jax.random.key(0), x)
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}
    params = filled(net, x)
    logits, features = jax.jit(net.apply)({"params": params}, x)
    assert logits.dtype == jnp.float32 and features[1].dtype == jnp.bfloat16
    exact, _ = by_numpy(params, np.asarray(x), 1)
    np.testing.assert_allclose(logits, exact, atol=0.05 * np.abs(exact).max())


def test_eight_devices_normalise_as_one_does():
    net, x = PatchGan(width=2, layers=1), normal((16, 4, 4, 1)) + jnp.arange(16)[:, None, None, None]
    params = filled(net, x)
    step = jax.jit(jax.grad(lambda params, x: jnp.square(net.apply({"params": params}, x)[0]).mean()))
    eight = step(params, jax.device_put(x, batch_sharding(train_mesh())))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), eight, step(params, x))


def test_values_out_of_range_are_told():
    with pytest.raises(UserError, match="layers=0: give 1 or more"):
        PatchGan(layers=0).init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_slice_of_each_volume(axis):
    """Values tell where they come from."""
    b, shape = 200, (5, 6, 7)
    volumes = jnp.broadcast_to(jnp.arange(210.0).reshape(*shape, 1), (b, *shape, 2))
    volumes += 1000 * jnp.arange(b)[:, None, None, None, None]
    slices = np.asarray(random_slices(jax.random.key(0), volumes, axis))
    at = [
        next(i for i in range(shape[axis]) if np.array_equal(np.take(volume, i, axis), one))
        for volume, one in zip(np.asarray(volumes), slices, strict=True)
    ]
    counts = np.bincount(at, minlength=shape[axis])
    assert scipy.stats.chisquare(counts).pvalue > 1e-3 and (counts > 0).all()
    again = random_slices(jax.random.key(0), -volumes, axis)
    assert np.array_equal(again, -slices)


def test_pictures_are_their_own_slices():
    x = normal((2, 4, 5, 1))
    assert random_slices(jax.random.key(0), x, 0) is x
