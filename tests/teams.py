"""Several processes played by threads of one: each does its share, and they meet at a barrier."""

import threading
from collections.abc import Callable
from typing import Any

from memjax.team import Team


def by_team(count: int, work: Callable[[Team], Any]) -> list[Any]:
    """Return what `work` returns in each of so many processes, or the exception it ended with.

    Where one ends with an exception the others, who wait for it, end with `BrokenBarrierError`.
    """
    barrier, words = threading.Barrier(count), [None] * count
    ended: list[Any] = [None] * count

    def one(index: int) -> None:
        def gather(word: Any) -> list[Any]:
            words[index] = word
            barrier.wait(120)
            said = list(words)
            barrier.wait(120)
            return said

        try:
            ended[index] = work(Team(index, count, gather))
        except BaseException as error:
            ended[index] = error
            barrier.abort()

    threads = [threading.Thread(target=one, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return ended
