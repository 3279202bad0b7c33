"""The table of a study, as other programs read it: table.csv and table.json, as documented in docs/study.md."""

import csv
import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from memjax import __version__
from memjax.audit.fidelity.quality import Quality
from memjax.audit.findings import Interval
from memjax.audit.report.records import write_json
from memjax.errors import UserError
from memjax.study.row import Facts, Memorization, Row
from memjax.study.shares import COPIED, MEMORIZED, PATIENTS, Measure
from memjax.whole import whole_file

VERSION = 1
CSV, JSON = "table.csv", "table.json"
_COUNTS: tuple[tuple[str, Measure], ...] = (
    ("n_copies", COPIED),
    ("n_mem", MEMORIZED),
    ("n_patients_memorized", PATIENTS),
)
_FACTS = (
    "data",
    "is_phantom",
    "is_sliced",
    "shape",
    "n_train",
    "n_train_patients",
    "n_heldout",
    "n_synthetic",
    "parameters",
    "images_seen",
    "epochs",
)
_SCORES = tuple(field.name for field in dataclasses.fields(Quality) if field.type is float)


def write_table(folder: Path, rows: Sequence[Row]) -> None:
    """Write table.csv and table.json into a folder, each whole or not at all.

    Raises:
      UserError: the disk is full.
    """
    with whole_file(folder / JSON) as path:
        record = {"version": VERSION, "program": f"memjax {__version__}", "rows": [_record(row) for row in rows]}
        write_json(path, record)
    with whole_file(folder / CSV) as path, path.open("w", newline="", encoding="utf-8") as file:
        flat = [flat_row(row, _axes(rows), _detectors(rows)) for row in rows]
        names = list(flat[0]) if flat else list(flat_row(Row(cell="", axes={}, status="waiting"), [], []))
        table = csv.DictWriter(file, names)
        table.writeheader()
        table.writerows(flat)


def read_table(folder: Path) -> list[Row]:
    """Return the rows of a folder's table.json; they have no `scores`.

    Raises:
      UserError: there is no table, or it is none of ours.
    """
    path = folder / JSON
    try:
        record = json.loads(path.read_text(encoding="ascii"))
        return [_row(one) for one in record["rows"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} cannot be read as the table of a study ({error}); run launch.study again.") from None


def flat_row(row: Row, axes: Sequence[str], detectors: Sequence[str]) -> dict[str, str]:
    """Return a cell as the columns of table.csv: what is not known is empty."""
    facts, found, quality = row.facts, row.memorization, row.quality
    flat: dict[str, Any] = {"cell": row.cell, "status": row.status, "error": row.error}
    flat |= {f"axis_{name}": row.axes.get(name) for name in axes}
    flat |= {name: getattr(facts, name, None) for name in _FACTS}
    flat["shape"] = "x".join(str(edge) for edge in facts.shape) if facts else None
    flat["seconds"] = sum(facts.seconds.values()) if facts else None
    flat |= {name: getattr(found, name, None) for name in ("is_clean", "threshold", "n_copies_by_chance", "p_beyond")}
    for name, measure in _COUNTS:
        flat |= _interval(name, getattr(found, name, None)) | _interval(measure.name, measure.of(row))
    flat["f_ratio"] = row.f_ratio
    for name in detectors:
        other = row.detectors.get(name)
        flat |= {f"{name}_{count}": getattr(other, count).value if other else None for count in ("n_copies", "n_mem")}
    flat["together"] = row.together
    flat["quality_features"] = quality.features if quality else None
    flat["quality_n_compared"] = quality.n_compared if quality else None
    flat |= {name: getattr(quality, name, None) for name in _SCORES}
    flat["report"] = row.report
    return {name: _text(value) for name, value in flat.items()}


def _axes(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row.axes))


def _detectors(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row.detectors))


def _interval(name: str, found: Interval | None) -> dict[str, Any]:
    ends = (found.value, found.low, found.high) if found else (None, None, None)
    return dict(zip((name, f"{name}_low", f"{name}_high"), ends, strict=True))


def _text(value: Any) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.9g}" if isinstance(value, float) else str(value)


def _record(row: Row) -> dict[str, Any]:
    """Return a row as JSON's own, without its score arrays."""
    plain = dataclasses.asdict(dataclasses.replace(row, scores=None))
    del plain["scores"]
    return plain


def _row(record: Mapping[str, Any]) -> Row:
    found = dict(record)
    found["facts"] = _made(Facts, record["facts"])
    found["memorization"] = _memorization(record["memorization"])
    found["detectors"] = {name: _memorization(one) for name, one in record["detectors"].items()}
    found["quality"] = _made(Quality, record["quality"])
    return _made(Row, found)


def _memorization(record: Mapping[str, Any] | None) -> Memorization | None:
    if record is None:
        return None
    counts = {name: _made(Interval, record[name]) for name, _ in _COUNTS}
    return _made(Memorization, {**record, **counts})


def _made(cls: Any, record: Mapping[str, Any] | None) -> Any:
    """Return the dataclass of a record; null is nan where a number must be, and unknown keys of later versions go."""
    if record is None:
        return None
    fields = {field.name: field.type for field in dataclasses.fields(cls)}
    return cls(
        **{
            name: math.nan if value is None and fields[name] is float else value
            for name, value in record.items()
            if name in fields
        }
    )
