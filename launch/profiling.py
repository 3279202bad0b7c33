"""A profile of a training that runs: `kill -USR2 PID` asks for one, and training goes on."""

import signal


class ProfileRequests:
    """Say, before a step, how many steps are to be profiled because somebody sent SIGUSR2; 0: nobody did.

    To be used in a `with` from the start on, for without it the signal would end the process. What is asked for before
    the first step is done from the first step on; asking again while a profile runs changes nothing.
    """

    def __init__(self, steps: int):
        self._steps = steps
        self._asked = False

    def __enter__(self) -> "ProfileRequests":
        self._before = signal.signal(signal.SIGUSR2, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        signal.signal(signal.SIGUSR2, self._before)

    def __call__(self) -> int:
        """Return the number of steps if it was asked for since the last call."""
        asked, self._asked = self._asked, False
        return self._steps if asked else 0

    def _note(self, number: int, frame: object) -> None:
        self._asked = True
