"""Fréchet distances prefer the generator that hands back its training images; the audit catches it."""

import json

import numpy as np
import pytest
from launching import store
from scipy import ndimage

from launch.benchmark import blind
from launch.benchmark.parties import divide


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """Run the demonstration on smooth images, each of another patient, in principal components of the pixels."""
    folder = tmp_path_factory.mktemp("blind")
    rng = np.random.default_rng(0)
    drawn = np.stack([ndimage.gaussian_filter(rng.normal(size=(16, 16)), 2.5) for _ in range(180)])
    drawn = np.round(255 * (drawn - drawn.min()) / np.ptp(drawn)).astype(np.uint8)[..., None]
    store(folder / "s", drawn, patient=[f"p{i}" for i in range(len(drawn))])
    asked = blind.Asked(data=folder / "s", heldout=2 / 3, out=folder / "new" / "blind.json", features="pixels")
    blind.main(asked)
    return asked.out


def test_the_copier_has_the_better_distance_and_the_audit_catches_it(out):
    told = json.loads(out.read_text())
    rows = {row["generator"]: row for row in told["rows"]}
    copier, perfect = rows["training images"], rows["unseen patients' images"]
    assert copier["quality"]["fid"] < perfect["quality"]["fid"]
    assert copier["quality"]["coverage"] >= perfect["quality"]["coverage"]
    assert copier["quality"]["auth_pct"] == 0 and copier["quality"]["c_t"] < -3 < perfect["quality"]["c_t"] < 3
    assert copier["copies"]["value"] == copier["n"] == 60 and not copier["is_clean"]
    assert perfect["copies"]["value"] == 0 and perfect["is_clean"]
    for changed in ("training images, mirrored", "training images with noise of 2 %"):
        assert rows[changed]["copies"]["value"] == 60, changed
    half = rows["half training, half unseen"]
    assert 30 <= half["copies"]["value"] <= 35 and not half["is_clean"]  # some false discoveries are declared
    assert rows["white noise"]["is_clean"] and told["rows"][-1]["generator"] == "white noise"
    distances = [row["quality"]["fid"] for row in told["rows"]]
    assert distances == sorted(distances)
    assert told["about"]["train_patients"] == 60 and told["about"]["images_of_each"] == 60


def test_the_figure_names_every_generator(out):
    svg = out.with_suffix(".svg").read_text()
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    for row in json.loads(out.read_text())["rows"]:
        assert row["generator"].replace("'", "&#x27;") in svg or row["generator"] in svg
    assert "60 training patients; 60 images of each generator; features: pixels" in svg


def test_generators_are_what_they_are_called(tmp_path):
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (48, 8, 8, 1), np.uint8)
    made_of = store(tmp_path / "s", images, patient=[f"p{i}" for i in range(48)])
    parties = divide(made_of, 0.5, seed=0)
    made = blind.generators(parties, made_of.manifest, 10, seed=3)

    def known(some, side):
        return [any(np.array_equal(image, other) for other in side.images) for image in some]

    assert all(known(made["training images"], parties.gallery))
    assert all(known(made["training images, mirrored"][:, :, ::-1], parties.gallery))
    assert not any(known(made["training images with noise of 2 %"], parties.gallery))
    assert all(known(made["unseen patients' images"], parties.control))
    assert len({image.tobytes() for image in made["unseen patients' images"]}) == 10  # each once
    assert sum(known(made["half training, half unseen"], parties.gallery)) == 5
    again = blind.generators(parties, made_of.manifest, 10, seed=3)
    assert all(np.array_equal(made[name], again[name]) for name in made)
