"""The synthesis network: layers of unit second moment, images summed as the paper has it, all styles and noise used."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import jit
from scipy.signal import upfirdn

from memjax.errors import UserError
from memjax.models.stylegan_generator import Synthesis
from memjax.trees import from_named, named_leaves
from tests.small_gan import KEY, SYNTHESIS, awake, layers_of, moment


def inputs(net, n=4, w_dim=5, seed=1):
    """Return ws and noise."""
    rng = np.random.default_rng(seed)
    ws = jnp.asarray(rng.standard_normal((n, net.styles, w_dim)), jnp.float32)
    return ws, tuple(jnp.asarray(rng.standard_normal((n, s, s, 1)), jnp.float32) for s in net.noise_sides)


@pytest.mark.parametrize(("style", "styled", "rgb"), [("modulated", 1.04, 2.0), ("adain", 3.0, 1.0)])
def test_every_layer_starts_with_unit_second_moment(style, styled, rgb):
    # Exactly 1.04 after the activation; 2 where a style of mean 1 and variance 1 has scaled without demodulation; after
    # instance norm (1 + scale) ** 2 + shift ** 2. That has to see white noise, of which the filter leaves 0.39.
    net = Synthesis(16, 16, base=1024, max_channels=64, style=style)
    ws, _ = inputs(net, 32, 64)
    modulated = style == "modulated"
    seen = jit(lambda p: layers_of(net, p, ws, constant=modulated))(awake(net.init, ws, by=0))
    found = {name: moment(y) for name, (_, y) in seen.items() if name}

    def expect(name):
        if "affine" in name:
            return 2.0 if modulated else 1.0
        if "/" in name:
            return 0.39 if name.endswith("_0/conv") else 1.0
        return rgb if name.startswith("rgb") else styled

    expected = {name: expect(name) for name in found}
    assert len(found) == {"modulated": 16, "adain": 6 + 6 + 5 + 3 + 3}[style]
    for name, value in found.items():
        assert value == pytest.approx(expected[name], rel=0.25), name
    assert np.median([found[name] / expected[name] for name in found]) == pytest.approx(1, rel=0.05)


def test_kernels_start_standard_normal():
    net = Synthesis(16, 16, base=1024, max_channels=64)
    first = jit(lambda ws: [net.init(KEY, ws)["params"][name]["kernel"] for name in ("conv_16_1", "rgb_16")])
    for kernel in first(inputs(net)[0]):
        assert np.std(kernel) == pytest.approx(1, rel=0.1)


def test_noise_is_nothing_at_the_start():
    net = Synthesis(16, 1, **SYNTHESIS)
    ws, noise = inputs(net)
    strengths = jit(lambda: {k: v for k, v in named_leaves(net.init(KEY, ws)).items() if k.endswith("strength")})()
    assert len(strengths) == 5 and not np.any(list(strengths.values()))
    awaken = awake(net.init, ws)
    params, apply = from_named(awaken, named_leaves(awaken) | strengths), jit(net.apply)
    silent = tuple(map(jnp.zeros_like, noise))
    np.testing.assert_array_equal(apply(params, ws, noise), apply(params, ws, silent))
    assert np.abs(apply(awaken, ws, noise) - apply(awaken, ws, silent)).max() > 0.1


@pytest.mark.parametrize(("style", "strengths", "noises"), [("modulated", 1, 5), ("adain", None, 6)])
def test_every_style_and_noise_reaches_its_own_image(style, strengths, noises):
    architecture = {"modulated": "skip", "adain": "plain"}[style]
    net = Synthesis(16, 1, style=style, architecture=architecture, **SYNTHESIS)
    ws, noise = inputs(net)
    params = awake(net.init, ws)
    assert len(noise) == noises and net.styles == 6
    by_name = named_leaves(params)
    assert {leaf.size for name, leaf in by_name.items() if name.endswith("strength")} == (
        {strengths} if strengths else {4, 8}
    )
    first = jit(jax.grad(lambda ws, noise: jnp.sum(jnp.square(net.apply(params, ws, noise)[0])), (0, 1)))(ws, noise)
    for leaf in (*jnp.moveaxis(first[0], 1, 0), *first[1]):
        assert np.any(leaf[0]) and not np.any(leaf[1:])


@pytest.fixture(scope="module")
def seen():
    """Return inputs and outputs of every layer of an architecture."""

    def of(architecture):
        net = Synthesis(16, 3, architecture=architecture, **SYNTHESIS)
        ws, noise = inputs(net)
        params = awake(net.init, ws)
        return jit(lambda p, *args: layers_of(net, p, *args))(params, ws, noise)

    return of


def test_skip_sums_the_images_of_all_resolutions(seen):
    found = seen("skip")
    image = 0
    for side in (4, 8, 16):
        if side > 4:
            taps = np.array([1, 3, 3, 1]) / 4
            for axis in (1, 2):  # two zeros before, one after: the filter's middle is on the pixel
                image = np.moveaxis(upfirdn(taps, np.moveaxis(image, axis, -1), up=2), -1, axis)
                image = np.take(image, np.arange(1, side + 1), axis)
        image = image + np.asarray(found[f"rgb_{side}"][1], np.float64)
    np.testing.assert_allclose(found[""][1], image, atol=1e-5)


def test_residual_averages_what_goes_past(seen):
    found = seen("residual")
    mean = np.sqrt(0.5) * (found["conv_8_1"][1] + found["past_8"][1])
    np.testing.assert_allclose(found["conv_16_0"][0], mean, atol=1e-6)
    np.testing.assert_array_equal(found["past_16"][0], found["conv_16_0"][0])
    np.testing.assert_array_equal(found[""][1], found["rgb_16"][1])
    assert "rgb_8" not in found


@pytest.mark.parametrize("style", ["modulated", "adain"])
@pytest.mark.parametrize("architecture", ["skip", "residual", "plain"])
@pytest.mark.parametrize(("resolution", "channels"), [(16, 5), (64, 1)])
def test_shapes(architecture, style, resolution, channels):
    net = Synthesis(resolution, channels, architecture=architecture, style=style, **SYNTHESIS)
    out, params = jax.eval_shape(net.init_with_output, KEY, *inputs(net))
    assert out.shape == (4, resolution, resolution, channels) and out.dtype == jnp.float32
    names = {name.split("/")[1] for name in named_leaves(params)}
    assert ("rgb_4" in names) == (architecture == "skip") and f"rgb_{resolution}" in names
    assert ("past_8" in names) == (architecture == "residual")


def test_low_precision_is_for_the_highest_resolutions_and_stays_near():
    net = Synthesis(16, 1, **SYNTHESIS)
    low = net.clone(low_precision=1, dtype="bfloat16", clamp=256.0)
    ws, noise = inputs(net)
    params = awake(net.init, ws)
    y = jit(net.apply)(params, ws, noise)
    found = jit(lambda p, *args: layers_of(low, p, *args))(params, ws, noise)
    dtypes = {name: y.dtype for name, (_, y) in found.items() if "affine" not in name}
    assert {name for name, dtype in dtypes.items() if dtype == jnp.bfloat16} == {"conv_16_0", "conv_16_1"}
    assert 1e-5 < np.abs(found[""][1] - y).max() / np.abs(y).max() < 0.05


def test_clamp_holds():
    net = Synthesis(16, 1, clamp=0.5, **SYNTHESIS)
    ws, noise = inputs(net)
    found = jit(lambda p, *args: layers_of(net, p, *args))(awake(net.init, ws), ws, noise)
    tops = {name: float(jnp.abs(y).max()) for name, (_, y) in found.items() if name and "affine" not in name}
    assert set(tops.values()) == {0.5}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"resolution": 24}, "24 x 24"),
        ({"architecture": "resnet"}, "architecture='resnet' is not known; give skip, residual or plain"),
        ({"style": "spade"}, "style='spade' is not known; give modulated .* or adain"),
    ],
)
def test_mistakes_are_told(changes, says):
    net = Synthesis(**{"resolution": 16, "channels": 1, **SYNTHESIS, **changes})
    with pytest.raises(UserError, match=says):
        jax.eval_shape(net.init, KEY, jnp.zeros((1, 6, 5)))
