"""The file of a review: which pairs of images readers were asked about, and what each of them said. SQLite.

    audit   name, value                      which audit: the digests of its images, and how the pairs were drawn
    pairs   id, synthetic, train, synthetic_id, train_id, orientation, stratum, weight
    labels  reader, pair, label, time        one row a reader and pair; the last label counts

A label is on the disk when `save` returns. Several processes may use one file at once, and there is never more of it
than this one file (no write-ahead log), so that it can be copied to a colleague at any time.
"""

import contextlib
import dataclasses
import datetime
import os
import sqlite3
import unicodedata
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from memjax.errors import UserError

LABELS = ("copy", "novel", "unsure")

_VERSION = 1
_WAIT_S = 10.0  # for another process that is writing; a label takes milliseconds
_NAME_LENGTH = 60
_SCHEMA = f"""
    CREATE TABLE audit (name TEXT PRIMARY KEY, value TEXT NOT NULL);
    CREATE TABLE pairs (
        id INTEGER PRIMARY KEY, synthetic TEXT NOT NULL, train TEXT NOT NULL, synthetic_id INTEGER NOT NULL,
        train_id INTEGER NOT NULL, orientation TEXT NOT NULL, stratum TEXT NOT NULL, weight REAL NOT NULL,
        UNIQUE (synthetic_id, train_id));
    CREATE TABLE labels (
        reader TEXT NOT NULL, pair INTEGER NOT NULL REFERENCES pairs (id),
        label TEXT NOT NULL CHECK (label IN {LABELS}), time TEXT NOT NULL, PRIMARY KEY (reader, pair));
    PRAGMA user_version = {_VERSION};
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pair:
    """A synthetic image and the training image that a detector holds for the one it was copied from.

    By their sources in the stores, for people, and by their ids: stores of equal digest hold equal images in the same
    places, whatever their files are called. `orientation` turns the training image into the synthetic one.
    """

    synthetic: str
    train: str
    synthetic_id: int
    train_id: int
    orientation: str
    stratum: str  # "called" by some detector, or "not called"
    weight: float  # how many candidates it stands for


_PAIR = tuple(field.name for field in dataclasses.fields(Pair))
_SOURCES = ("synthetic", "train")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Label:
    """What one reader said of one pair (its place in `ReviewFile.pairs`), and when: UTC, as ISO 8601."""

    reader: str
    pair: int
    label: str
    time: str


class ReviewFile:
    """An existing review. `about` are the rows of the table `audit`; `pairs` do not change any more.

    Raises:
      UserError: the file is missing, is no review, or cannot be read.
    """

    def __init__(self, path: Path):
        self.path = path
        if not path.is_file():
            raise UserError(f"{path} is not there; give the file that launch.review wrote (its review.sqlite).")
        with self._open("ro") as database:
            if not _is_review(database):
                raise UserError(f"{path} is not a review; give the file that launch.review wrote (its review.sqlite).")
            self.about = dict(database.execute("SELECT name, value FROM audit"))
            rows = database.execute(f"SELECT {', '.join(_PAIR)} FROM pairs ORDER BY id")
            self.pairs = tuple(Pair(**dict(zip(_PAIR, row, strict=True))) for row in rows)

    @classmethod
    def create(cls, path: Path, about: Mapping[str, str], pairs: Sequence[Pair]) -> "ReviewFile":
        """Write a review without labels and open it; where another process was first, open that one's.

        Raises:
          UserError: the file cannot be written, or is something else.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        with _database(path, "rwc") as database, _transaction(database):
            if not _is_review(database):
                if _tables(database):
                    raise UserError(f"{path} holds something else than a review; choose another --out.")
                for statement in _SCHEMA.strip().split(";\n"):
                    database.execute(statement)
                database.executemany("INSERT INTO audit VALUES (?, ?)", about.items())
                places = ("CAST(? AS TEXT)" if name in _SOURCES else "?" for name in _PAIR)
                database.executemany(
                    f"INSERT INTO pairs (id, {', '.join(_PAIR)}) VALUES (?, {', '.join(places)})",
                    [(number, *(_value(pair, name) for name in _PAIR)) for number, pair in enumerate(pairs)],
                )
        return cls(path)

    def check_subject(self, train: str, synthetic: str, where: str) -> None:
        """Raise `UserError` unless this review is of the images with these digests; `where` names the audit."""
        if (self.about.get("train"), self.about.get("synthetic")) != (train, synthetic):
            raise UserError(
                f"{self.path} is the review of another audit: of {self._subject()}; {where} is of training images "
                f"{train[:12]} and synthetic images {synthetic[:12]}. Give the review of this audit, or another file."
            )

    def save(self, labels: Sequence[Label]) -> int:
        """Write labels, all or none; one that is older than what its reader said of the pair since is left out.

        Returns: how many were written.

        Raises:
          UserError: the file cannot be written.
        """
        with self._open("rw") as database, _transaction(database):
            before = database.total_changes
            database.executemany(
                "INSERT INTO labels VALUES (?, ?, ?, ?) ON CONFLICT (reader, pair) DO UPDATE "
                "SET label = excluded.label, time = excluded.time "
                "WHERE excluded.time > time OR excluded.time = time AND excluded.label <> label",
                [(label.reader, label.pair, label.label, label.time) for label in labels],
            )
            return database.total_changes - before

    def labels(self, reader: str | None = None) -> list[Label]:
        """Return all labels, or those of one reader, by reader and pair."""
        with self._open("ro") as database:
            rows = database.execute(
                "SELECT reader, pair, label, time FROM labels WHERE ? IN (reader, '') ORDER BY reader, pair",
                (reader or "",),
            )
            return [Label(reader=name, pair=pair, label=label, time=time) for name, pair, label, time in rows]

    def known_name(self, name: str) -> str:
        """Return a reader's name as it is in the file, however it was typed this time.

        Raises:
          UserError: nobody can be called that.
        """
        name = " ".join(unicodedata.normalize("NFC", name).split())
        if not name or len(name) > _NAME_LENGTH or not name.isprintable():
            raise UserError(f"a reader's name has 1 to {_NAME_LENGTH} letters; {name[:_NAME_LENGTH]!r} is none.")
        with self._open("ro") as database:
            known = [row[0] for row in database.execute("SELECT DISTINCT reader FROM labels")]
        return next((other for other in known if other.casefold() == name.casefold()), name)

    def _subject(self) -> str:
        told = (
            f"{title} {self.about.get(role, 'unknown')[:12]}"
            for title, role in (("training images", "train"), ("synthetic images", "synthetic"))
        )
        return " and ".join(told)

    def _open(self, mode: str) -> contextlib.AbstractContextManager[sqlite3.Connection]:
        return _database(self.path, mode)


