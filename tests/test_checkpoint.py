"""Whatever happens during or after a save, the newest whole checkpoint is found, and nothing else is restored."""

import asyncio
import contextlib
import gc
import json
import logging
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import types
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from memjax.artifacts.checkpoint import Checkpoints
from memjax.artifacts.weights import read_weights
from memjax.errors import UserError
from memjax.mesh import state_shardings, train_mesh

_KILLS = 4  # 40 went well, too


class Moments(NamedTuple):
    count: jax.Array
    mu: dict
    nothing: tuple = ()


def state_of(step=0):
    """A state of every kind of leaf and container; all its numbers say which step it is of."""
    params = {
        "in": {"kernel": jnp.full((3, 3, 64, 128), step, jnp.float32)},
        "blocks": [jnp.full(5, step, jnp.bfloat16)],
    }
    return {"step": jnp.int32(step), "params": params, "opt": (Moments(jnp.uint32(step), params), jnp.array([True]))}


def abstract(mesh=None, of=state_of):
    shapes = jax.eval_shape(of)
    mesh = mesh or train_mesh(1, 1)
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        shapes,
        state_shardings(mesh, shapes),
    )


def saved(folder, *steps, **options):
    """Save these steps, and return the folder."""
    with Checkpoints(folder, **options) as checkpoints:
        for step in steps:
            checkpoints.save(step, state_of(step), {"step": step, "seed": 3})
    return folder


def restored(folder, **options):
    """Restore, check that all is of one step, and return it with what was told."""
    told = []
    with Checkpoints(folder, **options) as checkpoints:
        found = checkpoints.restore(abstract(), tell=told.append)
    if found is None:
        return None, told
    state, position, step = found
    assert position == {"step": step, "seed": 3}
    jax.tree.map(np.testing.assert_array_equal, state, state_of(step))
    return step, told


def test_state_and_position_come_back(tmp_path):
    assert restored(tmp_path / "new") == (None, [])
    assert restored(saved(tmp_path / "a", 5, 10)) == (10, [])


@pytest.mark.parametrize(
    ("before", "after"),
    [((8, 1), (1, 1)), ((1, 1), (8, 1)), ((8, 1), (2, 4)), ((2, 4), (1, 8)), ((1, 8), (1, 1))],
    ids=str,
)
def test_any_mesh_to_any_other(tmp_path, before, after):
    meshes = [train_mesh(fsdp, data * fsdp) for data, fsdp in (before, after)]
    placed = jax.device_put(state_of(7), state_shardings(meshes[0], jax.eval_shape(state_of)))
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(7, placed, {})
        checkpoints.wait()
        found = checkpoints.restore(abstract(meshes[1]))
    assert found is not None
    state = found[0]
    assert jax.tree.structure(state) == jax.tree.structure(state_of())
    jax.tree.map(np.testing.assert_array_equal, state, placed)
    assert [leaf.sharding for leaf in jax.tree.leaves(state)] == [
        leaf.sharding for leaf in jax.tree.leaves(abstract(meshes[1]))
    ]
    assert after[1] == 1 or not state["params"]["in"]["kernel"].is_fully_replicated


@pytest.mark.parametrize("fsdp", [1, 4])
def test_a_state_may_be_donated_while_it_is_saved(tmp_path, fsdp):
    mesh = train_mesh(fsdp, fsdp)

    def first():
        return {str(i): jnp.zeros((500, 1000)) for i in range(8)}  # 16 MB: it takes a while to write

    shardings = state_shardings(mesh, jax.eval_shape(first))
    state = jax.device_put(first(), shardings)
    jitted = jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf + 1, tree), donate_argnums=0, out_shardings=shardings)
    step_fn = jitted.lower(state).compile()
    with Checkpoints(tmp_path) as checkpoints:
        for step in (0, 5, 10):
            checkpoints.save(step, state, {"step": step})
            for _ in range(5):
                before, state = state, step_fn(state)
            assert before["0"].is_deleted()  # donated it is
            checkpoints.wait()
            found = checkpoints.restore(abstract(mesh, first))
            assert found is not None
            assert {value for leaf in found[0].values() for value in np.unique(leaf)} == {step}


