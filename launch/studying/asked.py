"""Whether what a study asks for exists: found out after the trainings otherwise, when an audit or a score begins."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from launch.studying.grid import Cell
from launch.studying.perform import outward_look
from memjax.errors import UserError

_OWN = "descriptor"  # what a study's own descriptor is called in the names of detectors
_LARGEST_RATE = 0.5


def check_asked(config: Mapping[str, Any]) -> None:
    """Refuse claims, an audit and scores that there are none of.

    Raises:
      UserError: `config.claims`, `config.audit` or `config.quality` names something that does not exist.
    """
    from memjax.study.claims import CLAIMS

    for key in config["claims"]:
        if key not in CLAIMS:
            raise UserError(f"config.claims names {key!r}; there are {', '.join(CLAIMS)}: see docs/study.md.")
    _check_audit(config["audit"], has_descriptor=bool(config["descriptor"]))
    _check_quality(config["quality"])


def check_sources(cells: Sequence[Cell], workdir: Path) -> None:
    """Refuse images that changed since they were prepared: what was made of them is named by where they lie.

    Raises:
      UserError: as said.
    """
    for source in {stage.key: stage for cell in cells for stage in cell.stages if stage.kind == "source"}.values():
        path = source.settings.get("input", {}).get("path")  # stores are named by their content
        if path and source.is_done(workdir):
            looked = source.told(workdir)["facts"].get("look")
            if looked and looked != outward_look(Path(source.aside["path"])):
                raise UserError(
                    f"{source.aside['path']} changed since it became {source.folder(workdir)}; put back what it was, "
                    "or give another --workdir (and --shared)."
                )


def _check_audit(how: Mapping[str, Any], *, has_descriptor: bool) -> None:
    from memjax.audit.describe import Score
    from memjax.audit.detectors.detector import make_detectors
    from memjax.audit.detectors.embedded import Embedding
    from memjax.audit.findings import Rule
    from memjax.orientation import Symmetry

    rules = [rule for rule in get_args(Rule) if rule != "value"]
    for name, known in (("symmetry", get_args(Symmetry)), ("score", get_args(Score)), ("threshold", rules)):
        if how[name] not in known:
            raise UserError(f"config.audit.{name}={how[name]!r} is none of {', '.join(known)}.")
    if not 0 < how["rate"] <= _LARGEST_RATE:
        raise UserError(f"config.audit.rate={how['rate']} must be above 0 and at most {_LARGEST_RATE}.")
    nothing = Embedding(embed=lambda images: images.block(0, 1), can_turn=True)
    make_detectors(tuple(how["detectors"]), {_OWN: nothing} if has_descriptor else {})


def _check_quality(how: Mapping[str, Any]) -> None:
    from launch.measuring import KINDS

    kind, weights = how["features"], how["weights"]
    if kind not in (*KINDS, "none"):
        raise UserError(f"config.quality.features={kind!r} is none of {', '.join(KINDS)}, none.")
    if weights and kind != "inception":
        raise UserError(f"config.quality.weights={weights} is for features inception, not {kind}; leave it away.")
    if kind == "inception":
        from memjax.models.inception_weights import WANTED, read_weights

        if not weights:
            raise UserError(WANTED.replace("--", "--config.quality."))
        read_weights(Path(weights).expanduser())
