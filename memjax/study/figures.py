"""Which figures a study has, in the order of its page."""

from collections.abc import Sequence
from functools import partial

from memjax.study import emm, growth_charts, onset, pareto, trend_charts
from memjax.study.axes import NAMES, SEED, kind, varying
from memjax.study.figured import Figured
from memjax.study.lines import lines
from memjax.study.row import Row
from memjax.study.score_figures import score_figures
from memjax.study.shares import COPIED, MEMORIZED, RATIO, SHOWN

_BOTH = "Above: how many of the synthetic images are called copies. Below: how many of the training images have a copy."
_RELEASED = (
    "How many of the synthetic images are called copies; after release filtering, by the detectors that did not choose "
    "what was taken out."
)


def planned(rows: Sequence[Row]) -> list[Figured]:
    """Return the figures that a study's finished cells allow, in the order of the page."""
    done = [row for row in rows if row.status == "done"]
    return [*_trends(done), *_pareto(done), *score_figures(done), *_emm(done), *_onset(done), *_growth(done)]


def _trends(rows: Sequence[Row]) -> list[Figured]:
    found = []
    for axis in varying(rows):
        along = lines(rows, axis, COPIED)
        if axis == SEED or not along:
            continue
        is_release = axis == "release"
        left_out = len(along) - trend_charts.MOST_LINES
        more = f" The first {trend_charts.MOST_LINES} of {len(along)} lines; all are in the table." * (left_out > 0)
        found.append(
            Figured(
                name=f"memorization_{axis}",
                title=f"Memorization against {NAMES.get(axis, axis)}",
                text=f"{_RELEASED if is_release else _BOTH} Bars: 95 % intervals; with several seeds the mean, and "
                f"bars from the lowest to the highest end of the seeds' intervals.{more}",
                draw=partial(trend_charts.trend, rows, axis, (SHOWN,) if is_release else (SHOWN, MEMORIZED)),
            )
        )
    return found


def _pareto(rows: Sequence[Row]) -> list[Figured]:
    if not pareto.places(rows):
        return []
    text = (
        "Each mark is a cell (seeds together); better images are to the left, fewer copies are below. No other trained "
        "cell is as good in both as the filled, numbered ones. Grey: controls that were not trained, which hand back "
        "training images or real images of unseen patients."
    )
    return [
        Figured(name="pareto", title="Quality against memorization", text=text, draw=partial(pareto.pareto_chart, rows))
    ]


def _emm(rows: Sequence[Row]) -> list[Figured]:
    trained = [row for row in rows if kind(row) != "control"]
    if not lines(trained, "n_train", RATIO):
        return []
    text = (
        "Synthetic images that are nearer to their nearest training image than a third of the distance to the second "
        "nearest (Gu et al.). Where a line crosses 90 %, dashed, is the effective model memorization."
    )
    chart = partial(trend_charts.trend, trained, "n_train", (RATIO,), level=emm.LEVEL)
    return [Figured(name="emm", title="Effective model memorization", text=text, draw=chart)]


def _onset(rows: Sequence[Row]) -> list[Figured]:
    found = [one for one in onset.onsets([row for row in rows if kind(row) != "control"]) if len(one.known) > 1]
    if not found:
        return []
    text = (
        "How many images the training had seen when 5 % of the synthetic images were copies, between two measured "
        "lengths (bars). Dashed: in proportion to the number of training images (Bonnaire et al.)."
    )
    chart = partial(trend_charts.onset_chart, found, rows)
    return [Figured(name="onset", title="When memorization begins", text=text, draw=chart)]


def _growth(rows: Sequence[Row]) -> list[Figured]:
    found = growth_charts.curves(rows)
    if not found:
        return []
    left_out = len(found) - growth_charts.MOST_CURVES
    more = f" The {growth_charts.MOST_CURVES} cells of {len(found)} that show most." * (left_out > 0)
    text = (
        "How many of the training images the copies show, in a part of the images drawn (full line) and, estimated, "
        f"in more of them (dashed). Shaded: 95 % intervals (paper B, section 3.1).{more}"
    )
    chart = partial(growth_charts.growth_chart, rows)
    return [Figured(name="growth", title="More images drawn show more training images", text=text, draw=chart)]
