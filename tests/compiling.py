"""Compiling of what runs but a few times: without looking for fast code, by XLA's older emitters, in half the time."""

import functools

import jax

QUICK = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}
jit = functools.partial(jax.jit, compiler_options=QUICK)
