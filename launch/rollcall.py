"""The roll call: all processes of a job meet at the address of process 0 before any of them starts JAX.

JAX's own start ends a process without a word of who is missing, and trains on where configs differ. So each first
tells process 0 who it is and what it was asked to do; process 0 answers all alike: that all are there and agree, or one
sentence that says who is missing, or what differs. One line of JSON each way, over the address that JAX uses next.
"""

import contextlib
import json
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from launch.watch import Peer
from memjax.errors import UserError

_SILENT_S = 15.0  # of waiting, before the person who waits is told for whom
_LATE_S = 5.0  # for those who come when it is clear that it will not do
_ANSWER_S = 30.0  # longer than process 0's own limit, so that its sentence is heard
_LINE_BYTES = 1 << 22  # what somebody says who is none of us is not read on
_TOLD = 3  # differences


def call(
    coordinator: str,
    count: int,
    index: int,
    facts: Mapping[str, Any],
    *,
    timeout_s: float,
    tell: Callable[[str], object] = lambda text: None,
) -> list[Peer]:
    """Return once all processes are there and were asked to do the same: to process 0 all others, to these process 0.

    Args:
      coordinator: HOST:PORT of process 0.
      count: how many processes there are, 2 or more.
      index: which one this is, from 0 on.
      facts: JSON-like; what must be the same in all of them.
      timeout_s: how long to wait for the others.
      tell: called with what a person who waits wants to know.

    Raises:
      UserError: a process is missing, there twice, or was asked to do something else; the same sentence in all.
    """
    host, port = address(coordinator)
    mine = {
        "index": index,
        "count": count,
        "host": socket.gethostname(),
        "facts": json.loads(json.dumps(facts, default=str)),
    }
    return _lead(host, port, mine, timeout_s, tell) if index == 0 else [_answer_to(host, port, mine, timeout_s)]


def address(coordinator: str) -> tuple[str, int]:
    """Return host and port.

    Raises:
      UserError: it is not HOST:PORT.
    """
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise UserError(f"--coordinator={coordinator} must be HOST:PORT of process 0, for example node1:12345.")
    return host.strip("[]"), int(port)


def differences(calls: Sequence[Mapping[str, Any]]) -> str | None:
    """Return what the processes were not asked alike, in one sentence; None: nothing.

    Args:
      calls: what each process says of itself, in the order of their numbers.
    """
    first = _flat(calls[0]["facts"])
    for other in calls[1:]:
        his = _flat(other["facts"])
        keys = [key for key in {**first, **his} if first.get(key) != his.get(key) or (key in first) != (key in his)]
        if not keys:
            continue
        code = [key.removeprefix("code.") for key in keys if key.startswith("code.")]
        told = [f"the code differs ({_some(code)})"] if code else []
        told += [
            f"{key} is {_shown(his, key)}, not {_shown(first, key)}" for key in keys if not key.startswith("code.")
        ]
        return (
            f"process {other['index']} ({other['host']}) was started with something else than process 0 "
            f"({calls[0]['host']}): {_some(told, '; ')}; start all with the same code and the same command."
        )
    return None


def _lead(host: str, port: int, mine: Mapping[str, Any], timeout_s: float, tell: Callable[[str], object]) -> list[Peer]:
    """As process 0, hear everyone, and tell all what came of it."""
    count, end = mine["count"], time.monotonic() + timeout_s
    came: dict[int, Mapping[str, Any]] = {}
    heard: list[Peer] = []
    refused: str | None = None
    is_told = False
    with contextlib.ExitStack() as refusals:
        with _listening(host, port) as server:
            server.settimeout(min(0.5, timeout_s))
            while len(heard) < count - 1 and (left := end - time.monotonic()) > 0:
                if not is_told and left < timeout_s - _SILENT_S:
                    tell(f"waiting for {_named(_missing(came, count), count)} at {host}:{port} …")
                    is_told = True
                try:
                    other, _ = server.accept()
                except TimeoutError:
                    continue
                said = _heard(other)
                if said is None:
                    other.close()
                    continue
                heard.append(Peer(said["index"], str(said["host"]), refusals.enter_context(other)))
                if refused is None and (refused := _impossible(said, mine, came)):
                    end = min(end, time.monotonic() + _LATE_S)  # for the others to hear it, too
                came.setdefault(said["index"], said)
        if refused is None and len(heard) < count - 1:
            refused = (
                f"{_named(_missing(came, count), count)} did not join within {timeout_s:g} s at {host}:{port}; see "
                "what it says itself, and that all were started."
            )
        if refused is None:
            refused = differences([mine, *(came[index] for index in sorted(came))])
        for peer in heard:
            with contextlib.suppress(OSError):  # whoever has gone is missed by those who are there
                peer.connection.sendall(json.dumps({"refused": refused, "host": mine["host"]}).encode() + b"\n")
        if refused:
            raise UserError(refused)
        refusals.pop_all()  # the connections stay
    return heard


