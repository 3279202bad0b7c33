"""The U-Net: one code path for images and volumes, told the time and the class, the same however it is computed."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import jit

from memjax.errors import UserError
from memjax.mesh import batch_sharding, replicated, train_mesh
from memjax.models.unet import UNet
from memjax.trees import count, from_named, named_leaves

TINY = {"width": 4, "mults": (1, 2), "blocks": 1, "attention": (4,), "heads": 1, "groups": 2}
ROUNDING = 2e-5  # relative: float32 sums in another order


def inputs(shape, seed=0):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.uniform(-1, 1, shape), jnp.float32), jnp.asarray(rng.integers(0, 1000, shape[0]))


def awake(net, *args):
    """Return random parameters: at the start the last layers are zero and nothing shows."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(net.init, jax.random.key(0), *args)
    return jax.tree.map(lambda leaf: jnp.asarray(0.3 * rng.standard_normal(leaf.shape), leaf.dtype), shapes)


@pytest.fixture(scope="module")
def small():
    """Return a net, awake, with a batch of eight and what it says."""
    net = UNet(channels=1, dropout=0.5, **TINY)
    x, t = inputs((8, 8, 8, 1))
    params, apply = awake(net, x, t), jit(net.apply)
    return net, apply, params, x, t, np.asarray(apply(params, x, t))


@pytest.mark.parametrize("shape", [(2, 8, 8, 1), (1, 8, 4, 5), (1, 6, 10, 3), (1, 4, 8, 4, 2)])
@pytest.mark.parametrize("learned_variance", [False, True])
def test_shapes(shape, learned_variance):
    net = UNet(channels=shape[-1], learned_variance=learned_variance, **TINY)
    out = jax.eval_shape(lambda key: net.init_with_output(key, *inputs(shape))[0], jax.random.key(0))
    assert out.shape == (*shape[:-1], shape[-1] * (1 + learned_variance))
    assert out.dtype == jnp.float32


# MONAI 1.6.1's DiffusionModelUNet(channels=(8, 16), attention_levels=(False, True), num_res_blocks=1,
# num_head_channels=8, norm_num_groups=4, norm_eps=1e-5) with these same parameters under its own names, on torch 2.13:
# every eighth of the numbers that come out. All of them agreed to 2e-6, and the parameter names one to one.
MONAI = {
    (2, 8, 4, 2): [0.0834577, 0.4037742, -0.3595437, -0.0024214, 0.6046686, -0.4270611, -0.9354643, 0.0672673],
    (2, 4, 8, 4, 2): [0.5693631, 0.1410375, 0.3274737, 0.1752346, 0.4455253, 0.3537433, 0.0921650, -0.3156585],
}


@pytest.mark.parametrize("shape", MONAI, ids=["2-D", "3-D"])
def test_equals_monai(shape):
    net = UNet(
        channels=2, width=8, mults=(1, 2), blocks=1, attention=(4,), head_channels=8, groups=4, scale_shift=False
    )
    x, t = inputs(shape)
    y = np.asarray(jit(net.apply)(awake(net, x, t), x, t)).ravel()
    np.testing.assert_allclose(y[:: y.size // 8], MONAI[shape], atol=5e-6)


def test_starts_at_zero():
    net = UNet(channels=1, **TINY | {"mults": (1,), "blocks": 1})
    x, t = inputs((2, 4, 4, 1))
    y, params = jit(net.init_with_output)(jax.random.key(0), x, t)
    assert not np.any(y)
    kernels = {name: leaf for name, leaf in named_leaves(params["params"]).items() if name.endswith("kernel")}
    last = {name for name in kernels if name.split("/")[-2] in ("out", "conv_out", "project")}
    assert {name for name, leaf in kernels.items() if not np.any(leaf)} == last
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))


def test_time_reaches_every_image(small):
    _, apply, params, x, t, y = small
    later = np.asarray(apply(params, x, t + 1))
    assert np.all(np.isfinite(y))
    assert np.abs(y - later).max(axis=(1, 2, 3)).min() > 1e-3
    np.testing.assert_array_equal(apply(params, x, t.astype(jnp.float32)), y)  # steps may be fractions


def test_images_of_a_batch_do_not_see_each_other(small):
    _, apply, params, x, t, y = small
    order = np.random.default_rng(1).permutation(8)
    np.testing.assert_allclose(apply(params, x[order], t[order]), y[order], rtol=ROUNDING, atol=ROUNDING)


def with_kernels(params, fn):
    """Return parameters with `fn` of every convolution kernel `[*taps, c, d]`."""
    leaves = named_leaves(params).items()
    return from_named(params, {k: fn(leaf) if k.endswith("kernel") and leaf.ndim > 2 else leaf for k, leaf in leaves})


