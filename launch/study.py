"""Does a generator memorize? A grid of trainings and audits, as a table and its plots.

    python -m launch.study --config=configs/studies/NAME.py[:small|smoke] --workdir=DIR [--dry_run]
        [--data=STORE | --data=NAME=DIR ...] [--shared=DIR] [--config.KEY=VALUE ...]

Each cell of the grid is prepared, trained, sampled and audited; what two cells share is done once, and what is done is
never done again: the same command goes on where it stopped. Any number of machines may run it on one --workdir that
all see (launch/slurm/study.sbatch); each takes what no other has. Writes table.csv, table.json, report.html,
pictures.html and figures/ into --workdir, anew after every cell.
Exit status: 0 all cells are done, 1 some failed (each is told), 2 something is wrong with what was given, 130
interrupted.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags
from ml_collections import config_flags

from launch import boot
from memjax.errors import UserError

if TYPE_CHECKING:
    from launch.studying.grid import Cell

_CONFIG = config_flags.DEFINE_config_file("config", None, "The study: configs/studies/NAME.py[:words].")
_WORKDIR = flags.DEFINE_string("workdir", None, "The study's folder, of no other study.", required=True)
_SHARED = flags.DEFINE_string(
    "shared", None, "Where images, models and audits are kept: several studies may share them. Default: --workdir."
)
_DATA = flags.DEFINE_multi_string(
    "data", [], "The images: a store or a folder, or NAME=DIR for one of several sources. Default: the config's."
)
_DRY = flags.DEFINE_bool("dry_run", False, "Only say which cells there are, and what they would cost.")
_EXPIRES = flags.DEFINE_float(
    "claim_expires", 600.0, "Seconds after which another machine that gives no sign of life counts as gone.",
    lower_bound=60,
)  # fmt: skip

SOME_FAILED = 1


def main() -> int:
    """Work through the study."""
    config = _config()
    workdir, shared = boot.place(_WORKDIR), boot.place_if_given(_SHARED) or boot.place(_WORKDIR)

    from launch.studying.asked import check_asked, check_sources
    from launch.studying.cost import estimate, told
    from launch.studying.grid import cells

    grid = cells(config)
    check_sources(grid, shared)
    check_asked(config)
    costs = estimate(grid, shared)
    if _DRY.value:
        boot.say(told(costs))
    if costs.problems:
        raise UserError(costs.problems[0])
    if _DRY.value:
        return 0
    if costs.shortage:
        boot.say(f"note: {costs.shortage}")
    for folder in (workdir, shared):
        folder.mkdir(parents=True, exist_ok=True)
    boot.use_compilation_cache(shared / "compiled")

    from launch.studying.claims import Claims
    from launch.studying.perform import perform
    from launch.studying.work import Work

    def report() -> int:
        return _report(config, grid, workdir, shared)

    work = Work(shared, Claims(shared / "claims", expires_s=_EXPIRES.value), perform, report)
    work.prepare(grid)
    work.do(grid)
    failed = report()
    boot.say(f"the report: {workdir / 'report.html'}")
    if failed:
        boot.say(f"{failed} of {len(grid)} cells failed; the same command tries them again")
    return SOME_FAILED if failed else 0


def _report(config: dict[str, Any], grid: "list[Cell]", workdir: Path, shared: Path) -> int:
    """Write the table and the page of what is done so far; return how many cells failed."""
    from launch.studying.machine import hardware
    from launch.studying.outcome import row
    from launch.studying.work import known_failures
    from memjax.study.report import write

    failures = known_failures(grid, shared)
    rows = [row(cell, shared, failed=failures, beside=workdir) for cell in grid]
    write(
        workdir,
        title=config["title"],
        question=config["question"],
        claims=config["claims"],
        rows=rows,
        hardware=hardware(),
        command=boot.command(),
    )
    return sum(bool(one.error) for one in rows)


def _config() -> dict[str, Any]:
    """Return the study's config as plain values, with the images that were given."""
    config = boot.config(_CONFIG, "configs/studies/a2_dataset_size.py")
    for given in _DATA.value:
        name, place = _source_and_place(given, config.get("sources", {}))
        config["sources"][name]["input"] = place
    return config


def _source_and_place(given: str, sources: dict[str, Any]) -> tuple[str, str]:
    name, is_named, place = given.partition("=")
    if is_named and name in sources:
        return name, str(Path(place).expanduser())
    if len(sources) == 1:
        return next(iter(sources)), str(Path(given).expanduser())
    raise UserError(f"--data={given}: the study has the sources {', '.join(sources)}; give --data=NAME=DIR for each.")


if __name__ == "__main__":
    boot.run(main)
