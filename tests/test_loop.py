"""The loop on a model of one line: what it does when, and that a run that is continued is the run."""

import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from memjax.artifacts.checkpoint import Checkpoints
from memjax.artifacts.metrics import read_metrics
from memjax.artifacts.run import Run
from memjax.artifacts.weights import read_weights, written_steps
from memjax.errors import UserError
from memjax.mesh import train_mesh
from memjax.train.ema import Ema
from memjax.train.loop import Data, Every, fit
from memjax.train.optim import make_optimizer
from memjax.train.profiler import Profiling
from memjax.train.state import first_state
from memjax.train.update import mean_gradient, updated

BATCH = 8


class Line:
    """y = w x by least squares; counts how often its step is traced."""

    batch_size = BATCH

    def __init__(self):
        self.optimizer = make_optimizer(lr=0.05)
        self.traced = 0

    def init(self, key):
        return first_state({"w": jax.random.normal(key, (3, 2))}, self.optimizer.transform)

    def step(self, state, batch):
        self.traced += 1

        def losses(params, part, number):
            return jnp.sum(jnp.square(part["x"] @ params["w"] - part["y"]), -1)

        loss, gradient = mean_gradient(losses, state.params, batch, 1)
        state, metrics = updated(state, gradient, self.optimizer, Ema(decay=0.9), BATCH)
        return state, {"loss": loss, **metrics}

    def evaluate(self, state, batches):
        rows = {name: [np.asarray(batch["x"]) for batch in several] for name, several in batches.items()}
        told = {f"{name}/rows": float(sum(map(len, several))) for name, several in rows.items()}
        return told | {"heldout/w": float(np.asarray(state.ema["w"]).sum())}

    def draw(self, state, seed_ids):
        raise NotImplementedError  # nobody asks a line for pictures

    def preview(self, state, batches):
        return {"line": np.zeros((4, 8, 8, 1), np.float32)}

    def weights(self, state):
        return state.ema


def batches_from(step):
    while True:
        rng = np.random.default_rng([step, 7])
        x = rng.normal(size=(BATCH, 3)).astype(np.float32)
        yield {"x": x, "y": x @ np.float32([[1, 2], [3, 4], [5, 6]])}
        step += 1


def sets():
    return {"heldout": (next(batches_from(step)) for step in range(3))}


def train(folder, steps, *, task=None, every=None, data=None, **more):
    """Train in a folder; return the outcome and what was told."""
    every = every or Every(log=2, save=4, evaluate=5, preview=5)
    data = data or Data(batches_from=batches_from, sets=sets)
    told = []
    with Run.open(folder, {"seed": 0, "steps": steps}, facts={}) as run, Checkpoints(run.checkpoints_dir) as kept:
        outcome = fit(
            task or Line(),
            data,
            mesh=train_mesh(),
            seed=0,
            steps=steps,
            every=every,
            run=run,
            checkpoints=kept,
            about={"config": {}},
            tell=told.append,
            **more,
        )
    return outcome, told


def weights(folder):
    return read_weights(folder / "weights")[0]["w"]


TIMES = ("images_per_s", "step_s", "step_p50_s", "step_p90_s", "step_p99_s", "data_wait_share")


def rows(folder):
    """Return all that the metrics tell, in order, but how long it took."""
    return [{k: v for k, v in row.items() if k not in TIMES} for row in read_metrics(folder / "metrics.jsonl")]


def curve(folder, name="loss"):
    return {row["step"]: row[name] for row in read_metrics(folder / "metrics.jsonl") if name in row}


def test_what_happens_when(tmp_path):
    task = Line()
    outcome, told = train(tmp_path / "run", 11, task=task)
    assert (outcome.step, outcome.was_asked, outcome.is_copying) == (11, False, False)
    assert task.traced == 1
    assert list(curve(tmp_path / "run")) == [2, 4, 6, 8, 10, 11]
    assert curve(tmp_path / "run", "heldout/rows") == {5: 24.0, 10: 24.0, 11: 24.0}
    assert sorted(p.name for p in (tmp_path / "run" / "previews").iterdir()) == [
        f"line_{step:08d}.png" for step in (5, 10, 11)
    ]
    with Image.open(tmp_path / "run" / "previews" / "line_00000005.png") as picture:
        assert picture.size[0] >= 16
    assert [path.stem for path in (tmp_path / "run" / "weights").iterdir()] == ["step_00000011"]
    last = read_metrics(tmp_path / "run" / "metrics.jsonl")[-1] | read_metrics(tmp_path / "run" / "metrics.jsonl")[-2]
    assert {"loss", "grad_norm", "lr", *TIMES} <= set(last)
    assert last["examples_seen"] == 11 * BATCH
    assert "1 device" not in told[0] and "8 device(s)" in told[0] and "6 parameters" in told[0]
    assert told[-1].startswith("11 steps at ")
    assert curve(tmp_path / "run")[11] < curve(tmp_path / "run")[2]


