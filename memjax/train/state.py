"""Everything that training changes, in one tree of plain arrays: what a checkpoint holds."""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from memjax.trees import Tree


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class State:
    """After `step` steps: parameters and their average in float32, and the optimizer's own.

    There is no random key in it: keys follow from the run's seed and the step.
    """

    step: Tree  # int32 scalar; in trees of the same form, its shape or its sharding
    params: Tree
    optimizer: Tree
    ema: Tree


def first_state(params: Tree, optimizer: optax.GradientTransformation) -> State:
    """Return the state before the first step."""
    return State(
        step=jnp.zeros((), jnp.int32),
        params=params,
        optimizer=optimizer.init(params),
        ema=jax.tree.map(jnp.copy, params),  # donated: no two leaves may be one buffer
    )
