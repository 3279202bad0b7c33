"""What XLA computes once on processors: features that several layers read, and their gradients.

XLA fuses elementwise work into everything that reads it, however often and however long the chain: in a U-Net the
gradient of the residual stream is so computed several times for each block, each time from the end of the network. A
barrier stops that, but XLA for processors drops barriers before it fuses, unless told otherwise (`compiler_options`).
"""

from jax import lax
from jaxtyping import Array, Float


def once(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return x, which processors compute once, as its gradient; on GPUs and TPUs XLA fuses as it likes."""
    return lax.platform_dependent(x, cpu=lax.optimization_barrier, default=lambda x: x)


def compiler_options(platform: str) -> dict[str, str]:
    """Return what `jax.jit` should be given as compiler options, for `once` to hold on this platform."""
    return {"xla_disable_hlo_passes": "cse_barrier_expander"} if platform == "cpu" else {}
