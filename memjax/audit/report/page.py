"""What the page of an audit shows, made ready for its template."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from memjax.audit.findings import Decision, Findings, ImageSet
from memjax.audit.report import detectors_page, detectors_words, numerals, turns, words
from memjax.audit.report.chart_view import ChartView, chart_view
from memjax.audit.report.display import pictures
from memjax.audit.report.figures import Chart
from memjax.audit.report.matches import CopiedPatient, Match
from memjax.audit.report.panels import image_of, turned_train, value_pairs
from memjax.audit.report.records import by_role, leak_score, leak_sources
from memjax.audit.report.template import fill
from memjax.audit.report.tiles import Tile, picture_tile, scatter_tile
from memjax.data.store import Store

_LISTED = 10  # of leaks and duplicates; all are in report.json
ROLES = {"train": "training", "synthetic": "synthetic", "heldout": "held-out"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class MatchView:
    """One match on the page: rows of tiles, and the sentence under its heading."""

    title: str
    facts: tuple[str, ...]
    called_by: tuple[str, ...]
    synthetic: str
    train: str
    patient: str
    rows: tuple[tuple[Tile, ...], ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PatientView:
    """One copied patient: the training image and some of its synthetic copies."""

    name: str
    n_copies: int
    tiles: tuple[Tile, ...]


def render(
    findings: Findings,
    charts: Mapping[str, Chart],
    matches: list[Match],
    patients: list[CopiedPatient],
    *,
    command: str,
) -> str:
    """Return the page: one HTML document that loads nothing."""
    shown = [(match, _match_view(findings, match, number)) for number, match in enumerate(matches, 1)]
    return fill(
        "report.html",
        findings=findings,
        verdict=findings.verdict,
        sentence=words.verdict_sentence(findings),
        headlines=words.headlines(findings),
        alerts=words.alerts(findings),
        leaks=[
            {
                "kind": leak.kind,
                "roles": [ROLES.get(role, role) for role in leak.roles],
                "patient": leak.patient,
                "score": leak_score(leak),
                "sources": leak_sources(leak, findings),
            }
            for leak in findings.leaks[:_LISTED]
        ],
        duplicates=[[findings.train.store.items[i].source for i in group] for group in findings.duplicates[:_LISTED]],
        matches=[view for match, view in shown if match.found_by is None],
        missed=[view for match, view in shown if match.found_by is not None],
        has_slices=any(match.before is not None or match.after is not None for match in matches),
        any_copy=bool(findings.decision.is_copy.any()),
        patients=[_patient_view(findings, patient) for patient in patients],
        charts=_chart_views(findings, charts),
        yardstick=words.yardstick(findings),
        comparisons=_comparisons(findings),
        meaning=words.meaning(findings),
        limits=words.limits(findings),
        sets=[set_view(given, ROLES[role].capitalize()) for role, given in by_role(findings).items() if given],
        method=words.method(findings),
        several=detectors_page.several(findings, charts),
        growth=detectors_page.growth(findings, charts),
        readers=detectors_page.readers(findings),
        references=(*words.REFERENCES, *detectors_page.references(findings)),
        command=command,
    )


def set_view(given: ImageSet, title: str) -> dict[str, Any]:
    """Return one column of the table of image sets."""
    manifest = given.store.manifest
    constant = [given.store.items[i].source for i in given.constant]
    spacing = "" if manifest.spacing_mm is None else " × ".join(f"{mm:.3g}" for mm in manifest.spacing_mm) + " mm"
    prepared = {
        key: value if isinstance(value, str) else json.dumps(value) for key, value in manifest.preparation.items()
    }
    return {
        "title": title,
        "given": given.given,
        "n": manifest.n,
        "patients": "not known" if given.n_patients is None else numerals.count(given.n_patients),
        "shape": " × ".join(str(edge) for edge in manifest.shape),
        "channels": ", ".join(manifest.channels),
        "spacing": spacing,
        "prepared": prepared,
        "left_out": len(manifest.left_out),
        "constant": constant,
        "digest": manifest.digest,
    }


def _match_view(findings: Findings, match: Match, number: int) -> MatchView:
    train, synthetic = findings.train.store, findings.synthetic.store
    turned = turns.in_words(match.orientation, train.manifest.axes)
    is_turned = match.orientation != "identity"
    facts = [*detectors_words.match_scores(findings, match), turned, numerals.p_value(match.p_value)]
    shown = [("training", image_of(train, match.train), train)]
    if is_turned:
        shown.append((f"training, {turned}", turned_train(findings, match, match.train), train))
    shown.append(("synthetic", image_of(synthetic, match.synthetic), synthetic))
    scatter = scatter_tile(
        *value_pairs(findings, match),
        caption="values: training →, synthetic ↑",
        alt=f"Match {number}: pixel values of the synthetic image against those of the training image",
    )
    rows = [tuple(_tiles(image, store, what, number)) for what, image, store in shown]
    if train.manifest.is_volume:
        rows[-1] += (scatter,)
    else:
        rows = [(*(tile for row in rows for tile in row), scatter), _neighbour_tiles(findings, match, number)]
    return MatchView(
        title=f"Match {number}" if match.is_copy else f"Closest pair {number}, not called a copy",
        facts=tuple(fact for fact in facts if fact),
        called_by=match.called_by,
        synthetic=synthetic.items[match.synthetic].source,
        train=train.items[match.train].source,
        patient=train.items[match.train].patient if train.manifest.has_patients else "",
        rows=tuple(row for row in rows if row),
    )


def _tiles(image: np.ndarray, store: Store, what: str, number: int) -> list[Tile]:
    """Return the pictures of one image of a match: one, or the three planes of a volume."""
    found = []
    for picture in pictures(image, store.manifest):
        caption = f"{what}, {picture.plane}" if store.manifest.is_volume else what
        found.append(picture_tile(picture, caption=caption, alt=f"Match {number}: {caption} image"))
    return found


def _neighbour_tiles(findings: Findings, match: Match, number: int) -> tuple[Tile, ...]:
    """Return the training patient's slices before and after, turned alike, to show that the match is of one slice."""
    store = findings.train.store
    turned = "" if match.orientation == "identity" else f", {turns.in_words(match.orientation, store.manifest.axes)}"
    beside = (("slice before", match.before), ("slice after", match.after))
    return tuple(
        tile
        for what, id_ in beside
        if id_ is not None
        for tile in _tiles(turned_train(findings, match, id_), store, f"training, {what}{turned}", number)
    )


