"""What is asked of whole pytrees: how large, of what norm, and under which names."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Tree = Any


def named_leaves(tree: Tree) -> dict[str, Any]:
    """Return the leaves by their path, `encoder/conv/kernel`, in the tree's own order."""
    return {"/".join(_part(key) for key in path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def from_named(template: Tree, leaves: dict[str, Any]) -> Tree:
    """Return a tree like `template` whose leaves are the ones of these names (see `named_leaves`)."""
    return jax.tree.unflatten(jax.tree.structure(template), [leaves[name] for name in named_leaves(template)])


def count(tree: Tree) -> int:
    """Return how many numbers the leaves hold; they may be abstract."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def norm(tree: Tree) -> Float[Array, ""]:
    """Return the Euclidean norm over all leaves, summed in float32."""
    return jnp.sqrt(sum(jnp.sum(jnp.square(leaf.astype(jnp.float32))) for leaf in jax.tree.leaves(tree)))


def _part(key: Any) -> str:
    return str(next(getattr(key, name) for name in ("key", "name", "idx") if hasattr(key, name)))
