"""The monitor: planted copies are counted, and a run ends only when chance does not explain them."""

import numpy as np
import pytest
from scipy import stats

from launch.monitor import MemorizationMonitor
from launch.training import Sets
from memjax.data.phantom_store import write_phantoms
from memjax.data.phantoms import draw
from memjax.errors import UserError
from memjax.mesh import audit_mesh

SIZE = (24, 24)


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantoms")
    train = write_phantoms(folder / "train", draw("chest", range(40), size=SIZE))
    heldout = write_phantoms(folder / "heldout", draw("chest", range(40, 80), size=SIZE))
    return Sets(train, np.arange(5, 40), (heldout, np.arange(40)))


UNSEEN = draw("chest", range(100, 140), size=SIZE).images.astype(np.float32) / 127.5 - 1


def monitor(sets, images, **more):
    return MemorizationMonitor(
        draw=lambda state, ids: images[ids], sets=sets, mesh=audit_mesh(2), may_stop=True, seeds=len(images), **more
    )


def test_copies_are_counted_and_end_the_run(sets):
    images = UNSEEN[:20].copy()
    copied = sets.ids[:12]
    images[:12] = sets.store.unit_range(copied)
    told, is_end = monitor(sets, images)(7, None)
    assert told["monitor/copied_fraction"] >= 12 / 20
    assert told["monitor/ratio_fraction"] == pytest.approx(12 / 20)
    assert told["monitor/score_median"] > told["monitor/heldout_score_median"]
    assert is_end and told["monitor/p_value"] < 1e-3
    watching = monitor(sets, images)
    watching._may_stop = False
    assert watching(7, None)[1] is False


def test_unseen_patients_do_not_end_the_run(sets):
    told, is_end = monitor(sets, UNSEEN)(7, None)
    assert told["monitor/copied_fraction"] < 0.3 and not is_end and told["monitor/p_value"] > 1e-3


def test_images_that_are_not_trained_on_are_no_originals(sets):
    images = UNSEEN[:10].copy()
    images[:5] = sets.store.unit_range(np.arange(5))  # of the store, but not of `sets.ids`
    assert monitor(sets, images)(1, None)[0]["monitor/ratio_fraction"] == 0


def test_turned_copies_count_only_if_asked_for(sets):
    images = sets.store.unit_range(sets.ids[:8])[:, ::-1]
    plain, turned = (monitor(sets, images, symmetry=kind)(1, None)[0] for kind in ("none", "flips"))
    assert turned["monitor/ratio_fraction"] == 1 and plain["monitor/ratio_fraction"] == 0


def test_a_blurred_image_resembles_everybody_and_is_no_copy(sets):
    mean = sets.store.unit_range(sets.ids).mean(0, keepdims=True)
    told, is_end = monitor(sets, np.repeat(mean, 20, axis=0))(1, None)
    assert told["monitor/above_fraction"] == 1 and told["monitor/copied_fraction"] == 0 and not is_end


def test_the_thresholds_are_percentiles_and_chance_is_fishers(sets):
    told, _ = monitor(sets, UNSEEN[:30], percentile=80.0)(1, None)
    train = sets.store.unit_range(sets.ids).reshape(len(sets.ids), -1)
    score, ratio = {}, {}
    for name, images in (("heldout", sets.heldout[0].unit_range(sets.heldout[1])), ("drawn", UNSEEN[:30])):
        flat = images.reshape(len(images), -1)
        score[name] = np.corrcoef(np.concatenate([flat, train]))[: len(flat), len(flat) :].max(1)
        near = np.sort(np.linalg.norm(flat[:, None].astype(np.float64) - train, axis=2), axis=1)
        ratio[name] = near[:, 0] / near[:, 1]
    high, low = np.percentile(score["heldout"], 80), np.percentile(ratio["heldout"], 20)
    counts = {name: int(((score[name] > high) & (ratio[name] < low)).sum()) for name in score}
    assert told["monitor/threshold"] == pytest.approx(high, abs=1e-5)
    assert told["monitor/copied_fraction"] == pytest.approx(counts["drawn"] / 30)
    table = [[counts["drawn"], 30 - counts["drawn"]], [counts["heldout"], 40 - counts["heldout"]]]
    assert told["monitor/p_value"] == pytest.approx(stats.fisher_exact(table, alternative="greater").pvalue)


def test_what_cannot_be_monitored_is_told(sets):
    with pytest.raises(UserError, match="needs held-out images"):
        monitor(Sets(sets.store, sets.ids, None), UNSEEN)
    with pytest.raises(UserError, match=r"monitor.p_value=2.0"):
        monitor(sets, UNSEEN, p_value=2.0)
