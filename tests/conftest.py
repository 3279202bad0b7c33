"""What every test stands on: eight simulated devices, and property tests that try the same examples everywhere."""

import os

from launch.boot import CONVOLUTION_FLAG

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Before JAX is imported, so that every sharded path runs sharded, and convolutions as the launchers run them.
os.environ["XLA_FLAGS"] = " ".join(
    [os.environ.get("XLA_FLAGS", ""), "--xla_force_host_platform_device_count=8", CONVOLUTION_FLAG]
)
os.environ.setdefault("MPLBACKEND", "Agg")

import hypothesis
import jax
import pytest

# No deadline: a busy machine is no failure.
hypothesis.settings.register_profile("same everywhere", derandomize=True, deadline=None)
hypothesis.settings.load_profile("same everywhere")


@pytest.fixture(scope="module", autouse=True)
def forget_compiled_programs():
    """What one file compiled is of no use to the next, and of all files together takes gigabytes."""
    yield
    jax.clear_caches()


@pytest.fixture(scope="module")
def quickly_compiled():
    """Compile without looking for fast code: for files whose programs run a few times, and are not what is tested."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
