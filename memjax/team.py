"""Several processes at one piece of work: which one this is, and where they wait for each other.

Each does its share by itself and writes it into a folder that all of them see. They meet to say so: no process waits
for another anywhere else.
"""

import dataclasses
import time
from collections.abc import Callable
from typing import Any, TypeVar

from memjax.errors import UserError

T = TypeVar("T")

_SEEN_S = 90.0  # network file systems show within a minute what another host has written


@dataclasses.dataclass(frozen=True)
class Team:
    """The processes that share a piece of work.

    Attributes:
      index: which one this is, from 0 on.
      count: how many there are.
      gather: takes what this process says, JSON-like, and returns what each says, once all have called it.
    """

    index: int = 0
    count: int = 1
    gather: Callable[[Any], list[Any]] = lambda word: [word]

    def meet(self, word: Any = None) -> list[Any]:
        """Wait for all, and return what each of them says, in their order; all must meet equally often."""
        return self.gather(word)

    def follow(self, word: Any = None) -> Any:
        """Wait for all, and return what process 0 says."""
        return self.gather(word)[0]


ALONE = Team()


def wait_to_see(look: Callable[[], T | None], what: str) -> T:
    """Return what another process has written, once this one sees it, too.

    Args:
      look: looks for it; None: it is not to be seen yet.
      what: who has written it where, as the beginning of a sentence: "process 0 has written FILE".

    Raises:
      UserError: it does not.
    """
    end = time.monotonic() + _SEEN_S
    while (found := look()) is None:
        if time.monotonic() > end:
            raise UserError(f"{what}, which this process does not see; use a folder that all hosts share.")
        time.sleep(0.2)
    return found
