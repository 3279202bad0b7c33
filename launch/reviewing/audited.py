"""A finished audit as a review needs it: its images, found by their digests, and the pairs that its detectors hold."""

import dataclasses
import json
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from launch.reviewing.tables import read_rows
from memjax.data.store import Store, is_store
from memjax.errors import UserError

_ROLES = ("train", "synthetic")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Candidate:
    """A synthetic image and its nearest training image, in the eyes of one detector or of several."""

    synthetic: str
    train: str
    orientation: str | None  # None where the detector does not say
    is_called: bool  # some of these detectors call the synthetic image a copy


@dataclasses.dataclass(frozen=True, kw_only=True)
class Audited:
    """An audit's folder, read."""

    folder: Path
    record: Mapping[str, Any]  # report.json

    @classmethod
    def open(cls, folder: Path) -> "Audited":
        """Read the record of an audit.

        Raises:
          UserError: the folder is no report of an audit.
        """
        path = folder / "report.json"
        try:
            record = json.loads(path.read_text(encoding="ascii"))
            digests = [record["digests"][role] for role in _ROLES]
        except FileNotFoundError:
            raise UserError(f"{folder} holds no report.json; give --audit=DIR, the --out of launch.audit.") from None
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise UserError(f"{path} cannot be read ({error!r}); run the audit again.") from None
        if not all(isinstance(digest, str) for digest in digests):
            raise UserError(f"{path} does not say which images were compared; run the audit again.")
        return cls(folder=folder, record=record)

    def digest(self, role: str) -> str:
        """Return what names the images of a role, "train" or "synthetic"."""
        return self.record["digests"][role]

    def stores(self, given: Mapping[str, Path | None]) -> tuple[Store, Store]:
        """Open the training and the synthetic images that were compared.

        They are looked for where the audit had or made them: as the folders it was given, in its cache, in its own
        folder and beside it.

        Args:
          given: by role, where else to look first; None: nowhere.

        Raises:
          UserError: they are not there any more.
        """
        train, synthetic = (self._store(role, given.get(role)) for role in _ROLES)
        return train, synthetic

    def candidates(self) -> list[Candidate]:
        """Return each pair that some detector holds for a source: of pairs.csv, and of detectors.csv if there is one.

        In the order of the files; images without contrast have none.

        Raises:
          UserError: a table is missing or damaged, or no image has a pair.
        """
        found: dict[tuple[str, str], Candidate] = {}
        for row in self._nearest():
            if not row["train"]:
                continue
            new = Candidate(
                synthetic=row["synthetic"],
                train=row["train"],
                orientation=row.get("orientation"),
                is_called=row["copy"] == "true",
            )
            old = found.setdefault((new.synthetic, new.train), new)
            if new.is_called and not old.is_called:
                found[new.synthetic, new.train] = dataclasses.replace(old, is_called=True)
        if not found:
            raise UserError(f"{self.folder / 'pairs.csv'} lists no pair of images; there is nothing to review.")
        return list(found.values())

    def _nearest(self) -> Iterator[dict[str, str]]:
        yield from (
            row
            for row in _rows(self.folder / "pairs.csv", ("synthetic", "train", "copy", "rank"))
            if row["rank"] == "1"
        )
        others = self.folder / "detectors.csv"
        if others.exists():
            yield from _rows(others, ("synthetic", "train", "copy", "detector"))

    def _store(self, role: str, given: Path | None) -> Store:
        digest = self.digest(role)
        places = [given] if given else list(self._places(role))
        for place in places:
            if _digest_of(place) == digest:
                return Store.open(place)
        if given:
            raise UserError(
                f"--{role}={given} is not the image store that was audited (digest {digest[:12]}…); give that one, as "
                "launch.prepare wrote it or as it is in the audit's cache."
            )
        raise UserError(
            f"the {role} images that were audited (digest {digest[:12]}…) are neither where the audit found them nor "
            f"in its cache; give --{role}=STORE, or run the audit again: {self.record.get('command', 'launch.audit')}"
        )

    def _places(self, role: str) -> Iterator[Path]:
        """List where the images may be, likeliest first."""
        flags = _flags(str(self.record.get("command", "")))
        told = (self.record.get("sets") or {}).get(role) or {}
        named = (flags.get(role), told.get("given"))
        yield from (Path(name).expanduser() for name in named if name)
        caches = [self.folder / "cache", *([Path(flags["cache"]).expanduser()] if flags.get("cache") else [])]
        around = [*caches, self.folder, self.folder.absolute().parent, self.folder.absolute().parent / "data"]
        for folder in around:
            if folder.is_dir():
                yield from sorted(path for path in folder.iterdir() if path.is_dir())


def _rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    return read_rows(path, columns, named=str(path), remedy="run the audit again")


def _flags(command: str) -> dict[str, str]:
    """Return the flags of a command line by name."""
    try:
        words: Iterable[str] = shlex.split(command)
    except ValueError:
        words = ()
    return dict(word[2:].split("=", 1) for word in words if word.startswith("--") and "=" in word)


def _digest_of(place: Path) -> str | None:
    """Return a store's digest as its manifest has it; None for what is no store."""
    try:
        return json.loads((place / "manifest.json").read_text(encoding="utf-8"))["digest"] if is_store(place) else None
    except (ValueError, KeyError, TypeError, OSError):
        return None
