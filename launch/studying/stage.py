"""One piece of a study's work, named by all that decides its result: what has the same name is done once.

A stage's folder is STUDY/stages/KIND-KEY. It is done when its mark is there, `done.json`, with what it took and what
the table wants to know of it. A training that is made longer goes on in its folder, so its mark names its last step.
"""

import dataclasses
import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from memjax import __version__
from memjax.digest import settings_digest
from memjax.errors import UserError
from memjax.whole import whole_file

Kind = Literal[
    "source", "data", "autoencoder", "latents", "train", "descriptor", "sample", "release", "audit", "quality"
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """A piece of work and what it needs.

    kind: what is done.
    settings: JSON-like, all that decides the result besides what `after` names.
    after: the stages whose results it reads, by the role they play.
    mark: how far it goes, where stages of the same settings continue each other: a number of steps, else 0.
    aside: what does not decide the result: where an input lies, how often a training is looked at.
    """

    kind: Kind
    settings: Mapping[str, Any]
    after: "Mapping[str, Stage]" = dataclasses.field(default_factory=dict)
    mark: int = 0
    aside: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @cached_property
    def key(self) -> str:
        """The name of its settings, 16 hexadecimal digits."""
        needs = {role: stage.name for role, stage in self.after.items()}
        return settings_digest([__version__, self.kind, self.settings, needs])[:16]

    @property
    def name(self) -> str:
        """The name of its result, unique in a study."""
        return f"{self.kind}-{self.key}" + (f"-{self.mark}" if self.mark else "")

    def folder(self, workdir: Path) -> Path:
        """Where it works."""
        return workdir / "stages" / f"{self.kind}-{self.key}"

    def done_file(self, workdir: Path) -> Path:
        """What is there once it is done."""
        return self.folder(workdir) / (f"done-{self.mark}.json" if self.mark else "done.json")

    def is_done(self, workdir: Path) -> bool:
        """Whether its result is there."""
        return self.done_file(workdir).exists()

    def told(self, workdir: Path) -> dict[str, Any]:
        """Return what it told when it was done: `seconds`, and `facts`.

        Raises:
          UserError: the file is damaged.
        """
        return read_json(self.done_file(workdir))

    def finish(self, workdir: Path, seconds: float, facts: Mapping[str, Any]) -> None:
        """Say that it is done."""
        with whole_file(self.done_file(workdir)) as partial:
            partial.write_text(json.dumps({"seconds": seconds, "facts": dict(facts)}) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Return what a stage left in a file of its folder.

    Raises:
      UserError: the file is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); remove {path.parent} to do it again.") from None


def with_needs(stage: Stage) -> list[Stage]:
    """Return the stage after all that it needs, each once, in an order of work."""
    found: dict[str, Stage] = {}
    for need in stage.after.values():
        found |= {one.name: one for one in with_needs(need)}
    return list((found | {stage.name: stage}).values())
