"""The launchers as a person meets them: what they say, what they leave behind, and that killing them does no harm."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
from launching import (
    ROOT,
    audit_flags,
    audit_folders,
    command,
    files_below,
    launch,
    launch_process,
    noise,
    pictures,
    read_pairs,
)

from launch import boot
from memjax.data.readers.pictures import Pictures
from memjax.data.store import Store
from memjax.errors import UserError

# Runs a launcher that is killed just before its n-th use of a file whose path has a word in it (0: never; then it
# tells how many uses there were).
KILLED = """
import os, runpy, signal, sys
launcher, word, moment = sys.argv[1], sys.argv[2], int(sys.argv[3])
sys.argv[1:4] = []
uses = 0
def count(event, arguments):
    global uses
    if event in ("open", "os.mkdir", "os.remove", "os.rename", "os.truncate") and word in str(arguments[:2]):
        uses += 1
        if uses == moment:
            os.kill(os.getpid(), signal.SIGKILL)
import memjax.data.store
memjax.data.store._SYNC_S = 0.0
sys.addaudithook(count)
try:
    runpy.run_module(f"launch.{launcher}", run_name="__main__", alter_sys=True)
finally:
    print(uses)
"""


def killed(launcher, word, moment, *arguments):
    """Return the exit status and what was printed."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, launcher, word, str(moment), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize("launcher", ["audit", "demo", "prepare", "sample"])
def test_help_lists_the_flags_and_is_no_failure(launcher):
    for flag in ("--help", "--helpfull"):
        run = launch(launcher, flag)
        assert (run.status, run.said) == (0, "")
    done = subprocess.run(command(launcher, "--help"), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0
    assert "--out" in done.stdout
    assert not done.stderr


def test_prepare_in_a_process_of_its_own(tmp_path):
    root = pictures(tmp_path / "in", {f"p{i}.png": image for i, image in enumerate(noise(6, 0))})
    run = launch_process("prepare", f"--input={root}", f"--out={tmp_path / 's'}", r"--patient_regex=(p\d)")
    assert run.status == 0
    assert run.said == f"{tmp_path / 's'}: 6 images of 8 x 8 x 1 channel(s), uint8, 6 patients\n"
    Store.open(tmp_path / "s").verify()
    again = launch_process("prepare", f"--input={root}", f"--out={tmp_path / 's'}")
    assert again.is_refusal("exists already; remove it or choose another folder")


def test_a_preparation_killed_at_any_moment_ends_as_if_it_had_not_been(tmp_path):
    root = pictures(tmp_path / "in", noise(12, 0))
    asked = [f"--input={root}", "--size=6,6"]
    status, uses = killed("prepare", str(tmp_path), 0, *asked, f"--out={tmp_path / 'whole'}")
    assert status == 0
    last = int(uses)
    for moment in (1, 14, 17, last // 2, last - 8, last - 4, last - 2, last - 1, last):
        out = tmp_path / f"killed{moment}"
        status, _ = killed("prepare", str(tmp_path), moment, *asked, f"--out={out}")
        assert status == -signal.SIGKILL
        assert not out.exists()
        assert launch("prepare", *asked, f"--out={out}").status == 0
        assert files_below(out) == files_below(tmp_path / "whole"), moment
        assert not out.with_name(out.name + ".partial").exists()


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    """An audit of 4 mirrored copies, with a release."""
    place = tmp_path_factory.mktemp("audited")
    folders = audit_folders(place, copies=4)
    run = launch("audit", *audit_flags(folders, place / "out"), f"--release={place / 'release'}")
    return place, folders, run


def test_an_audit_finds_the_copies_and_exits_with_3(audited):
    place, _, run = audited
    assert run.status == 3
    assert "copies found: 4 of 12 synthetic images reproduce training images" in run.said
    assert str(place / "out" / "report.html") in run.said
    found = json.loads((place / "out" / "report.json").read_text(encoding="ascii"))
    assert (found["n_train"], found["n_synthetic"], found["n_heldout"]) == (30, 12, 24)
    assert (found["n_copies"], found["n_mem"], found["leaks"], found["duplicates"]) == (4, 4, [], [])
    assert sorted(found["patients_memorized_ids"]) == ["p2", "p3", "p4"]  # images 5 to 8
    rows = [row for row in read_pairs(place / "out") if row["rank"] == "1" and row["copy"] == "true"]
    assert [(row["synthetic"], row["train"], row["train_patient"], row["orientation"]) for row in rows] == [
        (f"s{i:02d}.png", f"p{(5 + i) // 2}_{5 + i}.png", f"p{(5 + i) // 2}", "fliplr") for i in range(4)
    ]


def test_a_release_has_the_files_that_are_no_copies(audited):
    place, folders, _ = audited
    given = files_below(folders["synthetic"])
    assert files_below(place / "release" / "images") == {f"s{i:02d}.png": given[f"s{i:02d}.png"] for i in range(4, 12)}


def test_the_same_command_again_refuses_the_release_and_leaves_the_report(audited):
    place, folders, _ = audited
    before = files_below(place)
    again = launch("audit", *audit_flags(folders, place / "out"), f"--release={place / 'release'}")
    assert again.is_refusal("--release=", "exists already; remove it or choose another folder")
    assert files_below(place) == before


def test_a_pipeline_may_go_on_in_spite_of_copies(audited):
    place, folders, _ = audited
    run = launch("audit", *audit_flags(folders, place / "out"), "--fail_on_copies=false")
    assert run.status == 0
    assert "copies found: 4 of 12" in run.said


def test_an_audit_killed_after_a_search_ends_with_the_same_pairs(audited, tmp_path):
    place, folders, _ = audited
    asked = audit_flags(folders, tmp_path / "out")
    status, _ = killed("audit", ".npz", 2, *asked)  # a search that is written gets its name: this is the second
    assert status == -signal.SIGKILL
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "cache").glob("pairs-*.npz")}
    assert len(kept) == 1
    assert not (tmp_path / "out" / "report.html").exists()
    assert launch("audit", *asked).status == 3
    assert {path: path.stat().st_mtime_ns for path in kept} == kept  # not searched again
    assert (tmp_path / "out" / "pairs.csv").read_bytes() == (place / "out" / "pairs.csv").read_bytes()


