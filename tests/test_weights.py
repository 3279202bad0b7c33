"""Weights keep their names, their values and what they are of, and damage or another model is told."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from memjax.artifacts.weights import into, read_weights, write_weights
from memjax.errors import UserError
from memjax.mesh import state_shardings, train_mesh
from memjax.trees import named_leaves

ABOUT = {"model": {"width": 32, "levels": [1, 2]}, "store": "ab12"}


def tree(seed=0, channels=1):
    draw = np.random.default_rng(seed).standard_normal
    return {
        "in": {
            "kernel": jnp.asarray(draw((3, 3, channels, 128)), jnp.float32),
            "bias": jnp.zeros(128),
            "strength": jnp.ones(()),
        },
        "blocks": [{"scale": jnp.asarray(draw((256, 128)), jnp.float32)}],
    }


def test_written_weights_come_back(tmp_path):
    path = write_weights(tmp_path / "weights", 1000, tree(), ABOUT)
    assert path == tmp_path / "weights" / "step_00001000.safetensors"
    leaves, about, digest = read_weights(path)
    assert about == ABOUT | {"step": 1000}
    jax.tree.map(np.testing.assert_array_equal, into(jax.eval_shape(tree), leaves), tree())
    assert list(load_file(path)) == sorted(named_leaves(tree()))  # any reader sees flat names
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert len(digest) == 64


def test_weights_are_named_by_their_values_alone(tmp_path):
    digests = [
        read_weights(write_weights(tmp_path / str(i), step, tree(seed), about))[2]
        for i, (step, seed, about) in enumerate([(1, 0, {}), (2, 0, ABOUT), (1, 1, {})])
    ]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("fsdp", [1, 4, 8])
def test_sharded_weights_are_gathered(tmp_path, fsdp):
    placed = jax.device_put(tree(), state_shardings(train_mesh(fsdp), jax.eval_shape(tree)))
    assert fsdp == 1 or not placed["blocks"][0]["scale"].is_fully_replicated
    leaves, _, _ = read_weights(write_weights(tmp_path, 1, placed, {}))
    jax.tree.map(np.testing.assert_array_equal, into(tree(), leaves), tree())


def test_everything_is_float32(tmp_path):
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), tree())
    leaves, _, _ = read_weights(write_weights(tmp_path, 1, half, {}))
    assert {leaf.dtype for leaf in leaves.values()} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(leaves["in/bias"], np.zeros(128))


def test_the_newest_of_a_folder_or_the_one_asked_for(tmp_path):
    for step in (900, 1000, 20, 123_456_789):
        write_weights(tmp_path, step, tree(), {})
    assert read_weights(tmp_path)[1]["step"] == 123_456_789
    assert read_weights(tmp_path, step=900)[1]["step"] == 900
    with pytest.raises(UserError, match=r"no weights of step 7; give one of 20, 900, 1000, 123456789"):
        read_weights(tmp_path, step=7)


def test_missing_weights(tmp_path):
    with pytest.raises(UserError, match="holds no weights yet"):
        read_weights(tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        read_weights(tmp_path / "absent.safetensors")


def test_damage_is_told_wherever_it_is(tmp_path):
    path = write_weights(tmp_path, 1, tree(), ABOUT)
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    for length in (0, 7, 8, 100, header, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match="cannot be read"):
            read_weights(path)
    rng = np.random.default_rng(0)
    for at in [*rng.integers(0, header, 200), *rng.integers(header, len(whole), 20), header, len(whole) - 1]:
        flipped = bytearray(whole)
        flipped[at] ^= 1 << rng.integers(8)
        path.write_bytes(flipped)
        with pytest.raises(UserError, match="is damaged" if at >= header else "damaged|cannot be read|no weights of"):
            read_weights(path)


def test_files_of_others_are_refused(tmp_path):
    save_file({"a": np.zeros(3, np.float32)}, tmp_path / "a.safetensors")
    save_file({"a": np.zeros(3, np.float32)}, tmp_path / "b.safetensors", metadata={"format": "pt"})
    for name in "ab":
        with pytest.raises(UserError, match="no weights of this program"):
            read_weights(tmp_path / f"{name}.safetensors")
    (tmp_path / "c.safetensors").write_text(json.dumps({"a": 1}))
    with pytest.raises(UserError, match="cannot be read"):
        read_weights(tmp_path / "c.safetensors")


def test_another_model_is_named_by_its_leaves():
    leaves = {name: np.asarray(leaf) for name, leaf in named_leaves(tree()).items()}
    with pytest.raises(UserError, match=r"in/kernel is \(3, 3, 1, 128\), not \(3, 3, 5, 128\); use the config and the"):
        into(jax.eval_shape(lambda: tree(channels=5)), leaves)
    with pytest.raises(UserError, match=r"out is missing, in/kernel is one too many"):
        into({**tree(), "in": {"bias": jnp.zeros(128), "strength": jnp.ones(())}, "out": jnp.zeros(1)}, leaves)
    with pytest.raises(UserError, match=r", and 8 more"):
        into({str(i): jnp.zeros(1) for i in range(7)}, leaves)
