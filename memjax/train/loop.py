"""The one training loop: what happens at which step, for every task.

A checkpoint at step k means that k batches are consumed. Batch k is a function of (seed, k), so a run that is continued
is the run that was not interrupted, bit for bit where the device's arithmetic is. The line that trains does not wait
for its step, only for the one before, so that the queue stays short and the device busy.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Key

from memjax.artifacts.checkpoint import Checkpoints
from memjax.artifacts.images import grid, write_png
from memjax.artifacts.metrics import Metrics, read_metrics
from memjax.artifacts.run import Run
from memjax.artifacts.weights import write_weights
from memjax.errors import UserError
from memjax.keys import key_for
from memjax.mesh import placed, put, replicated, state_shardings
from memjax.nn.once import compiler_options
from memjax.train.patience import Patience
from memjax.train.record import Record
from memjax.train.task import State, Task
from memjax.trees import count

Local = Mapping[str, np.ndarray]  # the rows of a batch that this process supplies


@dataclasses.dataclass(frozen=True, kw_only=True)
class Every:
    """Steps between two of each; 0: never (but `log` and `save`). All but the monitor come after the last step, too."""

    log: int = 50
    save: int = 1000
    evaluate: int = 1000
    preview: int = 1000
    monitor: int = 0

    def __post_init__(self):
        for name, value in dataclasses.asdict(self).items():
            if value < (1 if name in ("log", "save") else 0):
                never = "" if name in ("log", "save") else ", or 0 for never"
                raise UserError(f"every.{name}={value} is no number of steps; give 1 or more{never}.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """Where batches come from, each only the rows of this process.

    `batches_from(step)` never ends and may be closed; `sets()` are whole sets of images to evaluate on, by name, their
    tails padded and masked.
    """

    batches_from: Callable[[int], Generator[Local, None, None]]
    sets: Callable[[], Mapping[str, Iterable[Local]]] = dict


@runtime_checkable
class Monitor(Protocol):
    """Look at a state while it trains: return scalars to tell, and whether it copies."""

    def __call__(self, step: int, state: State) -> tuple[dict[str, float], bool]: ...  # noqa: D102  (the class says it)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """After how many steps `fit` ended, and why, if not because it was done."""

    step: int
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
    is_asked_to_stop: Callable[[int], bool] = lambda step: False,
    progress: Callable[[int, int], Any] = lambda first, last: None,
    profile: tuple[int, int] | None = None,
    tell: Callable[[str], object] = lambda text: None,
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
      is_asked_to_stop: asked after every step, the same in all processes; if so, the state is saved.
      progress: makes a progress bar from the first and the last step.
      profile: the steps between which the profiler runs.
      tell: called with what a person wants to know.

    Raises:
      UserError: a value that is not finite, a full disk, checkpoints that do not fit the task.
    """
    writes = jax.process_index() == 0
    state, step, shardings = _first_or_restored(task, mesh, seed, checkpoints, tell)
    if patience:
        patience.remember(read_metrics(run.path / "metrics.jsonl"), until=step)
    is_done = step >= steps or bool(patience and patience.is_over)
    is_newest = patience.best_step == step if patience else is_done
    if is_newest:
        write_weights(run.weights_dir, step, task.weights(state), about)  # it may have been killed before it did
    if is_done:
        return Outcome(step=step, best_step=patience.best_step if patience else None)
    is_copying = was_asked = is_over = False
    with contextlib.ExitStack() as stack:
        profiler = _Profiler(profile, run.path / "profile")
        stack.callback(profiler.stop)
        batches = stack.enter_context(contextlib.closing(data.batches_from(step)))
        batch = put(mesh, next(batches))
        step_fn = _compiled(task, state, shardings, batch, mesh, tell)
        metrics = Metrics(run.path, resume_at=step) if writes else None
        record = stack.enter_context(Record(metrics, progress(step, steps) if writes else None, task.batch_size))
        while step < steps and not (is_copying or was_asked or is_over):
            profiler.at(step)
            with jax.transfer_guard("disallow"):
                state, scalars = step_fn(state, batch)
            step += 1
            record.step(scalars)
            is_last = step == steps
            was_asked = is_asked_to_stop(step) and not is_last
            if not (is_last or was_asked):
                with record.clock.waiting():
                    batch = put(mesh, next(batches))

            def due(steps_between: int, step: int = step, also: bool = is_last) -> bool:
                return steps_between > 0 and (step % steps_between == 0 or also)

            is_look = due(every.monitor, also=False) and not was_asked
            is_evaluated = due(every.evaluate) and not was_asked
            is_saved = due(every.save, also=is_last or was_asked) or is_look
            if due(every.log) or is_saved or (patience and is_evaluated):  # what is saved is finite
                record.log(step)
            is_best = False
            with record.clock.paused():
                if is_evaluated:
                    told = task.evaluate(state, _placed(mesh, data))
                    record.tell(step, told)
                    if patience:
                        is_best, is_over = patience.look(step, told), patience.is_over
                if due(every.preview) and not was_asked:
                    _preview(task.preview(state, _placed(mesh, data)), step, run.previews_dir if writes else None)
                if is_look and monitor:
                    found, is_copying = monitor(step, state)
                    record.tell(step, found)
                if (is_saved or is_best or is_over) and not is_copying:
                    checkpoints.save(step, state, {"step": step})
                if (is_best if patience else is_look or is_last) and not is_copying:
                    write_weights(run.weights_dir, step, task.weights(state), about)
                if (is_best or is_look) and not is_copying:
                    checkpoints.keep_also(step)
        checkpoints.wait()
    best_step = patience.best_step if patience else None
    return Outcome(step=step, was_asked=was_asked, is_copying=is_copying, best_step=best_step)


def _first_or_restored(
    task: Task, mesh: Mesh, seed: int, checkpoints: Checkpoints, tell: Callable[[str], object]
) -> tuple[State, int, Any]:
    """Return the state to begin with, its step, and its shardings; nothing is allocated that is then overwritten."""
    key = key_for(seed, "init")
    abstract = jax.eval_shape(task.init, key)
    shardings = state_shardings(mesh, abstract)
    restored = checkpoints.restore(placed(abstract, shardings), tell=tell)
    if restored is None:
        return _born(task, key, shardings), 0, shardings
    state, position, step = restored
    assert position["step"] == step, (position, step)
    tell(f"going on after step {step}")
    return state, step, shardings


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


def _preview(images: Mapping[str, np.ndarray], step: int, folder: Path | None) -> None:
    if folder is not None:
        for name, several in images.items():
            write_png(folder / f"{name}_{step:08d}.png", grid(several))


class _Profiler:
    """Trace the steps from `steps[0]` to before `steps[1]`."""

    def __init__(self, steps: tuple[int, int] | None, folder: Path):
        self._steps = steps
        self._folder = folder
        self._runs = False

    def at(self, step: int) -> None:
        """Start or stop before this step."""
        if self._steps and step == self._steps[0]:
            jax.profiler.start_trace(self._folder)
            self._runs = True
        if self._steps and step == self._steps[1]:
            self.stop()

    def stop(self) -> None:
        """Stop, if it runs."""
        if self._runs:
            jax.profiler.stop_trace()
            self._runs = False
