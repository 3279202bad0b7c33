"""The table of a study: what is written is read again, and its columns are those that are documented."""

import csv
import dataclasses
import json
import math
import re
from pathlib import Path

import pytest
from small_studies import growth, memorization, row, study

from memjax.errors import UserError
from memjax.study.row import Row
from memjax.study.table import read_table, write_table

DOCS = Path(__file__).parent.parent / "docs" / "study.md"


def same(one, other):
    """Compare rows, nan with nan."""
    return repr(one) == repr(other)


def test_what_is_written_is_read_again(tmp_path):
    detectors = {"correlation-unturned": memorization(3, 2), "embedding:own": memorization(9, 5)}
    rows = [*study(), row(12, fid=3.5, detectors=detectors, augmentation="flips", growth=[growth(400, 12, 64)])]
    write_table(tmp_path, rows)
    read = read_table(tmp_path)
    plain = [dataclasses.replace(one, scores=None) for one in rows]
    assert len(read) == len(plain)
    for one, other in zip(read, plain, strict=True):
        as_lists = json.loads(json.dumps(dataclasses.asdict(other)))  # tuples are lists in JSON
        assert same(json.loads(json.dumps(dataclasses.asdict(one))), as_lists)
    assert math.isnan(read[0].quality.fld) and read[0].facts.epochs == rows[0].facts.epochs


def test_columns_are_flat_and_documented(tmp_path):
    rows = [row(360, generator="ddpm", fid=2.5, detectors={"ssim": memorization(3, 2)}), row(0, generator="stylegan2")]
    failed = Row(cell="generator=c", axes={"generator": "c"}, status="failed", error="out of memory")
    write_table(tmp_path, [*rows, failed])
    first, second, third = csv.DictReader((tmp_path / "table.csv").read_text(encoding="utf-8").splitlines())
    assert first["axis_generator"] == "ddpm" and first["n_copies"] == "360"
    assert [float(first[f"copied_share{end}"]) for end in ("", "_low", "_high")] == [0.9, 0.88, 0.92]
    assert first["fid"] == "2.5" and first["ssim_n_copies"] == "3" and first["shape"] == "32x32x1"
    assert second["fid"] == "" and second["ssim_n_mem"] == "" and second["n_copies"] == "0"
    assert float(second["copied_share_high"]) == 3 / 400  # none found is not none there: the rule of three
    assert third["status"] == "failed" and third["error"] == "out of memory" and third["n_train"] == ""
    documented = set(re.findall(r"^\| `(\w+)`", DOCS.read_text(encoding="utf-8"), flags=re.MULTILINE))
    ends = {f"{name}{end}" for name in documented for end in ("", "_low", "_high")}
    assert {name for name in first if not name.startswith(("axis_", "ssim_"))} <= ends
    assert documented <= set(first)


def test_a_broken_table_is_said_to_be_one(tmp_path):
    (tmp_path / "table.json").write_text('{"rows": [{"cell": 1}]}')
    with pytest.raises(UserError, match="cannot be read as the table of a study"):
        read_table(tmp_path)
