"""From a loss to the next state: gradients over microbatches, the optimizer, the average, and what is told of each."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from memjax.train.ema import Ema
from memjax.train.optim import Optimizer
from memjax.train.state import State
from memjax.trees import Tree, norm

Batch = Mapping[str, Array]
Metrics = dict[str, Float[Array, ""]]
LossFn = Callable[[Tree, Batch, Int[Array, ""]], Float[Array, "b"]]


def mean_gradient(loss_fn: LossFn, params: Tree, batch: Batch, microbatches: int) -> tuple[Float[Array, ""], Tree]:
    """Return the mean loss over a batch, and its gradient, looking at one of `microbatches` parts at a time.

    Args:
      loss_fn: (params, part, number of the part) -> one loss an example.
      params: what to differentiate by.
      batch: arrays whose first axis counts examples; a multiple of `microbatches`.
      microbatches: 1: all at once.
    """

    def part_loss(params: Tree, part: Batch, number: Int[Array, ""]) -> Float[Array, ""]:
        return jnp.mean(loss_fn(params, part, number))

    if microbatches == 1:
        return jax.value_and_grad(part_loss)(params, batch, jnp.zeros((), jnp.int32))

    # Part i takes rows i, i + m, i + 2m, …: every device keeps the rows it has.
    parts = jax.tree.map(lambda x: jnp.moveaxis(x.reshape(-1, microbatches, *x.shape[1:]), 1, 0), dict(batch))

    def add(total: tuple, part: tuple) -> tuple[tuple, None]:
        found = jax.value_and_grad(part_loss)(params, *part)
        return jax.tree.map(jnp.add, total, found), None

    nothing = (jnp.zeros(()), jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), params))
    total, _ = jax.lax.scan(add, nothing, (parts, jnp.arange(microbatches, dtype=jnp.int32)))
    return jax.tree.map(lambda x: x / microbatches, total)


def updated(state: State, gradient: Tree, optimizer: Optimizer, ema: Ema, batch_size: int) -> tuple[State, Metrics]:
    """Return the state after one more step; in this order: gradient, optimizer, average."""
    updates, optimizer_state = optimizer.transform.update(gradient, state.optimizer, state.params)
    params = optax.apply_updates(state.params, updates)
    step = state.step + 1
    metrics = {
        "grad_norm": norm(gradient),
        "update_norm": norm(updates),
        "param_norm": norm(params),
        "lr": jnp.asarray(optimizer.rate(state.step), jnp.float32),
    }
    after = State(
        step=step,
        params=params,
        optimizer=optimizer_state,
        ema=ema.update(state.ema, params, step, batch_size),
    )
    return after, metrics
