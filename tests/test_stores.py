"""A store read again gives what is in it, and nothing that was changed since."""

import numpy as np
import pytest
from launching import noise, store

from memjax.data.readers import stores
from memjax.data.readers.base import BadFile, Reader, ReadOptions
from memjax.data.readers.stores import Stores

IMAGES = noise(5, 0)[..., None]


@pytest.fixture
def made(tmp_path):
    return store(tmp_path / "s", IMAGES, patient=list("aabbc"), split=["x"] * 4 + ["y"], label=list("12345"))


def read_all(reader):
    return [image for unit in reader.scan().units for image in reader.read(unit)]


def test_images_keep_all_that_is_known_of_them(made):
    reader = Stores(made.path, ReadOptions())
    assert isinstance(reader, Reader)
    assert reader.patient_ids == "csv"
    images = read_all(reader)
    np.testing.assert_array_equal([image.image for image in images], IMAGES)
    for image, item in zip(images, made.items, strict=True):
        assert (image.source, image.patient, image.split, image.label) == (
            item.source,
            item.patient,
            item.split,
            item.label,
        )
        assert image.value_range == (item.low, item.high)


def test_the_manifest_tells_the_shape(made):
    reader = Stores(made.path, ReadOptions())
    (unit,) = reader.scan().units
    spec = reader.probe(unit)
    assert (spec.space, spec.channels, spec.dtype, spec.axes) == ((8, 8), ("c0",), np.uint8, ("row", "column"))
    assert spec.count == 5


@pytest.mark.parametrize("rows", [1, 2, 5, 9])
def test_runs_of_any_length_give_every_image_once(made, monkeypatch, rows):
    monkeypatch.setattr(stores, "_RUN_BYTES", rows * 64)
    reader = Stores(made.path, ReadOptions())
    units = reader.scan().units
    assert len(units) == -(-5 // rows)
    assert len({unit.name for unit in units}) == len(units)
    assert sum(reader.probe(unit).count for unit in units) == 5
    np.testing.assert_array_equal([image.image for image in read_all(reader)], IMAGES)


def test_a_changed_image_is_named(made):
    reader = Stores(made.path, ReadOptions())
    (unit,) = reader.scan().units
    path = made.path / "images.npy"
    content = bytearray(path.read_bytes())
    content[-65] ^= 1  # the last pixel of the last image but one
    path.write_bytes(content)
    with pytest.raises(BadFile, match=r"image 3 \('s/3\.png'\) is not the one that was prepared"):
        reader.read(unit)
