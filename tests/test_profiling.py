"""Signals that ask for a profile: remembered until a step can heed them, once each, and never deadly."""

import os
import signal

from launch.profiling import ProfileRequests


def test_a_signal_asks_once_however_often_it_comes():
    before = signal.getsignal(signal.SIGUSR2)
    with ProfileRequests(7) as asked:
        assert asked() == 0
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGUSR2)
        assert [asked(), asked()] == [7, 0]
        os.kill(os.getpid(), signal.SIGUSR2)
        assert [asked(), asked()] == [7, 0]
    assert signal.getsignal(signal.SIGUSR2) == before
