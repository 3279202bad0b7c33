"""Windows of steps under JAX's profiler: at a step that was asked for, or when somebody asks while a run trains."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax

from memjax.train.clock import Clock


@dataclasses.dataclass(frozen=True, kw_only=True)
class Profiling:
    """Which steps are traced: from `window[0]` to before `window[1]`, and whenever somebody asks.

    `asked` is called before each step: how many steps from here on are to be traced, 0 for none. While a trace runs,
    the answer is dropped.
    """

    window: tuple[int, int] | None = None
    asked: Callable[[], int] = lambda: 0


class Profiler:
    """Trace some steps of this process into `folder`/step_FIRST, for TensorBoard or Perfetto; training goes on.

    A trace that cannot be made or written is told of, and that is all.

    Args:
      folder: of all windows.
      clock: is paused while a trace is begun and written.
      profiling: which steps.
      tell: called with where the traces are.
    """

    def __init__(
        self,
        folder: Path,
        clock: Clock,
        profiling: Profiling,
        *,
        tell: Callable[[str], object] = lambda text: None,
    ):
        self._folder = folder
        self._clock = clock
        self._profiling = profiling
        self._tell = tell
        self._end: int | None = None  # the step before which the trace that runs is to end

    def at(self, step: int, state: Any) -> None:
        """Begin or end before this step; all that was queued before is waited for, so that a trace has whole steps."""
        n_asked = self._profiling.asked()
        if self._end is not None and step >= self._end:
            jax.block_until_ready(state)
            self.stop()
        if self._end is not None:
            return
        first, last = self._profiling.window or (-1, -1)
        if step == first:
            self._begin(first, last, state)
        elif n_asked:
            self._begin(step, step + n_asked, state)

    def stop(self) -> None:
        """Write the trace that runs, if one does."""
        if self._end is None:
            return
        self._end = None
        with self._clock.paused(), self._told():
            jax.profiler.stop_trace()

    def _begin(self, first: int, end: int, state: Any) -> None:
        jax.block_until_ready(state)
        folder = self._folder / f"step_{first:08d}"
        if jax.process_count() > 1:  # those of one host would write one file
            folder /= f"process_{jax.process_index():04d}"
        with self._clock.paused(), self._told():
            jax.profiler.start_trace(folder)
            self._end = end
            self._tell(f"profiling steps {first + 1} to {end} into {folder}; training goes on")

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (OSError, RuntimeError) as error:  # another trace runs, a full disk: no reason to end a training
            self._tell(f"these steps could not be profiled ({' '.join(str(error).split())}); training goes on")