def test_what_too_few_unseen_patients_leave_undecided_exits_with_3(tmp_path):
    folders = audit_folders(tmp_path)
    for path in sorted(folders["heldout"].iterdir())[5:]:
        path.unlink()
    near = 0.34 * noise(30, 1)[:12] + 0.66 * noise(12, 5)  # nearer than unseen images, but not as near as copies
    pictures(folders["synthetic"], {f"s{i:02d}.png": image for i, image in enumerate(near.astype("uint8"))})
    asked = audit_flags(folders, tmp_path / "out")
    run = launch("audit", *asked)
    assert run.status == 3 and "undecided: " in run.said
    found = json.loads((tmp_path / "out" / "report.json").read_text(encoding="ascii"))
    assert (found["verdict"], found["n_copies"]) == ("undecided", 0)
    assert launch("audit", *asked, "--fail_on_copies=false").status == 0


def test_without_heldout_images_nothing_is_concluded_from_finding_none(tmp_path):
    folders = audit_folders(tmp_path)
    del folders["heldout"]
    run = launch("audit", *audit_flags(folders, tmp_path / "out"))
    assert run.status == 0
    assert "nothing can be concluded from finding none" in run.said
    found = json.loads((tmp_path / "out" / "report.json").read_text(encoding="ascii"))
    assert (found["rule"], found["n_copies"], found["null"]) == ("identical", 0, None)


def test_without_heldout_images_identical_ones_are_still_found(tmp_path):
    folders = audit_folders(tmp_path, copies=2)
    del folders["heldout"]
    assert launch("audit", *audit_flags(folders, tmp_path / "out")).status == 3
    called = {row["synthetic"] for row in read_pairs(tmp_path / "out") if row["copy"] == "true"}
    assert called == {"s00.png", "s01.png"}


def test_an_interrupted_launcher_says_how_to_go_on(tmp_path, monkeypatch):
    root = pictures(tmp_path / "in", noise(3, 0))

    def interrupted(self, unit):
        raise KeyboardInterrupt

    monkeypatch.setattr(Pictures, "read", interrupted)
    run = launch("prepare", f"--input={root}", f"--out={tmp_path / 's'}")
    assert (run.status, run.said) == (130, "interrupted; run the same command again to go on\n")


