"""The U-Net of slices: as large as the papers' network, told time and class; slices meet in attention only."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import jit

from memjax.errors import UserError
from memjax.models.slice_unet import SliceUNet
from memjax.trees import count, from_named, named_leaves

TINY = {"width": 4, "mults": (1, 2), "heads": 2, "head_channels": 4, "groups": 2}
ONE_LEVEL = {**TINY, "mults": (1,), "heads": 1}
ROUNDING = 2e-5  # relative: float32 sums in another order


def inputs(shape, seed=0):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.uniform(-1, 1, shape), jnp.float32), jnp.asarray(rng.integers(0, 300, shape[0]))


def awake(net, *args):
    """Return random parameters, none of them at a special value."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(net.init, jax.random.key(0), *args)
    return jax.tree.map(lambda leaf: jnp.asarray(0.3 * rng.standard_normal(leaf.shape), leaf.dtype), shapes)


@pytest.fixture(scope="module")
def small():
    """Return a net of two levels, awake, with a batch of two and what it says."""
    net = SliceUNet(channels=2, width=8, mults=(1, 2), heads=2, head_channels=32)
    x, t = inputs((2, 3, 4, 6, 2))
    params, apply = awake(net, x, t), jit(net.apply)
    return apply, params, x, t, np.asarray(apply(params, x, t))


# Khader et al.'s network of these sizes with these same parameters, every 36th of the numbers that come out (all agreed
# to 1e-6 of the largest): video-diffusion-pytorch 0.7.0 on torch 2.13 with what has changed there since put back, group
# norm of 8 groups in the blocks and the last skip from before the first attention, and our waves of time.
KHADER = [-0.4834167, -0.6572412, 1.1683253, -6.5866103, -3.2474515, 0.6135449, 0.0101153, -6.6647263]


