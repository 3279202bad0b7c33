"""Who does which part of a study: claims in one folder that many processes, on many machines, share.

    FOLDER/NAME.000   made by whoever came first: says who that is; its modification time is the last sign of life
    FOLDER/NAME.001   made by whoever took over: from one that was given back, or left behind by somebody who is gone

The newest generation rules. A file is made exclusively, so of all who want the next generation one gets it; nothing
else is asked of the file system, so NFS will do. Times are the file system's own, as the clocks of machines differ. A
claim is given back by setting its time to 1970, which a full disk allows, too.
"""

import contextlib
import dataclasses
import json
import os
import secrets
import signal
import socket
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

from memjax.errors import UserError
from memjax.whole import is_disk_full

_KEPT = 8  # generations: whoever still sees one that was removed makes one that is not the newest, and sees that
_LONG_AGO = 1e9  # a time before was given by us: some file systems do not go back as far as 1970
_NOBODY = {"host": "an unknown machine", "pid": 0, "since": None, "machine": "", "started": None}


class ClaimLost(Exception):
    """Somebody took over, as this process was silent for so long that it seemed dead: the work is theirs now."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Holder:
    """Who holds a claim, for people."""

    host: str
    pid: int  # 0 if it cannot be read
    since: float  # seconds since 1970, by the file system's clock, as is the next
    silent_s: float  # since the last sign of life

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(self.since))
        return f"process {self.pid} on {self.host} since {since} (last sign of life {max(self.silent_s, 0):.0f} s ago)"


class Claims:
    """The claims in one folder. To one process that takes a name twice, the name is taken the second time, too."""

    def __init__(self, folder: Path, *, expires_s: float = 600, beat_s: float = 30):
        """Use a folder, which need not exist.

        Args:
          folder: the same for all who share the work.
          expires_s: a holder on another machine who was silent for so long counts as gone. The same for all, and more
            than the minute for which NFS may remember old times.
          beat_s: how often a holder gives a sign of life.
        """
        assert beat_s < expires_s, (beat_s, expires_s)
        self.folder = folder
        self.beat_s = beat_s
        self._expires_s = expires_s
        self._termination = _Termination()

    def take(self, name: str) -> "Claim | None":
        """Take a claim, to be used in a `with`; None: another process that lives has it.

        While one is held, SIGTERM ends this process by `SystemExit`, so that every `with` gives back its claim, unless
        somebody else hears the signal already.

        Raises:
          UserError: the disk is full.
        """
        assert name and os.sep not in name, name
        newest = self._newest(name)
        if newest is not None and self._holder(name, newest):
            return None
        generation = 0 if newest is None else newest + 1
        path = self.path(name, generation)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                json.dump({**_this_process(), "since": os.fstat(file.fileno()).st_mtime}, file)
        except FileExistsError:
            return None
        except OSError as error:
            if not is_disk_full(error):
                raise
            _give_back(path)  # if it was made: then only its content found no room
            raise UserError(f"the disk of {path} is full; make room and run the same command again.") from error
        if self._newest(name) != generation:
            path.unlink(missing_ok=True)
            return None
        with contextlib.suppress(FileNotFoundError):
            for old in range(generation - _KEPT, -1, -1):
                self.path(name, old).unlink()
        return Claim(self, name, generation, self._termination)

    def holder(self, name: str) -> Holder | None:
        """Return who has a claim; None: it can be taken."""
        newest = self._newest(name)
        return None if newest is None else self._holder(name, newest)

    def is_newest(self, name: str, generation: int) -> bool:
        """Return whether this generation of a claim is there, and no newer one."""
        self._now()  # makes a file: then NFS lists the folder anew
        return self._newest(name) == generation

    def path(self, name: str, generation: int) -> Path:
        """Return the file of one generation of a claim."""
        return self.folder / f"{name}.{generation:03d}"

    def _newest(self, name: str) -> int | None:
        try:
            parts = [entry.rpartition(".") for entry in os.listdir(self.folder)]
        except FileNotFoundError:
            return None
        return max((int(number) for stem, _, number in parts if stem == name and number.isdecimal()), default=None)

    def _holder(self, name: str, generation: int) -> Holder | None:
        try:
            with self.path(name, generation).open("rb") as file:  # opened: then NFS asks for its time anew
                said, seen = _said(file.read()), os.fstat(file.fileno()).st_mtime
        except FileNotFoundError:  # removed just now, as there are many newer ones
            return Holder(host=_NOBODY["host"], pid=0, since=time.time(), silent_s=0.0)
        if seen < _LONG_AGO:
            return None
        now = self._now()
        silent_s = 0.0 if now is None else now - seen  # of whom no time is known, nothing bad is assumed
        lives = _lives(said)  # if so it keeps its claim: on a laptop that wakes all were silent for hours
        if lives is None:
            lives = abs(silent_s) < self._expires_s
        since = seen if said["since"] is None else said["since"]
        return Holder(host=said["host"], pid=said["pid"], since=since, silent_s=silent_s) if lives else None

    def _now(self) -> float | None:
        """Return the time by the file system's clock; None: it cannot be asked, for example as the disk is full."""
        clock = self.folder / f".clock-{secrets.token_hex(8)}"
        try:
            clock.touch()
            os.utime(clock)  # filled in where the disk is
            return clock.stat().st_mtime
        except OSError:
            return None
        finally:
            with contextlib.suppress(OSError):
                clock.unlink()


