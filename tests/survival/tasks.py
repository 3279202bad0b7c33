"""Train the smoke config of every task with 1, 2 and 4 processes, and tell by how much their metrics differ.

    python tests/survival/tasks.py [TASK ...]

What tests/test_distributed.py does with smaller networks and two processes, for which the test suite has the time: here
everything takes part, path lengths, both critics and evaluations, too. Takes a quarter of an hour of two cores.
"""

import os
import sys
import tempfile
from pathlib import Path

os.environ["XLA_FLAGS"] = ""
os.environ["JAX_PLATFORMS"] = "cpu"
sys.path.insert(0, str(Path(__file__).parent.parent))

from test_distributed import NEAR_ZERO, SAME, STEPS, TASKS, metrics, train_all


def main(names: list[str]) -> int:
    """Train and compare; return how many differ by more than the tests allow."""
    tasks = {name: (*TASKS[name][:2], {}) for name in names or TASKS}
    folder = Path(tempfile.mkdtemp(prefix="memjax-tasks-"))
    wrong = 0
    runs = {n: train_all(folder / str(n), n, tasks) for n in (1, 2, 4)}
    for name in tasks:
        wanted = metrics(runs[1] / name)
        for n in (2, 4):
            told = metrics(runs[n] / name)
            assert list(told) == list(wanted), (name, n)
            over = {k: abs(told[k] - v) / (NEAR_ZERO + SAME * abs(v)) for k, v in wanted.items()}
            step, what = worst = max(over, key=over.__getitem__)
            wrong += over[worst] > 1
            print(
                f"{name}, {n} processes: {STEPS} steps, {len(told)} values; {what} at step {step} differs most: "
                f"{told[worst]:.9g}, not {wanted[worst]:.9g}, {over[worst]:.2g} of what is allowed",
                flush=True,
            )
    return wrong


if __name__ == "__main__":
    sys.exit(bool(main(sys.argv[1:])))