def test_equals_the_papers_network(small):
    y = small[-1]
    np.testing.assert_allclose(y.ravel()[:: y.size // 8], KHADER, atol=5e-5)


def by_hand(width, channels=8):
    """Return the parameters of the papers' network, from the description of its layers."""
    inner, time = 8 * 32, 4 * width

    def conv(c, d, taps):
        return taps * c * d + d

    def block(c, d, told=True):
        both = conv(c, d, 9) + 2 * d + conv(d, d, 9) + 2 * d  # each convolution with its group norm
        return both + (time + 1) * 2 * d * told + (conv(c, d, 1) if c != d else 0)

    def attention(c, with_bias):  # norm with a gain only; queries, keys and values without a bias; the way back
        return c + 3 * inner * c + inner * c + c * with_bias

    def level(c, d):
        return block(c, d) + block(d, d) + attention(d, True) + attention(d, False)

    widths = [width * mult for mult in (1, 1, 2, 4, 8)]
    pairs = list(itertools.pairwise(widths))
    down = sum(level(c, d) for c, d in pairs) + sum(conv(d, d, 16) for _, d in pairs[:-1])
    middle = 2 * block(widths[-1], widths[-1]) + 2 * attention(widths[-1], False)
    up = sum(level(2 * d, c) for c, d in pairs) + sum(conv(c, c, 16) for c, _ in pairs[1:])
    told = 32 * 8 + (width + 1) * time + (time + 1) * time
    stem = conv(channels, width, 49) + attention(width, False)
    return told + stem + down + middle + up + block(2 * width, width, told=False) + conv(width, channels, 1)


def test_as_many_parameters_as_the_papers():
    net = SliceUNet(channels=8, width=32)
    args = jax.ShapeDtypeStruct((1, 4, 32, 32, 8), jnp.float32), jax.ShapeDtypeStruct((1,), jnp.int32)
    shapes = jax.eval_shape(net.init, jax.random.key(0), *args)
    assert count(shapes) == 9_981_512
    assert [by_hand(width) for width in (16, 32, 64)] == [3_019_944, 9_981_512, 35_730_312]
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}


@pytest.fixture(scope="module")
def one_level():
    """Return a net of one level, awake, with a batch of two and what it says."""
    net, (x, t) = SliceUNet(channels=2, **ONE_LEVEL), inputs((2, 3, 4, 5, 2))
    params = awake(net, x, t)
    return net, params, x, t, np.asarray(jit(net.apply)(params, x, t))


@pytest.mark.parametrize("axis", [1, 2])
def test_slices_may_lie_along_any_axis(one_level, axis):
    net, params, x, t, y = one_level
    found = jit(net.clone(depth_axis=axis).apply)(params, jnp.moveaxis(x, 1, 1 + axis), t)
    np.testing.assert_allclose(np.moveaxis(found, 1 + axis, 1), y, rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("learned_variance", [False, True])
def test_shapes(axis, learned_variance):
    net = SliceUNet(channels=3, depth_axis=axis, learned_variance=learned_variance, **TINY)
    x, t = inputs((1, *np.insert([2, 4], axis, 5), 3))  # five slices, a number that cannot be halved
    out = jax.eval_shape(lambda key: net.init_with_output(key, x, t)[0], jax.random.key(0))
    assert out.shape == (*x.shape[:-1], 3 * (1 + learned_variance)) and out.dtype == jnp.float32


def test_slices_meet_in_attention_along_the_depth_only(small):
    """And in the moments of group norm, which know no order: without the former slices may change places."""
    apply, params, x, t, y = small
    order = np.array([2, 0, 1])
    assert np.abs(apply(params, x[:, order], t) - y[:, order]).max() > 1e-2
    leaves = named_leaves(params).items()
    silent = from_named(params, {name: 0 * leaf if "_depth/project" in name else leaf for name, leaf in leaves})
    y = apply(silent, x, t)
    np.testing.assert_allclose(apply(silent, x[:, order], t), y[:, order], rtol=ROUNDING, atol=ROUNDING)
    same = apply(silent, jnp.repeat(x[:, :1], 3, 1), t)  # neither do neighbours, nor the borders of the volume, matter
    np.testing.assert_allclose(same, np.broadcast_to(same[:, :1], same.shape), rtol=ROUNDING, atol=ROUNDING)
    assert all(leaf.shape[0] == 1 for name, leaf in leaves if leaf.ndim == 5)


def test_every_slice_sees_every_other(small):
    apply, params, x, t, y = small
    for n in range(3):
        assert (np.abs(apply(params, x.at[:, n].add(0.5), t) - y).max((2, 3, 4)) > 1e-3).all()


def test_volumes_of_a_batch_do_not_see_each_other(small):
    apply, params, x, t, y = small
    found = apply(params, x.at[1].add(1.0), t)
    np.testing.assert_allclose(found[0], y[0], rtol=ROUNDING, atol=ROUNDING)
    assert np.abs(found[1] - y[1]).max() > 1e-3


def test_time_reaches_every_volume(small):
    apply, params, x, t, y = small
    later = np.asarray(apply(params, x, t + 1))
    assert np.all(np.isfinite(y))
    assert np.abs(y - later).max(axis=(1, 2, 3, 4)).min() > 1e-3


def test_class_reaches_the_output_and_no_class_is_the_last():
    net = SliceUNet(channels=1, n_classes=2, **ONE_LEVEL)
    x, t = inputs((3, 2, 2, 2, 1))
    x, t = jnp.broadcast_to(x[:1], x.shape), jnp.full_like(t, 10)
    params, apply = awake(net, x, t), jit(net.apply)
    y = np.asarray(apply(params, x, t, jnp.arange(3)))
    assert min(np.abs(y[i] - y[j]).max() for i in range(3) for j in range(i)) > 1e-3
    np.testing.assert_allclose(apply(params, x, t), np.broadcast_to(y[2:], y.shape), rtol=ROUNDING, atol=ROUNDING)


def test_dropout_only_with_a_key(one_level):
    net, params, x, t, y = one_level
    apply = jit(net.clone(dropout=0.5).apply)
    one, again, other = (apply(params, x, t, dropout_key=jax.random.key(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - y).max() > 1e-2 and np.abs(one - other).max() > 1e-2


def test_half_precision_computes_in_it_and_keeps_float32(one_level):
    net, params, x, t, y = one_level
    y16 = jit(net.clone(dtype="bfloat16").apply)(params, x, t)
    assert y16.dtype == jnp.float32 and np.all(np.isfinite(y16))
    assert 1e-5 < np.abs(y - y16).max() / np.abs(y).max() < 0.1  # bfloat16 has 8 bits


def test_gradients_reach_everything(one_level):
    net, params, x, t, _ = one_level
    grads = jit(jax.grad(lambda p: jnp.sum(jnp.square(net.apply(p, x[:1, :2, :1, :2], t[:1])))))(params)
    for name, leaf in named_leaves(grads).items():
        assert np.all(np.isfinite(leaf)) and np.any(leaf), name


def test_remat_keeps_a_fraction():
    net, (x, t) = SliceUNet(channels=1, **ONE_LEVEL), inputs((4, 4, 16, 16, 1))
    params = jax.eval_shape(net.init, jax.random.key(0), x, t)

    def kept(net):  # numbers that wait for the backward pass
        return count(jax.eval_shape(lambda params: jax.vjp(lambda p: net.apply(p, x, t), params)[1], params))

    assert kept(net.clone(remat=True)) < kept(net) / 4


@pytest.mark.parametrize(
    ("model", "shape", "says"),
    [
        ({}, (1, 8, 8, 1), "images of 8 x 8: the network of slices is for volumes"),
        ({}, (1, 3, 5, 8, 1), "volumes of 3 x 5 x 8: .* axis 1 .* multiple of 2, 4 or 6 say; .* depth_axis=1"),
        ({"depth_axis": 2}, (1, 3, 4, 8, 1), "axis 0 should be a multiple of 2, 2 or 4 say"),
        ({"depth_axis": 3}, (1, 4, 4, 4, 1), "depth_axis=3, volumes have axes 0 to 2"),
        ({}, (1, 4, 4, 4, 3), "volumes have 3 channels, the network channels=1"),
    ],
)
def test_mistakes_are_told(model, shape, says):
    net = SliceUNet(channels=1, **TINY | model)
    with pytest.raises(UserError, match=says):
        jax.eval_shape(net.init, jax.random.key(0), jnp.zeros(shape), jnp.zeros(1))


def test_labels_without_classes_are_told():
    args = jnp.zeros((1, 2, 2, 2, 1)), jnp.zeros(1), jnp.zeros(1, jnp.int32)
    with pytest.raises(UserError, match="n_classes=None"):
        jax.eval_shape(SliceUNet(channels=1, **TINY).init, jax.random.key(0), *args)