def _patient_view(findings: Findings, patient: CopiedPatient) -> PatientView:
    train, synthetic = findings.train.store, findings.synthetic.store
    shown = [("training", train, patient.train), *(("synthetic", synthetic, id_) for id_ in patient.synthetic)]
    tiles = [
        picture_tile(
            pictures(image_of(store, id_), store.manifest)[0],
            caption=what,
            alt=f"{what} image {numerals.name(store.items[id_].source)}",
        )
        for what, store, id_ in shown
    ]
    return PatientView(name=patient.patient, n_copies=patient.n_copies, tiles=tuple(tiles))


def _chart_views(findings: Findings, charts: Mapping[str, Chart]) -> list[ChartView]:
    noun = words.score_noun(findings)
    said = {
        "max_correlation": (
            "How alike the images are",
            f"For each image, the highest {noun} with any image of the other set. If the model only learned what such "
            "images look like in general, the first row looks like the second. Copies stand apart on the right.",
        ),
        "train_best": (
            "Training image by training image",
            "For each training image, its closest synthetic image against its closest held-out image. Dots far above "
            "the diagonal have a synthetic image that is more like them than any unseen patient's. The larger set "
            "comes closer by size alone.",
        ),
        "all_pairs": (
            "A sample of all pairs" if findings.all_pairs.is_sample else "All pairs",
            "How alike any synthetic and any training image are, not only the closest: most pairs are of different "
            "people and lie on the left.",
        ),
    }
    return [chart_view(charts[name], *text) for name, text in said.items() if name in charts]


def _comparisons(findings: Findings) -> list[dict[str, str]]:
    """Return the rows of the table that sets the whole image beside its foreground."""
    rows = [_comparison("Whole image", findings, findings.decision)]
    if findings.foreground is not None:
        what = f"Foreground only ({numerals.percent(findings.foreground_share)} of the pixels)"
        rows.append(_comparison(what, findings, findings.foreground))
    return rows


def _comparison(what: str, findings: Findings, decision: Decision) -> dict[str, str]:
    shown, n_patients = decision.n_patients_memorized.value, findings.train.n_patients
    return {
        "what": what,
        "threshold": numerals.score(decision.threshold),
        "copies": numerals.part_of(decision.n_copies.value, len(findings.synthetic.store)),
        "chance": numerals.count(decision.n_copies_by_chance),
        "patients": "not known" if n_patients is None else numerals.part_of(shown, n_patients),
        "images": numerals.part_of(decision.n_mem.value, len(findings.train.store)),
    }
