"""What a run tells of its steps: metrics on disk, a progress bar, and an end to runs that diverge."""

from collections.abc import Mapping
from types import TracebackType
from typing import Any

import jax
import numpy as np

from memjax.artifacts.metrics import Metrics, finite
from memjax.train.clock import Clock


class Record:
    """Collect the scalars of steps; `log` reads them from the device, checks them and tells their means.

    Only the process that writes has `metrics` and a bar; all of them check.
    """

    def __init__(self, metrics: Metrics | None, bar: Any | None, batch_size: int):
        self.clock = Clock()
        self._metrics = metrics
        self._bar = bar
        self._batch_size = batch_size
        self._steps: list[dict[str, jax.Array]] = []

    def __enter__(self) -> "Record":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for resource in (self._metrics, self._bar):
            if resource is not None:
                resource.close()

    def step(self, scalars: dict[str, jax.Array]) -> None:
        """Note a step that was just queued, and wait for the one before: the queue stays short, the device busy."""
        if self._steps:
            jax.block_until_ready(self._steps[-1])
        self._steps.append(scalars)
        self.clock.step()
        if self._bar is not None:
            self._bar.update(1)

    def log(self, step: int) -> None:
        """Tell the means since the last time, and where the time went.

        Raises:
          UserError: a value is not finite.
        """
        rows = jax.device_get(self._steps)
        self._steps.clear()
        for number, row in enumerate(rows, step - len(rows) + 1):
            finite(number, {name: float(value) for name, value in row.items()})
        means = {name: float(np.mean([row[name] for row in rows])) for name in (rows[0] if rows else ())}
        speed = self.clock.lap(self._batch_size)
        self.tell(step, means | speed | {"examples_seen": step * self._batch_size} | _peak_memory())
        if self._bar is not None:
            losses = "".join(f"{name} {value:.4f}, " for name, value in means.items() if name.startswith("loss"))
            self._bar.set_postfix_str(
                f"{losses}{step * self._batch_size / 1000:.0f} kimg, {speed['images_per_s']:.0f} images/s, "
                f"{speed['data_wait_share']:.0%} waiting"
            )

    def tell(self, step: int, values: Mapping[str, float]) -> None:
        """Write scalars down.

        Raises:
          UserError: one is not finite.
        """
        finite(step, values)
        if self._metrics is not None and values:
            self._metrics.write(step, values)


def _peak_memory() -> dict[str, float]:
    """Return the largest peak of the devices, where they count it (processors do not)."""
    peaks = [(device.memory_stats() or {}).get("peak_bytes_in_use") for device in jax.local_devices()]
    known = [peak for peak in peaks if peak is not None]
    return {"device_peak_mib": max(known) / 2**20} if known else {}
