"""Scalars of a run: JSON lines that anything can read, and the same as events for TensorBoard."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from tensorboardX import SummaryWriter

from memjax.artifacts.whole import is_disk_full, whole_file
from memjax.errors import UserError


class Metrics:
    """The one writer of a run's scalars.

    A run that goes on after step `resume_at` first drops what an earlier process told of later steps, so that every
    step is told once; at 0 everything is dropped. TensorBoard is told the same (its `purge_step`).
    """

    def __init__(self, run_path: Path, *, resume_at: int):
        self._path = run_path / "metrics.jsonl"
        kept = [row for row in read_metrics(self._path) if 0 < row["step"] <= resume_at]
        with whole_file(self._path) as partial:
            partial.write_text("".join(_line(row) for row in kept), encoding="utf-8")
        self._file = self._path.open("a", encoding="utf-8")
        self._events = SummaryWriter(str(run_path / "events"), purge_step=resume_at + 1, flush_secs=30)

    def __enter__(self) -> "Metrics":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Tell scalars of the model after `step` steps; they are in the file when this returns.

        Raises:
          UserError: the disk is full.
        """
        row = {name: float(value) for name, value in values.items()}
        try:
            self._file.write(_line({"step": step, **row}))
            self._file.flush()
        except OSError as error:
            if is_disk_full(error):
                raise UserError(
                    f"the disk of {self._path} is full; make room and run the same command again."
                ) from error
            raise
        for name, value in row.items():
            self._events.add_scalar(name, value, step)

    def close(self) -> None:
        """Write out what TensorBoard was not yet told."""
        self._file.close()
        self._events.close()


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
