"""A run that is no better for a while ends, and its weights are the best ones, however often it was interrupted."""

import shutil

import numpy as np
import pytest
from test_loop import Line, curve, train

from memjax.artifacts.checkpoint import Checkpoints
from memjax.artifacts.weights import written_steps
from memjax.errors import UserError
from memjax.train.loop import Every
from memjax.train.patience import Patience

SAID = {2: 0.1, 4: 0.5, 6: 0.3, 8: 0.5, 10: 0.4, 12: 0.2, 14: 0.9}
EVERY = Every(log=1, save=100, evaluate=2, preview=0)


class Told(Line):
    """A line whose held-out numbers are planted."""

    def evaluate(self, state, batches):
        return {"heldout/recall": SAID[int(state.step)]}


def run(folder, steps=14, **more):
    patience = Patience(metric="heldout/recall", patience=2)
    return train(folder, steps, task=Told(), every=EVERY, patience=patience, **more)[0]


def test_it_ends_after_looks_that_are_worse_and_keeps_the_best(tmp_path):
    outcome = run(tmp_path / "run")
    assert (outcome.step, outcome.best_step, outcome.was_asked) == (12, 8, False)
    assert list(written_steps(tmp_path / "run" / "weights")) == [4, 8]  # the newest two of those that were best
    with Checkpoints(tmp_path / "run" / "checkpoints") as kept:
        assert {8, 12} <= set(kept.steps())  # to go on from, and the best
    again = run(tmp_path / "run")
    assert (again.step, again.best_step) == (12, 8)
    assert list(curve(tmp_path / "run", "heldout/recall")) == [2, 4, 6, 8, 10, 12]


def test_what_was_told_before_an_interruption_counts(tmp_path):
    assert run(tmp_path / "run", is_asked_to_stop=lambda step: step == 11).was_asked
    outcome = run(tmp_path / "run")
    assert (outcome.step, outcome.best_step) == (12, 8)


def test_killed_before_the_best_weights_were_written_it_writes_them_when_it_goes_on(tmp_path):
    run(tmp_path / "run", is_asked_to_stop=lambda step: step == 9)
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "9")
    (tmp_path / "run" / "weights" / "step_00000008.safetensors").unlink()
    assert run(tmp_path / "run").best_step == 8
    assert max(written_steps(tmp_path / "run" / "weights")) == 8


def test_a_run_to_its_end_has_the_best_weights_too(tmp_path):
    outcome = run(tmp_path / "run", steps=10)
    assert (outcome.step, outcome.best_step) == (10, 8)
    assert max(written_steps(tmp_path / "run" / "weights")) == 8


def test_ties_are_no_worse_and_a_name_that_is_not_told_is_refused():
    patience = Patience(metric="a", patience=1)
    assert [patience.look(step, {"a": 1.0}) for step in range(5)] == [True] * 5 and not patience.is_over
    assert not patience.look(6, {"a": np.nextafter(1.0, 0)}) and patience.is_over and patience.best_step == 4
    with pytest.raises(UserError, match=r"stop\.metric='a'.*heldout/b"):
        patience.look(7, {"heldout/b": 1.0})
    with pytest.raises(UserError, match=r"stop\.patience=0"):
        Patience(metric="a", patience=0)
