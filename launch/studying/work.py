"""Work through a study's cells, beside others who do the same in the same folder.

Each cell's stages are done in turn. A stage that somebody else does is left to them: the next cell is begun meanwhile,
and at the end one waits. What fails is told and kept (`failed.json`); the cells that need it are given up, the others
go on. A failure of an earlier call is no reason not to try again.
"""

import json
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from launch import boot
from launch.studying.claims import Claim, ClaimLost, Claims
from launch.studying.grid import Cell
from launch.studying.stage import Stage
from memjax.errors import UserError
from memjax.whole import is_disk_full, whole_file

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.1, 10.0  # for what others do
_FAILED = "failed.json"
_SPENT = "spent"  # seconds that interrupted attempts took


class Work:
    """What is done, what failed and what is left of some stages.

    Args:
      workdir: the study's folder.
      claims: who does which stage.
      perform: does a stage, and returns facts on it.
      on_finished: called after a cell is done or given up.
    """

    def __init__(
        self,
        workdir: Path,
        claims: Claims,
        perform: Callable[[Stage, Path], dict[str, Any]],
        on_finished: Callable[[], object] = lambda: None,
    ):
        self.failed: dict[str, str] = {}
        self._workdir = workdir
        self._claims = claims
        self._perform = perform
        self._on_finished = on_finished
        began = workdir / ".began"
        began.touch()
        self._began_ns = began.stat().st_mtime_ns  # by the file system's clock, which all machines share

    def prepare(self, cells: Sequence[Cell]) -> None:
        """Do all stages that only choose images, controls' samples too; what fails here fails before what is long.

        Raises:
          UserError: a cell's images cannot be had.
        """
        self._through([(cell, _first_of(cell)) for cell in cells], lambda: None)
        for cell in cells:
            for stage in _first_of(cell):
                if stage.name in self.failed:
                    raise UserError(f"the cell {cell.name} cannot be: {self.failed[stage.name]}")

    def do(self, cells: Sequence[Cell]) -> None:
        """Do all stages of all cells."""
        self._through([(cell, cell.stages) for cell in cells], self._on_finished)

    def _through(self, todo: Sequence[tuple[Cell, Sequence[Stage]]], on_finished: Callable[[], object]) -> None:
        left = list(enumerate(todo, 1))
        wait_s = _FIRST_WAIT_S
        while left:
            waiting = []
            is_further = False
            for number, (cell, stages) in left:
                state, moved = self._go_on(cell, stages, f"{number} of {len(todo)}")
                is_further |= moved
                if state == "waiting":
                    waiting.append((number, (cell, stages)))
                elif moved:  # else it was done or failed before, or whoever ended it has told
                    on_finished()
            left = waiting
            wait_s = _FIRST_WAIT_S if is_further else min(2 * wait_s, _LONGEST_WAIT_S)
            if left and not is_further:
                time.sleep(wait_s)

    def _go_on(self, cell: Cell, stages: Sequence[Stage], place: str) -> tuple[str, bool]:
        """Do what can be done of a cell now; return "settled" or "waiting", and whether anything was done."""
        moved = False
        for stage in stages:
            if stage.is_done(self._workdir):
                continue
            if self._has_failed(stage):
                return "settled", moved
            claim = self._claims.take(stage.folder(self._workdir).name)
            if claim is None:
                return "waiting", moved
            with claim:
                if stage.is_done(self._workdir):  # by whom the claim was taken from
                    continue
                moved = True
                boot.say(f"[{place}] {cell.name}: {stage.kind}")
                try:
                    self._do(stage, claim)
                except ClaimLost as lost:
                    boot.say(f"{lost}")
                    return "waiting", moved
            if stage.name in self.failed:
                boot.say(f"{cell.name}: {stage.kind} failed: {self.failed[stage.name]}")
                return "settled", moved
        return "settled", moved

    def _do(self, stage: Stage, claim: Claim) -> None:
        folder = stage.folder(self._workdir)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            spent = folder / f"{_SPENT}-{stage.mark}"
            with _timed(spent) as seconds:
                facts = self._perform(stage, self._workdir)
                claim.check()
            stage.finish(self._workdir, seconds(), facts)
            (folder / _FAILED).unlink(missing_ok=True)
            spent.unlink(missing_ok=True)
        except (ClaimLost, KeyboardInterrupt):
            raise
        except Exception as error:
            if is_disk_full(error):  # the next stage would fare no better
                raise
            self._fail(stage, error)

    def _fail(self, stage: Stage, error: Exception) -> None:
        """Keep why a stage failed; of a mistake that is ours, with where it happened."""
        is_theirs = isinstance(error, UserError)
        words = str(error) if is_theirs else f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        self.failed[stage.name] = words
        told = {"stage": stage.name, "error": words, "trace": "" if is_theirs else traceback.format_exc()}
        with whole_file(stage.folder(self._workdir) / _FAILED) as partial:
            partial.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")

    def _has_failed(self, stage: Stage) -> bool:
        """Say whether a stage failed since this call began, here or elsewhere."""
        if stage.name in self.failed:
            return True
        path = stage.folder(self._workdir) / _FAILED
        try:
            if path.stat().st_mtime_ns < self._began_ns:
                return False
            told = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        if told["stage"] == stage.name:
            self.failed[stage.name] = told["error"]
        return stage.name in self.failed


def known_failures(cells: Sequence[Cell], workdir: Path) -> dict[str, str]:
    """Return why stages failed the last time they were tried, by their names."""
    found = {}
    for stage in {stage.name: stage for cell in cells for stage in cell.stages}.values():
        try:
            told = json.loads((stage.folder(workdir) / _FAILED).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if told["stage"] == stage.name and not stage.is_done(workdir):
            found[stage.name] = told["error"]
    return found


def _first_of(cell: Cell) -> list[Stage]:
    return [stage for stage in cell.stages if stage.kind in ("source", "data") or "control" in stage.settings]


@contextmanager
def _timed(spent: Path) -> Iterator[Callable[[], float]]:
    """Yield what tells the seconds since now, and those of earlier attempts; what an interrupted one took is kept."""
    try:
        before = float(spent.read_text(encoding="ascii"))
    except (OSError, ValueError):
        before = 0.0
    start = time.monotonic()

    def seconds() -> float:
        return before + time.monotonic() - start

    try:
        yield seconds
    except BaseException:
        with suppress(OSError):  # a full disk must not hide what happened
            spent.write_text(f"{seconds():.1f}", encoding="ascii")
        raise
