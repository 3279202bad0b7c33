"""Lazy regularization: penalties computed now and then instead of always, and an optimizer that allows for it.

Karras et al., 2020 (arXiv 1912.04958), appendix B.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from memjax.errors import UserError
from memjax.train.optim import Optimizer, make_optimizer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Regularization:
    """How much and how often: R1 of the discriminator, path lengths of the generator.

    gamma: of R1; None: 0.0002 resolution^2 / batch. A weight of zero: never.
    """

    gamma: float | None = None
    r1_every: int = 16
    path_weight: float = 2.0
    path_every: int = 4
    path_decay: float = 0.01
    path_shrink: int = 2  # path lengths are measured on 1 / path_shrink of a batch: they take twice the memory

    def __post_init__(self):
        for name in ("r1_every", "path_every", "path_shrink"):
            if getattr(self, name) < 1:
                raise UserError(f"regularize.{name}={getattr(self, name)} is too small; give 1 or more.")
        if (self.gamma or 0) < 0 or self.path_weight < 0 or not 0 < self.path_decay <= 1:
            raise UserError(
                f"regularize.gamma={self.gamma} and path_weight={self.path_weight} must be 0 or more, "
                f"path_decay={self.path_decay} above 0, at most 1."
            )


def lazy_optimizer(block: Mapping[str, Any], every: int) -> Optimizer:
    """Return an optimizer that is asked `every` + 1 times in `every` steps, and moves as if asked `every` times.

    The learning rate times c and the decays to the power of c, c = every / (every + 1): arXiv 1912.04958, appendix B.
    What counts steps counts updates instead. `every` 0: there is no lazy regularizer.
    """
    c = every / (every + 1) if every else 1.0
    betas = tuple(beta**c for beta in block["betas"])
    counted = {name: round(block[name] / c) for name in ("warmup", "steps") if name in block}
    return make_optimizer(**{**block, **counted, "lr": block["lr"] * c, "betas": betas})
