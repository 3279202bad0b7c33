"""One training step of a config, compiled, on random images: what the training benchmark times."""

from collections.abc import Callable, Mapping
from typing import Any

import jax


def task_step(config: Mapping[str, Any], shape: tuple[int, ...]) -> tuple[Callable[[], dict[str, jax.Array]], int]:
    """Return the step that training runs on one device (donated), already compiled, and the number of parameters.

    Args:
      config: as `configs/` makes them.
      shape: of an image, [*space, channels].
    """
    from memjax.keys import key_for
    from memjax.mesh import replicated, state_shardings, train_mesh
    from memjax.nn.once import compiler_options
    from memjax.train.tasks import make_task
    from memjax.trees import count

    mesh = train_mesh(n_devices=1)
    task = make_task(config, shape=shape, mesh=mesh)
    shardings = state_shardings(mesh, jax.eval_shape(task.init, key_for(0, "init")))
    batch = {"image": jax.random.normal(jax.random.key(0), (config["batch_size"], *shape))}
    states = [jax.jit(task.init, out_shardings=shardings)(key_for(0, "init"))]
    parameters = count(states[0].params)
    step = jax.jit(
        task.step,
        donate_argnums=0,
        out_shardings=(shardings, replicated(mesh)),
        compiler_options=compiler_options(jax.default_backend()),
    )
    compiled = step.lower(states[0], batch).compile()

    def advance() -> dict[str, jax.Array]:
        state, told = compiled(states.pop(), batch)
        states.append(state)
        return told

    return advance, parameters
