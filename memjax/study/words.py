"""The sentences of a study's page: the answer, what must be known first, and what the numbers cannot say."""

import math
from collections import Counter
from collections.abc import Sequence

from memjax.audit.findings import Interval
from memjax.audit.report.comparison_words import listed
from memjax.audit.report.numerals import count, many, part_of, percent, range_of_percent
from memjax.audit.report.words import Alert, Headline
from memjax.study.axes import ALL, varying
from memjax.study.axis_claims import trained
from memjax.study.claims import Verdict
from memjax.study.lines import repetitions
from memjax.study.row import Row
from memjax.study.shares import COPIED, over_seeds

METHOD = (
    "Each cell is prepared, trained, sampled and audited on its own; see its report for how copies are called. A share "
    "is a count of the audit over all images, with the audit's 95 % bootstrap interval; where none or all were found, "
    "the interval is that of the rule of three. Cells that differ in their seed alone are put together: the mean, and "
    "an interval from the lowest to the highest end of theirs. Two shares are said to differ where their intervals do "
    "not overlap. A claim counts as reproduced if more than half of the comparisons that can show it do and none shows "
    "the opposite; comparisons in which nothing is copied on either side can show nothing."
)
_SAMPLES_FOR_FID = 2048
_EDGE_OF_PAPERS = 256


def answer(rows: Sequence[Row], verdicts: Sequence[Verdict]) -> str:
    """Return the outcome as the one or two sentences at the top."""
    done = [row for row in rows if row.status == "done"]
    if not done:
        return "No cell is finished yet."
    if len(verdicts) == 1:
        return f"{_alone(verdicts[0])} {most_copies(done)}".strip()
    return f"{most_copies(done)} {_counted(verdicts)}".strip()


def most_copies(rows: Sequence[Row]) -> str:
    """Say how much the trained generators copy, at most."""
    cells = by_cell(rows)
    if not cells:
        return ""
    _, most = cells[-1]
    if most.value == 0:
        return "No trained generator made an image that is called a copy."
    upto = "Up to " if len(cells) > 1 else ""
    return f"{upto}{percent(most.value)} of a generator's images are copies of training images."


def found(done: Sequence[Row], copying: Sequence[Row]) -> str:
    """Return in how many cells copies were found, in a few words."""
    if not done:
        return "Not known yet"
    if not copying:
        is_undecided = any(row.memorization and row.memorization.is_undecided for row in done)
        return "Undecided" if is_undecided else "No copies found"
    return "Copies found" if len(done) == 1 else f"Copies found in {part_of(len(copying), len(done))} cells"


def by_cell(rows: Sequence[Row]) -> list[tuple[str, Interval]]:
    """Return the trained cells, seeds together, with their shares of copies, fewest first."""
    found = []
    for title, same in repetitions(trained(rows)):
        shares = [one for row in same if (one := COPIED.of(row)) is not None]
        if shares:
            found.append((title, over_seeds(shares)))
    return sorted(found, key=lambda cell: cell[1].value)


def headlines(rows: Sequence[Row], verdicts: Sequence[Verdict]) -> list[Headline]:
    """Return the numbers at the top: cells, the most copies, claims."""
    statuses = Counter(row.status for row in rows)
    open_ = statuses["waiting"]
    notes = [
        f"{count(number)} {word}" for number, word in ((statuses["failed"], "failed"), (open_, "to come")) if number
    ]
    found = [
        Headline(part=count(statuses["done"]), whole=count(len(rows)), what="cells are finished", notes=tuple(notes))
    ]
    cells = by_cell(rows)
    if cells:
        title, share = cells[-1]
        notes = [f"95 % interval {range_of_percent(share)}"] + ([] if title == ALL else [title])
        found.append(
            Headline(
                part=percent(share.value), whole="all", what="images are copies where most are", notes=tuple(notes)
            )
        )
    if verdicts:
        outcomes = Counter(verdict.outcome for verdict in verdicts)
        notes = [f"{count(number)} {outcome}" for outcome, number in outcomes.items() if outcome != "reproduced"]
        found.append(
            Headline(
                part=count(outcomes["reproduced"]),
                whole=count(len(verdicts)),
                what="of the papers' claims are reproduced",
                notes=tuple(notes),
            )
        )
    return found


