"""The clock tells what planted times say: steps one by one, pauses aside, waiting included."""

import numpy as np
import pytest

from memjax.train import clock


@pytest.fixture
def now(monkeypatch):
    """The time, which tests move on."""
    at = [1000.0]
    monkeypatch.setattr(clock.time, "perf_counter", lambda: at[0])
    return at


def test_every_step_counts_once_with_its_waiting_and_without_pauses(now):
    steps_s = np.random.default_rng(0).uniform(0.1, 2.0, 200)
    one = clock.Clock()
    for number, step_s in enumerate(steps_s):
        with one.waiting():
            now[0] += step_s / 4
        if number % 10 == 0:
            with one.paused():
                now[0] += 50
        now[0] += step_s * 3 / 4
        one.step()
        if number == 99:
            first = one.lap(8)
    second, whole = one.lap(8), one.whole(8)
    for told, part in ((first, steps_s[:100]), (second, steps_s[100:]), (whole, steps_s)):
        assert told["step_s"] == pytest.approx(part.mean())
        assert told["images_per_s"] == pytest.approx(8 / part.mean())
        assert told["data_wait_share"] == pytest.approx(0.25)
        for p in (50, 90, 99):
            assert told[f"step_p{p}_s"] == pytest.approx(np.percentile(part, p))
    assert (whole["steps"], whole["paused_s"]) == (200, pytest.approx(20 * 50))


def test_a_lap_without_steps_tells_nothing_that_is_not_finite(now):
    told = clock.Clock().lap(8)
    assert told["images_per_s"] == 0 and all(np.isfinite(list(told.values())))
