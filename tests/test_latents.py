"""Latents by command: encoded into a store, scaled once, trained on, sampled from, decoded; and what is refused."""

import json
import shutil

import numpy as np
import pytest
from launching import launch

from memjax.data.store import Store
from memjax.mesh import train_mesh
from memjax.sample.latent import open_coder, raw

AUTOENCODER = "--config=configs/latent3d.py:pccta,autoencoder,smoke"
DIFFUSION = "--config=configs/latent3d.py:pccta,ddpm,smoke"

pytestmark = pytest.mark.usefixtures("quickly_compiled")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A trained toy: `ae` and its phantoms, `latents`, `ldm`."""
    place = tmp_path_factory.mktemp("latents")
    for command in (
        ("train", AUTOENCODER, f"--workdir={place}/ae", "--devices=1"),
        ("prepare", f"--input={place}/ae/data/train", f"--latents={place}/ae", f"--out={place}/latents"),
        ("train", DIFFUSION, f"--data={place}/latents", f"--heldout={place}/latents", f"--workdir={place}/ldm",
         "--config.every.monitor=0", "--devices=1"),
    ):  # fmt: skip
        done = launch(*command)
        assert done.status == 0, done.said
    return place


def test_the_autoencoder_tells_its_health(folder):
    assert (folder / "ae/complete").read_text() == "4\n"
    rows = [json.loads(line) for line in (folder / "ae/metrics.jsonl").read_text().splitlines()]
    names = {name for row in rows for name in row}
    assert {"loss", "l1", "commitment", "perplexity", "dead_codes", "latent_mean", "latent_std"} <= names
    assert {f"heldout/{name}" for name in ("psnr", "ssim", "perplexity", "unused_codes", "latent_std")} <= names
    assert {path.name for path in (folder / "ae/previews").iterdir()} == {
        "reconstructed_train_00000004.png",
        "reconstructed_heldout_00000004.png",
    }


def test_the_way_there_and_back_is_the_autoencoders(folder):
    """Through exactly what diffusion sees: the store's [-1, 1], the scale undone, quantised, decoded."""
    images, latents = Store.open(folder / "ae/data/train"), Store.open(folder / "latents")
    about = latents.manifest.latent
    ids = np.arange(4)
    coder = open_coder(folder / "ae", mesh=train_mesh(n_devices=1), digest=about["autoencoder"])
    h = coder.encode(images.unit_range(ids))
    z = latents.unit_range(ids)
    codes = np.asarray(coder.weights["codes"])
    assert (about["low"], about["high"]) == (pytest.approx(codes.min()), pytest.approx(codes.max()))
    np.testing.assert_allclose(z, 2 * (h - codes.min()) / (codes.max() - codes.min()) - 1, atol=1e-5)
    back = raw(z, about["low"], about["high"])
    np.testing.assert_allclose(back, h, atol=1e-5)
    np.testing.assert_array_equal(coder.decode(back), coder.decode(h))
    assert [item.patient for item in latents.items] == [item.patient for item in images.items]
    assert [item.source for item in latents.items] == [item.source for item in images.items]
    assert latents.manifest.shape == (4, 4, 4, 8)
    assert latents.manifest.spacing_mm == pytest.approx([2 * mm for mm in images.manifest.spacing_mm])


def test_scaled_by_a_standard_deviation_latents_have_that_of_one(folder, tmp_path):
    out = tmp_path / "std"
    done = launch("prepare", f"--input={folder}/ae/data/train", f"--latents={folder}/ae", f"--out={out}", "--scale=std")
    assert done.status == 0, done.said
    store = Store.open(out)
    z = store.unit_range(np.arange(len(store)))
    np.testing.assert_allclose(z * store.manifest.latent["high"], store.images, rtol=1e-5, atol=1e-6)
    assert np.abs(z).max() > 1  # nothing is clipped
    assert z.std() == pytest.approx(1, abs=0.02) and store.manifest.latent["scale"] == "std"