def test_a_home_directory_is_understood(tmp_path, monkeypatch):
    pictures(tmp_path / "in", noise(3, 0))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert launch("prepare", "--input=~/in", "--out=~/s").status == 0
    assert len(Store.open(tmp_path / "s")) == 3


def test_a_mixed_folder_can_be_audited_by_naming_its_format(tmp_path):
    folders = audit_folders(tmp_path)
    (folders["train"] / "scores.npy").write_bytes(b"")
    asked = audit_flags(folders, tmp_path / "out")
    assert launch("audit", *asked).is_refusal("30 images, 1 array", "--format")
    assert launch("audit", *asked, "--format=images").status == 0


def exit_of(main, *arguments):
    with mock.patch.object(sys, "argv", ["launcher", *arguments]), pytest.raises(SystemExit) as end:
        boot.run(main)
    return end.value.code


@pytest.mark.parametrize(("returned", "status"), [(None, 0), (0, 0), (3, 3)])
def test_what_a_launcher_returns_is_its_exit_status(returned, status):
    assert exit_of(lambda: returned) == status


def failing(error):
    def main():
        raise error

    return main


def os_error(number, place="/some/place"):
    return OSError(number, os.strerror(number), place)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (UserError("the sentence."), "error: the sentence."),
        (os_error(errno.ENOSPC), "error: No space left on device (/some/place); make room"),
        (os_error(errno.ENOSPC, None), "error: No space left on device; make room"),
        (os_error(errno.EACCES), "error: no permission for /some/place; choose another folder"),
        (os_error(errno.ENOTDIR), "error: Not a directory (/some/place)"),
        (os_error(errno.EFBIG), "error: File too large (/some/place)"),
        (os_error(errno.EIO), "error: Input/output error (/some/place)"),
        (MemoryError("Unable to allocate 99 GiB"), "error: memory ran out (Unable to allocate 99 GiB)"),
    ],
)
def test_troubles_of_the_machine_are_told_in_a_sentence(error, said, capsys):
    assert exit_of(failing(error)) == 2
    assert capsys.readouterr().err.startswith(said)


@pytest.mark.parametrize("error", [ValueError("ours"), os_error(errno.ENOENT), os_error(errno.EBADF)])
def test_our_own_mistakes_are_not_hidden(error):
    with mock.patch.object(sys, "argv", ["launcher"]), pytest.raises(type(error)):
        boot.run(failing(error))


@pytest.mark.parametrize("argument", ["--no_such_flag=3", "stray", "--seed"])
def test_a_wrong_flag_is_told_in_one_line(argument, capsys):
    assert exit_of(lambda: None, argument) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert told.startswith("error: ")
    assert "see --help" in told.lower()


def test_the_command_can_be_typed_again():
    done = subprocess.run(
        [sys.executable, "-c", "from launch import boot; print(boot.command())", "--out=a b", "--k=3"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip().endswith("'--out=a b' --k=3")


def test_launchers_use_the_cores_they_may():
    assert 1 <= boot.workers() <= (os.cpu_count() or 1)


def test_paths_of_this_machine_are_in_no_launcher():
    for path in (ROOT / "launch").glob("*.py"):
        assert str(Path.home()) not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("plan", ["product", "symmetric", "sketched"])
def test_the_plan_is_told_and_changes_nothing(audited, tmp_path, plan):
    place, folders, _ = audited
    run = launch("audit", *audit_flags(folders, tmp_path / "out"), f"--plan={plan}")
    assert run.status == 3
    assert f"synthetic against train: plan {plan}: 12 x 30 images of 64 numbers, 8 orientations" in run.said
    for mine, theirs in zip(read_pairs(tmp_path / "out"), read_pairs(place / "out"), strict=True):
        for column in ("synthetic", "train", "rank", "orientation", "copy"):
            assert mine[column] == theirs[column]
        assert float(mine["score"]) == pytest.approx(float(theirs["score"]), abs=1e-6)


def test_more_devices_than_synthetic_images_are_refused(audited, tmp_path):
    _, folders, _ = audited
    few = pictures(tmp_path / "few", noise(4, 5))
    run = launch("audit", *audit_flags({**folders, "synthetic": few}, tmp_path / "out"), "--devices=8")
    assert run.is_refusal("--devices=8 for 4 synthetic images; give --devices=4 or less")
