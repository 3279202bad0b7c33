"""From a block of a config to what it describes: its keys are exactly one constructor's keywords."""

import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from memjax.errors import UserError

_Built = TypeVar("_Built")


def build(constructor: Callable[..., _Built], block: Mapping[str, Any], name: str, **more: Any) -> _Built:
    """Return `constructor(**block, **more)`; lists, which is what JSON makes of tuples, become tuples again.

    Raises:
      UserError: a key is not among the constructor's keywords, or one of them is missing; `name` is the block's.
    """
    known = {
        key: value
        for key, value in inspect.signature(constructor).parameters.items()
        if key not in more and key not in ("parent", "name")  # of a Flax module
    }
    for key in block:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}."
            raise UserError(f"config.{name}.{key} does not exist; {hint}")
    for key, value in known.items():
        if key not in block and value.default is inspect.Parameter.empty:
            raise UserError(f"config.{name}.{key} is missing; give it a value.")
    return constructor(**{key: _tupled(value) for key, value in block.items()}, **more)


def _tupled(value: Any) -> Any:
    return tuple(_tupled(one) for one in value) if isinstance(value, list | tuple) else value
