"""What a study would cost: work, time and disk of the stages that are not done, without doing any of them.

Nothing is compiled: sizes of models are those of abstract arrays. Times are those that stages of the same kind took in
this folder, scaled by their work; before the first of a kind is done nothing is said of it. Small work is mostly
compiling, so that what is scaled up from it is too much.
"""

import dataclasses
import math
import shutil
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path

from launch.studying.grid import Cell
from launch.studying.sizes import Rate, Sizes, Work
from launch.studying.stage import Stage
from memjax.errors import UserError

_KINDS = {  # in the order of work, and what the images of each are
    "source": "prepared",
    "data": "chosen",
    "autoencoder": "trained on",
    "latents": "encoded",
    "train": "trained on",
    "descriptor": "trained on",
    "sample": "drawn",
    "release": "looked through",
    "audit": "compared",
    "quality": "scored",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class KindCosts:
    """The stages of one kind, each counted once, however many cells share it."""

    kind: str
    n: int
    n_done: int
    n_shared: int  # uses by further cells, for which nothing has to be done
    images: int  # how many are seen, drawn, compared … in what is left
    seconds: float  # of what is left, as far as it is known
    size_bytes: int  # of what is left, as far as it is known
    n_untimed: int  # stages left whose time is not known
    n_uncounted: int  # … whose images are not
    n_unsized: int  # … whose bytes are not


@dataclasses.dataclass(frozen=True, kw_only=True)
class Costs:
    """What is left of a study."""

    folder: Path
    cells: Sequence[tuple[str, int, int]]  # each one's name, how many stages it has, and how many of them are left
    kinds: Sequence[KindCosts]
    free_bytes: int  # of the folder's disk
    problems: Sequence[str]  # why cells cannot be: models that do not fit their images, or want what is not there

    @property
    def seconds(self) -> float:
        """Of one process, as far as it is known."""
        return sum(one.seconds for one in self.kinds)

    @property
    def size_bytes(self) -> int:
        """As far as it is known."""
        return sum(one.size_bytes for one in self.kinds)

    @property
    def shortage(self) -> str:
        """A sentence of warning if the disk is too small for what is left; "" if not."""
        if self.size_bytes <= self.free_bytes:
            return ""
        return (
            f"the disk of {self.folder} has {_bytes(self.free_bytes)} free, and what is left to do writes about "
            f"{_bytes(self.size_bytes)}; make room, or give --shared=DIR on another disk."
        )


def estimate(cells: Sequence[Cell], workdir: Path) -> Costs:
    """Return what is left of a study, and what it costs.

    Args:
      cells: of the grid.
      workdir: where the stages are; it need not exist.

    Raises:
      UserError: a stage's folder is damaged.
    """
    of_cell = {cell.name: cell.stages for cell in cells}
    uses = Counter(stage.name for some in of_cell.values() for stage in some)
    stages = list({stage.name: stage for some in of_cell.values() for stage in some}.values())
    is_done = {stage.name: stage.is_done(workdir) for stage in stages}
    sizes = Sizes(stages, workdir)
    work_of: dict[str, Work] = {}
    problems: dict[str, str] = {}  # the first stage of each
    for stage in stages:
        try:
            work_of[stage.name] = sizes.work(stage)
        except UserError as error:
            work_of[stage.name] = Work(images=None, size_bytes=None)
            problems.setdefault(str(error), stage.name)
    rates = _rates(work_of, [stage for stage in stages if is_done[stage.name]], workdir)
    kinds = []
    for kind in _KINDS:
        of_kind = [stage for stage in stages if stage.kind == kind]
        left = [stage for stage in of_kind if not is_done[stage.name]]
        work = [work_of[stage.name] for stage in left]
        seconds = [_seconds(one.rates, rates) for one in work]
        kinds.append(
            KindCosts(
                kind=kind,
                n=len(of_kind),
                n_done=len(of_kind) - len(left),
                n_shared=sum(uses[stage.name] - 1 for stage in of_kind),
                images=sum(one.images or 0 for one in work),
                seconds=sum(one for one in seconds if one is not None),
                size_bytes=sum(one.size_bytes or 0 for one in work),
                n_untimed=seconds.count(None),
                n_uncounted=sum(one.images is None for one in work),
                n_unsized=sum(one.size_bytes is None for one in work),
            )
        )
    return Costs(
        folder=workdir,
        cells=[(name, len(some), sum(not is_done[stage.name] for stage in some)) for name, some in of_cell.items()],
        kinds=[one for one in kinds if one.n],
        free_bytes=_free_bytes(workdir),
        problems=[f"the cell {_first_with(name, of_cell)} cannot be: {why}" for why, name in problems.items()],
    )


def told(costs: Costs) -> str:
    """Return costs as a person reads them: the cells, a table by kind of stage, and what is not known."""
    n_done = sum(not left for _, _, left in costs.cells)
    lines = [f"{len(costs.cells)} cells, {n_done} done:"]
    for name, n, left in costs.cells:
        lines.append(f"  {name}: {'done' if not left else f'{left} of {n} stages to do' if left < n else 'to do'}")
    rows = [("stage", "all", "done", "to do", "shared", "images", "time", "disk")]
    for one in costs.kinds:
        left = one.n - one.n_done
        images = "" if not left else f"{_some(f'{one.images:,}', one.n_uncounted, left)} {_KINDS[one.kind]}"
        time = _some(_time(one.seconds), one.n_untimed, left) if left else ""
        disk = _some(_bytes(one.size_bytes), one.n_unsized, left) if left else ""
        rows.append((one.kind, str(one.n), str(one.n_done), str(left), str(one.n_shared), images, time, disk))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    aligned = ["<", ">", ">", ">", ">", ">", ">", ">"]
    for row in rows:
        lines.append(
            "  ".join(f"{text:{side}{width}}" for text, side, width in zip(row, aligned, widths, strict=True)).rstrip()
        )
    n_untimed, n_unsized = (sum(getattr(one, name) for one in costs.kinds) for name in ("n_untimed", "n_unsized"))
    n_left = sum(one.n - one.n_done for one in costs.kinds)
    lines.append(
        f"left: {_some(_time(costs.seconds), n_untimed, n_left)} of one process, and "
        f"{_some(_bytes(costs.size_bytes), n_unsized, n_left)} of disk, of which {_bytes(costs.free_bytes)} are free"
    )
    if n_untimed:
        lines.append("? for time: it is not known before the first stage of the kind is done here.")
    if n_unsized:
        lines.append("? for images and disk: they are not known before the images are prepared.")
    if any(one.n_shared for one in costs.kinds):
        lines.append("shared: how often a further cell needs what is done once.")
    if costs.shortage:
        lines.append(f"warning: {costs.shortage}")
    lines += [f"error: {one}" for one in costs.problems]
    return "\n".join(lines)


def _first_with(name: str, of_cell: Mapping[str, Sequence[Stage]]) -> str:
    return next(cell for cell, stages in of_cell.items() if any(stage.name == name for stage in stages))


def _rates(work_of: Mapping[str, Work], done: Iterable[Stage], workdir: Path) -> dict[Hashable, float]:
    """Return the seconds of a unit of work, by what is done and how like it is."""
    amounts: dict[Hashable, float] = defaultdict(float)
    seconds: dict[Hashable, float] = defaultdict(float)
    for stage in done:
        took = stage.told(workdir)["seconds"]
        for rate in work_of[stage.name].rates:
            amounts[rate.of] += rate.amount
            seconds[rate.of] += took
    return {of: seconds[of] / amount for of, amount in amounts.items() if amount > 0}


def _seconds(wanted: Sequence[Rate], rates: dict[Hashable, float]) -> float | None:
    """Return the seconds by the first rate that is known; None: none is."""
    return next((rate.amount * rates[rate.of] for rate in wanted if rate.of in rates), None)


def _free_bytes(folder: Path) -> int:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _some(text: str, n_unknown: int, n: int) -> str:
    """Return a number of which a part is not known."""
    return text if not n_unknown else "?" if n_unknown == n else f"{text} + ?"


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{math.ceil(seconds)} s"
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if minutes < 100:
        return f"{minutes} min"
    if hours < 10:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{hours} h" if hours < 72 else f"{hours / 24:.0f} days"


def _bytes(n: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:,.3g} TB"
