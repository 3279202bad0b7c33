"""A run folder says what it was asked to do, and belongs to one trainer at a time."""

import json
import subprocess
import sys

import pytest

from memjax import whole
from memjax.artifacts.run import Run
from memjax.errors import UserError

CONFIG = {"steps": 100, "every": {"log": 10}, "model": {"width": 32, "levels": (1, 2)}, "seed": 0}
FACTS = {"store": "ab12", "parameters": 12_000, "version": "0.1"}


def changed(**changes):
    return {**CONFIG, **changes}


def test_config_is_written_at_once_and_read_back(tmp_path):
    with Run.open(tmp_path / "a" / "run", CONFIG, facts=FACTS) as run:
        assert run.checkpoints_dir == run.path / "checkpoints"
        kept = json.loads((run.path / "config.json").read_text())
        assert kept == {"config": changed(model={"width": 32, "levels": [1, 2]}), "facts": FACTS}
    read = Run.read(run.path)
    assert (read.config, read.facts) == (run.config, run.facts)
    assert not read.is_complete
    assert not list(run.path.glob("*.partial"))


def test_the_same_command_goes_on(tmp_path):
    Run.open(tmp_path, CONFIG, facts=FACTS).close()
    longer = changed(steps=200, every={"log": 5, "save": 7})
    with Run.open(tmp_path, longer, facts={**FACTS, "version": "0.2"}):
        assert Run.read(tmp_path).config["steps"] == 200
    assert "earlier" not in json.loads((tmp_path / "config.json").read_text())


def test_a_changed_config_names_each_key_with_both_values(tmp_path):
    Run.open(tmp_path, CONFIG, facts=FACTS).close()
    other = {"steps": 100, "every": {"log": 10}, "model": {"width": 64, "levels": (1, 2), "dropout": 0.1}}
    with pytest.raises(UserError) as raised:
        Run.open(tmp_path, other, facts={**FACTS, "store": "cd34"})
    said = str(raised.value)
    for part in (
        "model.width was 32, is 64",
        "model.dropout was nothing, is 0.1",
        "seed was 0, is nothing",
        'facts.store was "ab12", is "cd34"',
        "--allow_config_change",
        "--workdir",
    ):
        assert part in said
    assert "levels" not in said
    assert Run.read(tmp_path).config["model"]["width"] == 32  # untouched
    Run.open(tmp_path, CONFIG, facts=FACTS).close()  # and the lock is free


def test_free_keys_are_whole_parts_of_the_path(tmp_path):
    Run.open(tmp_path, changed(everything=1), facts={}).close()
    with pytest.raises(UserError, match="everything was 1, is 2"):
        Run.open(tmp_path, changed(everything=2), facts={})
    with pytest.raises(UserError, match="steps was 100, is 200"):
        Run.open(tmp_path, changed(everything=1, steps=200), facts={}, free=())
    Run.open(tmp_path, changed(everything=1, model={}), facts={}, free=("model",)).close()


def test_an_allowed_change_is_remembered(tmp_path):
    Run.open(tmp_path, CONFIG, facts=FACTS).close()
    Run.open(tmp_path, changed(seed=1), facts=FACTS, allow_config_change=True).close()
    Run.open(tmp_path, changed(seed=1), facts=FACTS).close()
    kept = json.loads((tmp_path / "config.json").read_text())
    assert kept["config"]["seed"] == 1
    assert [earlier["config"]["seed"] for earlier in kept["earlier"]] == [0]


def test_null_is_a_value_and_absence_is_not(tmp_path):
    Run.open(tmp_path, changed(clip=None), facts={}).close()
    with pytest.raises(UserError, match="clip was null, is nothing"):
        Run.open(tmp_path, CONFIG, facts={})
    with pytest.raises(UserError, match='clip was null, is "nothing"'):
        Run.open(tmp_path, changed(clip="nothing"), facts={})


def test_two_trainers_never_write_one_run(tmp_path):
    with Run.open(tmp_path, CONFIG, facts=FACTS):
        other = (
            "from pathlib import Path\nfrom memjax.artifacts.run import Run\n"
            f"Run.open(Path({str(tmp_path)!r}), {CONFIG!r}, facts={FACTS!r})"
        )
        done = subprocess.run([sys.executable, "-c", other], capture_output=True, text=True, check=False)
        assert "UserError: another process is training in" in done.stderr
        with pytest.raises(UserError, match="another process is training"):
            Run.open(tmp_path, CONFIG, facts=FACTS)
        Run.read(tmp_path)  # a sampler may
        assert Run.open(tmp_path, CONFIG, facts=FACTS, may_write=False).config == Run.read(tmp_path).config
    Run.open(tmp_path, CONFIG, facts=FACTS).close()


def test_other_processes_write_nothing_but_check(tmp_path):
    Run.open(tmp_path / "new", CONFIG, facts=FACTS, may_write=False)
    assert not (tmp_path / "new").exists()
    Run.open(tmp_path / "run", CONFIG, facts=FACTS).close()
    before = (tmp_path / "run" / "config.json").stat().st_mtime_ns
    with pytest.raises(UserError, match="seed was 0, is 1"):
        Run.open(tmp_path / "run", changed(seed=1), facts=FACTS, may_write=False)
    Run.open(tmp_path / "run", changed(steps=7), facts=FACTS, may_write=False)
    assert (tmp_path / "run" / "config.json").stat().st_mtime_ns == before


def test_folders_that_are_no_runs(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    with pytest.raises(UserError, match=r"holds 'thesis.tex' but no run"):
        Run.open(tmp_path / "full", CONFIG, facts=FACTS)
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["thesis.tex"]
    for path in (tmp_path / "full" / "thesis.tex", tmp_path / "full" / "thesis.tex" / "run"):
        with pytest.raises(UserError, match="is no folder"):
            Run.open(path, CONFIG, facts=FACTS)
    for path in (tmp_path / "full", tmp_path / "absent", tmp_path / "full" / "thesis.tex"):
        with pytest.raises(UserError, match=r"no config.json; give the --workdir"):
            Run.read(path)


def test_a_run_killed_before_its_config_is_begun_anew(tmp_path):
    (tmp_path / ".lock").touch()
    (tmp_path / "config.json.partial").write_text("{")
    Run.open(tmp_path, CONFIG, facts=FACTS).close()
    assert Run.read(tmp_path).config["seed"] == 0


@pytest.mark.parametrize("text", ["", "{", "[]", '{"config": 1, "facts": {}}', "\x00", '{"config": {}}'])
def test_a_damaged_config_is_told(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    for attempt in (lambda: Run.read(tmp_path), lambda: Run.open(tmp_path, CONFIG, facts=FACTS)):
        with pytest.raises(UserError, match="cannot be read as the config of a run"):
            attempt()


def test_complete_until_it_goes_on(tmp_path):
    with Run.open(tmp_path, CONFIG, facts=FACTS) as run:
        run.complete(100)
        assert run.is_complete
        assert (tmp_path / "complete").read_text() == "100\n"
    with Run.open(tmp_path, CONFIG, facts=FACTS) as run:
        assert run.is_complete
    with Run.open(tmp_path, changed(steps=200), facts=FACTS) as run:
        assert not run.is_complete


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    Run.open(tmp_path, CONFIG, facts=FACTS).close()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(whole.os, "fsync", full)
    with pytest.raises(UserError, match="is full; make room"):
        Run.open(tmp_path, changed(steps=7), facts=FACTS)
    assert Run.read(tmp_path).config["steps"] == 100
    assert not list(tmp_path.glob("*.partial"))
