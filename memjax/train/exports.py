"""Which weights of a run stay on the disk: those that trainings ended with, and the newest of the looks between.

A run that a monitor or held-out images look at writes weights at every look, 440 MB each for 110 million parameters.
Checkpoints keep their newest two, and so do looks. What a training *ended* with stays for good: samples were drawn from
it, or will be, also when the same run is made longer later. `RUN/weights/passing.json` lists the others; a file that is
not in it is never deleted.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from memjax.artifacts.weights import write_weights, written_steps
from memjax.trees import Tree
from memjax.whole import whole_file

_PASSING = "passing.json"


class Exports:
    """The weights of one run. With many processes all of them make every call, and the first one writes.

    Args:
      folder: of the weights.
      about: is written into each file.
      keep: how many looks stay, 1 or more; 0: all.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any], *, keep: int = 2):
        assert keep >= 0, keep
        self._folder = folder
        self._about = about
        self._keep = keep
        self._writes = jax.process_index() == 0

    def look(self, step: int, tree: Tree) -> None:
        """Write the weights of a look, and delete those of looks that are too old.

        Raises:
          UserError: the disk is full.
        """
        if self._writes and step not in written_steps(self._folder):  # before the file: one that is not noted stays
            self._note([*self._passing(), step])
        write_weights(self._folder, step, tree, self._about)
        if self._writes and self._keep:
            passing = self._passing()
            for old in passing[: -self._keep]:
                written_steps(self._folder)[old].unlink()
            if len(passing) > self._keep:
                self._note(passing[-self._keep :])

    def end(self, step: int, tree: Tree) -> None:
        """Write the weights that a training ended with, which stay.

        Raises:
          UserError: the disk is full.
        """
        write_weights(self._folder, step, tree, self._about)
        self.settle(step)

    def settle(self, step: int) -> None:
        """Let the weights of a look stay: a training ended with them."""
        if self._writes and step in (passing := self._passing()):
            self._note([one for one in passing if one != step])

    def settle_newest(self) -> None:
        """Let the newest weights stay, whichever they are."""
        if self._writes and (written := written_steps(self._folder)):
            self.settle(max(written))

    def _passing(self) -> list[int]:
        """Return the steps whose files are there and may be deleted, ascending."""
        try:
            noted = set(json.loads((self._folder / _PASSING).read_text(encoding="ascii"))["steps"])
        except (OSError, ValueError, TypeError, KeyError):
            return []
        return [step for step in written_steps(self._folder) if step in noted]

    def _note(self, steps: list[int]) -> None:
        with whole_file(self._folder / _PASSING) as partial:
            partial.write_text(json.dumps({"steps": steps}) + "\n", encoding="ascii")
