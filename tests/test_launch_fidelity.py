"""Set-level scores by command, from folders or stores: planted answers, what is kept, and words for bad input."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from compiling import QUICK
from launching import audit_folders, launch, store, truncate

from launch import measuring
from memjax.audit.fidelity.features import principal_components
from memjax.audit.fidelity.frechet import frechet_distance
from memjax.errors import UserError
from memjax.mesh import audit_mesh
from memjax.models.untrained import SIZE, untrained


def smooth(n: int, seed: int, *, size: tuple[int, ...] = (8, 8), channels: int = 1, sigma: float = 1.0) -> np.ndarray:
    """Draw n uint8 images of smoothed noise."""
    images = np.random.default_rng(seed).normal(0, 1, (n, *size, channels))
    images = scipy.ndimage.gaussian_filter(images, (0, *[sigma] * len(size), 0))
    return np.clip(128 + 60 * images / images.std(), 0, 255).astype(np.uint8)


def unit(images: np.ndarray) -> np.ndarray:
    return np.float32(images / 127.5 - 1)


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    root = tmp_path_factory.mktemp("sets")
    train = smooth(60, 1)
    made = {"train": train, "heldout": smooth(60, 2), "unseen": smooth(60, 3), "blurred": smooth(60, 4, sigma=1.8)}
    made["copies"] = train[np.random.default_rng(0).permutation(60)]
    return {name: store(root / name, images) for name, images in made.items()}


@pytest.fixture(scope="module")
def random(sets):
    return measuring.make_features("random", shape=sets["train"].manifest.shape, mesh=audit_mesh(2))


def scores(sets, synthetic, features, **more):
    return measuring.quality(sets["train"], sets[synthetic], sets["heldout"], features, **more)


@pytest.mark.parametrize("kind", ["random", "pixels"])
def test_copies_are_the_best_of_all_by_fid_and_seen_by_none_but_the_last_scores(sets, random, kind):
    features = random if kind == "random" else measuring.make_features(kind, shape=(8, 8, 1), mesh=audit_mesh(1))
    unseen, blurred, copies = (scores(sets, name, features) for name in ("unseen", "blurred", "copies"))
    assert copies.fid < 1e-3 * unseen.fid and unseen.fid < 0.8 * blurred.fid
    assert copies.precision == copies.recall == copies.coverage == 1
    assert copies.auth_pct == 0 and unseen.auth_pct > 30
    assert math.isnan(copies.inception_score) and any("do not classify" in words for words in copies.warnings)
    assert any("2048" in words for words in copies.warnings)
    assert ("untrained" if kind == "random" else "64 principal components of all images") in copies.features


def test_few_training_images_do_not_draw_others_nearer(tmp_path):
    """Principal components of these alone would: all others would be projected onto what little they span."""
    images = smooth(90, 0, size=(16, 16), sigma=0.5)
    train, unseen, heldout = (store(tmp_path / str(i), images[i::3]) for i in range(3))
    features = measuring.make_features("pixels", shape=(16, 16, 1), mesh=audit_mesh(1))
    found = measuring.quality(train, unseen, heldout, features)
    assert found.features == "pixels (89 principal components of all images)" and found.auth_pct > 20


def test_the_untrained_network_describes_any_images():
    for shape in ((9, 6, 1), (5, 4, 6, 5)):
        x = jnp.asarray(unit(smooth(3, 0, size=shape[:-1], channels=shape[-1])))
        network, other = untrained(shape), untrained(shape, seed=1)
        apply = jax.jit(lambda x, network=network: network.apply(x), compiler_options=QUICK)
        found = apply(x)
        assert found.shape == (3, SIZE) and 0.1 < float(jnp.abs(found).max()) < 30
        np.testing.assert_allclose(apply(x[::-1])[::-1], found, rtol=1e-4, atol=1e-5)  # each image's are its own
        for one, again in zip(network.kernels, untrained(shape).kernels, strict=True):
            np.testing.assert_array_equal(one, again)
        assert not np.allclose(network.last, other.last)


def test_the_untrained_network_sees_noise_and_blur_the_more_the_more_there_is():
    network, images = untrained((16, 16, 1)), smooth(600, 0, size=(16, 16), sigma=3)
    rng = np.random.default_rng(0)
    apply = jax.jit(network.apply, compiler_options=QUICK)

    def seen(x):
        return np.asarray(apply(jnp.asarray(unit(x))))

    first, second = seen(images[:300]), images[300:]
    noisy = [np.clip(second + rng.normal(0, sd, second.shape), 0, 255) for sd in (0, 30, 90)]
    blurred = [scipy.ndimage.gaussian_filter(np.float64(second), (0, sd, sd, 0)) for sd in (0, 2, 4)]
    for worse in (noisy, blurred):
        distances = [frechet_distance(first, seen(x)) for x in worse]
        assert 1.5 * distances[0] < distances[1] and 1.5 * distances[1] < distances[2], distances


@pytest.mark.parametrize("shape", [(9, 30), (30, 9), (5, 5)])
def test_principal_components_are_those_of_the_singular_values(shape):
    x = np.random.default_rng(0).normal(0, 1, shape) + 5
    mean, axes = principal_components(x, 4)
    _, _, rows = np.linalg.svd(x - x.mean(0))
    np.testing.assert_allclose(mean, x.mean(0), rtol=1e-6)
    np.testing.assert_allclose(np.abs(np.sum(axes * rows[:4].T, 0)), 1, rtol=1e-5)
    assert principal_components(x, 99)[1].shape[1] == min(shape[0] - 1, shape[1])
    assert principal_components(np.ones((4, 3)), 2)[1].shape == (3, 0)


def test_vectors_are_kept_and_scores_do_not_depend_on_the_order(sets, random, tmp_path):
    shuffled = store(tmp_path / "shuffled", sets["unseen"].block(0, 60)[::-1])
    first = scores(sets, "unseen", random, cache=tmp_path)
    again = scores(sets | {"unseen": shuffled}, "unseen", random)
    for name in ("fid", "precision", "density", "auth_pct"):
        np.testing.assert_allclose(getattr(first, name), getattr(again, name), rtol=1e-4, atol=1e-6)
    kept = sorted(tmp_path.glob("*.npy"))
    assert len(kept) == 3
    for path in kept:
        np.save(path, np.load(path) * 10)  # to see that it is read
    np.testing.assert_allclose(scores(sets, "unseen", random, cache=tmp_path).fid, 100 * first.fid, rtol=1e-3)
    for path in kept:
        truncate(path)
    np.testing.assert_allclose(scores(sets, "unseen", random, cache=tmp_path).fid, first.fid, rtol=1e-5)


def test_images_that_do_not_fit_are_told(sets, random, tmp_path):
    other = store(tmp_path / "other", smooth(6, 0, size=(8, 6)))
    with pytest.raises(UserError, match="the synthetic images are of 8 x 6 x 1 and the training images of 8 x 8 x 1"):
        scores(sets | {"other": other}, "other", random)
    broken = measuring.dataclasses.replace(random, embed=lambda x: np.full((len(x), 2), np.nan))
    with pytest.raises(UserError, match=r"of image 0 of .*train.* are not finite numbers"):
        scores(sets, "unseen", broken)


def test_what_is_asked_must_go_together(tmp_path):
    def made(kind, **more):
        return measuring.make_features(kind, shape=(8, 8, 1), mesh=audit_mesh(1), **more)

    for kind, more, words in (
        ("vgg", {}, "no features 'vgg'; choose from random, pixels, inception, descriptor"),
        ("random", {"weights": tmp_path}, "are for features inception, not random"),
        ("inception", {"run": tmp_path}, "is for features descriptor, not inception"),
        ("descriptor", {}, "need a descriptor's run"),
        ("descriptor", {"run": tmp_path}, "is no run"),
    ):
        with pytest.raises(UserError, match=words):
            made(kind, **more)


@pytest.fixture
def folders(tmp_path):
    return audit_folders(tmp_path, copies=12)


def asked(folders, *more):
    return [*(f"--{role}={path}" for role, path in folders.items()), "--features=pixels", *more]


def test_by_command(folders, tmp_path):
    out = tmp_path / "deep" / "scores.json"
    done = launch("fidelity", *asked(folders, f"--out={out}", "--infinity"))
    assert done.status == 0, done.said
    found = json.loads(out.read_text(), parse_constant=pytest.fail)
    assert (found["n_train"], found["n_synthetic"], found["n_heldout"]) == (30, 12, 24)
    assert found["inception_score"] is None and found["fid"] > 0
    assert found["sets"]["synthetic"]["n"] == 12 and len(found["features_digest"]) == 64
    for words in (
        "12 synthetic images, 30 training images, 24 of unseen patients; in pixels (64 principal components",
        f"FID to the training images  {found['fid']:.4g}".replace("  ", " "),
        "note: FID is of 12 images",
        "launch.audit finds the copies",
    ):
        assert words in " ".join(done.said.split()), words
    before = out.read_text()
    assert launch("fidelity", *asked(folders, f"--out={out}", "--infinity")).status == 0
    assert json.loads(out.read_text()) | {"command": ""} == json.loads(before) | {"command": ""}
    assert [path.name for path in out.parent.iterdir()] == ["scores.json"]


def test_bad_input(folders, tmp_path):
    theirs = folders["train"] / "labels.json"
    theirs.write_text("{}")
    for more, words in (
        (["--features=inception"], ["needs trained weights", "--features=random"]),
        (["--features=inception", f"--weights={tmp_path}/no.pth"], ["no.pth does not exist"]),
        (["--features=descriptor"], ["give --run"]),
        ([f"--weights={tmp_path}/w.pth"], ["are for features inception, not pixels"]),
        (["--features=vgg"], ["--features=vgg", "random|pixels|inception|descriptor"]),
        ([f"--out={tmp_path}"], ["is a folder; give the name of a .json file"]),
        ([f"--out={folders['train']}/x.json"], ["lies inside --train"]),
        ([f"--out={theirs}"], ["is a file of --train"]),
        ([f"--out={folders['train']}/scan.png"], ["is to be a .json file"]),
        ([f"--synthetic={folders['train']}"], ["--train and --synthetic are the same"]),
        ([f"--heldout={tmp_path}/nobody"], ["nobody", "does not exist"]),
        (["--devices=99"], ["--devices=99"]),
        (["--seed=-1"], ["--seed=-1"]),
    ):
        assert launch("fidelity", *asked(folders, *more)).is_refusal(*words)
    assert launch("fidelity").is_refusal("--train", "--synthetic")
