"""States to go on from: state and data position in one atomic, asynchronous save, restored onto any mesh.

    CHECKPOINTS/STEP/state/       every leaf by name (orbax)
    CHECKPOINTS/STEP/position/    where the data stood, JSON
    CHECKPOINTS/STEP/digests/     the digest of every file of the two

TensorStore checks its indices but not the numbers themselves: a flipped bit in them would be restored in silence. So
each file's digest is taken in the background, after all are written and before the step gets its name, and is compared
before the step is restored.
"""

import contextlib
import dataclasses
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jax.experimental import multihost_utils
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, LatestN

from memjax.digest import file_digest
from memjax.errors import UserError
from memjax.trees import Tree, from_named, named_leaves
from memjax.whole import is_disk_full, whole_file

_KEPT = "kept.json"  # the step that `keep_also` protects
_PATIENCE_S = 3600  # for one save: orbax's ten minutes are too few for a large model on a slow disk
_SHOWN = 3  # leaves that an error names


class Checkpoints:
    """The checkpoints of one run. With many processes, all of them make every call."""

    def __init__(self, folder: Path, *, keep: int = 2):
        """Open a folder, which need not exist; of what is saved in it the newest `keep` stay."""
        self._folder = folder.absolute()
        self._protected = _Protected(self._read_kept())
        self._damaged: list[int] = []  # newer than what was restored
        logging.getLogger("absl").addFilter(_is_news)
        logging.getLogger("asyncio").addFilter(_is_no_other_write)
        if not isinstance(sys.unraisablehook, _WithoutLateWrites):
            sys.unraisablehook = _WithoutLateWrites(sys.unraisablehook)
        registry = ocp.handlers.DefaultCheckpointHandlerRegistry()
        # The order matters: items are finished in turn, and digests are of what is finished.
        for item, handler, asked in (
            ("state", ocp.StandardCheckpointHandler(), (ocp.args.StandardSave, ocp.args.StandardRestore)),
            ("position", ocp.JsonCheckpointHandler(), (ocp.args.JsonSave, ocp.args.JsonRestore)),
            ("digests", _Digests(), (_DigestsSave, _DigestsRestore)),
        ):
            for args in asked:
                registry.add(item, args, handler)
        self._manager = ocp.CheckpointManager(
            self._folder,
            handler_registry=registry,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=AnyPreservationPolicy([LatestN(keep), self._protected]),
                cleanup_tmp_directories=True,  # of saves that were killed
                enable_async_checkpointing=True,
                async_options=ocp.AsyncOptions(timeout_secs=_PATIENCE_S),
            ),
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def steps(self) -> list[int]:
        """Return the steps whose saves are done, ascending."""
        return sorted(ocp.path.step.checkpoint_steps(self._folder))

    def latest(self) -> int | None:
        """Return the newest step whose save is done."""
        return max(self.steps(), default=None)

    def save(self, step: int, state: Tree, position: Mapping[str, Any]) -> None:
        """Begin to save, and return as soon as the state may be donated; a step that is there is not saved again.

        Waits for the save before, if that is still going on.

        Raises:
          UserError: the disk is full, now or in the save before.
        """
        self.wait()
        for damaged in self._damaged:
            self._manager.delete(damaged)
        self._damaged.clear()
        if step in self._manager.all_steps():
            return
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(named_leaves(state)),
            position=ocp.args.JsonSave(dict(position)),
            digests=_DigestsSave(),
        )
        with self._disk():
            begun = self._manager.save(step, args=items)
        assert begun, (step, self._manager.all_steps())

    def keep_also(self, step: int) -> None:
        """Protect one step from deletion, now and when the run goes on, in place of the one protected before."""
        self._protected.step = step
        if jax.process_index() == 0:
            with whole_file(self._folder / _KEPT) as partial:
                partial.write_text(json.dumps({"step": step}) + "\n", encoding="ascii")

    def restore(
        self, abstract_state: Tree, *, tell: Callable[[str], object] = lambda text: None
    ) -> tuple[Tree, dict[str, Any], int] | None:
        """Return state, position and step of the newest whole checkpoint; None if nothing was ever saved.

        Args:
          abstract_state: of `jax.ShapeDtypeStruct` with the shardings to restore to, whatever mesh wrote it.
          tell: is told of damaged ones that were passed over; the next save deletes them.

        Raises:
          UserError: none is whole, or the state is of another shape.
        """
        steps = self.steps()
        if not steps:
            return None
        step = self._newest_whole(steps, tell)
        wanted = named_leaves(abstract_state)
        _check_fits(self._folder / str(step), wanted, dict(self._manager.item_metadata(step)["state"].items()))
        items = ocp.args.Composite(state=ocp.args.StandardRestore(wanted), position=ocp.args.JsonRestore())
        restored = self._manager.restore(step, args=items)
        self._damaged = [newer for newer in steps if newer > step]
        return from_named(abstract_state, restored["state"]), dict(restored["position"]), step

    def wait(self) -> None:
        """Wait until what was begun is saved.

        Raises:
          UserError: the disk is full.
        """
        with self._disk():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Wait, and end."""
        with self._disk():
            self._manager.close()

    @contextlib.contextmanager
    def _disk(self) -> Iterator[None]:
        """Tell a full disk from other errors, wherever TensorStore or orbax meet it."""
        try:
            yield
        except Exception as error:
            if not is_disk_full(error):
                raise
            last = self.latest()
            left = "there is no whole checkpoint yet" if last is None else f"the last whole checkpoint is step {last}"
            raise UserError(
                f"the disk of {self._folder} is full; {left}; make room and run the same command again."
            ) from error

    def _read_kept(self) -> int | None:
        try:
            return int(json.loads((self._folder / _KEPT).read_text(encoding="ascii"))["step"])
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def _newest_whole(self, steps: Sequence[int], tell: Callable[[str], object]) -> int:
        """Return the newest step whose files are what was written: the first process looks, all of them agree."""
        found = -1
        if jax.process_index() == 0:
            for step in reversed(steps):
                damage = _damage(self._folder / str(step))
                if not damage:
                    found = step
                    break
                tell(f"checkpoint {step} is damaged ({damage}) and passed over")
        if jax.process_count() > 1:
            found = int(multihost_utils.broadcast_one_to_all(np.int32(found)))
        if found < 0:
            raise UserError(
                f"{self._folder} has checkpoints ({', '.join(map(str, steps))}), but all of them are damaged; bring "
                "back a copy of one, or remove the folder to begin again."
            )
        return found


@dataclasses.dataclass
class _Protected:
    """Orbax's policy that keeps one step."""

    step: int | None

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        return [checkpoint.step == self.step for checkpoint in checkpoints]


