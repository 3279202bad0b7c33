"""Where arrays go: batches over all devices, parameters by one rule, and what does not divide."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from memjax.errors import UserError
from memjax.mesh import batch_sharding, check_batch, own_rows, put, state_shardings, train_mesh


def test_all_devices_are_used_and_named():
    mesh = train_mesh(fsdp=2)
    assert dict(mesh.shape) == {"data": 4, "fsdp": 2}
    assert {t.name for t in mesh.axis_types} == {"Auto"}


@pytest.mark.parametrize(
    ("shape", "spec"),
    [
        ((3, 3, 64, 128), P(None, None, None, "fsdp")),  # the longest axis
        ((3, 3, 128, 64), P(None, None, "fsdp")),
        ((3, 3, 128, 128), P(None, None, None, "fsdp")),  # of equal ones the last
        ((3, 3, 130, 63), P()),  # nothing divides by 4
        ((40_000, 3), P("fsdp")),
        ((128,), P()),  # too small
        ((), P()),
    ],
)
def test_parameters_are_split_along_their_longest_axis_that_divides(shape, spec):
    mesh = train_mesh(fsdp=4)
    assert state_shardings(mesh, [jax.ShapeDtypeStruct(shape, jnp.float32)])[0].spec == spec


def test_without_fsdp_everything_is_whole_on_every_device():
    found = state_shardings(train_mesh(), {"kernel": jax.ShapeDtypeStruct((512, 512), jnp.float32)})
    assert found["kernel"].spec == P()


def test_a_batch_lands_on_the_devices_in_order():
    mesh = train_mesh(fsdp=2)
    rows = own_rows(mesh, 16)
    np.testing.assert_array_equal(rows, np.arange(16))
    images = np.arange(16 * 3, dtype=np.float32).reshape(16, 3)
    placed = put(mesh, {"image": images})["image"]
    assert placed.sharding == batch_sharding(mesh)
    np.testing.assert_array_equal(placed, images)
    assert {shard.data.shape for shard in placed.addressable_shards} == {(2, 3)}


def test_what_does_not_divide_is_told_with_what_would():
    with pytest.raises(
        UserError, match="batch of 30 does not divide over 8 devices; use a batch of 24 or 32, or use 1"
    ):
        check_batch(train_mesh(), 30)
    with pytest.raises(UserError, match="8 devices x 2 microbatches; use a batch of 16 or 32"):
        check_batch(train_mesh(), 24, microbatches=2)
    with pytest.raises(UserError, match="use a batch of 8"):
        check_batch(train_mesh(), 0)
    check_batch(train_mesh(), 32, microbatches=2)
    with pytest.raises(UserError, match="does not divide 8 devices; give one of 1, 2, 4, 8"):
        train_mesh(fsdp=3)
    with pytest.raises(UserError, match="there are 8; give 1 to 8"):
        train_mesh(n_devices=9)