def test_five_and_five_steps_are_ten_bit_for_bit(tmp_path):
    train(tmp_path / "whole", 10)
    train(tmp_path / "parts", 5)
    outcome, told = train(tmp_path / "parts", 10)
    assert told[0] == "going on after step 5"
    np.testing.assert_array_equal(weights(tmp_path / "parts"), weights(tmp_path / "whole"))
    whole, parts = curve(tmp_path / "whole"), curve(tmp_path / "parts")
    assert {step: parts[step] for step in (8, 10)} == {step: whole[step] for step in (8, 10)}
    assert outcome.step == 10
    (next((tmp_path / "parts" / "weights").glob("*10.safetensors"))).unlink()  # killed after its last save
    task = Line()
    assert train(tmp_path / "parts", 10, task=task)[0].step == 10 and task.traced == 0
    np.testing.assert_array_equal(weights(tmp_path / "parts"), weights(tmp_path / "whole"))


def test_a_request_to_stop_saves_and_the_run_goes_on_from_there(tmp_path):
    outcome, _ = train(tmp_path / "run", 10, is_asked_to_stop=lambda step: step == 3)
    assert (outcome.step, outcome.was_asked) == (3, True)
    assert not (tmp_path / "run" / "weights").exists()
    _, told = train(tmp_path / "run", 10)
    assert told[0] == "going on after step 3"
    train(tmp_path / "whole", 10)
    np.testing.assert_array_equal(weights(tmp_path / "run"), weights(tmp_path / "whole"))


def test_a_value_that_is_not_finite_ends_the_run_by_name_and_step(tmp_path):
    def diverging(step):
        for number, one in enumerate(batches_from(step), step):
            yield one if number < 5 else {**one, "y": one["y"] * np.float32(np.nan)}

    with pytest.raises(UserError, match=r"nan at step 6 .*loss nan"):
        train(tmp_path / "run", 10, data=Data(batches_from=diverging), every=Every(log=100, save=4))
    with Checkpoints(tmp_path / "run" / "checkpoints") as kept:
        assert kept.latest() == 4


class Watch:
    """A monitor that sees copying from a step on."""

    def __init__(self, from_step):
        self.from_step, self.seen = from_step, []

    def __call__(self, step, state):
        self.seen.append((step, int(state.step)))
        return {"monitor/copied_fraction": 0.5}, step >= self.from_step


def test_the_monitor_ends_a_run_and_what_is_kept_is_from_before(tmp_path):
    watch = Watch(from_step=6)
    every = Every(log=1, save=1, evaluate=0, preview=0, monitor=2)
    outcome, _ = train(tmp_path / "run", 20, every=every, monitor=watch)
    assert outcome.is_copying and outcome.step == 6
    assert watch.seen == [(2, 2), (4, 4), (6, 6)]
    with Checkpoints(tmp_path / "run" / "checkpoints") as kept:
        assert kept.steps() == [4, 5]
    assert list(written_steps(tmp_path / "run" / "weights")) == [2, 4]
    assert list(curve(tmp_path / "run", "monitor/copied_fraction")) == [2, 4, 6]


def test_an_interrupted_run_tells_what_one_that_was_not_tells(tmp_path):
    """At step 3 nothing is due, at 5 everything that looks, at 10 a log, too; one process is killed early."""
    every, folder, whole = Every(log=2, save=4, evaluate=5, preview=5, monitor=5), tmp_path / "run", tmp_path / "whole"

    def go_on(folder, stop=None, **more):
        return train(
            folder, 12, every=every, monitor=Watch(from_step=99), is_asked_to_stop=lambda step: step == stop, **more
        )

    def dying(step):
        yield from itertools.islice(batches_from(step), 1)
        raise RuntimeError("killed")

    for stop in (3, 5):
        go_on(folder, stop)
    assert not any(row["step"] == 5 and "heldout/w" in row for row in rows(folder))
    with pytest.raises(RuntimeError, match="killed"):
        go_on(folder, data=Data(batches_from=dying, sets=sets))
    assert any(row["step"] == 5 and "heldout/w" in row for row in rows(folder))
    go_on(folder, 10)
    go_on(folder)
    go_on(whole)
    assert rows(folder) == rows(whole)
    for part in ("previews", "weights"):
        assert {p.name for p in (folder / part).iterdir()} == {p.name for p in (whole / part).iterdir()}


