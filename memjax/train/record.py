"""What a run tells of its steps: metrics on disk, a progress bar, and an end to runs that diverge."""

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any

import jax
import numpy as np

from memjax.artifacts.metrics import Metrics, finite
from memjax.train.clock import Clock


class Record:
    """Collect the scalars of steps; `log` reads them from the device, checks them and tells their means.

    Only the process that writes has `metrics` and a bar; all of them check.

    Args:
      metrics: where scalars are written; None: nowhere.
      bar: of progress; None: none.
      batch_size: images a step.
      before: the scalars of the steps since the last log, as `window` gave them to the process before this one.
      images_before: how many more images were seen than a batch for every step, as the batch was another one before.
    """

    def __init__(
        self,
        metrics: Metrics | None,
        bar: Any | None,
        batch_size: int,
        *,
        before: Iterable[Mapping[str, float]] = (),
        images_before: int = 0,
    ):
        self.clock = Clock()
        self._metrics = metrics
        self._bar = bar
        self._batch_size = batch_size
        self._images_before = images_before
        self._queued: list[dict[str, jax.Array]] = []
        self._read = [dict(row) for row in before]

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
        if self._queued:
            jax.block_until_ready(self._queued[-1])
            self.clock.step()
        self._queued.append(scalars)
        if self._bar is not None:
            self._bar.update(1)

    def window(self, step: int) -> list[dict[str, float]]:
        """Wait for all steps, and return their scalars since the last log, oldest first; it is still to be told.

        Raises:
          UserError: a value is not finite.
        """
        if self._queued:
            rows = jax.device_get(self._queued)
            self.clock.step()
            for number, row in enumerate(rows, step - len(rows) + 1):
                self._read.append(dict(finite(number, {name: float(value) for name, value in row.items()})))
            self._queued.clear()
        return list(self._read)

    def log(self, step: int) -> None:
        """Tell the means since the last time, and where the time went.

        Raises:
          UserError: a value is not finite.
        """
        rows = self.window(step)
        self._read.clear()
        means = {name: float(np.mean([row[name] for row in rows])) for name in (rows[0] if rows else ())}
        speed = self.clock.lap(self._batch_size)
        seen = self._images_before + step * self._batch_size
        self.tell(step, means | speed | {"examples_seen": seen} | _peak_memory())
        if self._bar is not None:
            losses = "".join(f"{name} {value:.4f}, " for name, value in means.items() if name.startswith("loss"))
            self._bar.set_postfix_str(
                f"{losses}{seen / 1000:.0f} kimg, {speed['images_per_s']:.0f} images/s, "
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

    def summary(self) -> str:
        """Return how fast this process trained, in a sentence."""
        whole = self.clock.whole(self._batch_size)
        p50, p90, p99 = (1000 * whole[f"step_p{p}_s"] for p in (50, 90, 99))
        return (
            f"{whole['steps']:,} steps at {whole['images_per_s']:,.4g} images/s; a step took {p50:,.4g} ms in the "
            f"median, {p90:,.4g} ms in one of ten and {p99:,.4g} ms in one of a hundred or longer; "
            f"{whole['data_wait_share']:.1%} of the time was waiting for data; {whole['paused_s']:,.1f} s more went "
            "into evaluating and saving"
        )


def _peak_memory() -> dict[str, float]:
    """Return the largest peak of the devices, where they count it (processors do not)."""
    peaks = [(device.memory_stats() or {}).get("peak_bytes_in_use") for device in jax.local_devices()]
    known = [peak for peak in peaks if peak is not None]
    return {"device_peak_mib": max(known) / 2**20} if known else {}
