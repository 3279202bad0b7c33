"""The demo: from nothing to a report, going on where it was interrupted, and nobody else's folder touched."""

import json

import pytest
from launching import QUICK, launch, launch_process

from memjax.data.store import Store


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "out"
    done = launch_process("demo", "--smoke", f"--out={out}", environment=QUICK)
    assert done.status == 0, done.said
    return out, done


def test_it_draws_trains_samples_audits_and_reports(demo):
    out, done = demo
    assert (out / "report.html").is_file() and "the report:" in done.said
    told = json.loads((out / "comparison.json").read_text())
    assert told["order"] == ["StyleGAN2", "Diffusion model"]
    for model, one in zip(("stylegan2", "ddpm"), told["generators"].values(), strict=True):
        assert (one["n_train"], one["n_synthetic"], one["n_heldout"]) == (40, 24, 150)
        assert one["n_copies"] == 0  # four steps teach nobody anything
        assert one["images_seen"] == 4 * 8 and (out / one["link"]).is_file()
        assert Store.open(out / model / "synthetic").manifest.preparation["seed_ids"] == "0:24"
        assert (out / model / "run" / "complete").exists()


def test_a_begun_demo_goes_on_and_a_finished_one_is_replaced(demo):
    out, _ = demo
    (out / "report.html").unlink()  # as if interrupted before
    again = launch_process("demo", "--smoke", f"--out={out}", environment=QUICK)
    assert again.status == 0 and again.said.count("going on after step 4") == 2 and (out / "report.html").is_file()
    (out / "ddpm" / "run" / "mark").write_text("of the old one")
    volumes = launch_process("demo", "--smoke", "--volumes", f"--out={out}", "--seed=1", environment=QUICK)
    assert volumes.status == 0 and "going on" not in volumes.said and not (out / "ddpm" / "run" / "mark").exists()
    assert json.loads((out / "comparison.json").read_text())["order"] == ["Diffusion model"]
    assert not (out / "stylegan2").exists()  # which draws pictures


def test_nobody_elses_folder_is_replaced(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    assert launch("demo", "--smoke", f"--out={tmp_path}").is_refusal("was not made by this demo")
    assert (tmp_path / "mine.txt").read_text() == "keep"
