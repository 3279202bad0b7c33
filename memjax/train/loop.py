"""The one training loop: what happens at which step, for every task.

A checkpoint at step k means that k batches are consumed. Batch k is a function of (seed, k), so a run that is continued
is the run that was not interrupted, bit for bit where the device's arithmetic is. So are its metrics: a run that is
asked to stop saves at once, and whatever it would have told first (an evaluation that was due, means of the steps since
the last log) is kept with the state and told when it goes on. The line that trains does not wait for its step, only for
the one before, so that the queue stays short and the device busy.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Key

from memjax.artifacts.checkpoint import Checkpoints
from memjax.artifacts.metrics import Metrics, read_metrics
from memjax.artifacts.run import Run
from memjax.keys import key_for
from memjax.mesh import placed, put, replicated, state_shardings
from memjax.nn.once import compiler_options
from memjax.train.every import LOOKS, Every
from memjax.train.exports import Exports
from memjax.train.looks import Looks, Monitor, Seen
from memjax.train.patience import Patience
from memjax.train.placement import placement
from memjax.train.profiler import Profiler, Profiling
from memjax.train.record import Record
from memjax.train.stretches import Source, Stretches, continued, images_seen
from memjax.train.task import State, Task
from memjax.trees import count

Local = Mapping[str, np.ndarray]  # the rows of a batch that this process supplies


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """Where batches come from, each only the rows of this process.

    `batches_from(step)` never ends and may be closed; `sets()` are whole sets of images to evaluate on, by name, their
    tails padded and masked. `source` is what decides which images are seen (JSON-like, with `batch_size`), and
    `source_before` what it was for a run whose states do not say; None: not known.
    """

    batches_from: Callable[[int], Generator[Local, None, None]]
    sets: Callable[[], Mapping[str, Iterable[Local]]] = dict
    source: Source = None
    source_before: Source = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """After how many steps `fit` ended, why, if not because it was done, and what it was trained on (`stretches`)."""

    step: int
    stretches: Stretches
    was_asked: bool = False
    is_copying: bool = False
    best_step: int | None = None  # of whom followed what held-out images say


def fit(
    task: Task,
    data: Data,
    *,
    mesh: Mesh,
    seed: int,
    steps: int,
    every: Every,
    run: Run,
    checkpoints: Checkpoints,
    about: Mapping[str, Any],
    monitor: Monitor | None = None,
    patience: Patience | None = None,
    keep_weights: int = 2,
    is_asked_to_stop: Callable[[int], bool] = lambda step: False,
    progress: Callable[[int, int], Any] = lambda first, last: None,
    profiling: Profiling | None = None,
    tell: Callable[[str], object] = lambda text: None,
    announce: Callable[[str], object] = lambda text: None,
) -> Outcome:
    """Train from wherever the run stands to step `steps`; the last state is saved and its weights are written.

    Args:
      task: what is trained.
      data: what it is trained and evaluated on.
      mesh: where everything lives.
      seed: of the first parameters.
      steps: when to end.
      every: when to do what else.
      run: the run's folder.
      checkpoints: where states are kept.
      about: written into exported weights.
      monitor: looks at the state every `every.monitor` steps. When it sees copying the run ends, and the newest
        weights are those of its last look, whose checkpoint is kept.
      patience: follows the evaluations, and ends the run when they get no better. The newest weights are those of the
        best one, whose checkpoint is kept.
      keep_weights: how many looks' weights stay, see `Exports`; 0: all.
      is_asked_to_stop: asked after every step, the same in all processes; if so, the state is saved.
      progress: makes a progress bar from the first and the last step.
      profiling: which steps this process is profiled in.
      tell: called with what a person wants to know of the run.
      announce: called with a line about this process, in each.

    Raises:
      UserError: a value that is not finite, a full disk, checkpoints that do not fit the task.
    """
    writes = jax.process_index() == 0
    state, position, shardings = _first_or_restored(task, mesh, seed, checkpoints, tell)
    step, owed = position["step"], frozenset(position.get("owed", ()))
    stretches = continued(position.get("trained_on"), step, data.source, before=data.source_before)
    exports = Exports(run.weights_dir, about, keep=keep_weights)
    told = read_metrics(run.path / "metrics.jsonl")
    if patience:
        patience.remember(told, until=step - ("evaluate" in owed))
    if step >= steps or (patience and patience.is_over):
        best_step = patience.best_step if patience else step
        if best_step == step:
            exports.end(step, task.weights(state))  # it may have been killed before it did
        elif best_step is not None:
            exports.settle(best_step)
        return Outcome(step=step, stretches=stretches, best_step=best_step if patience else None)
    if patience and patience.best_step == step:
        exports.look(step, task.weights(state))

    announce(placement(mesh, state, shardings, task.batch_size))
    was_asked, seen = False, Seen()
    with contextlib.ExitStack() as stack:
        batches = stack.enter_context(contextlib.closing(data.batches_from(step)))
        batch = put(mesh, next(batches))
        step_fn = _compiled(task, state, shardings, batch, mesh, tell)
        metrics = Metrics(run.path, resume_at=step) if writes else None
        bar = progress(step, steps) if writes else None
        record = stack.enter_context(
            Record(
                metrics,
                bar,
                task.batch_size,
                before=position.get("window", ()),
                images_before=(images_seen(stretches, step) or step * task.batch_size) - step * task.batch_size,
            )
        )
        profiler = Profiler(run.path / "profile", record.clock, profiling or Profiling(), tell=announce)
        stack.callback(profiler.stop)
        looks = Looks(
            task,
            lambda: _placed(mesh, data),
            record,
            previews=run.previews_dir if writes else None,
            monitor=monitor,
            patience=patience,
        )

        def keep(seen: Seen, due: frozenset[str], *, is_last: bool, later: Mapping[str, Any]) -> None:
            """Save the state and write its weights, where that is due or what was seen asks for it."""
            if seen.is_copying:
                return
            is_look = "monitor" in due
            if "save" in due or is_look or seen.is_best or seen.is_over:
                checkpoints.save(step, state, {"step": step, "trained_on": stretches, **later})
            if seen.is_best if patience else is_look or is_last:
                (exports.end if is_last else exports.look)(step, task.weights(state))
            if seen.is_best or is_look:
                checkpoints.keep_also(step)

        if owed:
            with record.clock.paused():
                seen = looks.at(step, state, owed, told={name for row in told if row["step"] == step for name in row})
                keep(seen, owed, is_last=False, later={})
        while step < steps and not (seen.ends or was_asked):
            profiler.at(step, state)
            with jax.transfer_guard("disallow"):
                state, scalars = step_fn(state, batch)
            step += 1
            record.step(scalars)
            is_last = step == steps
            was_asked = is_asked_to_stop(step) and not is_last
            if not (is_last or was_asked):
                with record.clock.waiting():
                    batch = put(mesh, next(batches))
            due = every.due(step, is_last=is_last)
            later = {"owed": [], "window": []}  # what is told when the run goes on
            if due & {"log", "save", "monitor"} or (patience and "evaluate" in due):  # what is saved is finite
                record.log(step)
            elif was_asked:
                later["window"] = record.window(step)
            if was_asked:
                later["owed"] = sorted(due & LOOKS)
                due = frozenset({"save"})
            with record.clock.paused():
                seen = looks.at(step, state, due & LOOKS)
                keep(seen, due, is_last=is_last, later=later)
        with record.clock.paused():
            checkpoints.wait()
        summary = record.summary()
    if step > position["step"]:
        tell(summary)
    best_step = patience.best_step if patience else None
    if not was_asked:
        exports.settle_newest()
    return Outcome(step=step, stretches=stretches, was_asked=was_asked, is_copying=seen.is_copying, best_step=best_step)


def _first_or_restored(
    task: Task, mesh: Mesh, seed: int, checkpoints: Checkpoints, tell: Callable[[str], object]
) -> tuple[State, dict[str, Any], Any]:
    """Return the state to begin with, its position, and its shardings; nothing is allocated to be overwritten."""
    key = key_for(seed, "init")
    abstract = jax.eval_shape(task.init, key)
    shardings = state_shardings(mesh, abstract)
    restored = checkpoints.restore(placed(abstract, shardings), tell=tell)
    if restored is None:
        return _born(task, key, shardings), {"step": 0, "trained_on": []}, shardings
    state, position, step = restored
    assert position["step"] == step, (position, step)
    tell(f"going on after step {step}")
    return state, position, shardings


def _born(task: Task, key: Key[Array, ""], shardings: Any) -> State:
    """Make the first state in its place. On processors without optimizing what runs once: 10 s would become 3."""
    options = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    return jax.jit(task.init, out_shardings=shardings, compiler_options=options)(key)


def jitted_step(task: Task, shardings: Any, mesh: Mesh) -> Any:
    """Return a task's step as it is compiled everywhere: its state donated, and where it was afterwards."""
    return jax.jit(
        task.step,
        donate_argnums=0,
        out_shardings=(shardings, replicated(mesh)),
        compiler_options=compiler_options(mesh.devices.flat[0].platform),
    )


def _compiled(
    task: Task, state: State, shardings: Any, batch: Mapping[str, jax.Array], mesh: Mesh, tell: Callable[[str], object]
) -> Callable:
    """Compile the step once, ahead of time, so that what it takes can be told."""
    start = time.perf_counter()
    compiled = jitted_step(task, shardings, mesh).lower(state, batch).compile()
    took_s = time.perf_counter() - start
    memory = compiled.memory_analysis()
    held = f", {memory.temp_size_in_bytes / 2**20:,.0f} MiB of temporaries a device" if memory else ""
    tell(f"{count(state.params):,} parameters, {mesh.size} device(s); the step compiled in {took_s:.1f} s{held}")
    return compiled


def _placed(mesh: Mesh, data: Data) -> dict[str, Iterable[dict[str, jax.Array]]]:
    """Return the sets to evaluate on, each batch placed when it is asked for."""
    return {name: (put(mesh, one) for one in batches) for name, batches in data.sets().items()}
