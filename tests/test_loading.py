"""How a batch is loaded changes nothing of it; the benchmark of loading judges by numbers that can be told before."""

import json
import subprocess

import numpy as np
import pytest
from launching import ROOT, command
from test_pipeline import EVERYTHING, take, written

from launch.benchmark import loading
from launch.benchmark.loading import Need, Row
from memjax.data import pipeline
from memjax.data.pipeline import Pipeline, n_threads
from memjax.errors import UserError

ROW = Row(
    config="ddpm.py:brats20",
    shape=(256, 256, 5),
    dtype="uint8",
    batch=64,
    is_augmented=False,
    how="threads",
    images_per_s=320.0,
    cpu_s=0.005,
    rss_mib=1000.0,
)


@pytest.mark.parametrize("augmentation", [None, EVERYTHING])
def test_parts_and_threads_do_not_matter(tmp_path, monkeypatch, augmentation):
    store = written(tmp_path / "s", 23)
    whole = take(Pipeline(store=store, batch_size=7, seed=3, augmentation=augmentation, threads=1), 5)
    rows = np.array([1, 2, 5])
    for part in (1, 2 * 32, 3 * 32 + 1):  # numbers of an image: 32
        monkeypatch.setattr(pipeline, "_PART", part)
        split = Pipeline(store=store, batch_size=7, seed=3, augmentation=augmentation, threads=3)
        for one, other in zip(whole, take(split, 5, rows=rows), strict=True):
            assert other["image"].dtype == np.float32
            for name in one:
                np.testing.assert_array_equal(one[name][rows], other[name])


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_images_are_scaled_to_the_bit_as_the_formula_says(tmp_path, dtype):
    store = written(tmp_path / "s", 9, dtype=dtype)
    ids = np.array([7, 0, 3])
    low, high = (end[:, None, None, None] for end in store.ranges[ids].T)
    expected = np.clip((store.images[ids].astype(np.float32) - low) / (high - low) * 2 - 1, -1, 1)
    np.testing.assert_array_equal(store.unit_range(ids), expected)
    out = np.full((4, *store.manifest.shape), 5, np.float32)
    assert store.unit_range(ids, out=out[:3]).base is out
    np.testing.assert_array_equal(out[:3], expected)
    assert (out[3] == 5).all()


@pytest.mark.parametrize(("cores", "batch_bytes", "found"), [
    (1, 1 << 20, (2, 4)),
    (4, 1 << 20, (4, 6)),
    (200, 1 << 20, (16, 18)),
    (200, 84 << 20, (16, 18)),
    (200, 256 << 20, (8, 8)),
    (200, 4 << 30, (4, 4)),
])  # fmt: skip
def test_threads_follow_the_cores_as_far_as_memory_goes(monkeypatch, cores, batch_bytes, found):
    monkeypatch.setattr(pipeline.os, "sched_getaffinity", lambda pid: set(range(cores)))
    assert n_threads(batch_bytes) == found
    assert n_threads(batch_bytes, 1)[0] == 1


def test_what_a_row_says_follows_from_rate_and_step():
    row = Row(**{**vars(ROW), "need": Need(step_s=0.025, by="at least, on h100:8")})
    assert row.times == pytest.approx(320 / (64 / 0.025))  # 2560 images a second are needed
    assert row.cores == pytest.approx(2560 * 0.005)
    assert ROW.times is None and ROW.cores is None
    said = loading.told([row])
    assert "0.12 times as fast as the step needs (25.0 ms at least, on h100:8): it STARVES" in said
    assert "with the 1.60 cores that it had; 12.80 would be busy" in said
    assert "a step that takes 200.0 ms or longer never waits" in loading.told([ROW])
    fast = Row(**{**vars(row), "images_per_s": 5120.0, "how": "2 workers"})
    assert "STARVES" not in loading.told([row, fast]) and "2.00 times" in loading.told([row, fast])


def test_a_step_is_what_is_given_or_what_the_plan_of_this_very_config_says(tmp_path):
    def bound(ms):
        return {"programs": {"train": {"bound": {"seconds": ms / 1000}}}}

    config = loading.config_of("ddpm.py:brats20")
    plan = {"config": config, "topologies": {"v5e:4x4": bound(40), "h100:8": bound(24.8), "cpu:8": {"programs": {}}}}
    other = {**plan, "config": {**config, "batch_size": 32}}
    for name, content in (("plan", plan), ("other", other)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    names = ["ddpm.py:brats20", "ddpm.py:cxr5216"]
    planned = loading.needs(names, [], [tmp_path / "plan.json", tmp_path / "other.json"])
    assert planned == {"ddpm.py:brats20": Need(step_s=0.0248, by="at least, on h100:8")}
    given = loading.needs(names, ["ddpm.py:cxr5216=7"], [tmp_path / "plan.json"])
    assert [given[name].step_s for name in names] == [0.0248, 0.007]
    assert [one.step_s for one in loading.needs(names, ["5"], []).values()] == [0.005, 0.005]
    (tmp_path / "none.json").write_text("[]")
    with pytest.raises(UserError, match=r"none\.json is no plan"):
        loading.needs(names, [], [tmp_path / "none.json"])
    for wrong in ("fast", "0", "nan", "ddpm.py:other=3"):
        with pytest.raises(UserError, match="must be milliseconds, or CONFIG=milliseconds"):
            loading.needs(names, [wrong], [])


def test_the_benchmark_measures_what_it_says(tmp_path):
    out = tmp_path / "rows.json"
    only = "latent3d.py:pccta,autoencoder"
    how = ["--step_ms=1000", "--seconds=0", "--workers=0", "--threads=1,2", f"--out={out}"]
    arguments = ["data", f"--only={only}", *how]
    done = subprocess.run(command("bench", *arguments), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = json.loads(out.read_text())
    assert [(row["how"], row["is_augmented"]) for row in rows] == [
        (how, varied) for varied in (False, True) for how in ("1 thread", "2 threads")
    ]
    for row in rows:
        assert (row["config"], row["shape"], row["dtype"], row["batch"]) == (only, [64, 64, 64, 1], "uint8", 2)
        assert row["images_per_s"] > 0 and row["cpu_s"] >= 0 and row["rss_mib"] > 10
        assert row["times"] == pytest.approx(row["images_per_s"] / 2)
    assert done.stdout.count(only) == 4 + 2