def alerts(rows: Sequence[Row]) -> list[Alert]:
    """Return what must be known first: phantoms, cells that are missing, scores of few images."""
    found = []
    names = sorted({row.facts.data for row in rows if row.facts and row.facts.is_phantom})
    if names:
        found.append(
            Alert(text=f"{listed(names)}: drawn by this program, not taken of patients. The numbers are of phantoms.")
        )
    statuses = Counter(row.status for row in rows)
    if statuses["failed"]:
        text = f"{many(statuses['failed'], 'cell has', 'cells have')} failed; what would be found there is missing."
        found.append(Alert(text=text, href="#failed"))
    open_ = statuses["waiting"]
    if open_:
        found.append(Alert(text=f"{many(open_, 'cell is', 'cells are')} not finished: the verdicts may change."))
    unsure = sum(1 for row in rows if row.memorization and row.memorization.is_undecided)
    if unsure:
        found.append(
            Alert(
                text=f"In {many(unsure, 'cell')} no image can be called a copy, but the images are nearer to the "
                "training images than chance explains: hold more patients out."
            )
        )
    few = [row.quality for row in rows if row.quality and math.isfinite(row.quality.fid)]
    fewest = min((min(one.n_train, one.n_compared or one.n_synthetic) for one in few), default=_SAMPLES_FOR_FID)
    if fewest < _SAMPLES_FOR_FID:
        found.append(
            Alert(
                text=f"FID was computed on as few as {count(fewest)} images. It is biased upwards with few images: "
                "compare it within this study, not with other studies."
            )
        )
    return found


def limits(rows: Sequence[Row]) -> list[str]:
    """Return what the numbers do not say."""
    said = []
    seeds = max((len(same) for _, same in repetitions(rows)), default=1)
    if seeds == 1:
        said.append(
            "Each cell was trained once. Another run of the same settings may copy more or less, and the intervals do "
            "not hold that: they are of the images drawn, the patients and the yardstick."
        )
    else:
        said.append(
            f"Cells were trained up to {many(seeds, 'time')}, with different seeds; the intervals hold what these few "
            "runs differ by, and another may lie outside."
        )
    small = sorted({shape_of(row) for row in rows if row.facts and max(row.facts.shape[:-1]) < _EDGE_OF_PAPERS})
    if small:
        said.append(
            f"The images are small ({listed(small)}) beside the papers' (mostly {_EDGE_OF_PAPERS} pixels along an "
            "edge), and so are the models. A claim that is not reproduced here may hold there, and the other way round."
        )
    lengths = {row.facts.images_seen for row in trained(rows) if row.facts}
    if len(lengths) > 1 and "images_seen" not in varying(rows):
        said.append(
            "The generators were not trained equally long. A generator that trains longer may copy more, so a "
            "difference may come from that and not from its kind."
        )
    if any(row.quality for row in rows):
        features = sorted({row.quality.features for row in rows if row.quality})
        said.append(
            f"FID and the other scores of quality are computed in {listed(features)}. They say nothing of clinical "
            "use, and numbers in other features cannot be compared."
        )
    said.append(
        "That no copy is found does not mean that none is made: more images, or another detector, may show some. A "
        "study measures copies; it does not prove privacy."
    )
    return said


def shape_of(row: Row) -> str:
    """Print the shape of a cell's images: `32 × 32`, `64 × 64 × 64, 2 channels`."""
    if row.facts is None:
        return ""
    *space, channels = row.facts.shape
    edges = " × ".join(str(edge) for edge in space)
    return edges if channels == 1 else f"{edges}, {channels} channels"


def _alone(verdict: Verdict) -> str:
    return f"{verdict.outcome.capitalize()}: {verdict.claim.split('. ')[0].removesuffix('.')}."


def _counted(verdicts: Sequence[Verdict]) -> str:
    if not verdicts:
        return ""
    outcomes = Counter(verdict.outcome for verdict in verdicts)
    parts = [f"{count(number)} {'is' if number == 1 else 'are'} {outcome}" for outcome, number in outcomes.items()]
    return f"Of {many(len(verdicts), 'claim')} of the papers, {listed(parts)}."
