"""What devices send each other in a training step of each task: gradients and split parameters, nothing of the batch.

Each device has a number of images that is a multiple of a prime which divides no parameter, so whatever is exchanged of
images or of their features shows by its size.
"""

import math
import re

import jax
import jax.numpy as jnp
import pytest
from compiling import QUICK

from configs import ddpm, descriptor, latent3d, stylegan2
from launch.planning.hlo import operand_shapes, read_module
from launch.planning.programs import train_program
from launch.planning.tally import COLLECTIVES, tally
from memjax import mesh as meshes
from memjax.mesh import batch_sharding, train_mesh

PRIME, DEVICES = 11, 8
OWN = 4 * PRIME  # images of a device: half of them, on which path lengths are measured, and groups of four divide, too
TASKS = {
    "ddpm": (ddpm.get_config, "cxr5216,smoke", (16, 16, 1), {}),
    "stylegan2": (stylegan2.get_config, "cxr5216,smoke", (16, 16, 1), {}),
    "autoencoder": (latent3d.get_config, "pccta,autoencoder,smoke", (8, 8, 8, 1), {"adversary.volume": 0.0}),
    "latents": (latent3d.get_config, "pccta,ddpm,smoke", (8, 8, 8, 8), {"microbatches": 2, "model.mults": (1,)}),
    "descriptor": (descriptor.get_config, "cxr,smoke", (16, 16, 1), {}),
}


def compiled(name: str, fsdp: int) -> tuple[str, int]:
    """Return the text of a task's training step on eight devices, and how many parameters it has."""
    get_config, words, shape, changes = TASKS[name]
    config = get_config(words)
    config.update_from_flattened_dict({**changes, "batch_size": DEVICES * OWN, "fsdp": fsdp})
    program = train_program(config.to_dict(), shape, jax.devices()[:DEVICES])
    state = program.lowered.in_avals[0][0]
    critics = state.critics["params"] if name == "autoencoder" else {}
    sizes = [leaf.size for leaf in jax.tree.leaves((state.params, critics))]
    assert all(size % PRIME for size in sizes)
    return text_of(program.lowered), sum(sizes)


def text_of(lowered: jax.stages.Lowered) -> str:
    """Return the text of a program once it is compiled."""
    return lowered.compile(QUICK).as_text() or ""


def of_batch(text: str) -> list[tuple[str, tuple[int, ...], str]]:
    """Return the exchanges whose sizes follow the batch: kind, what a device puts in, and of what in the program."""
    found = []
    for computation in read_module(text).computations.values():
        for one in computation.values():
            if one.opcode.removesuffix("-start") in COLLECTIVES:
                where = re.search(r'op_name="([^"]*)"', one.rest)
                arrays = [array for shapes in operand_shapes(computation, one) for array in shapes]
                found += [(one.opcode, array, where[1] if where else "") for array in arrays]
    return [(kind, array.dims, where) for kind, array, where in found if array.numbers % PRIME == 0]


def exchanged_bytes(text: str) -> float:
    """Return what one device puts in, all together."""
    return sum(what.size_bytes * times for what, times in tally(read_module(text), [0] * DEVICES).collectives.items())


def test_an_exchange_of_the_batch_is_seen():
    mesh = train_mesh(n_devices=DEVICES)
    x = jax.ShapeDtypeStruct((DEVICES * OWN, 6), jnp.float32, sharding=batch_sharding(mesh))
    apart, mixed = (text_of(jax.jit(f).lower(x)) for f in (lambda x: x - x.mean(0), lambda x: x - x[::-1]))
    assert not of_batch(apart) and exchanged_bytes(apart) == 4 * 6
    assert of_batch(mixed) and exchanged_bytes(mixed) >= 4 * 6 * OWN


@pytest.mark.parametrize(
    ("name", "times"),
    [
        ("latents", 2.1),  # once for each part of a batch
        ("stylegan2", 3.0),  # two phases of each network; R1 and path lengths are sums of two derivatives
        ("autoencoder", 4.0),  # critics' moments; gradients before Winograd's sums, which are larger
    ],
)
def test_copies_of_a_model_exchange_gradients_and_small_sums(name, times):
    text, parameters = compiled(name, fsdp=1)
    assert of_batch(text) == []
    kinds = {what.kind for what in tally(read_module(text), [0] * DEVICES).collectives}
    assert kinds == {"all-reduce"}
    assert 4 * parameters <= exchanged_bytes(text) <= times * 4 * parameters


def test_descriptors_meet_but_not_the_images_that_they_are_of():
    text, _ = compiled("descriptor", fsdp=1)
    sizes = sorted((kind, math.prod(dims)) for kind, dims, _ in of_batch(text))
    names, descriptors = ("all-gather", OWN), ("all-gather", OWN * 128)
    assert sizes == [names, names, descriptors, descriptors], "ids and patients, images and views"


def test_split_parameters_travel_and_not_what_they_are_applied_to(monkeypatch):
    monkeypatch.setattr(meshes, "_SMALL", 64)  # numbers, so that toys are split, too
    text, parameters = compiled("ddpm", fsdp=2)
    # XLA moves what is smaller, so sometimes vectors of the time in place of what they meet; a feature map has 2048.
    assert [one for one in of_batch(text) if math.prod(one[1]) > 64 * OWN] == []
    kinds = {(what.kind, what.group) for what in tally(read_module(text), [0] * DEVICES).collectives}
    assert kinds >= {("all-gather", 2), ("all-reduce", 4)}, "parameters, and gradients of what each device holds"
    assert exchanged_bytes(text) <= 5 * 4 * parameters
