"""Weights of looks come and go; those that a training ended with, and those that others wrote, stay."""

import numpy as np
import pytest

from memjax.artifacts.weights import write_weights, written_steps
from memjax.train.exports import Exports

TREE = {"w": np.zeros(3, np.float32)}


def kept(folder):
    return list(written_steps(folder))


def test_the_newest_two_looks_stay(tmp_path):
    exports = Exports(tmp_path, {})
    for step in (10, 20, 30, 40):
        exports.look(step, TREE)
    assert kept(tmp_path) == [30, 40]
    Exports(tmp_path, {}).look(50, TREE)  # of the process that goes on
    assert kept(tmp_path) == [40, 50]


def test_a_run_made_longer_keeps_what_the_shorter_ones_ended_with(tmp_path):
    first = Exports(tmp_path, {})
    for step in (10, 20):
        first.look(step, TREE)
    first.end(25, TREE)
    second = Exports(tmp_path, {})
    for step in (30, 40, 50):
        second.look(step, TREE)
    second.settle(40)  # the best one, though not the last
    third = Exports(tmp_path, {}, keep=1)
    for step in (60, 70, 80):
        third.look(step, TREE)
    third.settle_newest()
    assert kept(tmp_path) == [25, 40, 80]
    again = Exports(tmp_path, {}, keep=1)
    for step in (80, 90, 100):  # the first is a look at a step that a training ended with
        again.look(step, TREE)
    assert kept(tmp_path) == [25, 40, 80, 100]


def test_a_file_that_is_not_listed_is_never_deleted(tmp_path):
    write_weights(tmp_path, 5, TREE, {})  # as older versions did
    for text in ("", "{", '{"steps": 3}', "[]"):
        (tmp_path / "passing.json").write_text(text)
        for step in (6, 7, 8):
            Exports(tmp_path, {}).look(step, TREE)
    assert 5 in kept(tmp_path) and kept(tmp_path)[-2:] == [7, 8]


@pytest.mark.parametrize("keep", [0, 3])
def test_how_many_is_asked_for(tmp_path, keep):
    exports = Exports(tmp_path, {}, keep=keep)
    for step in range(5):
        exports.look(step, TREE)
    assert kept(tmp_path) == [0, 1, 2, 3, 4][-keep:]
