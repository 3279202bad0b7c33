"""The seam between the loop and a model: what a task has to say for the loop to train it."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Array, Key

from memjax.trees import Tree

State = Any  # the task's own: a pytree of plain arrays with an int32 `step`
Batch = Mapping[str, Array]


@runtime_checkable
class Task(Protocol):
    """A model in training. `init`, `step` and `weights` are pure and may be traced."""

    batch_size: int

    def init(self, key: Key[Array, ""]) -> State:
        """Return the state before the first step."""
        ...

    def step(self, state: State, batch: Batch) -> tuple[State, dict[str, jax.Array]]:
        """Return the state one step later, and scalars to tell."""
        ...

    def evaluate(self, state: State, batches: Mapping[str, Iterable[Batch]]) -> dict[str, float]:
        """Return scalars over whole sets of images, by the name of the set; batches may be padded and masked."""
        ...

    def preview(self, state: State, batches: Mapping[str, Iterable[Batch]]) -> dict[str, np.ndarray]:
        """Return images to look at, by name: [n, *space, channels] in [-1, 1]; the batches are those of `evaluate`."""
        ...

    def draw(self, state: State, seed_ids: np.ndarray) -> np.ndarray:
        """Return the images of these seed ids: [n, *space, channels] in [-1, 1]."""
        ...

    def weights(self, state: State) -> Tree:
        """Return what sampling needs: averaged parameters in float32."""
        ...