class Claim:
    """A claim that is held until it is released; a thread of its own gives the signs of life."""

    def __init__(self, claims: Claims, name: str, generation: int, termination: "_Termination"):
        self.name = name
        self.is_lost = False  # as of the last sign of life or `check`
        self._claims = claims
        self._generation = generation
        self._path = claims.path(name, generation)
        self._termination = termination
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"claim {name}", daemon=True)
        self._thread.start()
        termination.begin()

    def __enter__(self) -> "Claim":
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()

    def check(self) -> None:
        """Look whether the claim is still ours: before what others must not do as well.

        Raises:
          ClaimLost: somebody took over.
        """
        self._look()
        if self.is_lost:
            raise ClaimLost(
                f"{self.name} was taken over by {self._claims.holder(self.name) or 'another process'}, as this process "
                "was silent for too long."
            )

    def release(self) -> None:
        """Give the claim back; a second time nothing happens."""
        if self._is_over.is_set():
            return
        self._is_over.set()
        self._thread.join()
        _give_back(self._path)
        self._termination.end()

    def _beat(self) -> None:
        while not self._is_over.wait(self._claims.beat_s) and not self.is_lost:
            with contextlib.suppress(OSError):  # a server that cannot be reached may come back
                os.utime(self._path)
            self._look()

    def _look(self) -> None:
        with contextlib.suppress(OSError):
            self.is_lost = self.is_lost or not self._claims.is_newest(self.name, self._generation)


class _Termination:
    """What SIGTERM does while claims are held: end the process as an exception does, not at once."""

    def __init__(self):
        self._held = 0
        self._is_ours = False

    def begin(self) -> None:
        self._held += 1
        is_main = threading.current_thread() is threading.main_thread()
        if self._held == 1 and is_main and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
            signal.signal(signal.SIGTERM, self._end)
            self._is_ours = True

    def end(self) -> None:
        self._held -= 1
        if self._is_ours and not self._held and threading.current_thread() is threading.main_thread():
            self._is_ours = False
            if signal.getsignal(signal.SIGTERM) in (self._end, signal.SIG_IGN):
                signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _end(self, number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)  # a second one must not interrupt the giving back
        raise SystemExit(128 + number)  # the exit status that shells give for a signal


def _give_back(path: Path) -> None:
    with contextlib.suppress(OSError):
        os.utime(path, (0, 0))


def _said(content: bytes) -> dict[str, Any]:
    """Return what a claim's file says; what it does not say, or not as it should, is unknown."""
    try:
        said = json.loads(content)
    except ValueError:
        return _NOBODY
    kinds = {"host": str, "pid": int, "since": float | int, "machine": str, "started": int}
    if not isinstance(said, dict):
        return _NOBODY
    return {key: said[key] if isinstance(said.get(key), kind) else _NOBODY[key] for key, kind in kinds.items()}


def _this_process() -> dict[str, Any]:
    pid = os.getpid()
    state = _state(pid)
    return {"host": socket.gethostname(), "pid": pid, "machine": _machine(), "started": state and state[1]}


def _machine() -> str:
    """Return what two processes have in common if they see each other: this boot and the container; "": unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _state(pid: int) -> tuple[str, int] | None:
    """Return a process's state (a letter) and when it started (the kernel's ticks); None: it is not to be seen."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return fields[0], int(fields[19])


def _lives(said: dict[str, Any]) -> bool | None:
    """Return whether the process that made a claim lives; None: it cannot be seen from here."""
    if not said["machine"] or said["machine"] != _machine() or said["started"] is None:
        return None
    state = _state(said["pid"])
    if state is not None:
        return state[0] not in "ZX" and state[1] == said["started"]  # else it has ended, or its number is another's now
    try:
        os.kill(said["pid"], 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it is somebody else's, and hidden
        pass
    return None
