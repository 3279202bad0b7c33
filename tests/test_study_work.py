"""A study's grid and how it is worked through, with stages that do next to nothing."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from configs.studies import base
from launch.studying.claims import Claims
from launch.studying.grid import cells
from launch.studying.work import Work, known_failures
from memjax.errors import UserError

ROOT = Path(__file__).parent.parent

AUGMENT = {"enabled": False, "flip_axes": (1,), "rotate_degrees": 5.0}
TRAIN = {"steps": 10, "batch_size": 4, "seed": 0, "n_train": 0, "width": 8, "augment": AUGMENT, "every": {"monitor": 0}}


def study(**axes) -> dict:
    c = base.base("A study", "Does it?", ("A2",)).to_dict()
    source = {"input": "", "heldout_patients": 0.2, "unseen_patients": 0.0, "seed": 0, "phantoms": {"kind": "chest"}}
    c["sources"] = {"chest": source}
    c["generators"] = {"ddpm": dict(TRAIN), "stylegan2": {**TRAIN, "ada": {"enabled": False}}}
    c["model_sizes"] = {"small": {"ddpm": {"width": 4}}}
    c["augmentations"]["flips"] = {"rotate_degrees": 0.0}
    c["axes"] |= axes
    return c


def names(grid) -> list[str]:
    return [cell.name for cell in grid]


def test_cells_are_named_by_what_differs_and_share_what_does_not():
    one, other = cells(study(n_train=8, augmentation=("none", "flips")))
    assert names([one, other]) == ["augmentation=none", "augmentation=flips"]
    assert one.parts["data"].name == other.parts["data"].name
    assert one.parts["train"].key != other.parts["train"].key
    assert other.parts["train"].settings["config"]["augment"] == {**AUGMENT, "enabled": True, "rotate_degrees": 0.0}
    assert names(cells(study())) == ["all"]


def test_a_longer_training_goes_on_in_the_folder_of_the_shorter_one():
    short, long = cells(study(images_seen=(40, 78)))
    assert (short.parts["train"].mark, long.parts["train"].mark) == (10, 20)
    assert short.parts["train"].key == long.parts["train"].key
    assert short.parts["sample"].key != long.parts["sample"].key
    assert cells(study())[0].parts["audit"].name == short.parts["audit"].name  # 10 steps is what the config says


def test_how_a_training_is_looked_at_does_not_change_its_name():
    watched = study()
    watched["generators"]["ddpm"] |= {"every": {"monitor": 0, "save": 3}}
    assert cells(watched)[0].parts["train"].key == cells(study())[0].parts["train"].key


def test_held_out_patients_are_the_same_for_every_seed_and_size():
    grid = cells(study(n_train=(4, 8), seed=(0, 1)))
    assert len({cell.parts["data"].key for cell in grid}) == 4
    assert len({json.dumps(cell.parts["data"].settings["split_seed"]) for cell in grid}) == 1


@pytest.mark.parametrize(
    ("axes", "told"),
    [
        ({"size": (1, 2)}, "config.axes.size does not exist"),
        ({"n_train": (8, 8)}, "must be different values"),
        ({"n_train": ("8",)}, "must be a whole number from 0"),
        ({"thinning": 0}, "must be a whole number from 1"),
        ({"generator": "vae"}, "'vae' is none of ddpm, stylegan2, training, unseen, noise"),
        ({"ada": (False, True)}, "the cell ada=True cannot be: ada is for StyleGAN2, not for ddpm"),
        ({"early_stop": True}, "early_stop needs a monitor"),
        ({"generator": ("stylegan2",), "model_size": "small"}, "says nothing of the generator stylegan2"),
        ({"generator": "unseen"}, "unseen_patients"),
        ({"generator": ("training",), "augmentation": ("none", "flips")}, "which nobody trains"),
    ],
)
def test_a_cell_that_cannot_be_is_said_before_anything_runs(axes, told):
    with pytest.raises(UserError, match=told):
        cells(study(**axes))


def test_impossible_cells_can_be_left_out():
    c = study(generator=("ddpm", "stylegan2"), ada=(False, True))
    c["without"] = ({"generator": "ddpm", "ada": True},)
    assert names(cells(c)) == [
        "generator=ddpm,ada=False",
        "generator=stylegan2,ada=False",
        "generator=stylegan2,ada=True",
    ]


def quiet_work(tmp_path, perform, on_finished=lambda: None) -> Work:
    return Work(tmp_path, Claims(tmp_path / "claims", expires_s=60, beat_s=5), perform, on_finished)


def test_what_fails_is_told_and_the_rest_goes_on(tmp_path):
    grid = cells(study(augmentation=("none", "flips"), n_train=8))
    bad, done = grid[0].parts["train"].name, []

    def perform(stage, workdir):
        if stage.name == bad:
            raise ZeroDivisionError("nothing to divide by")
        done.append(stage.name)
        return {}

    work = quiet_work(tmp_path, perform)
    work.prepare(grid)
    work.do(grid)
    assert known_failures(grid, tmp_path) == {bad: "ZeroDivisionError: nothing to divide by"}
    assert sorted(done) == sorted(stage.name for stage in grid[1].stages)  # each once, though shared
    assert "perform" in json.loads((grid[0].parts["train"].folder(tmp_path) / "failed.json").read_text())["trace"]

    done.clear()  # the same command tries again what failed, and nothing else
    reports = []
    again = quiet_work(tmp_path, lambda stage, workdir: done.append(stage.name) or {}, lambda: reports.append(1))
    again.do(grid)
    assert len(reports) == 1  # of what was done before the report tells already
    assert done == [stage.name for stage in grid[0].stages if stage.kind not in ("source", "data")]
    assert not known_failures(grid, tmp_path)


def test_images_that_cannot_be_had_end_the_study_before_it_begins(tmp_path):
    done = []

    def perform(stage, workdir):
        if stage.kind == "data" and stage.settings["n_train"] == 800:
            raise UserError("n_train=800, but there are 40 images")
        done.append(stage.kind)
        return {}

    with pytest.raises(UserError, match="the cell n_train=800 cannot be: n_train=800, but"):
        quiet_work(tmp_path, perform).prepare(cells(study(n_train=(8, 800))))
    assert set(done) == {"source", "data"}


def test_controls_are_drawn_before_anything_is_trained(tmp_path):
    """There may be too few images for them."""
    done = []
    quiet_work(tmp_path, lambda stage, workdir: done.append(stage.kind) or {}).prepare(
        cells(study(generator=("ddpm", "training")))
    )
    assert done == ["source", "data", "sample"]


def test_weights_of_features_are_named_by_what_is_in_the_file(tmp_path):
    def name(file, content):
        (tmp_path / file).write_bytes(content)
        c = study()
        c["quality"] |= {"features": "inception", "weights": str(tmp_path / file)}
        return cells(c)[0].parts["quality"].name

    assert name("one.pth", b"1") == name("elsewhere.pth", b"1") != name("two.pth", b"2")
    c = study()
    c["quality"] |= {"features": "inception", "weights": str(tmp_path / "nowhere.pth")}
    with pytest.raises(UserError, match="there is no such file"):
        cells(c)


def test_a_full_disk_ends_the_study(tmp_path):
    def perform(stage, workdir):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        quiet_work(tmp_path, perform).do(cells(study()))
    assert not list(tmp_path.rglob("failed.json"))


WORKER = """
import sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.test_study_work import quiet_work, study
from launch.studying.grid import cells

