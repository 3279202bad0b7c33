"""A trained descriptor in use: its vectors are the network's, kept once made, written where any program reads them."""

import functools

import jax
import launching
import numpy as np
import pytest
from launching import launch

from launch.embedding import embedder_of, embeddings_of
from memjax.artifacts.run import Run
from memjax.artifacts.weights import write_weights
from memjax.audit.describe import ArrayImages
from memjax.data.embeddings import read_embeddings
from memjax.data.exposures import write_exposures
from memjax.errors import UserError
from memjax.keys import key_for
from memjax.mesh import audit_mesh
from memjax.models.descriptor import descriptor
from memjax.sample.embed import open_embedder

SHAPE = (8, 8, 1)
MODEL = {"network": "encoder", "features": 2, "hidden": 4, "size": 3, "channels": 2, "groups": 2}
VIEWS = {"flip_axes": [0], "turn_p": 0.0, "rotate_degrees": 0.0, "elastic": 0.0, "shift": 0.0, "blur": 0.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Stores `train`, `other` and `odd` (of other people, of another shape), and a run `net` on the first."""
    place = tmp_path_factory.mktemp("embedder")
    train = launching.store(place / "train", launching.noise(11, 0, size=SHAPE), patient=[f"p{i}" for i in range(11)])
    launching.store(place / "other", launching.noise(5, 1, size=SHAPE), patient=[f"q{i}" for i in range(5)])
    launching.store(place / "odd", launching.noise(2, 2, size=(8, 6, 1)))
    run_at(place / "net", train)
    return place


@pytest.fixture(scope="module", autouse=True)
def compiled_once():
    """What uses the same run again is given the same program."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("memjax.sample.embed.open_embedder", functools.cache(open_embedder))
        yield


def some_weights():
    """Weights as a network has them, without compiling what draws them."""
    rng = np.random.default_rng(0)
    template = jax.eval_shape(descriptor(SHAPE, model=MODEL).init, key_for(0, "init"))
    return jax.tree.map(lambda leaf: 0.5 * rng.standard_normal(leaf.shape, np.float32), template)


def run_at(path, train, task="descriptor", half=None):
    config = {"task": task, "model": MODEL, "views": VIEWS, "half": half}
    facts = {"data": {"digest": train.manifest.digest, "shape": SHAPE}}
    with Run.open(path, config, facts=facts) as run:
        write_weights(run.weights_dir, 7, some_weights(), {"config": config, "facts": facts})


@pytest.fixture(scope="module")
def wanted(folder):
    """What the network itself says of the stores' images."""
    images = np.concatenate([np.load(folder / name / "images.npy") for name in ("train", "other")])
    x = images.astype(np.float32) / 127.5 - 1
    found = np.asarray(jax.jit(descriptor(SHAPE, model=MODEL).apply)(some_weights(), x))
    assert found.std(0).min() > 0.1  # images differ in every number
    return {"train": found[:11], "other": found[11:]}.__getitem__


def test_vectors_are_the_networks_for_any_number_of_images_and_devices(folder, wanted):
    images = np.load(folder / "train" / "images.npy").astype(np.float32) / 127.5 - 1
    for devices in (1, 8):
        embedder = open_embedder(folder / "net", mesh=audit_mesh(devices), batch_size=4)
        for n in (11, 8, 1, 0):
            found = embedder.embed(images[:n])
            assert found.shape == (n, 3) and found.dtype == np.float32
            np.testing.assert_allclose(found, wanted("train")[:n], atol=1e-5)
    assert (embedder.name, embedder.step, embedder.invariant_to) == ("net", 7, ("flips", "noise", "contrast"))
    with pytest.raises(UserError, match=r"images are of 8 x 6 x 1, the descriptor in .*net was trained on 8 x 8 x 1"):
        embedder.embed(np.zeros((2, 8, 6, 1), np.float32))


def test_it_knows_whom_it_was_trained_on(folder, tmp_path):
    train, other = (launching.Store.open(folder / name) for name in ("train", "other"))
    run_at(tmp_path / "half", train, half=1)
    opened = open_embedder(tmp_path / "half", mesh=audit_mesh(1)).trained_on
    assert (opened.store, opened.half, opened.patients) == (train.manifest.digest, 1, None)
    assert not opened.is_free_of(other)  # nobody knows
    write_exposures(tmp_path / "half" / "exposures.csv", train, np.arange(11) % 2)
    opened = open_embedder(tmp_path / "half", mesh=audit_mesh(1)).trained_on
    assert opened.patients == {"p1", "p3", "p5", "p7", "p9"}
    assert opened.is_free_of(other) and not opened.is_free_of(train)
    for store, saw in ((train, True), (other, False)):
        assert embedder_of(tmp_path / "half", None, audit_mesh(1), train=store)[2].saw_train is saw
    assert embedder_of(folder / "net", None, audit_mesh(1), train=other)[2].saw_train is None


def test_vectors_of_stores_are_kept(folder, tmp_path, wanted):
    name, embed, facts = embedder_of(folder / "net", tmp_path, audit_mesh(1), batch_size=4)
    train, other = (launching.Store.open(folder / name) for name in ("train", "other"))
    for store in (train, other):
        np.testing.assert_allclose(embed(store), wanted(store.path.name), atol=1e-5)
    raw = np.concatenate([train.images, other.images]).astype(np.int16) * 3 - 5  # the same images on another scale
    given = ArrayImages(raw, np.tile([[-5, 760]], (16, 1)))
    np.testing.assert_allclose(embed(given), np.concatenate([wanted("train"), wanted("other")]), atol=1e-5)
    assert embed(given) is embed(given) and name == "net" and facts.step == 7
    kept = sorted((tmp_path / "embeddings").iterdir())
    assert len(kept) == 2
    for path in kept:
        np.save(path, np.load(path) + 1)  # to see that it is read
    again = embedder_of(folder / "net", tmp_path, audit_mesh(1))[1]
    np.testing.assert_allclose(again(launching.Store.open(folder / "train")), wanted("train") + 1, atol=1e-5)
    for path in kept:
        path.write_bytes(b"cut off")
    again = embedder_of(folder / "net", tmp_path, audit_mesh(1))[1]
    np.testing.assert_allclose(again(train), wanted("train"), atol=1e-5)


def test_what_is_no_descriptor_is_refused(folder, tmp_path):
    run_at(tmp_path / "ddpm", launching.Store.open(folder / "train"), task="ddpm")
    with pytest.raises(UserError, match=r"ddpm trained a model of task ddpm, no descriptor; give a descriptor's run"):
        open_embedder(tmp_path / "ddpm", mesh=audit_mesh(1))
    with pytest.raises(UserError, match=r"is no run: it has no config\.json"):
        open_embedder(tmp_path / "nothing", mesh=audit_mesh(1))


def test_embedded_by_command_images_are_known_by_their_sources(folder, tmp_path, wanted):
    out = tmp_path / "e"
    for name, role in (("train", "train"), ("other", "synthetic"), ("other", "synthetic")):
        done = launch("embed", f"--run={folder}/net", f"--input={folder}/{name}", f"--out={out}", f"--name={role}")
        assert done.status == 0, done.said
    assert "5 vectors of 3 numbers" in done.said
    stores = {role: launching.Store.open(folder / name) for role, name in (("train", "train"), ("synthetic", "other"))}
    found = read_embeddings(out, "train", stores["train"])
    np.testing.assert_allclose(found.vectors, wanted("train"), atol=1e-5)
    assert (found.name, found.invariant_to, found.trained_on) == ("net", ("flips", "noise", "contrast"), "train")
    name, embed, facts = embeddings_of("mine", out, stores)
    assert (name, facts.saw_train, facts.invariant_to) == ("mine", True, found.invariant_to)
    np.testing.assert_allclose(embed(launching.Store.open(folder / "other")), wanted("other"), atol=1e-5)
    with pytest.raises(UserError, match=r"holds embeddings of the audit's images only, none of image 0"):
        embed(ArrayImages(np.zeros((2, *SHAPE)), np.tile([[0, 1]], (2, 1))))
    odd = launch("embed", f"--run={folder}/net", f"--input={folder}/odd", f"--out={tmp_path}/odd", "--name=train")
    assert odd.is_refusal("images are of 8 x 6 x 1", "prepare them alike")
    inside = launch("embed", f"--run={folder}/net", f"--input={folder}/train", f"--out={folder}/train/e")
    assert inside.is_refusal("lies inside --input")
