"""Where the time of a run goes: steps, waiting for data, and pauses for everything that is no training."""

import contextlib
import time
from collections.abc import Iterator


class Clock:
    """Measure a run between two laps. Pauses (saving, evaluating) do not count as training time."""

    def __init__(self):
        self._start = time.perf_counter()
        self._paused_s = 0.0
        self._waited_s = 0.0
        self._steps = 0

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Do something that is no training."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._paused_s += time.perf_counter() - start

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Wait for the data of one step."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._waited_s += time.perf_counter() - start

    def step(self) -> None:
        """Count a step."""
        self._steps += 1

    def lap(self, batch_size: int) -> dict[str, float]:
        """Return images per second, seconds a step and the share of waiting since the last lap, and begin a new one."""
        trained_s = max(time.perf_counter() - self._start - self._paused_s, 1e-9)
        told = {
            "images_per_s": self._steps * batch_size / trained_s,
            "step_s": trained_s / max(self._steps, 1),
            "data_wait_share": self._waited_s / trained_s,
        }
        self.__init__()
        return told