def test_the_newest_stay_and_the_protected_one(tmp_path):
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        for step in (1, 2, 3, 4):
            checkpoints.save(step, state_of(step), {})
            if step in (1, 2):
                checkpoints.keep_also(step)  # the second in place of the first
        checkpoints.wait()
        assert checkpoints.steps() == [2, 3, 4]
        assert checkpoints.latest() == 4
    saved(tmp_path, 5, 6)  # another process knows of it
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.steps() == [2, 5, 6]


def test_a_step_is_saved_once(tmp_path):
    saved(tmp_path, 5, 5)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(5, state_of(99), {"step": 99})
    assert restored(tmp_path)[0] == 5


def damage(file, how, rng):
    whole = file.read_bytes()
    if how == "gone":
        file.unlink()
    elif how == "cut":
        file.write_bytes(whole[: len(whole) // 2])
    else:
        flipped = bytearray(whole)
        flipped[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        file.write_bytes(flipped)


def test_any_damaged_file_leads_to_the_one_before(tmp_path):
    """Also where TensorStore does not notice: in the numbers, which are not compressible here."""
    rng = random.Random(0)
    noise = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)

    def of():
        return {"noise": jnp.zeros((64, 64)), "step": jnp.int32(0)}

    with Checkpoints(tmp_path / "whole") as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, {"noise": jnp.asarray(noise) * step, "step": jnp.int32(step)}, {"step": step})
    files = [
        file.relative_to(tmp_path / "whole")
        for item in ("state", "position", "digests")
        for file in sorted((tmp_path / "whole" / "2" / item).rglob("*"))
        if file.is_file() and not (item == "digests" and file.name.startswith("commit"))  # says nothing
    ]
    assert len(files) > 8
    for file in files:
        for how in ("gone", "cut", "flipped"):
            shutil.rmtree(tmp_path / "hurt", ignore_errors=True)
            shutil.copytree(tmp_path / "whole", tmp_path / "hurt")
            damage(tmp_path / "hurt" / file, how, rng)
            told = []
            with Checkpoints(tmp_path / "hurt") as checkpoints:
                found = checkpoints.restore(abstract(of=of), tell=told.append)
            assert found is not None
            assert found[1:] == ({"step": 1}, 1), (file, how)
            np.testing.assert_array_equal(found[0]["noise"], noise)
            assert len(told) == 1
            assert told[0].startswith("checkpoint 2 is damaged (")


def test_training_passes_a_damaged_checkpoint_again(tmp_path):
    damage(saved(tmp_path, 10, 20) / "20" / "position" / "metadata", "flipped", random.Random(0))
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        found = checkpoints.restore(abstract())
        assert found is not None and found[2] == 10
        assert checkpoints.steps() == [10, 20]  # nothing is lost before something is won
        checkpoints.save(15, state_of(15), {"step": 15, "seed": 3})
        checkpoints.wait()
        assert checkpoints.steps() == [10, 15]
        checkpoints.save(20, state_of(20), {"step": 20, "seed": 3})
    assert restored(tmp_path) == (20, [])


def test_none_is_whole(tmp_path):
    saved(tmp_path, 10, 20)
    for step in (10, 20):
        (tmp_path / str(step) / "state" / "manifest.ocdbt").write_bytes(b"")
    with pytest.raises(UserError, match=r"has checkpoints \(10, 20\), but all of them are damaged; bring back"):
        restored(tmp_path)
    assert {"10", "20"} <= {path.name for path in tmp_path.iterdir()}


def test_another_state_is_named_by_its_leaves(tmp_path):
    saved(tmp_path, 10)

    def wider():
        state = state_of()
        state["params"]["in"]["kernel"] = jnp.zeros((3, 3, 64, 256))
        state["step"] = jnp.float32(0)
        state["more"] = state.pop("opt")[1]
        return state

    with Checkpoints(tmp_path) as checkpoints, pytest.raises(UserError) as raised:
        checkpoints.restore(abstract(of=wider))
    said = str(raised.value)
    assert f"the checkpoint {tmp_path / '10'} is of another model" in said
    for part in (
        "more was saved as nothing and is bool[1]",
        "params/in/kernel was saved as float32[3, 3, 64, 128] and is float32[3, 3, 64, 256]",
        "step was saved as int32[] and is float32[]",
        ", and 4 more",
    ):
        assert part in said
    assert restored(tmp_path) == (10, [])


@contextlib.contextmanager
def small_disk(folder, mib):
    """A disk of its own, where this machine lets us have one."""
    folder.mkdir()
    if (
        shutil.which("mount") is None
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", folder], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("may not mount a disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk_says_where_and_what_is_left(tmp_path):
    noise = jax.random.normal(jax.random.key(0), (256, 1024))  # 1 MiB

    def of():
        return {"noise": jnp.zeros((256, 1024))}

    with small_disk(tmp_path / "disk", 3) as disk, Checkpoints(disk / "checkpoints", keep=9) as checkpoints:

        def train():
            for step in range(1, 9):
                checkpoints.save(step, {"noise": noise}, {})

        with pytest.raises(
            UserError, match=r"the disk of .*checkpoints is full; the last whole checkpoint is step (\d)"
        ) as e:
            train()
        last = checkpoints.latest()
        assert last in (2, 3) and f"step {last};" in str(e.value)
        shutil.rmtree(disk / "checkpoints" / "1")  # room is made, the same command runs again
        with Checkpoints(disk / "checkpoints", keep=9) as again:
            found = again.restore(abstract(of=of))
            assert found is not None and found[2] == last
            again.save(last + 1, {"noise": noise}, {})
            again.wait()
            assert again.latest() == last + 1


def test_a_full_disk_is_known_by_its_words(tmp_path, monkeypatch):
    """As TensorStore 0.1.86 puts it."""

    def full(self):
        raise ValueError("RESOURCE_EXHAUSTED: Failed to write 9 bytes: No space left on device [os_error_code='28']")

    checkpoints = Checkpoints(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(ocp.CheckpointManager, "wait_until_finished", full)
        with pytest.raises(UserError, match="there is no whole checkpoint yet; make room and run the same command"):
            checkpoints.wait()
    checkpoints.close()


SAVES_FOREVER = """
import sys, jax.numpy as jnp
from pathlib import Path
from memjax.artifacts.checkpoint import Checkpoints
from tests.test_checkpoint import abstract, state_of
checkpoints = Checkpoints(Path(sys.argv[1]))
found = checkpoints.restore(abstract())
first = step = 1 if found is None else found[2] + 1
while True:
    checkpoints.save(step, state_of(step), {"step": step, "seed": 3})
    if step == first:
        checkpoints.wait()
        print("ready", flush=True)
    step += 1
"""


def test_killed_at_any_moment(tmp_path):
    rng = random.Random()
    last = 0
    for _ in range(_KILLS):
        with subprocess.Popen(
            [sys.executable, "-c", SAVES_FOREVER, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
            time.sleep(rng.uniform(0.02, 0.5))
            process.send_signal(signal.SIGKILL)
        step, told = restored(tmp_path / "run")
        assert told == []  # unfinished ones are no damaged ones
        assert step is not None and step > last
        last = step
    # Nor do they stay; the last kill may have come after a save and before the oldest was deleted.
    assert len(list((tmp_path / "run").glob("[0-9]*"))) <= 3


PROCESS = """
import sys
from pathlib import Path
import jax
index, count, port, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
if count > 1:
    jax.distributed.initialize(f"localhost:{port}", count, index)
from memjax.artifacts.checkpoint import Checkpoints
from memjax.artifacts.weights import into, read_weights, write_weights
from memjax.mesh import state_shardings, train_mesh
from tests.test_checkpoint import abstract, check_all, state_of
mesh = train_mesh(fsdp=jax.device_count())
told = []
with Checkpoints(folder / "checkpoints") as checkpoints:
    found = checkpoints.restore(abstract(mesh), tell=told.append)
    last = 0
    if found is not None:
        state, position, last = found
        assert position == {"step": last}
        check_all(state, last)
    shardings = state_shardings(mesh, jax.eval_shape(state_of))
    state = jax.jit(lambda: state_of(last + 1), out_shardings=shardings)()
    assert count == 1 or not state["params"]["in"]["kernel"].is_fully_addressable
    checkpoints.save(last + 1, state, {"step": last + 1})
    checkpoints.keep_also(last + 1)
    write_weights(folder / "weights", last + 1, state["params"], {})
print(last, *told, sep=";")
"""


def check_all(state, step):
    """Check that every number of every part of the state that this process holds is of this step."""
    for leaf in jax.tree.leaves(state):
        for shard in leaf.addressable_shards:
            assert (np.asarray(shard.data, np.float32) == (1 if leaf.dtype == bool else step)).all()


def test_several_processes_save_and_restore_one_state(tmp_path):
    """Two processes, then one, then two, whose newest was damaged meanwhile, so that they agree on the one before."""
    for count, said in ((2, ["0", "0"]), (1, ["1"]), (2, ["1;checkpoint 2 is damaged", "1"])):
        with socket.socket() as found:
            found.bind(("localhost", 0))
            port = str(found.getsockname()[1])
        running = [
            subprocess.Popen(
                [sys.executable, "-c", PROCESS, str(index), str(count), port, str(tmp_path)],
                env={**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for index in range(count)
        ]
        ended = [process.communicate(timeout=120) for process in running]
        assert [process.returncode for process in running] == [0] * count, ended
        assert [out.splitlines()[-1].split(" (")[0] for out, _ in ended] == said  # Gloo talks before
        leaves, about, _ = read_weights(tmp_path / "weights")
        assert {about["step"]} == {value for leaf in leaves.values() for value in np.unique(leaf)}
        if count == 1:
            damage(tmp_path / "checkpoints" / "2" / "position" / "metadata", "cut", random.Random(0))
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.steps() == [1, 2]


def test_orbax_keeps_quiet(tmp_path, caplog, capfd):
    with caplog.at_level(logging.DEBUG):
        saved(tmp_path, 1, 2, 3)
        (tmp_path / "3" / "_CHECKPOINT_METADATA").write_text("{")
        assert restored(tmp_path)[0] == 3
    assert [record for record in caplog.records if record.name == "absl"] == []
    assert capfd.readouterr() == ("", "")


def test_writes_that_end_after_a_failed_save_are_no_news(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    for _ in range(2):
        Checkpoints(tmp_path).close()

    late = types.SimpleNamespace(exc_value=RuntimeError("Event loop is closed"), object=None, err_msg=None)
    other = types.SimpleNamespace(exc_value=RuntimeError("Event loop is closed"), object=saved, err_msg=None)
    hook: Any = sys.unraisablehook
    hook(late)
    assert told == []
    hook(other)
    assert told == [other]


def test_of_arrays_that_were_not_written_only_the_first_is_news(tmp_path, caplog):
    Checkpoints(tmp_path).close()

    async def async_serialize_from_host():  # as orbax calls it
        raise ValueError("RESOURCE_EXHAUSTED")

    async def of_ours():
        raise ValueError

    async def fails(coroutine):
        await asyncio.wait([asyncio.ensure_future(coroutine())])

    for coroutine in (async_serialize_from_host, of_ours):
        asyncio.run(fails(coroutine))
        gc.collect()
    (told,) = [record.getMessage() for record in caplog.records if record.name == "asyncio"]
    assert "never retrieved" in told and "of_ours" in told


def test_digests_are_those_of_the_files(tmp_path):
    folder = saved(tmp_path, 1) / "1"
    digests = json.loads((folder / "digests" / "sha256.json").read_text())
    assert set(digests) == {
        str(file.relative_to(folder))
        for item in ("state", "position")
        for file in (folder / item).rglob("*")
        if file.is_file()
    }