def _impossible(said: Mapping[str, Any], mine: Mapping[str, Any], came: Mapping[int, Mapping[str, Any]]) -> str | None:
    """Return why a process cannot be one of us; None: it can."""
    index, count = said["index"], mine["count"]
    if said["count"] != count:
        return (
            f"process {index} ({said['host']}) knows of {said['count']} processes, process 0 ({mine['host']}) of "
            f"{count}; give all of them the same number."
        )
    taken = mine if index == 0 else came.get(index)
    if taken or not 0 < index < count:
        return (
            f"two processes, on {(taken or mine)['host']} and on {said['host']}, say that they are process {index} of "
            f"{count}; give each its own number, and another port to another job."
        )
    return None


def _answer_to(host: str, port: int, mine: Mapping[str, Any], timeout_s: float) -> Peer:
    """As another process, tell process 0 who one is, and hear what it says."""
    who = f"process {mine['index']} of {mine['count']}"
    end = time.monotonic() + timeout_s
    while True:
        try:
            leader = socket.create_connection((host, port), timeout=max(0.1, end - time.monotonic()))
            break
        except OSError as error:
            if time.monotonic() + 0.2 >= end:
                raise UserError(
                    f"{who} found no process 0 at {host}:{port} within {timeout_s:g} s ({error.strerror or error}); "
                    "see that it was started on that host, and that hosts reach each other on that port."
                ) from None
            time.sleep(0.2)
    said = None
    with contextlib.suppress(OSError):
        leader.sendall(json.dumps(mine).encode() + b"\n")
        leader.settimeout(timeout_s + _ANSWER_S)
        said = _line(leader)
    if said is None or said["refused"]:
        leader.close()
        lost = f"{who} lost process 0 at {host}:{port} before all had joined; see what that one says."
        raise UserError(said["refused"] if said else lost)
    return Peer(0, said["host"], leader)


def _listening(host: str, port: int) -> socket.socket:
    try:
        if socket.has_dualstack_ipv6():
            return socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024)
        return socket.create_server(("", port), backlog=1024)
    except OSError as error:
        raise UserError(
            f"process 0 cannot be met at {host}:{port} ({error.strerror}); give another port in --coordinator."
        ) from None


def _heard(other: socket.socket) -> Mapping[str, Any] | None:
    """Return what a process says of itself; None: it is none of us."""
    other.settimeout(5.0)
    with contextlib.suppress(OSError):
        said = _line(other)
        if said and isinstance(said.get("index"), int) and isinstance(said.get("count"), int) and "facts" in said:
            return said
    return None


def _line(other: socket.socket) -> dict[str, Any] | None:
    """Return the next line, as JSON; nothing behind it is read."""
    text = bytearray()
    while not text.endswith(b"\n") and len(text) < _LINE_BYTES:
        some = other.recv(1 << 16, socket.MSG_PEEK)  # the first signs of life may lie behind it
        if not some:
            return None
        text += other.recv(some.find(b"\n") + 1 or len(some))
    with contextlib.suppress(ValueError):
        said = json.loads(text)
        return said if isinstance(said, dict) else None
    return None


def _missing(came: Mapping[int, object], count: int) -> list[int]:
    return [index for index in range(1, count) if index not in came]


def _named(indices: Sequence[int], count: int) -> str:
    return f"process{'es' if len(indices) > 1 else ''} {_some([str(i) for i in indices], ', ', 10)} of {count}"


def _some(texts: Sequence[str], between: str = ", ", most: int = _TOLD) -> str:
    more = [f"{len(texts) - most} more"] if len(texts) > most else []
    return between.join([*texts[:most], *more])


def _shown(values: Mapping[str, Any], key: str) -> str:
    return json.dumps(values[key]) if key in values else "nothing"


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}": value}
    return flat