def test_views_are_augmented_and_held_out_images_are_not(folder, tmp_path):
    out = tmp_path / "views"
    done = launch(
        "prepare", f"--input={folder}/ae/data/train", f"--latents={folder}/ae", f"--out={out}",
        "--views=3", "--flip_axes=0,2", "--rotate_degrees=5",
    )  # fmt: skip
    assert done.status == 0, done.said
    store, plain = Store.open(out), Store.open(folder / "latents")
    assert len(store) == 3 * len(plain) and store.items[4].source == f"{plain.items[1].source}@1"
    assert store.items[4].patient == plain.items[1].patient
    one = [store.images[3 * i + view] for i in range(len(plain)) for view in range(3)]
    same = [np.array_equal(image, plain.images[i // 3]) for i, image in enumerate(one)]
    assert 0 < sum(same) < len(same)  # a view is left as it is now and then: both flips and the turn are chance
    away = launch(
        "prepare", f"--input={folder}/ae/data/heldout", f"--latents={folder}/ae", f"--out={tmp_path}/away",
        "--views=3", "--flip_axes=0",
    )  # fmt: skip
    assert away.status == 0 and len(Store.open(tmp_path / "away")) == len(Store.open(folder / "ae/data/heldout"))


def test_samples_are_images(folder, tmp_path):
    out = tmp_path / "samples"
    done = launch("sample", f"--run={folder}/ldm", "--seeds=0:3", f"--out={out}", "--devices=1")
    assert done.status == 0, done.said
    store, images = Store.open(out), Store.open(folder / "ae/data/train")
    assert store.manifest.shape == images.manifest.shape and store.manifest.latent is None
    assert store.manifest.dtype == images.manifest.dtype and store.manifest.axes == images.manifest.axes
    assert store.manifest.preparation["autoencoder"] == Store.open(folder / "latents").manifest.latent["autoencoder"]


def test_an_autoencoder_that_is_gone_or_another_is_refused(folder, tmp_path):
    out = tmp_path / "samples"
    sample = ("sample", f"--run={folder}/ldm", "--seeds=0:2", f"--out={out}", "--devices=1")
    moved = folder / "ae_moved"
    (folder / "ae").rename(moved)
    try:
        assert launch(*sample).is_refusal("autoencoder of these latents", "is gone", str(folder / "ae"))
        assert launch(*sample, f"--autoencoder={moved}").status == 0
        shutil.rmtree(out)
        other = launch(
            "train", AUTOENCODER, f"--workdir={tmp_path}/other", "--config.phantoms.seed=1", "--devices=1",
            f"--cache={moved}/compiled",
        )  # fmt: skip
        assert other.status == 0
        assert launch(*sample, f"--autoencoder={tmp_path}/other").is_refusal("digest", "made with")
        assert launch(*sample, f"--autoencoder={folder}/ldm").is_refusal("no autoencoder")
    finally:
        moved.rename(folder / "ae")
    assert not out.exists()


def test_what_preparing_latents_refuses(folder, tmp_path):
    out = f"--out={tmp_path}/out"
    images, run = f"--input={folder}/ae/data/train", f"--latents={folder}/ae"
    assert launch("prepare", f"--input={folder}/latents", run, out).is_refusal("holds latents already")
    assert launch("prepare", images, f"--latents={folder}/ldm", out).is_refusal("task ddpm", "no autoencoder")
    assert launch("prepare", images, f"--latents={tmp_path}/none", out).is_refusal("none", "is gone")
    assert launch("prepare", images, run, out, "--views=0").is_refusal("views")
    assert launch("prepare", images, run, out, "--views=2").is_refusal("--views", "--flip_axes")
    assert launch("prepare", images, out, "--views=2").is_refusal("--views", "--latents")
    assert launch("prepare", images, run, out, "--size=4,4,4").is_refusal("--size", "--latents")
    assert not (tmp_path / "out").exists()


def test_what_training_and_sampling_refuse(folder, tmp_path):
    assert launch("train", AUTOENCODER, f"--workdir={tmp_path}/a", "--config.every.monitor=2").is_refusal(
        "every.monitor", "autoencoder draws none"
    )
    run, out = f"--run={folder}/ae", f"--out={tmp_path}/s"
    assert launch("sample", run, "--seeds=0:2", out).is_refusal("task autoencoder", "draws no images")
    flat = f"--data={folder}/latents"
    assert launch("train", AUTOENCODER, flat, f"--workdir={tmp_path}/b", "--config.autoencoder.downsample=(2, 2)",
                  "--devices=1").is_refusal("2 axes", "these have 3")  # fmt: skip
    assert not (tmp_path / "a").exists() and not (tmp_path / "b").exists()
