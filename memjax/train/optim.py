"""The optimizer: Adam, or AdamW where weights decay, with warm-up, a schedule and clipping."""

from typing import NamedTuple

import optax

from memjax.errors import UserError

_SCHEDULES = ("constant", "cosine")


class Optimizer(NamedTuple):
    """The gradient transformation, and its learning rate by step (to be told in the metrics)."""

    transform: optax.GradientTransformation
    rate: optax.Schedule


def make_optimizer(
    *,
    lr: float,
    warmup: int = 0,
    schedule: str = "constant",
    steps: int = 0,
    final: float = 0.0,
    betas: tuple[float, float] = (0.9, 0.999),
    epsilon: float = 1e-8,
    weight_decay: float = 0.0,
    clip: float | None = None,
) -> Optimizer:
    """Return Adam (Kingma & Ba 2015), with decoupled weight decay (Loshchilov & Hutter 2019) if there is any.

    Args:
      lr: the highest learning rate.
      warmup: steps over which it rises from 0.
      schedule: what follows: `constant`, or a `cosine` down to `final` * lr at step `steps`.
      steps: where the cosine ends; a constant rate has no end.
      final: what is left at the end of the cosine, a share of lr.
      betas: of Adam.
      epsilon: of Adam.
      weight_decay: of AdamW.
      clip: the largest global norm of the gradients; None: any.

    Raises:
      UserError: a value that makes no optimizer.
    """
    rate = _rate(lr, warmup, schedule, steps, final)
    adam = (
        optax.adamw(rate, *betas, eps=epsilon, weight_decay=weight_decay)
        if weight_decay
        else optax.adam(rate, *betas, eps=epsilon)
    )
    return Optimizer(optax.chain(optax.clip_by_global_norm(clip), adam) if clip is not None else adam, rate)


def _rate(lr: float, warmup: int, schedule: str, steps: int, final: float) -> optax.Schedule:
    if lr <= 0 or warmup < 0:
        raise UserError(f"optim.lr={lr} must be above 0, optim.warmup={warmup} 0 or more.")
    if schedule not in _SCHEDULES:
        raise UserError(f"optim.schedule={schedule!r} must be one of {', '.join(_SCHEDULES)}.")
    if schedule == "constant":
        return optax.schedules.warmup_constant_schedule(0.0, lr, warmup) if warmup else optax.constant_schedule(lr)
    if steps <= warmup:
        raise UserError(f"optim.steps={steps}, where the cosine ends, must be more than optim.warmup={warmup}.")
    if not warmup:  # optax would tell the user that it has nothing to warm up
        return optax.cosine_decay_schedule(lr, steps, final)
    return optax.schedules.warmup_cosine_decay_schedule(0.0, lr, warmup, steps, final * lr)
