"""Labels as a table (CSV), for spreadsheets, and to bring together what readers said on different machines."""

import csv
import datetime
from collections import Counter
from pathlib import Path

from launch.reviewing.tables import read_rows
from memjax.audit.review_file import LABELS, Label, ReviewFile, now
from memjax.errors import UserError
from memjax.whole import whole_file

COLUMNS = ("synthetic", "train", "orientation", "stratum", "weight", "reader", "label", "time")
_NEEDED = ("synthetic", "train", "reader", "label")


def write_table(path: Path, review: ReviewFile) -> int:
    """Write every label of a review, one row each, by reader and pair; returns how many there are.

    Raises:
      UserError: the disk is full.
    """
    labels = review.labels()
    with whole_file(path) as partial, partial.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for label in labels:
            pair = review.pairs[label.pair]
            table.writerow(
                (
                    pair.synthetic,
                    pair.train,
                    pair.orientation,
                    pair.stratum,
                    f"{pair.weight:.9g}",
                    label.reader,
                    label.label,
                    label.time,
                )
            )
    return len(labels)


def read_table(path: Path, review: ReviewFile) -> list[Label]:
    """Read labels of a review's pairs. The columns synthetic, train, reader and label suffice; without a time: now.

    Raises:
      UserError: the table cannot be read, a row is not of a pair of this review, or a value is none.
    """
    numbers = {(pair.synthetic, pair.train): number for number, pair in enumerate(review.pairs)}
    rows = read_rows(
        path,
        _NEEDED,
        named=f"--import={path}",
        remedy=f"give a table that --export wrote, with the columns {', '.join(_NEEDED)}",
    )
    labels, names = [], {}
    for line, row in enumerate(rows, 2):
        number = numbers.get((row["synthetic"], row["train"]))
        if number is None:
            raise UserError(
                f"--import={path}, line {line}: {row['synthetic']!r} with {row['train']!r} is no pair of "
                f"{review.path}; draw both reviews from the same audit, with the same --pairs and --seed."
            )
        if row["label"] not in LABELS:
            raise UserError(f"--import={path}, line {line}: {row['label']!r} must be {', '.join(LABELS)}.")
        reader = review.known_name(row["reader"] or "")
        reader = names.setdefault(reader.casefold(), reader)
        labels.append(Label(reader=reader, pair=number, label=row["label"], time=_time(row.get("time"), path, line)))
    twice = [key for key, count in Counter((label.reader, label.pair) for label in labels).items() if count > 1]
    if twice:
        pair = review.pairs[twice[0][1]]
        raise UserError(f"--import={path}: {twice[0][0]} has more than one label of {pair.synthetic!r}; keep one.")
    return labels


def _time(text: str | None, path: Path, line: int) -> str:
    """Return a time as labels have it, so that later ones sort behind."""
    if not text:
        return now()
    try:
        return datetime.datetime.fromisoformat(text).astimezone(datetime.UTC).isoformat(timespec="milliseconds")
    except ValueError:
        raise UserError(f"--import={path}, line {line}: the time {text!r} must be like {now()}.") from None
