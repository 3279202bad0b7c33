"""Compiling of what runs but a few times, where compiling is all the time: in half of it, for code that is slow."""

import functools

import jax

# Nothing is optimized, and XLA's older emitters have less to do.
QUICK = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}
jit = functools.partial(jax.jit, compiler_options=QUICK)
