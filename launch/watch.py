"""Notice that one of several processes is gone or does nothing, and end the others, naming it.

Without it the others wait in the middle of a step for somebody who does not come, until JAX misses its signs of life
and aborts. Here every process keeps the connection of the roll call to process 0: the system closes it when a process
dies, however it dies, and process 0 tells the rest. Over the same connection each gives signs of life, with the step
that it has come to: whoever is stopped, or whose host vanished, gives none; whoever waits for a disk that does not
answer falls behind the others, who wait for it.
"""

import contextlib
import dataclasses
import json
import os
import selectors
import socket
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from launch import boot

_GRACE_S = 10.0  # for what fails everywhere alike to be told by each process itself
_LINGER_S = 12.0  # for the others to end first: JAX aborts them when process 0 is gone
_NEWS_S = 2.0  # for word of another process's end to overtake the exception that this causes here
_BEATS = 20  # signs of life in the time after which one is lost
_SILENT_BEATS = 4  # missed: then what fails here is taken to fail because of whoever is silent


@dataclasses.dataclass(frozen=True)
class Peer:
    """Another process, and the connection to it. Process 0 has all of them, the others have process 0."""

    index: int
    host: str
    connection: socket.socket


class Watch:
    """Watch over the other processes until this one ends."""

    def __init__(
        self,
        peers: Sequence[Peer],
        count: int,
        *,
        lost_after_s: float,
        behind_after_s: float = float("inf"),
        tell: Callable[[str], object] = boot.say,
        end: Callable[[int], object] = os._exit,
        grace_s: float = _GRACE_S,
        linger_s: float = _LINGER_S,
        news_s: float = _NEWS_S,
    ):
        """Begin to watch.

        Args:
          peers: the processes that this one is connected to.
          count: how many there are.
          lost_after_s: how long a process may give no sign of life before it counts as lost.
          behind_after_s: how long a process may stay at one step while others are at a later one.
          tell: called with what a person must know.
          end: ends this process at once, with an exit status.
          grace_s: how long to wait before ending because another process failed.
          linger_s: how long process 0 waits at most for the others to end before it.
          news_s: how long to wait for news of another process when this one fails.
        """
        self._peers = {peer.index: peer for peer in peers}
        self._count, self._tell, self._end = count, tell, end
        self._lost_after_s, self._behind_after_s = lost_after_s, behind_after_s
        self._beat_s = lost_after_s / _BEATS
        self._grace_s, self._linger_s, self._news_s = grace_s, linger_s, news_s
        self._failed: tuple[str, int] | None = None
        self._has_news = threading.Event()
        self._unread = dict.fromkeys(self._peers, b"")
        self._silent_s = dict.fromkeys(self._peers, 0.0)
        self._silent: str | None = None  # what is to be said of who gives no sign of life at the moment
        self._silent_elsewhere: str | None = None  # the same, as process 0 sees it
        self._steps: dict[int, int] = {}  # that each process has come to; only process 0 knows
        self._stayed_s: dict[int, float] = {}
        self._step = 0
        self._sending = threading.Lock()
        self._gathered = threading.Condition()
        self._here: dict[int, Any] = {}  # what they say who have come to the next meeting; only process 0 knows
        self._words: list[Any] | None = None  # what all have said at a meeting
        self._is_ending = threading.Event()
        for peer in peers:
            peer.connection.settimeout(lost_after_s)
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def at_step(self, step: int) -> None:
        """Note that this process has come to a step, counted from 1 on."""
        self._step = step

    def meet(self, word: Any = None) -> list[Any]:
        """Wait for all processes to call this, too, and return what each says, JSON-like, in their order."""
        with self._gathered:
            if 0 in self._peers:
                self._send(self._peers[0], {"here": word})
            else:
                self._has_come(0, word)
            self._gathered.wait_for(lambda: self._words is not None)
            words, self._words = self._words, None
        assert words is not None
        return words

    def ended(self, status: int) -> None:
        """Tell the others with which status this process ends, and do not wait for them unless all end in order."""
        if status == 1:
            self._has_news.wait(self._news_s)
            if cause := self._failed or self._missed():
                self._stop(*cause)
                return
        self._is_ending.set()
        for peer in self._peers.values():
            self._send(peer, {"status": status})
        if not _is_orderly(status):
            if status == 1:
                traceback.print_exc()
            self._linger()
            self._end(status)  # JAX's own end would wait for all

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            for peer in self._peers.values():
                selector.register(peer.connection, selectors.EVENT_READ, peer)
            looked, beaten = time.monotonic(), float("-inf")
            while selector.get_map() and not self._is_ending.is_set():
                now = time.monotonic()
                there = [key.data for key in selector.get_map().values()]
                if now >= beaten + self._beat_s:
                    beaten = now
                    for peer in there:
                        self._send(peer, {"step": self._step})
                # Not more than a moment: who was stopped itself has no reason to miss the others.
                self._miss(there, min(now - looked, 2 * self._beat_s))
                looked = now
                for key, _ in selector.select(self._beat_s):
                    if not self._hear(key.data):
                        selector.unregister(key.fileobj)

    def _hear(self, peer: Peer) -> bool:
        """Take what a process says, and act on it; return whether it may say more."""
        try:
            said = peer.connection.recv(1 << 16)
        except OSError:
            said = b""
        if not said:
            self._stop(
                f"{self._named(peer)} was killed, or its host was lost; all end, to be run again.", boot.RUN_AGAIN
            )
            return False
        self._silent_s[peer.index] = 0.0
        *lines, self._unread[peer.index] = (self._unread[peer.index] + said).split(b"\n")
        return all(self._act(peer, json.loads(line)) for line in lines)

    def _act(self, peer: Peer, word: dict[str, Any]) -> bool:
        """Do what a word of a process asks for; return whether it may say more."""
        if "step" in word:
            self._comes_to(peer.index, word["step"])
            return True
        if "silent" in word:
            self._silent_elsewhere = word["silent"]
            return True
        if "here" in word:
            with self._gathered:
                self._has_come(peer.index, word["here"])
            return True
        if "met" in word:
            with self._gathered:
                self._words = word["met"]
                self._gathered.notify()
            return True
        if "stop" in word:
            self._stop(word["stop"], word["status"])
            return False
        if _is_orderly(word["status"]):
            return False
        if cause := self._missed():  # it failed for want of somebody else
            self._stop(*cause)
            return False
        why = word.get("failed") or f"{self._named(peer)} failed with status {word['status']}; see what it says."
        self._failed = why, word["status"]
        self._has_news.set()
        for other in self._peers.values():  # process 0 tells the rest
            if other is not peer:
                self._send(other, {"failed": why, "status": word["status"]})
        self._is_ending.wait(self._grace_s)
        self._stop(*self._failed)
        return False

    def _has_come(self, index: int, word: Any) -> None:
        """As process 0, note that a process has come to the next meeting; if that is all, tell all what all say."""
        self._here[index] = word
        if len(self._here) < self._count:
            return
        self._words = [self._here.pop(i) for i in range(self._count)]
        for peer in self._peers.values():
            self._send(peer, {"met": self._words})
        self._gathered.notify()

    def _miss(self, there: Sequence[Peer], passed_s: float) -> None:
        """Count the time that passed without a sign of life of these processes; end all if one is lost or behind."""
        silent = None
        for peer in there:
            self._silent_s[peer.index] += passed_s
        if there:
            peer = max(there, key=lambda peer: self._silent_s[peer.index])
            silent_s = self._silent_s[peer.index]
            if silent_s > _SILENT_BEATS * self._beat_s:
                silent = (
                    f"{self._named(peer)} gives no sign of life for {silent_s:.0f} s: it is stopped, or its host or "
                    "the network is lost; all end, to be run again."
                )
            if silent and silent_s > self._lost_after_s:
                self._stop(silent, boot.RUN_AGAIN)
                return
        if 0 in self._peers:
            self._silent = silent
            return
        if bool(silent) != bool(self._silent):
            for peer in there:
                self._send(peer, {"silent": silent})
        self._silent = silent
        self._comes_to(0, self._step)
        for index, step in self._steps.items():
            self._stayed_s[index] += passed_s
            if 0 < step < max(self._steps.values()) and self._stayed_s[index] > self._behind_after_s:
                self._stop(
                    f"{self._named(self._peers.get(index))} stands still after step {step} for "
                    f"{self._stayed_s[index]:.0f} s, and the others wait for it; see what it waits for itself (its "
                    "disk?); all end, to be run again.",
                    boot.RUN_AGAIN,
                )
                return

    def _comes_to(self, index: int, step: int) -> None:
        if self._steps.get(index) != step:
            self._steps[index], self._stayed_s[index] = step, 0.0

    def _missed(self) -> tuple[str, int] | None:
        """Return why this process, or another, fails for want of one that gives no sign of life; None: it does not."""
        silent = self._silent or self._silent_elsewhere
        return (silent, boot.RUN_AGAIN) if silent else None

    def _stop(self, why: str, status: int) -> None:
        """End this process, and, if this is process 0, all others."""
        if self._is_ending.is_set():
            return
        self._is_ending.set()
        for peer in self._peers.values():
            self._send(peer, {"stop": why, "status": status})
        self._tell(f"error: {why}")
        self._linger()
        self._end(status)

    def _linger(self) -> None:
        """Wait until the others are gone, if this is process 0: it takes JAX's service with it. Who is silent stays."""
        end = time.monotonic() + self._linger_s
        for index, peer in self._peers.items():
            is_awaited = index > 0 and self._silent_s[index] <= _SILENT_BEATS * self._beat_s
            with contextlib.suppress(OSError):
                while is_awaited and (left := end - time.monotonic()) > 0:
                    peer.connection.settimeout(left)
                    if not peer.connection.recv(1 << 16):
                        break

    def _named(self, peer: Peer | None) -> str:
        index, host = (peer.index, peer.host) if peer else (0, socket.gethostname())
        return f"process {index} of {self._count} ({host})"

    def _send(self, peer: Peer, word: object) -> None:
        with self._sending, contextlib.suppress(OSError):  # it may be gone itself
            peer.connection.sendall(json.dumps(word).encode() + b"\n")


def _is_orderly(status: int) -> bool:
    """Say whether the others end like this, too, in their own time."""
    return status not in (1, boot.USER_ERROR, boot.INTERRUPTED)