def test_copying_at_the_step_of_an_interruption_is_seen_when_the_run_goes_on(tmp_path):
    every = Every(log=1, save=1, evaluate=0, preview=0, monitor=2)
    train(tmp_path / "run", 20, every=every, monitor=Watch(from_step=4), is_asked_to_stop=lambda step: step == 4)
    for _ in range(2):  # and whenever it goes on again
        outcome, _ = train(tmp_path / "run", 20, every=every, monitor=Watch(from_step=4))
        assert (outcome.step, outcome.is_copying) == (4, True)
        assert list(written_steps(tmp_path / "run" / "weights")) == [2]
        assert list(curve(tmp_path / "run", "monitor/copied_fraction")) == [2, 4]


def test_what_a_run_was_trained_on_is_kept_with_its_states(tmp_path):
    small, large = ({"batch_size": size, "seed": 0} for size in (4, BATCH))
    data = Data(batches_from=batches_from, sets=sets, source=small)
    assert train(tmp_path / "run", 5, data=data)[0].stretches == [[0, small]]
    changed = Data(batches_from=batches_from, sets=sets, source=large)
    for steps in (8, 10, 10):
        assert train(tmp_path / "run", steps, data=changed)[0].stretches == [[0, small], [5, large]]
    assert curve(tmp_path / "run", "examples_seen")[10] == 5 * 4 + 5 * BATCH


class NoCheckpoints(Checkpoints):
    """Stands for checkpoints, whose making other processes take part in."""

    def __init__(self):
        pass

    def restore(self, abstract_state, *, tell=print):
        return None

    def save(self, step, state, position):
        pass

    def keep_also(self, step):
        pass

    def wait(self):
        pass


def test_only_the_first_process_writes(tmp_path, monkeypatch):
    bars = []
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    announced = []
    with Run.open(tmp_path / "run", {}, facts={}, may_write=False) as run:
        outcome = fit(
            Line(),
            Data(batches_from=batches_from, sets=sets),
            mesh=train_mesh(),
            seed=0,
            steps=4,
            every=Every(log=1, save=2, evaluate=2, preview=2, monitor=2),
            run=run,
            checkpoints=NoCheckpoints(),
            about={},
            monitor=Watch(from_step=99),
            progress=lambda first, last: bars.append(last),
            announce=announced.append,
        )
    assert outcome.step == 4
    assert not list(tmp_path.iterdir()) and not bars
    assert len(announced) == 1 and announced[0].startswith("process 1 of ")


def test_steps_are_profiled_where_that_is_asked_for_and_training_goes_on(tmp_path):
    answers = iter([0, 2, 5, 0, 0, 0, 1, 0, 0, 0, 0])  # the second request comes while the first is served
    announced = []
    profiling = Profiling(window=(4, 6), asked=lambda: next(answers))
    outcome, _ = train(tmp_path / "run", 10, profiling=profiling, announce=announced.append)
    assert outcome.step == 10
    folders = sorted(path.name for path in (tmp_path / "run" / "profile").iterdir())
    assert folders == ["step_00000001", "step_00000004", "step_00000006"]
    for name in folders:
        assert list((tmp_path / "run" / "profile" / name).rglob("*.xplane.pb"))
        assert sum(str(tmp_path / "run" / "profile" / name) in text for text in announced) == 1


def test_a_profile_that_cannot_be_made_is_told_and_training_goes_on(tmp_path, monkeypatch):
    def broken(folder):
        raise RuntimeError("only one at a time")

    monkeypatch.setattr(jax.profiler, "start_trace", broken)
    announced = []
    outcome, _ = train(tmp_path / "run", 4, profiling=Profiling(window=(1, 3)), announce=announced.append)
    assert outcome.step == 4
    assert sum("could not be profiled (only one at a time)" in text for text in announced) == 1


def test_batches_are_closed_whatever_happens(tmp_path):
    closed = []

    def batches(step):
        try:
            yield from batches_from(step)
        finally:
            closed.append(step)

    train(tmp_path / "run", 3, data=Data(batches_from=batches))
    task = Line()
    task.preview = lambda state, batches: (_ for _ in ()).throw(RuntimeError("no picture"))
    with pytest.raises(RuntimeError, match="no picture"):
        train(tmp_path / "other", 6, task=task, data=Data(batches_from=batches))
    assert closed == [0, 0]


def test_numbers_of_steps_are_checked():
    with pytest.raises(UserError, match=r"every\.log=0"):
        Every(log=0)
    with pytest.raises(UserError, match=r"every\.preview=-1"):
        Every(preview=-1)


def test_the_config_is_written_before_anything_is_trained(tmp_path):
    class Broken(Line):
        def init(self, key):
            raise RuntimeError("not yet")

    with pytest.raises(RuntimeError, match="not yet"):
        train(tmp_path / "run", 3, task=Broken())
    assert json.loads((tmp_path / "run" / "config.json").read_text())["config"] == {"seed": 0, "steps": 3}
