"""Random keys: one for each purpose, from the run's seed, then by step, draw or id; never by device, host or worker."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key

# The order is part of every run's randomness: new purposes go to the end.
_PURPOSES = ("init", "time", "noise", "dropout", "label", "sample", "held_out", "phase", "slice", "codes", "posterior")


def key_for(seed: int, purpose: str) -> Key[Array, ""]:
    """Return the key of one purpose of a run with this seed."""
    return jax.random.fold_in(jax.random.key(seed), _PURPOSES.index(purpose))


def key_at(key: Key[Array, ""], step: int | Int[Array, ""]) -> Key[Array, ""]:
    """Return the key of one step: the same wherever and however often a run is continued."""
    return jax.random.fold_in(key, step)


def keys_of(key: Key[Array, ""], ids: Int[Array, "b"]) -> Key[Array, "b"]:
    """Return one key an id: what is drawn from it is the same in any batch, on any device."""
    return jax.vmap(lambda id_: jax.random.fold_in(key, id_))(jnp.asarray(ids))
