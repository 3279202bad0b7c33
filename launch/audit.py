"""Find which synthetic images are copies of training images.

    python -m launch.audit --train=DIR --synthetic=DIR [--heldout=DIR] --out=DIR [--symmetry=all] [--release=DIR]
        [--detectors=all] [--descriptor=RUN] [--embeddings=NAME=DIR] [--labels=review.sqlite]

Takes folders of image files or image stores. Writes report.html, report.json, pairs.csv and figures/ into --out.
Several processes, each with its own devices, share the searches: the same command for each, as for launch.train
(docs/clusters.md); the first one prepares folders and writes the report.
Exit status: 0 no copies found, 3 copies found or undecided, 2 something is wrong with what was given.
"""

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from launch import boot, detecting, hosts, image_sets, inputs
from memjax.errors import UserError
from memjax.orientation import SYMMETRIES

if TYPE_CHECKING:
    from jax.sharding import Mesh

    from memjax.audit.audit import Question
    from memjax.audit.decide import Criterion
    from memjax.audit.findings import Findings, Role
    from memjax.data.preparation import Preparation
    from memjax.data.store import Store
    from memjax.data.together import Input
    from memjax.team import Team

_OUT = flags.DEFINE_string("out", None, "Where to write the report.", required=True)
_RELEASE = flags.DEFINE_string("release", None, "Where to write the synthetic images that are not copies.")
_SYMMETRY = flags.DEFINE_enum("symmetry", "all", list(SYMMETRIES), "Under which orientations a copy is still a copy.")
_SCORE = flags.DEFINE_enum(
    "score", "correlation", ["correlation", "msd"], "Pearson correlation or mean squared distance."
)
_CHANNELS = flags.DEFINE_list("channels", [], "Channels to compare, by number; default: all.")
_FOREGROUND = flags.DEFINE_bool("foreground", True, "Also decide on the foreground alone, where there is a background.")
_THRESHOLD = flags.DEFINE_string(
    "threshold", "fdr", "What is called a copy: fdr, p95 or p99 (percentiles of the held-out scores), or a score."
)
_RATE = flags.DEFINE_float(
    "rate", 0.05, "The false-discovery rate of --threshold=fdr.", lower_bound=1e-9, upper_bound=0.5
)
flags.register_validator("rate", math.isfinite, "must be a number.")
_K = flags.DEFINE_integer("k", 3, "Training images listed per synthetic image.", lower_bound=1)
_CACHE = flags.DEFINE_string(
    "cache", None, "Where prepared folders and finished searches are kept; default: OUT/cache."
)
_DEVICES = flags.DEFINE_integer("devices", None, "How many devices to use; default: all.", lower_bound=1)
_PLAN = flags.DEFINE_enum(
    "plan",
    "auto",
    ["auto", "product", "symmetric", "sketched"],
    "How pairs are compared: orientations one by one, all at once, only those that sketches do not rule out, or what "
    "costs least; lists are the same, scores up to rounding.",
)
_FAIL = flags.DEFINE_bool("fail_on_copies", True, "Exit with status 3 if copies are found, or cannot be ruled out.")

COPIES_FOUND = 3


def main() -> int:
    """Audit three folders."""
    given = image_sets.given()
    out, cache, released = _outputs({role: one.path for role, one in given.items()})
    how = inputs.preparation()
    question = _question()
    detecting.check()
    team = hosts.join(hosts.asked(), in_step=False)

    from memjax.audit.findings import ImageSet
    from memjax.audit.release import release

    stores = _stores(given, how, cache, team)
    sets = {role: ImageSet(role=role, given=str(given[role].path), store=stores[role]) for role in given}

    detecting.check_labels(stores)
    boot.keep_freed_memory()
    boot.use_compilation_cache(cache / "compiled")
    from memjax.audit.audit import audit
    from memjax.audit.report.report import write

    mesh = _mesh(len(stores["synthetic"]))
    own = cache if team.index == 0 else cache / f"process{team.index}"  # embeddings, which every process makes itself
    question = dataclasses.replace(question, detectors=detecting.detectors(stores, own, mesh))
    findings = audit(
        sets["train"],
        sets["synthetic"],
        sets.get("heldout"),
        question,
        mesh=mesh,
        kept=cache,
        team=team,
        progress=boot.pairs_bar if team.index == 0 else lambda what, pairs: lambda done: None,
        tell=boot.say if team.index == 0 else lambda text: None,
    )
    findings = detecting.with_labels(findings)
    if team.index == 0:
        write(out, findings, command=hosts.command())
        if released:
            release(released, findings, given["synthetic"].path)
        _tell(findings, out)
    return team.follow(0 if findings.verdict == "no copies found" or not _FAIL.value else COPIES_FOUND)


