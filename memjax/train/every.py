"""When a run does what besides training."""

import dataclasses

from memjax.errors import UserError

LOOKS = frozenset({"evaluate", "preview", "monitor"})  # what looks at a state and may wait until the run goes on


@dataclasses.dataclass(frozen=True, kw_only=True)
class Every:
    """Steps between two of each; 0: never (but `log` and `save`). All but the monitor come after the last step, too."""

    log: int = 50
    save: int = 1000
    evaluate: int = 1000
    preview: int = 1000
    monitor: int = 0

    def __post_init__(self):
        for name, value in dataclasses.asdict(self).items():
            if value < (1 if name in ("log", "save") else 0):
                never = "" if name in ("log", "save") else ", or 0 for never"
                raise UserError(f"every.{name}={value} is no number of steps; give 1 or more{never}.")

    def due(self, step: int, *, is_last: bool) -> frozenset[str]:
        """Return the names of what is to be done after this step."""
        between = {name: value for name, value in dataclasses.asdict(self).items() if value}
        return frozenset(
            name for name, value in between.items() if step % value == 0 or (is_last and name != "monitor")
        )
