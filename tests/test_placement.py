"""What a process says of itself at its start is where its arrays really lie."""

import jax
import numpy as np

from memjax.mesh import state_shardings, train_mesh
from memjax.train.placement import held_bytes, placement
from memjax.train.state import State

STATE = State(
    step=np.int32(3),
    params={"kernel": np.zeros((24, 1000), np.float32), "bias": np.zeros(1000, np.float32)},
    optimizer=(np.zeros((24, 1000), np.float32), np.zeros(1000, np.float16)),
    ema={},
)


def test_the_bytes_are_those_that_a_device_holds():
    for fsdp in (1, 4):
        mesh = train_mesh(fsdp)
        shardings = state_shardings(mesh, STATE)
        leaves = jax.tree.leaves(jax.device_put(STATE, shardings))
        held = sum(shard.data.nbytes for leaf in leaves for shard in leaf.addressable_shards if shard.device.id == 5)
        assert held_bytes(STATE, shardings) == held


def test_the_line_names_devices_mesh_share_and_batch():
    mesh = train_mesh(4)
    line = placement(mesh, STATE, state_shardings(mesh, STATE), 16)
    for part in (
        "process 0 of 1 on ",
        "8 of 8 devices (cpu), mesh data 2 x fsdp 4;",
        "96.0% of 25,000 parameters split",
        "MiB of state a device; 16 of 16 images a step",
    ):
        assert part in line, line
    assert "25,000 parameters whole on each device" in placement(
        train_mesh(1), STATE, state_shardings(train_mesh(1), STATE), 16
    )