def _stores(given: "dict[Role, Input]", how: "Preparation", cache: Path, team: "Team") -> "dict[str, Store]":
    """Return the image stores, which the first process prepares (and looks through) for all."""
    from memjax.data.store import Store, is_store
    from memjax.data.together import stores_together
    from memjax.team import wait_to_see

    stores = stores_together(given, how, cache, workers=boot.workers()) if team.index == 0 else {}
    places = team.follow({role: str(store.path) for role, store in stores.items()})

    def seen(path: Path) -> Store:
        return wait_to_see(lambda: Store.open(path) if is_store(path) else None, f"process 0 has found {path}")

    return stores or {role: seen(Path(places[role])) for role in given}


def _mesh(n_synthetic: int) -> "Mesh":
    """Return the devices to use; every one needs a synthetic image of its own."""
    from memjax.mesh import audit_mesh

    mesh = audit_mesh(_DEVICES.value, at_most=n_synthetic)
    if mesh.size > n_synthetic:
        raise UserError(
            f"--devices={mesh.size} for {n_synthetic} synthetic images; give --devices={n_synthetic} or less."
        )
    return mesh


def _outputs(given: "dict[Role, Path]") -> tuple[Path, Path, Path | None]:
    """Return the places of the report, the cache and the release (if any), none of which would harm another."""
    from memjax.audit.release import check_release
    from memjax.data.store import is_store

    out = inputs.check_output(_OUT, given)
    if is_store(out):
        raise UserError(f"--out={out} is an image store; choose another folder for the report.")
    cache = inputs.check_output(_CACHE, given) if _CACHE.value else out / "cache"
    if not _RELEASE.value:
        return out, cache, None
    released = inputs.check_output(_RELEASE, given)
    check_release(released)
    for flag, place in (("out", out), ("cache", cache)):
        if place.resolve().is_relative_to(released.resolve()):
            raise UserError(f"--{flag}={place} lies inside --release={released}, which goes to others; part them.")
    return out, cache, released


def _question() -> "Question":
    from memjax.audit.audit import Question

    try:
        channels = tuple(sorted({int(text) for text in _CHANNELS.value})) or None
    except ValueError:
        raise UserError(f"--channels={','.join(_CHANNELS.value)} must be whole numbers, separated by commas.") from None
    return Question(
        k=_K.value,
        symmetry=_SYMMETRY.value,
        score=_SCORE.value,
        channels=channels,
        criterion=_criterion(),
        foreground=_FOREGROUND.value,
        plan=_PLAN.value,
    )


def _criterion() -> "Criterion":
    from memjax.audit.decide import Criterion
    from memjax.audit.describe import Descriptor

    if _THRESHOLD.value in ("fdr", "p95", "p99"):
        return Criterion(rule=_THRESHOLD.value, rate=_RATE.value)
    low, high = Descriptor(score=_SCORE.value).limits
    try:
        value = float(_THRESHOLD.value)
    except ValueError:
        value = math.nan
    if not low <= value < high:  # no score exceeds `high`, so that nothing would be called
        raise UserError(
            f"--threshold={_THRESHOLD.value} must be fdr, p95, p99, or a score: for --score={_SCORE.value} a number "
            f"from {low:g} to below {high:g}."
        )
    return Criterion(rule="value", value=value)


def _tell(findings: "Findings", out: Path) -> None:
    from memjax.audit.report.words import verdict_sentence

    together = findings.agreement
    boot.say(f"{findings.verdict}: {verdict_sentence(findings)} Threshold {findings.decision.threshold:.4f}.")
    if together:
        boot.say(
            f"all {len(together.names)} detectors together call {int(together.is_copy.sum())} of "
            f"{len(together.is_copy)} images copies"
        )
    boot.say(f"the report: {out / 'report.html'}")
    if findings.leaks:
        boot.say(f"first: {len(findings.leaks)} images or patients are in more than one of the folders; see the report")
    for warning in findings.warnings:
        boot.say(f"note: {warning}")


if __name__ == "__main__":
    boot.run(main)