class _Digests(ocp.CheckpointHandler):
    """Orbax's item that holds the digests of the files of the items before it; `finalize` is the last to come."""

    def save(self, directory: epath.Path, args: "_DigestsSave") -> None:
        """Leave all to `finalize`: nothing is written yet."""

    def finalize(self, directory: epath.Path) -> None:
        step = Path(directory).parent
        digests = {
            str(file.relative_to(step)): file_digest(file)
            for item in ("state", "position")
            for file in sorted((step / item).rglob("*"))
            if file.is_file()
        }
        assert len(digests) > 1, directory  # the items before are finished, under their own names
        Path(directory, "sha256.json").write_text(json.dumps(digests, indent=0), encoding="utf-8")

    def restore(self, directory: epath.Path, args: "_DigestsRestore | None" = None) -> dict[str, str]:
        return json.loads(Path(directory, "sha256.json").read_text(encoding="utf-8"))


@ocp.args.register_with_handler(_Digests, for_save=True)
@dataclasses.dataclass
class _DigestsSave(ocp.args.CheckpointArgs):
    """Asks for digests."""


@ocp.args.register_with_handler(_Digests, for_restore=True)
@dataclasses.dataclass
class _DigestsRestore(ocp.args.CheckpointArgs):
    """Asks for them back."""


@dataclasses.dataclass(frozen=True)
class _WithoutLateWrites:
    """Python's hook for errors that nobody can catch, without TensorStore's of the writes that a failed save left.

    When a write fails, on a full disk, orbax ends its event loop, and writes that end later have nobody to tell.
    """

    before: Callable[[Any], object]

    def __call__(self, unraisable: Any) -> None:
        if unraisable.object is None and str(unraisable.exc_value) == "Event loop is closed":
            return
        self.before(unraisable)


def _damage(folder: Path) -> str:
    """Return what is wrong with the files of a checkpoint; nothing if they are what was written."""
    try:
        digests = json.loads((folder / "digests" / "sha256.json").read_text(encoding="utf-8"))
        for name, digest in digests.items():
            if file_digest(folder / name) != digest:
                return f"{name} was changed"
    except OSError as error:
        return f"{error.filename}: {error.strerror}"
    except (ValueError, AttributeError):
        return "its digests cannot be read"
    return ""


def _check_fits(folder: Path, wanted: Mapping[str, Any], saved: Mapping[str, Any]) -> None:
    """Raise `UserError` unless every leaf is there in its shape and type; orbax would convert types in silence."""
    names = [*wanted, *(name for name in saved if name not in wanted)]
    was, now = (
        {name: f"{np.dtype(leaf.dtype).name}{list(leaf.shape)}" for name, leaf in leaves.items()}
        for leaves in (saved, wanted)
    )
    wrong = [
        f"{name} was saved as {was.get(name, 'nothing')} and is {now.get(name, 'nothing')}"
        for name in names
        if was.get(name) != now.get(name)
    ]
    if wrong:
        more = f", and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise UserError(
            f"the checkpoint {folder} is of another model: {', '.join(wrong[:_SHOWN])}{more}; give the config it was "
            "trained with, or another --workdir."
        )


def _is_news(record: logging.LogRecord) -> bool:
    """Drop what orbax logs: its errors are raised as well, and the rest is chatter."""
    return f"{os.sep}orbax{os.sep}" not in record.pathname


def _is_no_other_write(record: logging.LogRecord) -> bool:
    """Say whether asyncio tells of something else than arrays whose writing failed as that of the first one did.

    The first failure is raised; nobody asks for those of the others, and asyncio would tell each with its traceback.
    """
    told = record.getMessage()
    return not ("never retrieved" in told and "async_serialize_from_host" in told)
