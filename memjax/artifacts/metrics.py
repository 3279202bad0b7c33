"""Scalars of a run: JSON lines that anything can read, and the same as events for TensorBoard."""

import contextlib
import json
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog  # type: ignore[attr-defined]  # protobuf makes them as it is imported
from tensorboardX.summary import scalar

from memjax.errors import UserError
from memjax.whole import is_disk_full, whole_file

_FLUSH_S = 30.0  # TensorBoard is this much behind at most


class Metrics:
    """The one writer of a run's scalars.

    A run that goes on after step `resume_at` first drops what an earlier process told of later steps, so that every
    step is told once; at 0 everything is dropped. TensorBoard is told the same.
    """

    def __init__(self, run_path: Path, *, resume_at: int):
        self._path = run_path / "metrics.jsonl"
        kept = [row for row in read_metrics(self._path) if 0 < row["step"] <= resume_at]
        with whole_file(self._path) as partial:
            partial.write_text("".join(_line(row) for row in kept), encoding="utf-8")
        with self._disk():
            self._file = self._path.open("ab", buffering=0)  # nothing is left to write when it is closed
            (run_path / "events").mkdir(exist_ok=True)
            # Not tensorboardX's SummaryWriter: on a full disk its thread dies, and who writes next waits for ever.
            self._events = EventsWriter(str(run_path / "events" / "events"), f".{time.time_ns()}")
            start = SessionLog(status=SessionLog.START)  # TensorBoard forgets this step and later ones
            self._events.write_event(Event(wall_time=time.time(), step=resume_at + 1, session_log=start))
            self._events.flush()
        self._flushed = time.monotonic()

    def __enter__(self) -> "Metrics":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Tell scalars of the model after `step` steps; they are in the JSON lines when this returns.

        Raises:
          UserError: the disk is full.
        """
        row = {name: float(value) for name, value in values.items()}
        with self._disk():
            left = _line({"step": step, **row}).encode()
            while left:
                left = left[self._file.write(left) :]
            for name, value in row.items():
                self._events.write_event(Event(wall_time=time.time(), step=step, summary=scalar(name, value)))
            if time.monotonic() > self._flushed + _FLUSH_S:
                self._events.flush()
                self._flushed = time.monotonic()

    def close(self) -> None:
        """Write out what TensorBoard was not yet told."""
        self._file.close()
        with contextlib.suppress(OSError):  # the lines are complete; what stopped a run is not to be hidden by this
            self._events.close()

    @contextlib.contextmanager
    def _disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if is_disk_full(error):
                raise UserError(
                    f"the disk of {self._path} is full; make room and run the same command again."
                ) from error
            raise


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a `metrics.jsonl` (none if there is no file), but for one that a kill left torn.

    A value that was not finite is None.
    """
    rows = []
    for line in path.read_bytes().splitlines(keepends=True) if path.exists() else []:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if line.endswith(b"\n") and isinstance(row, dict) and isinstance(row.get("step"), int):
            rows.append(row)
    return rows


def finite(step: int, values: Mapping[str, float]) -> Mapping[str, float]:
    """Return these values.

    Raises:
      UserError: one of them is not a finite number: training diverged.
    """
    for name, value in values.items():
        if not math.isfinite(value):
            known = ", ".join(f"{other} {number:.4g}" for other, number in values.items() if other != name)
            raise UserError(
                f"{name} is {float(value)} at step {step}{f' ({known})' if known else ''}: training diverged. Lower "
                "the learning rate, clip gradients, or warm up for longer, in another --workdir; the last checkpoint "
                "is kept."
            )
    return values


def _line(row: Mapping[str, Any]) -> str:
    """Return a line of strict JSON, which has no word for what is not finite."""
    strict = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
    return json.dumps(strict, allow_nan=False) + "\n"
