"""InceptionV3: equal to torch-fidelity's on random weights, and words for files that are not its weights.

`references/inception.npz` is what torch-fidelity 0.4.0 gives for two images with the weights that
`launch.benchmark.inception_reference` makes of a seed; that program wrote it, and can write it again.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from compiling import QUICK
from safetensors.numpy import save_file
from test_torch_files import ARCHIVE, HERE

from launch import measuring
from launch.benchmark.inception_reference import random_images, random_weights
from memjax.digest import file_digest
from memjax.errors import UserError
from memjax.mesh import audit_mesh
from memjax.models import inception, inception_weights
from memjax.models.inception_weights import read_weights, wanted_shapes


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    save_file(random_weights(wanted_shapes()), path)
    return path


@pytest.fixture(scope="module")
def reference():
    with np.load(HERE / "inception.npz") as arrays:
        return dict(arrays)


def test_it_sees_what_torch_fidelity_sees(file, reference):
    x = jnp.concatenate([inception.resized(jnp.asarray(image[None], jnp.float32)) for image in random_images()])
    found = jax.jit(inception.InceptionV3().apply, compiler_options=QUICK)({"params": read_weights(file).params}, x)
    assert set(found) == set(reference)
    for name, wanted in reference.items():
        assert np.abs(wanted[0] - wanted[1]).max() > 2e-2 * np.abs(wanted).max()  # the images do differ
        np.testing.assert_allclose(found[name], wanted, rtol=0, atol=1e-5 * np.abs(wanted).max(), err_msg=name)


def test_features_are_of_8_bit_values(file, monkeypatch):
    """Without the network, which the test before is about: the mean of each channel stands for it."""
    monkeypatch.setattr(inception, "apply", lambda params, x: {"2048": jnp.tile(x.mean((1, 2)), (1, 2048))[:, :2048]})
    monkeypatch.setattr(inception_weights, "PUBLIC", file_digest(file))
    found = measuring.make_features("inception", shape=(5, 6, 3), mesh=audit_mesh(2), weights=file)
    assert found.title == "InceptionV3 (the public weights)" and found.digest == file_digest(file)
    raw = np.random.default_rng(0).integers(0, 256, (37, 5, 6, 3))
    vectors = found.embed(np.float32(raw / 127.5 - 1 + 0.003))  # less than half of an 8-bit step away
    np.testing.assert_allclose(vectors[:, :3], raw.mean((1, 2)), rtol=1e-5)
    logits = np.float64(vectors) @ random_weights(wanted_shapes())["fc.weight"].T
    np.testing.assert_allclose(found.probabilities(vectors), scipy.special.softmax(logits, axis=1), rtol=1e-6)
    monkeypatch.undo()
    assert not read_weights(file).is_public


def test_images_are_resized_as_tensorflow_1_did():
    rng = np.random.default_rng(0)
    for h, w in ((5, 7), (299, 40), (700, 512)):
        image = rng.integers(0, 256, (h, w, 1)).astype(np.float64)
        rows = np.stack([np.interp(np.arange(299) * w / 299, np.arange(w), row) for row in image[..., 0]])
        wanted = np.stack([np.interp(np.arange(299) * h / 299, np.arange(h), column) for column in rows.T], 1)
        found = inception.resized(jnp.asarray(image[None], jnp.float32))
        assert found.shape == (1, 299, 299, 3)  # grey images in three channels
        np.testing.assert_allclose(found[0], np.stack([wanted / 128 - 1] * 3, -1), atol=2e-4)


@pytest.mark.parametrize(("shape", "words"), [((8, 8, 5), "5 channels .8 x 8 x 5."), ((4, 8, 8, 1), "volumes")])
def test_what_it_cannot_look_at_is_told(shape, words):
    for weights in (None, ARCHIVE):
        with pytest.raises(UserError, match=f"these are {words}.*--features=random"):
            measuring.make_features("inception", shape=shape, mesh=audit_mesh(1), weights=weights)


def test_weights_are_never_replaced(tmp_path):
    with pytest.raises(UserError, match=r"comes with none: give .*6726825d\.pth, as --weights, or take --features=ran"):
        measuring.make_features("inception", shape=(8, 8, 1), mesh=audit_mesh(1))
    with pytest.raises(UserError, match=r"no\.pth does not exist"):
        read_weights(tmp_path / "no.pth")


@pytest.fixture(scope="module")
def zeros():
    return {name: np.zeros(shape, np.float32) for name, shape in wanted_shapes().items()}


def test_weights_of_another_network_are_refused(tmp_path, zeros):
    with pytest.raises(
        UserError, match=r"is not the InceptionV3 of 2015-12-05: Conv2d_1a_3x3\.\S+ is missing, .*469 mo"
    ):
        read_weights(ARCHIVE)
    torchvision = {
        "fc.weight": np.zeros((1000, 2048), np.float32),
        "fc.bias": np.zeros(1008, np.int8),
        "AuxLogits.fc.bias": np.zeros(2, np.float32),
    }
    wrong = zeros | torchvision
    del wrong["Mixed_7c.branch_pool.bn.bias"]
    save_file(wrong, tmp_path / "x.safetensors")
    with pytest.raises(UserError) as told:
        read_weights(tmp_path / "x.safetensors")
    for words in (
        "branch_pool.bn.bias is missing",
        "fc.weight is [1000, 2048] float32, not [1008, 2048] of floats",
        "fc.bias is [1008] int8",
        "torchvision's own is another network",
    ):
        assert words in str(told.value)
    np.savez(tmp_path / "x.npz", **{"fc.bias": np.zeros(3)}, allow_pickle=False)
    with pytest.raises(UserError, match=r"fc.bias is \[3\] float64, not \[1008\] of floats, .* is missing"):
        read_weights(tmp_path / "x.npz")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("Mixed_5b.branch1x1.conv.weight", np.nan, "has values that are not finite"),
        ("Mixed_6a.branch3x3.bn.running_var", -1, "has negative values"),
    ],
)
def test_impossible_values_are_refused(tmp_path, zeros, name, value, words):
    wrong = zeros | {name: np.full_like(zeros[name], value)}
    save_file(wrong, tmp_path / "x.safetensors")
    with pytest.raises(UserError, match=f"{name} in .*x.safetensors {words}"):
        read_weights(tmp_path / "x.safetensors")


def test_files_that_are_no_weights_are_refused(tmp_path, file):
    (tmp_path / "cut.safetensors").write_bytes(file.read_bytes()[:10_000])
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04")
    (tmp_path / "notes.txt").write_text("weights")
    (tmp_path / "empty.pth").touch()
    for name, words in (
        ("cut.safetensors", "is damaged or cut off"),
        ("cut.npz", "is damaged or cut off"),
        ("notes.txt", r"is no file of weights \(.pth, .safetensors or .npz\)"),
        ("empty.pth", "is no file of weights"),
        ("", "is damaged or cut off|folder|directory"),
    ):
        with pytest.raises(UserError, match=words):
            read_weights(tmp_path / name)
