"""Notice at once that one of several processes is gone, and end the others, naming it.

Without it the others wait in the middle of a step for somebody who does not come, until JAX misses its signs of life
and aborts. Here every process keeps the connection of the roll call to process 0: the system closes it when a process
dies, however it dies, and process 0 tells the rest. A host that vanishes without a word is missed by probes of the
connection.
"""

import contextlib
import dataclasses
import json
import os
import selectors
import socket
import threading
import traceback
from collections.abc import Callable, Sequence

from launch import boot

_GRACE_S = 10.0  # for what fails everywhere alike to be told by each process itself
_NEWS_S = 2.0  # for word of another process's end to overtake the exception that this causes here
_PROBES = 5


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
        tell: Callable[[str], object] = boot.say,
        end: Callable[[int], object] = os._exit,
        grace_s: float = _GRACE_S,
        news_s: float = _NEWS_S,
    ):
        """Begin to watch.

        Args:
          peers: the processes that this one is connected to.
          count: how many there are.
          lost_after_s: how long a host may be silent before it counts as lost.
          tell: called with what a person must know.
          end: ends this process at once, with an exit status.
          grace_s: how long to wait before ending because another process failed.
          news_s: how long to wait for news of another process when this one fails.
        """
        self._peers = {peer.index: peer for peer in peers}
        self._count, self._tell, self._end = count, tell, end
        self._grace_s, self._news_s = grace_s, news_s
        self._failed: tuple[str, int] | None = None
        self._has_news = threading.Event()
        self._unread = dict.fromkeys(self._peers, b"")
        self._is_ending = threading.Event()
        for peer in peers:
            peer.connection.settimeout(lost_after_s)
            _probe(peer.connection, lost_after_s)
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def ended(self, status: int) -> None:
        """Tell the others with which status this process ends, and do not wait for them unless all end in order."""
        if status == 1:
            self._has_news.wait(self._news_s)
            if self._failed:
                self._stop(*self._failed)
                return
        self._is_ending.set()
        for peer in self._peers.values():
            _send(peer, {"status": status})
        if not _is_orderly(status):
            if status == 1:
                traceback.print_exc()
            self._end(status)  # JAX's own end would wait for all

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            for peer in self._peers.values():
                selector.register(peer.connection, selectors.EVENT_READ, peer)
            while selector.get_map() and not self._is_ending.is_set():
                for key, _ in selector.select(1.0):
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
        *lines, self._unread[peer.index] = (self._unread[peer.index] + said).split(b"\n")
        for line in lines:
            word = json.loads(line)
            if "stop" in word:
                self._stop(word["stop"], word["status"])
                return False
            if _is_orderly(word["status"]):
                return False
            why = word.get("failed") or f"{self._named(peer)} failed with status {word['status']}; see what it says."
            self._failed = why, word["status"]
            self._has_news.set()
            for other in self._peers.values():  # process 0 tells the rest
                if other is not peer:
                    _send(other, {"failed": why, "status": word["status"]})
            self._is_ending.wait(self._grace_s)
            self._stop(*self._failed)
            return False
        return True

    def _stop(self, why: str, status: int) -> None:
        """End this process, and, if this is process 0, all others."""
        if self._is_ending.is_set():
            return
        self._is_ending.set()
        for peer in self._peers.values():
            _send(peer, {"stop": why, "status": status})
        self._tell(f"error: {why}")
        self._end(status)

    def _named(self, peer: Peer) -> str:
        return f"process {peer.index} of {self._count} ({peer.host})"


def _is_orderly(status: int) -> bool:
    """Say whether the others end like this, too, in their own time."""
    return status in (0, boot.RUN_AGAIN)


def _send(peer: Peer, word: object) -> None:
    with contextlib.suppress(OSError):  # it may be gone itself
        peer.connection.sendall(json.dumps(word).encode() + b"\n")


def _probe(connection: socket.socket, lost_after_s: float) -> None:
    """Let the system probe a connection on which nothing is said."""
    every = max(1, int(lost_after_s / (_PROBES + 1)))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", every), ("TCP_KEEPINTVL", every), ("TCP_KEEPCNT", _PROBES)):
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
