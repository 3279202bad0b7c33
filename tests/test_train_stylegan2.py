"""StyleGAN2 by command: trained, continued, sampled with truncation, filmed, and what is refused."""

import json

import numpy as np
import pytest
from launching import launch
from PIL import Image

from memjax.artifacts.metrics import read_metrics
from memjax.data.store import Store

SMOKE = "--config=configs/stylegan2.py:brats20,smoke"

pytestmark = pytest.mark.usefixtures("quickly_compiled")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A smoke run of four steps on slices of five channels."""
    folder = tmp_path_factory.mktemp("stylegan2") / "run"
    done = launch("train", SMOKE, f"--workdir={folder}", "--devices=1")
    assert done.status == 0, done.said
    return folder


def samples(run, out, *more):
    return launch("sample", f"--run={run}", f"--out={out}", "--devices=1", *more)


def test_a_run_tells_what_a_gan_does(run):
    assert (run / "complete").read_text() == "4\n"
    rows = read_metrics(run / "metrics.jsonl")
    names = {name for row in rows for name in row}
    assert {"loss_generator", "loss_discriminator", "r1", "path_length", "ada_p", "heldout/logit"} <= names
    assert {"monitor/copied_fraction", "monitor/frechet", "monitor/heldout_frechet", "examples_seen"} <= names
    assert json.loads((run / "config.json").read_text())["facts"]["data"]["shape"] == [16, 16, 5]
    assert sorted(path.name for path in (run / "previews").iterdir()) == ["samples_00000004.png"]


def test_the_same_command_again_does_nothing_more(run):
    done = launch("train", SMOKE, f"--workdir={run}", "--devices=1")
    assert done.status == 0 and "going on after step 4" in done.said


def test_truncation_draws_nearer_to_the_mean(run, tmp_path):
    spread = []
    for psi in (0.0, 0.5, 1.0):
        assert samples(run, tmp_path / f"psi{psi}", "--seeds=0:12", f"--psi={psi}").status == 0
        store = Store.open(tmp_path / f"psi{psi}")
        assert len(store) == 12 and store.manifest.preparation["sampler"]["psi"] == psi
        spread.append(store.images.astype(float).std(axis=0).mean())
    assert spread[0] < spread[1] < spread[2]  # at 0 what is left is the noise, which does not yet show


def test_a_film_is_an_animated_picture(run, tmp_path):
    film = tmp_path / "film.png"
    assert launch("sample", f"--run={run}", "--seeds=0:3", f"--film={film}", "--frames=4").status == 0
    with Image.open(film) as opened:
        assert opened.n_frames == 12 and opened.size[1] == 256
        frames = [np.asarray(opened.convert("L")) for _ in map(opened.seek, range(12))]
    assert not (frames[0] == frames[4]).all()


def test_what_sampling_refuses(run, tmp_path):
    out = tmp_path / "samples"
    assert samples(run, out, "--seeds=0:3", "--psi=1.5").is_refusal("psi=1.5", "0", "1")
    assert samples(run, out, "--seeds=0:3", "--steps=5").is_refusal("StyleGAN", "has no steps", "psi")
    both = [f"--run={run}", "--seeds=0:3", f"--out={out}", f"--film={out}.png"]
    assert launch("sample", *both).is_refusal("either --out=STORE", "--film=FILE.png")
    assert launch("sample", f"--run={run}", "--seeds=0:1", f"--film={out}.png").is_refusal("two or more")
    assert not out.exists() and not out.with_suffix(".png").exists()


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["--config.batch_size=6"], ["groups of 4"]),
        (["--config.ada.enabled=True", "--config.ada.colour=True"], ["ada.colour"]),
        (["--config.phantoms.size=(24, 24, 32)"], ["24 x 24", "16 or 32"]),
        (["--config.synthesis.widht=3"], ["widht"]),
    ],
)
def test_what_training_refuses(overrides, words, tmp_path):
    done = launch("train", SMOKE, f"--workdir={tmp_path / 'run'}", "--devices=1", *overrides)
    assert done.is_refusal(*words)
