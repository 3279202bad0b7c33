"""The autoencoder of latent diffusion: its layers against plain numpy, its sizes, and what it refuses."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import QUICK
from scipy import signal

from memjax.errors import UserError
from memjax.models.autoencoder import autoencoder
from memjax.trees import count

KEY = jax.random.key(0)
TINY = {"features": 4, "groups": 2, "latent_channels": 3}


def quick(function, *arguments):
    return jax.jit(function, compiler_options=QUICK)(*arguments)


def counted(factors):
    """Return the parameters of both halves: Khader et al.'s layers counted by hand."""
    n, d, stages = 16, 8, int(np.log2(max(factors)))
    widths = [n * 2**i for i in range(stages + 1)]

    def block_(c):
        return 2 * (27 * c * c + c) + 2 * 2 * c

    encoder = 27 * n + n + sum(64 * a * b + b + block_(b) for a, b in itertools.pairwise(widths))
    encoder += 2 * widths[-1] + widths[-1] * d + d
    ups = [(widths[-1], widths[-1]), *((b, a) for a, b in reversed(list(itertools.pairwise(widths[1:]))))]
    decoder = d * widths[-1] + widths[-1] + 2 * widths[-1]
    decoder += sum(64 * a * b + b + 2 * block_(b) for a, b in ups) + 27 * ups[-1][1] + 1
    return encoder + decoder


