"""The descriptors' networks: their layers against plain numpy, their sizes, any shape, and what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import QUICK
from test_autoencoder import activated, blocked, convolved, pointwise

from configs import descriptor as config
from configs.descriptor_sizes import PRESETS
from memjax.errors import UserError
from memjax.keys import key_for
from memjax.mesh import train_mesh
from memjax.models.descriptor import descriptor, filled_up, pooled
from memjax.train.tasks import make_task
from memjax.trees import count

KEY = jax.random.key(0)
ENCODER = {"network": "encoder", "features": 2, "groups": 2, "hidden": 6, "size": 5, "channels": 3}
RESIDUAL = {"network": "residual", "width": 2, "blocks": (0, 1), "size": 5, "groups": 2}


def quick(function, *arguments):
    return jax.jit(function, compiler_options=QUICK)(*arguments)


def parameters_of(shape, model):
    return count(jax.eval_shape(descriptor(shape, model=model).init, KEY))


# In two axes and in three, of one channel, of 64 along each.
COUNTS = {
    "encoder-8": (589_448, 1_944_344),
    "encoder-16": (2_289_768, 7_561_608),
    "encoder-32": (9_084_968, 30_024_296),
    "residual-8": (977_464, 3_066_808),
    "residual-16": (3_869_680, 12_226_288),
    "residual-32": (15_398_752, 48_823_648),
    "residual-64": (61_435_456, 195_131_968),
}


def by_hand(axes, network, **model):
    """Return the parameters of a preset, layer by layer."""

    def block(c):
        return 2 * (3**axes * c * c + c + 2 * c)

    if network == "encoder":
        first, levels = model["features"], [1] * 4
        total, c = 3**axes * first + first, first
        widths = [first * 2 ** (i + 1) for i in range(4)]
    else:
        levels, total, c = model["blocks"], 0, 1
        widths = [model["width"] * 2**i for i in range(5)]
    for width, count_ in zip(widths, levels, strict=True):
        total, c = total + 4**axes * c * width + width + count_ * block(width), width
    total += 2 * c
    if network == "encoder":
        total += c * model["channels"] + model["channels"]
        total += (model["grid"] ** axes * model["channels"] + 1) * model["hidden"]
        c = model["hidden"]
    return total + (c + 1) * model["size"]


def test_sizes_are_those_of_the_table():
    assert {name: (by_hand(2, **model), by_hand(3, **model)) for name, model in PRESETS.items()} == COUNTS
    for name, axes in (("encoder-8", 2), ("encoder-8", 3), ("residual-8", 2)):
        assert parameters_of((*(64,) * axes, 1), PRESETS[name]) == COUNTS[name][axes - 2]


def test_sizes_are_those_of_the_follow_ups_code():
    """7.5 M (64^3) and 120.2 M before the map to eight channels, and 78 k with it after."""
    for shape, encoder, head in (((64, 64, 64, 1), 7.5e6, None), ((256, 256, 32, 1), 120.2e6, 78e3)):
        params = jax.eval_shape(descriptor(shape, model=PRESETS["encoder-16"]).init, KEY)
        last = count(params["encoder"].pop("out"))
        assert count(params["encoder"]) == pytest.approx(encoder, rel=2e-3)
        assert head is None or count({**params, "encoder": {}}) + last == pytest.approx(head, abs=50)


@pytest.mark.parametrize("words", ["pccta", "mrnet", "cxr", "volumes", "hippocampus", "pccta,triplet,flips"])
def test_configs_build(words):
    shape = {"mrnet": (256, 256, 32, 1), "cxr": (256, 256, 1), "pccta": (64, 64, 64, 1)}.get(
        words.split(",")[0], (24, 32, 24, 1)
    )
    c = config.get_config(words)
    task = make_task(c.to_dict(), shape=shape, mesh=train_mesh(n_devices=1))
    desc = jax.eval_shape(
        task.descriptor.apply, jax.eval_shape(task.init, key_for(0, "init")).ema, jnp.zeros((2, *shape))
    )
    assert desc.shape == (2, 128 if words in ("cxr", "hippocampus") else 32) and desc.dtype == jnp.float32
    assert c.optim.steps == c.steps


def test_what_ran_is_what_is_set():
    ct, mr, x, b = (config.get_config(words) for words in ("pccta", "mrnet", "cxr", "mrnet,triplet,flips"))
    assert [(c.batch_size, c.steps // (n // c.batch_size)) for c, n in ((ct, 242), (mr, 904), (x, 5216))] == [
        (10, 201), (10, 200), (64, 201)]  # fmt: skip
    assert (ct.optim.lr, ct.optim.final, ct.loss.temperature, ct.model.dropout) == (1e-4, 0.5, 0.07, 0.5)
    assert (b.loss.kind, b.model.dropout, b.views.rotate_degrees, b.views.flip_p) == ("triplet", 0, 5, 0.5)
    assert not any(b.views[f"{name}_p"] for name in ("turn", "elastic", "shift", "blur", "contrast", "noise"))
    with pytest.raises(ValueError, match="'knee' is none of"):
        config.get_config("knee")


@pytest.mark.parametrize("shape", [(9, 8, 5, 1), (16, 9, 2)])
@pytest.mark.parametrize("model", [ENCODER, RESIDUAL], ids=["encoder", "residual"])
def test_it_is_the_plain_network(shape, model):
    axes = len(shape) - 1
    made = descriptor(shape, model=model)
    rng = np.random.default_rng(1)
    params = jax.tree.map(
        lambda leaf: leaf + 0.1 * rng.normal(size=leaf.shape).astype(np.float32), quick(made.init, KEY)
    )
    x = jax.random.normal(KEY, (2, *shape))
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    for image, found in zip(np.asarray(x, np.float64), np.asarray(quick(made.apply, params, x)), strict=True):
        # 16 is halved twice to 4, 8 and 9 once, 5 never; 9 is filled up to an even number.
        v = np.pad(image, [(0, n == 9) for n in shape[:-1]] + [(0, 0)], mode="edge")
        strides = [tuple(2 if n > 5 else 1 for n in shape[:-1]), tuple(2 if n == 16 else 1 for n in shape[:-1])]
        if model is RESIDUAL:
            for i in range(2):
                v = convolved(v, p[f"down_{i}"]["kernel"], strides[i], bias=p[f"down_{i}"]["bias"])
            v = activated(blocked(v, p["block_1_0"]), p["norm"], 2).mean(tuple(range(axes)))
        else:
            e = p["encoder"]
            v = convolved(v, e["stem"]["kernel"], (1,) * axes, bias=e["stem"]["bias"])
            for i, step in enumerate(strides[: (len(e) - 3) // 2]):
                v = blocked(convolved(v, e[f"down_{i}"]["kernel"], step, bias=e[f"down_{i}"]["bias"]), e[f"block_{i}"])
            v = pointwise(activated(v, e["norm"], 2), e["out"])
            for axis in range(axes):  # what is left of 5 and 9 are 5 places, of which windows make 4
                v = np.moveaxis(np.stack([part.mean(0) for part in windows(np.moveaxis(v, axis, 0))]), 0, axis)
            v = np.maximum(v.reshape(-1) @ p["hidden"]["kernel"] + p["hidden"]["bias"], 0)
        np.testing.assert_allclose(found, v @ p["out"]["kernel"] + p["out"]["bias"], rtol=1e-3, atol=1e-3)


def windows(v):
    ends = {
        4: [(0, 1), (1, 2), (2, 3), (3, 4)],
        5: [(0, 2), (1, 3), (2, 4), (3, 5)],
        6: [(0, 2), (1, 3), (3, 5), (4, 6)],
    }
    return [v[first:end] for first, end in ends[len(v)]]


def test_pooling_and_filling_up():
    x = jax.random.normal(KEY, (2, 8, 3, 1))
    np.testing.assert_allclose(pooled(x, (4, 3)), x.reshape(2, 4, 2, 3, 1).mean(2), rtol=1e-5)
    np.testing.assert_array_equal(pooled(x, (8, 3)), x)
    wider = pooled(x, (8, 4))  # of three places four: windows of one, which overlap
    np.testing.assert_allclose(wider[:, :, [0, 3]], x[:, :, [0, 2]], rtol=1e-6)
    np.testing.assert_array_equal(filled_up(x, [(4, 2), (2, 1)])[:, :, :3], x)
    assert filled_up(x, [(4, 2), (2, 1)]).shape == (2, 8, 4, 1) and filled_up(x, []).shape == x.shape


def test_dropout_is_for_training():
    made = descriptor((4, 4, 1), model={**ENCODER, "dropout": 0.5})
    params = quick(made.init, KEY)
    x = jax.random.normal(KEY, (3, 4, 4, 1))
    plain, one, dropped = quick(
        lambda params, x: (
            made.apply(params, x),
            made.apply(params, x[1:2]),
            jax.vmap(lambda key: made.apply(params, x, key))(jax.random.split(KEY, 2000)),
        ),
        params,
        x,
    )
    assert made.has_dropout and not descriptor((4, 4, 1), model=ENCODER).has_dropout
    np.testing.assert_allclose(dropped.mean(0), plain, atol=0.05 * np.abs(plain).max())
    assert np.abs(dropped - plain).max() > 0.2 * np.abs(plain).max()
    np.testing.assert_allclose(one, plain[1:2], rtol=1e-4)  # in any batch


@pytest.mark.parametrize(
    ("shape", "block", "words"),
    [
        ((8, 8, 1), {"network": "resnet"}, ["'resnet'", "encoder, residual"]),
        ((8, 8, 1), {**ENCODER, "downsample": (2, 2, 2)}, ["downsample=(2, 2, 2)", "2 powers of two", "8 x 8"]),
        ((8, 8, 1), {**ENCODER, "downsample": (3, 2)}, ["powers of two"]),
        ((8, 8, 1), {**ENCODER, "widht": 3}, ["config.model.widht"]),
        ((8, 8, 1), {**ENCODER, "size": 0}, ["config.model.size=0"]),
        ((8, 8, 1), {**ENCODER, "dropout": 1.0}, ["config.model.dropout=1.0"]),
        ((8, 8, 1), {**RESIDUAL, "blocks": ()}, ["config.model.blocks=()"]),
        ((8, 1), ENCODER, ["pictures or volumes"]),
    ],
)
def test_what_it_refuses(shape, block, words):
    with pytest.raises(UserError) as told:
        descriptor(shape, model=block)
    assert all(word in str(told.value) for word in words), told.value
