"""Scalars are told once a step, in lines and in events, and divergence is the user's to know."""

import io
import json
import math
import struct

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from memjax.artifacts.metrics import Metrics, finite, read_metrics
from memjax.errors import UserError


def events(folder):
    """Read TensorBoard's records (length, its checksum, bytes, their checksum) without TensorBoard."""
    found = []
    for file in sorted(folder.iterdir(), key=lambda file: file.stat().st_mtime_ns):
        data = file.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            found.append(Event.FromString(data[12 : 12 + length]))
            data = data[12 + length + 4 :]
    return found


def scalars(folder):
    return [(e.step, value.tag, value.simple_value) for e in events(folder) for value in e.summary.value]


def test_lines_and_events_say_the_same(tmp_path):
    with Metrics(tmp_path, resume_at=0) as metrics:
        metrics.write(10, {"loss": np.float32(0.5), "lr": 1e-3})
        assert read_metrics(tmp_path / "metrics.jsonl") == [{"step": 10, "loss": 0.5, "lr": 1e-3}]  # at once
        metrics.write(20, {"held_out/loss": 0.25})
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [10, 20]
    assert scalars(tmp_path / "events") == [
        (10, "loss", 0.5),
        (10, "lr", pytest.approx(1e-3)),
        (20, "held_out/loss", 0.25),
    ]


@pytest.mark.parametrize(("resume_at", "left"), [(0, []), (10, [10]), (15, [10]), (20, [10, 20, 20]), (99, None)])
def test_going_on_tells_every_step_once(tmp_path, resume_at, left):
    steps = [10, 20, 20, 30]
    with Metrics(tmp_path, resume_at=0) as metrics:
        for step in steps:
            metrics.write(step, {"loss": 1.0})
    with Metrics(tmp_path, resume_at=resume_at):
        pass
    kept = [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")]
    assert kept == (steps if left is None else left)
    purges = [event.step for event in events(tmp_path / "events") if event.HasField("session_log")]
    assert purges[-1] == resume_at + 1  # TensorBoard forgets these steps, too


def test_a_torn_line_is_dropped_and_does_not_swallow_the_next(tmp_path):
    path = tmp_path / "metrics.jsonl"
    whole = '{"step": 10, "loss": 1.0}\n'
    for torn in ('{"step": 20, "lo', '{"step": 20, "loss": 2.0}', "\x00\x00\x00", '"text"\n', "{}\n", "[1]\n"):
        path.write_text(whole + torn)
        assert read_metrics(path) == [{"step": 10, "loss": 1.0}]
        with Metrics(tmp_path, resume_at=10) as metrics:
            metrics.write(20, {"loss": 3.0})
        assert read_metrics(path) == [{"step": 10, "loss": 1.0}, {"step": 20, "loss": 3.0}]
        assert path.read_text().count("\n") == 2
    path.write_bytes(b'{"step": 10, "loss": 1.0}\n\xff\xfe')
    assert len(read_metrics(path)) == 1
    assert read_metrics(tmp_path / "absent.jsonl") == []


def test_lines_are_strict_json(tmp_path):
    with Metrics(tmp_path, resume_at=0) as metrics:
        metrics.write(1, {"a": math.nan, "b": -math.inf, "c": 1})

    def refuse(word):
        raise AssertionError(word)

    line = json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=refuse)
    assert line == {"step": 1, "a": None, "b": None, "c": 1.0}


class FullDisk(io.RawIOBase):
    def writable(self):
        return True

    def write(self, data):
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("part", ["lines", "events"])
def test_a_full_disk_is_told_and_holds_nobody_up(tmp_path, monkeypatch, part):
    def write_until_full(metrics):
        for step in range(1, 1000):
            metrics.write(step, {"loss": 1.0})

    metrics = Metrics(tmp_path, resume_at=0)
    full = FullDisk() if part == "lines" else io.BufferedWriter(FullDisk(), 1000)
    of, name = (metrics, "_file") if part == "lines" else (metrics._events._py_recordio_writer, "_writer")
    getattr(of, name).close()
    monkeypatch.setattr(of, name, full)
    with pytest.raises(UserError, match=r"metrics.jsonl is full; make room and run the same command again"):
        write_until_full(metrics)
    metrics.close()
    if part == "events":
        full.raw.write = len  # let it go in peace


def test_a_disk_that_takes_a_part_is_given_the_rest(tmp_path, monkeypatch):
    with Metrics(tmp_path, resume_at=0) as metrics:
        file = metrics._file
        slow = type("Slow", (), {"write": lambda self, data: file.write(data[:3]), "close": lambda self: file.close()})
        monkeypatch.setattr(metrics, "_file", slow())
        metrics.write(10, {"loss": 1.5})
    assert read_metrics(tmp_path / "metrics.jsonl") == [{"step": 10, "loss": 1.5}]


def test_finite_values_pass_and_others_are_named():
    values = {"loss": 0.5, "grad_norm": np.float32(2)}
    assert finite(3, values) is values
    for bad in (math.nan, math.inf, -math.inf, np.float32("nan")):
        with pytest.raises(UserError, match=rf"grad_norm is {float(bad)} at step 120 \(loss 0.5\): training diverged"):
            finite(120, {"loss": 0.5, "grad_norm": bad})
