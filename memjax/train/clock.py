"""Where the time of a run goes: steps, waiting for data, and pauses for everything that is no training."""

import contextlib
import time
from array import array
from collections.abc import Iterator

import numpy as np

_PERCENTILES = (50, 90, 99)


class Clock:
    """Measure a run, from lap to lap and as a whole. Pauses (saving, evaluating) do not count as training time."""

    def __init__(self):
        self._start = self._since = time.perf_counter()
        self._paused_s = 0.0
        self._paused_since_s = 0.0  # since the last step
        self._waited_s = 0.0
        self._steps_s = array("d")  # what each step took; 8 bytes a step, for as long as the process lives
        self._lap = _Mark()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Do something that is no training."""
        start = time.perf_counter()
        try:
            yield
        finally:
            took_s = time.perf_counter() - start
            self._paused_s += took_s
            self._paused_since_s += took_s

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Wait for the data of one step."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._waited_s += time.perf_counter() - start

    def step(self) -> None:
        """Note that a step is done: it took what has passed since the one before, pauses aside, waiting included."""
        now = time.perf_counter()
        self._steps_s.append(max(now - self._since - self._paused_since_s, 0.0))
        self._since, self._paused_since_s = now, 0.0

    def lap(self, batch_size: int) -> dict[str, float]:
        """Return how fast the steps since the last lap were, and begin a new one.

        That is images per second, seconds a step in the mean and at percentiles, and the share of waiting.
        """
        told = self._speed(self._lap, batch_size)
        self._lap = _Mark(self._trained_s(), self._waited_s, len(self._steps_s))
        return told

    def whole(self, batch_size: int) -> dict[str, float]:
        """Return the same of all steps since this process began, and `steps`, and the seconds of all pauses."""
        return self._speed(_Mark(), batch_size) | {"steps": len(self._steps_s), "paused_s": self._paused_s}

    def _trained_s(self) -> float:
        return time.perf_counter() - self._start - self._paused_s

    def _speed(self, since: "_Mark", batch_size: int) -> dict[str, float]:
        trained_s = max(self._trained_s() - since.trained_s, 1e-9)
        steps_s = np.asarray(self._steps_s[since.steps :])
        of_steps = np.percentile(steps_s, _PERCENTILES) if len(steps_s) else np.zeros(len(_PERCENTILES))
        return {
            "images_per_s": len(steps_s) * batch_size / trained_s,
            "step_s": trained_s / max(len(steps_s), 1),
            **{f"step_p{p}_s": float(value) for p, value in zip(_PERCENTILES, of_steps, strict=True)},
            "data_wait_share": (self._waited_s - since.waited_s) / trained_s,
        }


class _Mark:
    """How far a run was: seconds trained and waited, and steps done."""

    def __init__(self, trained_s: float = 0.0, waited_s: float = 0.0, steps: int = 0):
        self.trained_s, self.waited_s, self.steps = trained_s, waited_s, steps
