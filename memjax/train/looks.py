"""Look at a state between two steps: evaluate it, draw from it, ask the monitor; and what that means for the run."""

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jax.experimental import multihost_utils

from memjax.artifacts.images import grid, write_png
from memjax.train.patience import Patience
from memjax.train.record import Record
from memjax.train.task import Batch, State, Task


@runtime_checkable
class Monitor(Protocol):
    """Look at a state while it trains: return scalars to tell, and whether it copies."""

    def __call__(self, step: int, state: State) -> tuple[dict[str, float], bool]: ...  # noqa: D102  (the class says it)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seen:
    """What a look says: the state is the best so far, it copies, or training has been no better for long enough."""

    is_best: bool = False
    is_copying: bool = False
    is_over: bool = False

    @property
    def ends(self) -> bool:
        """Whether training ends here."""
        return self.is_copying or self.is_over


class Looks:
    """All looks of a run.

    Args:
      task: what is trained.
      sets: gives the sets of images to evaluate on, by name, anew at each look.
      record: is told.
      previews: the folder of pictures; None: another process writes them.
      monitor: None: there is none.
      patience: None: the run ends whatever evaluations say.
    """

    def __init__(
        self,
        task: Task,
        sets: Callable[[], Mapping[str, Iterable[Batch]]],
        record: Record,
        *,
        previews: Path | None,
        monitor: Monitor | None,
        patience: Patience | None,
    ):
        self._task = task
        self._sets = sets
        self._record = record
        self._previews = previews
        self._monitor = monitor
        self._patience = patience

    def at(self, step: int, state: State, due: Collection[str], told: Collection[str] = ()) -> Seen:
        """Look at the state after `step` steps.

        Args:
          step: how many steps were done.
          state: after them.
          due: which of `LOOKS`.
          told: names of scalars that were told of this step before, by a process that was killed; not told again.

        Raises:
          UserError: a value is not finite.
        """
        is_best = is_over = is_copying = False
        if "evaluate" in due:
            found = self._task.evaluate(state, self._sets())
            self._tell(step, found, told)
            if self._patience:
                is_best, is_over = self._patience.look(step, found), self._patience.is_over
        if "preview" in due:
            for name, images in self._task.preview(state, self._sets()).items():
                self._draw(name, step, images)
        if "monitor" in due and self._monitor:
            found, is_copying = self._monitor(step, state)
            # Each process has searched by itself. Unlike processors may round apart, and some would end, some go on.
            is_copying = bool(multihost_utils.broadcast_one_to_all(np.bool_(is_copying)))
            self._tell(step, found, told)
        return Seen(is_best=is_best, is_copying=is_copying, is_over=is_over)

    def _tell(self, step: int, found: Mapping[str, float], told: Collection[str]) -> None:
        self._record.tell(step, {name: value for name, value in found.items() if name not in told})

    def _draw(self, name: str, step: int, images: np.ndarray) -> None:
        if self._previews is not None:
            write_png(self._previews / f"{name}_{step:08d}.png", grid(images))
