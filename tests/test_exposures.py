"""Exposures: what is computed is what a run would have counted."""

import csv
import dataclasses
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from launching import ODD_NAMES
from test_pipeline import written

from memjax.data.exposures import exposures, write_exposures
from memjax.data.pipeline import Pipeline


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return written(tmp_path_factory.mktemp("exposures") / "s", 11)


@settings(max_examples=30)
@given(batch_size=st.integers(1, 5), seed=st.integers(0, 9), steps=st.integers(0, 20), data=st.data())
def test_they_are_what_a_pipeline_gives(store, batch_size, seed, steps, data):
    ids = data.draw(st.none() | st.permutations(range(11)).map(lambda p: np.array(p[:6])))
    pipeline = Pipeline(store=store, batch_size=batch_size, seed=seed, ids=ids)
    counted = np.zeros(11, np.int64)
    for step in range(steps):
        np.add.at(counted, pipeline.ids_at(step), 1)
    found = exposures(11, batch_size=batch_size, seed=seed, steps=steps, ids=ids)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, counted)


def test_they_are_what_a_run_saw(store):
    pipeline = Pipeline(store=store, batch_size=4, seed=3)
    batches = pipeline.batches(0)
    seen = np.concatenate([next(batches)["id"] for _ in range(10)])
    batches.close()
    np.testing.assert_array_equal(exposures(11, batch_size=4, seed=3, steps=10), np.bincount(seen, minlength=11))


def test_a_long_run_takes_no_time():
    start = time.process_time()
    counts = exposures(50_000, batch_size=128, seed=0, steps=1_000_000)
    assert time.process_time() - start < 1
    assert counts.sum() == 128_000_000
    assert set(counts) == {2560}  # 128e6 / 50e3 whole epochs


def test_no_step_shows_nothing():
    assert not exposures(5, batch_size=2, seed=0, steps=0).any()


def test_the_table_names_every_image(tmp_path, store):
    named = zip(store.items, [*ODD_NAMES, *"abcde"], strict=True)
    store = type(store)(
        store.path, store.manifest, [dataclasses.replace(item, source=name, patient="p7") for item, name in named]
    )
    write_exposures(tmp_path / "e.csv", store, np.arange(11) * 3)
    with (tmp_path / "e.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = list(csv.DictReader(file))
    assert [row["source"] for row in rows] == [*ODD_NAMES, *"abcde"]
    assert [(row["id"], row["patient"], row["exposures"]) for row in rows] == [
        (str(i), "p7", str(3 * i)) for i in range(11)
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["e.csv"]
