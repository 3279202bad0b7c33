"""A run whose batches or images were changed under it still knows what it saw, or says that it does not."""

import json

import numpy as np
import pytest
from launching import noise, store

from launch import training
from launch.training import Sets
from memjax.data.pipeline import Pipeline
from memjax.train.stretches import continued, images_seen, pieces

A, B = {"batch_size": 4}, {"batch_size": 6}


def test_a_run_that_goes_on_alike_has_one_stretch():
    assert continued(None, 0, A, before=A) == [[0, A]]
    assert continued([[0, A]], 7, A, before=None) == [[0, A]]
    assert continued(None, 7, A, before=A) == [[0, A]]
    assert continued([], 0, A, before=None) == [[0, A]]


def test_a_change_begins_a_stretch_and_what_was_lost_with_its_states_is_forgotten():
    changed = continued([[0, A]], 5, B, before=None)
    assert changed == [[0, A], [5, B]]
    assert continued(changed, 5, A, before=None) == [[0, A]]  # nothing was trained on B
    assert continued(changed, 3, A, before=None) == [[0, A]]  # back to an older state
    assert continued(None, 7, A, before=None) == [[0, None], [7, A]]  # of an older version, changed since


def test_pieces_cover_every_step_once():
    stretches = [[0, A], [5, B], [9, A]]
    for steps in range(12):
        found = list(pieces(stretches, steps))
        assert [step for first, end, _ in found for step in range(first, end)] == list(range(steps))
        assert images_seen(stretches, steps) == sum(4 if step < 5 or step >= 9 else 6 for step in range(steps))
    assert images_seen([[0, None], [3, A]], 5) is None


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    images = noise(20, 0)[..., None]
    one = store(tmp_path_factory.mktemp("s") / "s", images, split=["train"] * 20, patient=[f"p{i}" for i in range(20)])
    return Sets(one, np.arange(20), None)


def test_exposures_are_what_the_pipelines_of_all_stretches_showed(sets):
    config = {"task": "ddpm", "batch_size": 3, "seed": 0, "n_train": 0}
    changes = [(0, {}), (7, {"batch_size": 5}), (9, {"seed": 3}), (20, {"n_train": 8, "batch_size": 2})]
    stretches, counted = [], np.zeros(20, np.int64)
    ends = [first for first, _ in changes[1:]] + [31]
    for (first, change), end in zip(changes, ends, strict=True):
        config = {**config, **change}
        stretches = continued(stretches, first, training._source(config, sets), before=None)
        ids = training._chosen(config, sets.store)
        pipeline = Pipeline(store=sets.store, batch_size=config["batch_size"], seed=config["seed"], ids=ids)
        for step in range(first, end):
            np.add.at(counted, pipeline.ids_at(step), 1)
    kept = json.loads(json.dumps(stretches))  # as a checkpoint keeps them
    np.testing.assert_array_equal(training._exposures(config, sets, kept, 31), counted)
    assert training._exposures(config, sets, [[0, None], *kept[1:]], 31) is None
    other = {**kept[0][1], "data": "another store"}
    assert training._exposures(config, sets, [[0, other], *kept[1:]], 31) is None