@pytest.mark.parametrize(("factor", "told"), [(2, 266_825), (4, 1_391e3), (8, 5_884e3)])
def test_parameters_are_those_of_the_paper(factor, told):
    model = autoencoder((64, 64, 64, 1), {"downsample": (factor,) * 3})
    found = count(jax.eval_shape(model.init, KEY))
    assert found == counted((factor,) * 3)
    assert found == pytest.approx(told, abs=500)
    assert model.latent_shape == (64 // factor,) * 3 + (8,)


def convolved(x, kernel, strides, *, bias=0.0):
    """Convolve [*space, c] as PyTorch would, borders repeated: k - s in all, the larger half before."""
    taps, axes = kernel.shape[:-2], x.ndim - 1
    rest = [k - s for k, s in zip(taps, strides, strict=True)]
    x = np.pad(x, [*(((r + 1) // 2, r // 2) for r in rest), (0, 0)], mode="edge")
    y = [
        sum(signal.correlate(x[..., i], kernel[..., i, o], "valid", "direct") for i in range(x.shape[-1]))
        for o in range(kernel.shape[-1])
    ]
    return np.stack(y, -1)[tuple(slice(None, None, s) for s in strides[:axes])] + bias


def raised(x, kernel, strides, *, bias=0.0):
    """The transposed convolution: every number of the padded input adds its kernel, and k - 1 is cut off each end."""
    taps, space = kernel.shape[:-2], x.shape[:-1]
    rest = [k - s for k, s in zip(taps, strides, strict=True)]
    x = np.pad(x, [*(((r + 1) // 2, r // 2) for r in rest), (0, 0)], mode="edge")
    whole = [(n - 1) * s + k for n, s, k in zip(x.shape, strides, taps, strict=False)]
    y = np.zeros((*whole, kernel.shape[-1]))
    for place in np.ndindex(*x.shape[:-1]):
        at = tuple(slice(p * s, p * s + k) for p, s, k in zip(place, strides, taps, strict=True))
        y[at] += np.einsum("c,...cd->...d", x[place], kernel)
    inner = tuple(slice(k - 1, k - 1 + n * s) for k, n, s in zip(taps, space, strides, strict=True))
    return y[inner] + bias


def activated(x, norm, groups):
    flat = x.reshape(-1, groups, x.shape[-1] // groups)
    mean, var = flat.mean((0, 2), keepdims=True), flat.var((0, 2), keepdims=True)
    y = ((flat - mean) / np.sqrt(var + 1e-6)).reshape(x.shape) * norm["scale"] + norm["bias"]
    return y / (1 + np.exp(-y))


def blocked(x, params):
    y = x
    for name in ("in", "out"):
        conv = params[f"conv_{name}"]
        y = convolved(activated(y, params[f"norm_{name}"], 2), conv["kernel"], (1,) * (x.ndim - 1), bias=conv["bias"])
    return x + y


def pointwise(x, params):
    return x @ params["kernel"].reshape(params["kernel"].shape[-2:]) + params["bias"]


@pytest.mark.parametrize(("shape", "factors"), [((8, 4, 8, 1), (4, 1, 2)), ((8, 8, 2), (2, 4))])
def test_it_is_the_plain_network(shape, factors):
    model = autoencoder(shape, {**TINY, "downsample": factors})
    rng = np.random.default_rng(1)
    params = jax.tree.map(
        lambda leaf: leaf + 0.1 * rng.normal(size=leaf.shape).astype(np.float32), quick(model.init, KEY)
    )
    x = jax.random.normal(KEY, (2, *shape))
    h = quick(model.encode, params, x)
    y = quick(model.decode, params, h)
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    strides = [tuple(2 if f >> (i + 1) else 1 for f in factors) for i in range(2)]
    ones = (1,) * len(factors)
    for image, latent, drawn in zip(np.asarray(x, np.float64), np.asarray(h), np.asarray(y), strict=True):
        e, d = p["encoder"], p["decoder"]
        v = convolved(image, e["stem"]["kernel"], ones, bias=e["stem"]["bias"])
        for i, step in enumerate(strides):
            v = convolved(v, e[f"down_{i}"]["kernel"], step, bias=e[f"down_{i}"]["bias"])
            v = blocked(v, e[f"block_{i}"])
        v = pointwise(activated(v, e["norm"], 2), e["out"])
        np.testing.assert_allclose(latent, v, atol=2e-4)
        v = activated(pointwise(v, d["in"]), d["norm"], 2)
        for i, step in reversed(list(enumerate(strides))):
            v = raised(v, d[f"up_{i}"]["kernel"], step, bias=d[f"up_{i}"]["bias"])
            for j in range(2):
                v = blocked(v, d[f"block_{i}_{j}"])
        v = convolved(v, d["out"]["kernel"], ones, bias=d["out"]["bias"])
        np.testing.assert_allclose(drawn, v, atol=1e-3)


def test_latents_are_quantised_before_they_become_images():
    model = autoencoder((8, 8, 8, 1), {**TINY, "downsample": (2, 2, 2)})
    codes = jax.random.normal(KEY, (5, 3))
    weights = {**quick(model.init, KEY), "codes": codes}
    ids = jax.random.randint(KEY, (2, *model.latent_shape[:-1]), 0, 5)
    near = codes[ids] + 1e-3 * jax.random.normal(KEY, (2, *model.latent_shape))
    expected = jnp.clip(quick(model.decode, weights, codes[ids]), -1, 1)
    np.testing.assert_allclose(quick(model.images, weights, near), expected, atol=1e-6)


def test_the_gaussian_has_a_mean_and_a_variance():
    model = autoencoder((8, 8, 8, 1), {**TINY, "downsample": (2, 2, 2), "bottleneck": "kl"})
    params = quick(model.init, KEY)
    x = jax.random.normal(KEY, (2, 8, 8, 8, 1))
    (mean, log_variance), encoded, (_, most) = quick(
        lambda params, x: (
            model.posterior(params, x),
            model.encode(params, x),
            model.posterior(jax.tree.map(lambda leaf: leaf * 1e3, params), x),
        ),
        params,
        x,
    )
    assert mean.shape == log_variance.shape == (2, 4, 4, 4, 3)
    np.testing.assert_allclose(mean, encoded, atol=1e-6)
    assert jnp.abs(most).max() == 20
    h = 3 * jax.random.normal(KEY, mean.shape)
    expected = jnp.clip(quick(model.decode, params, h), -1, 1)
    np.testing.assert_allclose(quick(model.images, params, h), expected, atol=1e-6)


def test_in_bfloat16_it_computes_nearly_the_same():
    x = jax.random.normal(KEY, (2, 8, 8, 8, 1))
    found = []
    for dtype in ("float32", "bfloat16"):
        model = autoencoder((8, 8, 8, 1), {**TINY, "downsample": (2, 2, 2), "dtype": dtype, "remat": True})
        params = quick(model.init, KEY)
        h = quick(model.encode, params, x)
        assert h.dtype == jnp.float32 and jax.tree.leaves(params)[0].dtype == jnp.float32
        found.append(np.asarray(h))
    assert 0 < np.abs(found[0] - found[1]).max() < 0.1 * np.abs(found[0]).max()


@pytest.mark.parametrize(
    ("shape", "block", "words"),
    [
        ((32, 32, 1), {"downsample": (2, 2, 2)}, ["3 axes", "these have 2", "store of volumes"]),
        ((8, 8, 8, 1), {"downsample": (2, 2)}, ["2 axes", "these have 3", "store of pictures"]),
        ((4, 64, 64, 1), {"downsample": (8, 8, 8)}, ["4 x 64 x 64", "axis 0", "multiple of 8"]),
        ((12, 16, 16, 1), {"downsample": (8, 8, 8)}, ["axis 0", "multiple of 8"]),
        ((8, 8, 8, 1), {"downsample": (3, 2, 2)}, ["powers of two"]),
        ((8, 8, 8, 1), {"downsample": (1, 1, 1)}, ["powers of two"]),
        ((8, 8, 8, 1), {"downsample": (2, 2, 2), "bottleneck": "vqq"}, ["'vqq'", "vq or kl"]),
        ((8, 8, 8, 1), {"downsample": (2, 2, 2), "features": 0}, ["features=0"]),
        ((8, 8, 8, 1), {"downsample": (2, 2, 2), "feature": 3}, ["autoencoder.feature", "features"]),
    ],
)
def test_what_it_refuses(shape, block, words):
    with pytest.raises(UserError) as told:
        autoencoder(shape, block)
    assert all(word in str(told.value) for word in words), told.value
