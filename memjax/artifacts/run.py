"""The folder of one training run: what it was asked to do, and the places of all that it writes.

    RUN/config.json     the config as resolved, and facts: the store's digest, this version, the number of parameters
    RUN/checkpoints/    states to go on from            RUN/weights/      averaged weights to sample from
    RUN/metrics.jsonl   scalars, a line a step          RUN/events/       the same for TensorBoard
    RUN/previews/       grids of images                 RUN/exposures.csv how often each training image was seen
    RUN/data/           phantoms, if no data was given      RUN/compiled/  programs, for a quick start
    RUN/complete        there once all steps are done

The same command goes on with its run. A command that asks for something else is told what differs.
"""

import fcntl
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from memjax.errors import UserError
from memjax.whole import whole_file

# What may change without being a change: a run may be made longer, watched otherwise, and split otherwise.
FREE = ("steps", "every", "monitor", "fsdp", "facts.version")
# All that a run killed at its very beginning leaves: phantoms are drawn there, and programs compiled.
_BEFORE_CONFIG = {".lock", "config.json.partial", "data", "compiled"}
_ABSENT = object()


class Run:
    """An open run folder. `config` and `facts` are plain JSON values."""

    def __init__(self, path: Path, config: dict[str, Any], facts: dict[str, Any]):
        self.path = path
        self.config = config
        self.facts = facts
        self.checkpoints_dir = path / "checkpoints"
        self.weights_dir = path / "weights"
        self.previews_dir = path / "previews"
        self._lock: int | None = None

    @classmethod
    def open(
        cls,
        path: Path,
        config: Mapping[str, Any],
        *,
        facts: Mapping[str, Any],
        allow_config_change: bool = False,
        may_write: bool = True,
        free: Sequence[str] = FREE,
    ) -> "Run":
        """Begin a run in a new or empty folder, or go on with the one that is there.

        Args:
          path: the folder.
          config: as resolved, JSON-like.
          facts: what is not asked for but found, and belongs to the run all the same.
          allow_config_change: go on with another config; what it was stays in `config.json` under "earlier".
          may_write: False for all processes but the first: they only read and check.
          free: dotted keys that may differ, with all below them; those of facts begin with `facts.`.

        Raises:
          UserError: the config differs, the folder holds something else, or another process trains in it.
        """
        run = cls(path, _plain(config), _plain(facts))
        if may_write:
            run._take()
        try:
            run._begin_or_go_on(allow_config_change, may_write, free)
        except BaseException:
            run.close()
            raise
        return run

    @classmethod
    def read(cls, path: Path) -> "Run":
        """Read a run that is or was trained, to take its weights.

        Raises:
          UserError: it is no run.
        """
        kept = _read(path)
        if kept is None:
            raise UserError(f"{path} is no run: it has no config.json; give the --workdir of a `launch.train`.")
        return cls(path, kept["config"], kept["facts"])

    @property
    def is_complete(self) -> bool:
        """Whether all steps are done, and all bytes on the disk."""
        return (self.path / "complete").exists()

    def complete(self, step: int) -> None:
        """Mark the run as done after this many steps."""
        with whole_file(self.path / "complete") as partial:
            partial.write_text(f"{step}\n", encoding="ascii")

    def close(self) -> None:
        """Let others train in this folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _take(self) -> None:
        """Make the folder and lock it for as long as this process lives."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not (self.path / "config.json").exists():
                strangers = sorted({entry.name for entry in self.path.iterdir()} - _BEFORE_CONFIG)
                if strangers:
                    raise UserError(
                        f"{self.path} holds {strangers[0]!r} but no run (no config.json); give another --workdir."
                    )
            self._lock = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
        except (FileExistsError, NotADirectoryError):
            raise UserError(f"{self.path} is no folder; give another --workdir.") from None
        except PermissionError as error:
            raise UserError(f"{self.path} may not be written ({error.strerror}); give another --workdir.") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise UserError(
                f"another process is training in {self.path}; let it end, or give another --workdir."
            ) from None
        except OSError:
            return  # a file system without locks

    def _begin_or_go_on(self, allow_config_change: bool, may_write: bool, free: Sequence[str]) -> None:
        content: dict[str, Any] = {"config": self.config, "facts": self.facts}
        kept = _read(self.path)
        if kept is not None:
            changed = _differences(kept, content, free)
            if changed and not allow_config_change:
                raise UserError(
                    f"{self.path} was begun with another config: {'; '.join(changed)}. Give what it was, another "
                    "--workdir, or --allow_config_change to go on all the same."
                )
            earlier = kept.pop("earlier", [])
            if kept == content:
                return
            earlier += [kept] if changed else []
            content |= {"earlier": earlier} if earlier else {}
        if may_write:
            (self.path / "complete").unlink(missing_ok=True)  # until it is again
            with whole_file(self.path / "config.json") as partial:
                partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def saved_steps(path: Path) -> list[int]:
    """Return the steps of which a run's folder holds a state to go on from, whole or not."""
    return [int(step.name) for step in (path / "checkpoints").glob("[0-9]*") if step.name.isdecimal()]


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what JSON makes of these values, so that what was written and what is asked for compare."""
    return json.loads(json.dumps(dict(values), default=str))


def _read(path: Path) -> dict[str, Any] | None:
    file = path / "config.json"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(content["config"], dict) or not isinstance(content["facts"], dict):
            raise ValueError("config or facts are no objects")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{file} cannot be read as the config of a run ({error}); put back what it was, or give another folder."
        ) from None
    return content


def _differences(kept: Mapping[str, Any], asked: Mapping[str, Any], free: Sequence[str]) -> list[str]:
    """Return `key: old -> new` for every key that differs and is not free."""
    was, now = ({**_flat(c["config"]), **_flat(c["facts"], "facts.")} for c in (kept, asked))
    keys = [key for key in {**was, **now} if not any(key == f or key.startswith(f"{f}.") for f in free)]
    return [
        f"{key} was {_shown(was, key)}, is {_shown(now, key)}"
        for key in keys
        if was.get(key, _ABSENT) != now.get(key, _ABSENT)
    ]


def _shown(values: Mapping[str, Any], key: str) -> str:
    return json.dumps(values[key]) if key in values else "nothing"


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}": value}
    return flat