def perform(stage, workdir):
    time.sleep(0.03)
    with (Path(sys.argv[1]) / f"done_by_{{sys.argv[2]}}.txt").open("a") as file:
        file.write(stage.name + "\\n")
    return {{}}

grid = cells(study(n_train=(4, 8, 12, 16), seed=(0, 1, 2)))
(Path(sys.argv[1]) / f"ready_{{sys.argv[2]}}").touch()
while len(list(Path(sys.argv[1]).glob("ready_*"))) < 3:
    time.sleep(0.01)
work = quiet_work(Path(sys.argv[1]), perform)
work.prepare(grid)
work.do(grid)
"""


def test_two_processes_share_the_work_and_never_a_stage(tmp_path):
    """The third is killed in its work, and what it held is done by the others."""
    code = WORKER.format(root=str(ROOT))
    workers = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(number)], stderr=subprocess.DEVNULL)
        for number in range(3)
    ]
    while not (tmp_path / "done_by_2.txt").exists() and workers[2].poll() is None:
        time.sleep(0.01)
    workers[2].kill()
    workers[2].wait()
    assert [worker.wait(timeout=120) for worker in workers[:2]] == [0, 0]
    by = [path.read_text().split() for path in sorted(tmp_path.glob("done_by_*.txt"))]
    done = [name for names in by for name in names]
    wanted = {stage.name for cell in cells(study(n_train=(4, 8, 12, 16), seed=(0, 1, 2))) for stage in cell.stages}
    assert len(by) == 3 and set(done) == wanted
    assert len(done) - len(wanted) <= 1  # of the one that was killed, what it had just ended may be done again
