"""The mapping network computes what its equations say, from directions of z alone, and tells classes apart."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import jit

from memjax.errors import UserError
from memjax.models.stylegan_mapping import Mapping
from tests.small_gan import KEY, awake, layers_of, moment


def by_hand(params, z, label=None):
    """Return w by the equations: unit second moments, then dense layers, multiplier 0.01."""

    def unit(x):
        return x / np.sqrt(np.mean(x**2, -1, keepdims=True))

    x = unit(z)
    if label is not None:
        of = params["embedding"]
        n = len(of["kernel"])
        x = np.concatenate([x, unit(np.asarray(of["kernel"])[label] / np.sqrt(n) + of["bias"])], -1)
    for i in range(2):
        of = params[f"dense_{i}"]
        x = x @ np.asarray(of["kernel"], np.float64) * 0.01 / np.sqrt(x.shape[-1]) + 0.01 * np.asarray(of["bias"])
        x = np.where(x > 0, x, 0.2 * x) * np.sqrt(2)
    return x


@pytest.mark.parametrize("n_classes", [None, 3])
def test_equals_the_equations(n_classes):
    net = Mapping(6, 5, 2, n_classes=n_classes)
    z = jnp.asarray(np.random.default_rng(1).standard_normal((4, 6)), jnp.float32)
    label = None if n_classes is None else jnp.array([0, 1, 2, 1])
    params, apply = awake(net.init, z, label), jit(net.apply)
    w = apply(params, z, label)
    np.testing.assert_allclose(w, by_hand(params["params"], np.asarray(z), label), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(apply(params, 3 * z, label), w, rtol=1e-5, atol=1e-6)  # z is a direction


def test_every_layer_starts_with_unit_second_moment():
    net, z, label = Mapping(64, 64, 2, n_classes=64), jnp.zeros((64, 64)), jnp.arange(64)
    params = jit(net.init)(KEY, z[:1], label[:1])
    found = layers_of(net, params, z, label, constant=True)
    assert len(found) == 4
    for name in ("embedding", "dense_0", "dense_1"):
        assert moment(found[name][1]) == pytest.approx(1, rel=0.1), name
    assert 90 < np.std(params["params"]["dense_0"]["kernel"]) < 110  # which the multiplier undoes


def test_classes_alone_have_a_style():
    net = Mapping(0, 5, 2, n_classes=3)
    params = awake(net.init, None, jnp.zeros(1, jnp.int32))
    w = net.apply(params, None, jnp.arange(3))
    assert w.shape == (3, 5) and np.abs(w[0] - w[1]).max() > 1e-2


def test_labels_and_classes_go_together():
    z, label = jnp.zeros((2, 6)), jnp.zeros(2, jnp.int32)
    with pytest.raises(UserError, match="there are labels, but the model has n_classes=None"):
        jax.eval_shape(Mapping(6).init, jax.random.key(0), z, label)
    with pytest.raises(UserError, match="n_classes=3, but there are no labels"):
        jax.eval_shape(Mapping(6, n_classes=3).init, jax.random.key(0), z)