def now() -> str:
    """Return the time as labels have it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


@contextlib.contextmanager
def _database(path: Path, mode: str) -> Iterator[sqlite3.Connection]:
    """Open the file; what SQLite has to complain of becomes a sentence."""
    place = urllib.parse.quote(os.fsencode(path.absolute()))
    try:
        with contextlib.closing(
            sqlite3.connect(f"file:{place}?mode={mode}", uri=True, timeout=_WAIT_S, isolation_level=None)
        ) as database:
            database.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")  # file names may be anything
            yield database
    except sqlite3.OperationalError as error:
        raise UserError(f"{path} cannot be used ({error}); close what else uses it, or choose another file.") from None
    except sqlite3.IntegrityError:
        raise  # a label that is none: our mistake, not the file's
    except sqlite3.DatabaseError as error:
        raise UserError(f"{path} is damaged or not a review ({error}); choose another file.") from None


@contextlib.contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    database.execute("BEGIN IMMEDIATE")
    with database:  # commits, or rolls back
        yield


def _value(pair: Pair, name: str) -> str | bytes | int | float:
    """Return a pair's value as SQLite takes it: names of files as bytes, which need not be UTF-8."""
    value = getattr(pair, name)
    return value.encode("utf-8", "surrogateescape") if name in _SOURCES else value


def _tables(database: sqlite3.Connection) -> set[str]:
    return {row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def _is_review(database: sqlite3.Connection) -> bool:
    version = database.execute("PRAGMA user_version").fetchone()[0]
    return version == _VERSION and {"audit", "pairs", "labels"} <= _tables(database)
