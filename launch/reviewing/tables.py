"""Tables (CSV) that a review reads."""

import csv
from collections.abc import Sequence
from pathlib import Path

from memjax.errors import UserError


def read_rows(path: Path, columns: Sequence[str], *, named: str, remedy: str) -> list[dict[str, str]]:
    """Return the rows of a table, by the names in its first line.

    Args:
      path: the table.
      columns: those it must have.
      named: what messages call it.
      remedy: what to do if it is no such table.

    Raises:
      UserError: it is missing, cannot be read, or lacks a column.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            table = csv.DictReader(file)
            missing = [name for name in columns if name not in (table.fieldnames or ())]
            rows = list(table)
    except FileNotFoundError:
        raise UserError(f"{named} is not there; {remedy}.") from None
    except (OSError, csv.Error) as error:
        raise UserError(f"{named} cannot be read ({error}); {remedy}.") from None
    if missing:
        raise UserError(f"{named} has no column {missing[0]!r}; {remedy}.")
    return rows
