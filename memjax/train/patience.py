"""When to stop, and which weights are the best: as held-out images say, look by look."""

from collections.abc import Iterable, Mapping
from typing import Any

from memjax.errors import UserError


class Patience:
    """Follow one number of the evaluation, higher for better; its keywords are the keys of `config.stop`.

    A look that is as good as the best so far is the best: a number that can rise no further does not end a run.

    Args:
      metric: its name, of those that the evaluation tells, for example `heldout/view_mrr`.
      patience: looks in a row that may be worse than the best before training ends.

    Raises:
      UserError: patience is below 1.
    """

    def __init__(self, *, metric: str, patience: int):
        if patience < 1:
            raise UserError(f"config.stop.patience={patience} must be 1 or more looks, or 0 for never.")
        self.metric = metric
        self.patience = patience
        self.best_step: int | None = None
        self._best = float("-inf")
        self._worse = 0  # looks since the best

    def look(self, step: int, told: Mapping[str, float]) -> bool:
        """Take note of an evaluation and return whether it is the best so far.

        Raises:
          UserError: it does not tell the number.
        """
        if self.metric not in told:
            raise UserError(
                f"config.stop.metric={self.metric!r} is nothing that the evaluation tells; give one of "
                f"{', '.join(told)}."
            )
        if told[self.metric] < self._best:
            self._worse += 1
            return False
        self._best, self._worse, self.best_step = told[self.metric], 0, step
        return True

    def remember(self, rows: Iterable[Mapping[str, Any]], until: int) -> None:
        """Take note of what a run that goes on after step `until` was told before: rows of its `metrics.jsonl`."""
        for row in rows:
            if row["step"] <= until and row.get(self.metric) is not None:
                self.look(row["step"], {self.metric: row[self.metric]})

    @property
    def is_over(self) -> bool:
        """Whether training is to end."""
        return self._worse >= self.patience