def test_axes_may_change_places(small):
    _, apply, params, x, t, y = small
    swapped = apply(with_kernels(params, lambda kernel: jnp.swapaxes(kernel, 0, 1)), jnp.swapaxes(x, 1, 2), t)
    np.testing.assert_allclose(swapped, np.swapaxes(y, 1, 2), rtol=ROUNDING, atol=ROUNDING)


def test_a_volume_of_one_slice_is_an_image(small):
    net, _, params, x, t, y = small

    def deep(kernel):  # a kernel whose middle slice is this one, and of which the others see padding
        taps = 3 if kernel.shape[0] == 3 else 1
        outer = jnp.full((taps, *kernel.shape), 7.0)
        return outer.at[taps // 2].set(kernel)

    volume = jit(net.clone(keep_axes=(0,)).apply)(with_kernels(params, deep), x[:, None], t)
    np.testing.assert_allclose(volume[:, 0], y, rtol=ROUNDING, atol=ROUNDING)


def test_one_device_equals_eight(small):
    _, apply, params, x, t, y = small
    mesh = train_mesh()
    assert mesh.size == 8
    whole = jax.device_put(params, replicated(mesh))
    out = apply(whole, *jax.device_put((x, t), batch_sharding(mesh)))
    assert out.sharding.is_equivalent_to(batch_sharding(mesh), 4)
    np.testing.assert_allclose(out, y, rtol=ROUNDING, atol=ROUNDING)


def test_dropout_only_with_a_key_and_another_in_each_block(small):
    net, apply, params, x, t, y = small
    one, again, other = (apply(params, x, t, dropout_key=jax.random.key(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - y).max() > 1e-2 and np.abs(one - other).max() > 1e-2
    without = net.clone(dropout=0.0)
    np.testing.assert_array_equal(jit(without.apply)(params, x, t, dropout_key=jax.random.key(1)), y)


@pytest.fixture(scope="module")
def gradients():
    """Return a net with dropout, and a function that tells its loss and gradients by name."""
    x, t = inputs((2, 4, 4, 1))
    net = UNet(channels=1, dropout=0.3, **TINY | {"mults": (1,)})
    params = awake(net, x, t)

    @functools.cache
    def of(net):
        def loss(params):
            return jnp.sum(jnp.square(net.apply(params, x, t, dropout_key=jax.random.key(3))))

        value, grads = jit(jax.value_and_grad(loss))(params)
        return named_leaves({"loss": value, **grads})

    return net, of


def test_gradients_reach_every_channel(gradients):
    net, of = gradients
    for name, leaf in of(net).items():
        if name.endswith("qkv/bias"):  # but keys': it moves all scores of a query alike
            asks, keys, values = np.split(leaf, 3)
            np.testing.assert_allclose(keys, 0, atol=1e-6)
            leaf = np.concatenate([asks, values])
        assert np.all(np.isfinite(leaf)) and np.all(np.any(leaf, axis=tuple(range(leaf.ndim - 1)))), name


def test_remat_changes_nothing(gradients):
    net, of = gradients
    plain, again = of(net), of(net.clone(remat=True))
    assert again.keys() == plain.keys()
    for name, leaf in plain.items():
        np.testing.assert_allclose(again[name], leaf, rtol=1e-3, atol=1e-5 * np.abs(leaf).max(), err_msg=name)


@pytest.mark.parametrize(("resample", "has"), [("conv", "conv"), ("residual", "conv_in"), ("pool", None)])
def test_levels_are_joined(resample, has):
    net, args = UNet(channels=1, resample=resample, **TINY), inputs((2, 8, 8, 1))
    out, params = jax.eval_shape(net.init_with_output, jax.random.key(0), *args)
    assert out.shape == (2, 8, 8, 1)
    joints = {name.split("/")[2] for name in named_leaves(params) if "resample" in name and name.endswith("kernel")}
    assert (has in joints) if has else not joints


def test_remat_keeps_a_fraction():
    net, (x, t) = UNet(channels=1, **TINY), inputs((8, 32, 32, 1))
    params = jax.eval_shape(net.init, jax.random.key(0), x, t)

    def kept(net):  # numbers that wait for the backward pass
        return count(jax.eval_shape(lambda params: jax.vjp(lambda p: net.apply(p, x, t), params)[1], params))

    assert kept(net.clone(remat=True)) < kept(net) / 4


def test_added_time_has_half_the_modulation():
    shape = ((2, 8, 8, 1), (2,))
    film, added = (
        named_leaves(jax.eval_shape(UNet(channels=1, scale_shift=s, **TINY).init, jax.random.key(0), *inputs(shape[0])))
        for s in (True, False)
    )
    assert film.keys() == added.keys()
    for name, leaf in film.items():
        halved = (*leaf.shape[:-1], leaf.shape[-1] // 2)
        assert added[name].shape == (halved if "res_" in name and "/embedding/" in name else leaf.shape)


def test_class_reaches_the_output_and_no_class_is_the_last():
    net = UNet(channels=1, n_classes=3, **TINY)
    x, t = inputs((4, 8, 8, 1))
    x, t = jnp.broadcast_to(x[:1], x.shape), jnp.full_like(t, 10)
    params, apply = awake(net, x, t), jit(net.apply)
    y = np.asarray(apply(params, x, t, jnp.arange(4)))
    assert min(np.abs(y[i] - y[j]).max() for i in range(4) for j in range(i)) > 1e-3
    np.testing.assert_allclose(apply(params, x, t), np.broadcast_to(y[3:], y.shape), rtol=ROUNDING, atol=ROUNDING)


def test_volumes_with_an_axis_of_full_resolution():
    net = UNet(channels=1, keep_axes=(2,), **{**TINY, "mults": (1, 2, 2), "attention": (8,)})
    x, t = inputs((1, 8, 8, 5, 1))
    params = awake(net, x, t)
    assert jit(net.apply)(params, x, t).shape == x.shape
    sides = {"1": (4, 4, 5), "2": (2, 2, 5)}
    shapes = jax.eval_shape(
        lambda p: net.apply(p, x, t, capture_intermediates=True, mutable=["intermediates"])[1], params
    )
    for name, leaf in named_leaves(shapes).items():
        for level, side in sides.items():
            if f"/down_{level}_res_0/__call__" in name:
                assert leaf.shape[1:-1] == side
                sides[level] = None
    assert set(sides.values()) == {None}


def test_attention_is_where_the_longest_side_is_listed():
    def attending(space, **model):
        args = (jnp.zeros((1, *space, 1)), jnp.zeros(1))
        names = named_leaves(jax.eval_shape(UNet(channels=1, **TINY | model).init, jax.random.key(0), *args))
        return {name.split("/")[1] for name in names if "attention" in name}

    middle = {"middle_attention"}
    assert (
        attending((8, 8))
        == attending((8, 2, 4))
        == middle | {f"{n}_1_attention_{i}" for n, i in [("down", 0), ("up", 0), ("up", 1)]}
    )
    assert attending((4, 2), attention=(4,)) == middle | {
        f"{n}_0_attention_{i}" for n, i in [("down", 0), ("up", 0), ("up", 1)]
    }
    assert attending((8, 8), attention=()) == middle


def test_half_precision_computes_in_it_and_keeps_float32():
    net = UNet(channels=1, **TINY)
    x, t = inputs((2, 8, 8, 1))
    params, half = awake(net, x, t), net.clone(dtype="bfloat16")
    assert {leaf.dtype for leaf in jax.tree.leaves(awake(half, x, t))} == {jnp.dtype("float32")}
    y, y16 = jit(net.apply)(params, x, t), jit(half.apply)(params, x, t)
    assert y16.dtype == jnp.float32
    error = np.abs(y - y16).max() / np.abs(y).max()
    assert 1e-5 < error < 0.1  # bfloat16 has 8 bits


@pytest.mark.parametrize(
    ("model", "shape", "says"),
    [
        ({"mults": (1, 1, 1)}, (1, 10, 8, 1), "images of 10 x 8: .* axis 0 .* multiple of 4, 8 or 12 say"),
        ({"mults": (1, 1, 1)}, (1, 8, 8, 3, 1), "axis 2 .* multiple of 4, 4 say; .* put 2 into keep_axes"),
        ({}, (1, 8, 8, 3), "images have 3 channels, the U-Net channels=1"),
        ({"keep_axes": (2,)}, (1, 8, 8, 1), r"keep_axes=\(2,\), images have axes 0 to 1"),
        ({"resample": "fold"}, (1, 8, 8, 1), "resample='fold'"),
        ({"heads": 3}, (1, 8, 8, 1), "heads=3 does not divide the 8 channels"),
        ({"head_channels": 5}, (1, 8, 8, 1), "head_channels=5 does not divide"),
    ],
)
def test_mistakes_are_told(model, shape, says):
    net = UNet(channels=1, **TINY | model)
    with pytest.raises(UserError, match=says):
        jax.eval_shape(net.init, jax.random.key(0), jnp.zeros(shape), jnp.zeros(1))


def test_labels_without_classes_are_told():
    with pytest.raises(UserError, match="n_classes=None"):
        jax.eval_shape(
            UNet(channels=1, **TINY).init,
            jax.random.key(0),
            jnp.zeros((1, 8, 8, 1)),
            jnp.zeros(1),
            jnp.zeros(1, jnp.int32),
        )
