"""What the page of a comparison shows, made ready for its template."""

import dataclasses
from collections.abc import Mapping, Sequence
from urllib.parse import quote

import numpy as np

from memjax.audit.findings import Findings, ImageSet
from memjax.audit.report import comparison_words, numerals, turns, words
from memjax.audit.report.chart_view import chart_view
from memjax.audit.report.compared import Audited
from memjax.audit.report.display import pictures
from memjax.audit.report.figures import Chart
from memjax.audit.report.matches import Match, best_matches
from memjax.audit.report.page import ROLES, set_view
from memjax.audit.report.panels import image_of, turned_train
from memjax.audit.report.template import fill
from memjax.audit.report.tiles import Tile, picture_tile

_SAMPLES = 12
_PAIRS = 6


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table: a number and a note for each generator, then for the held-out images if there are any."""

    what: str
    cells: Sequence[tuple[str, str]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Samples:
    """Some images of one set, evenly taken."""

    title: str
    text: str
    tiles: Sequence[Tile]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pair:
    """A synthetic image beside its training image, and how alike they are."""

    text: str
    tiles: tuple[Tile, Tile]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pairs:
    """The clearest pairs of one generator."""

    title: str
    text: str
    href: str
    pairs: Sequence[Pair]


def render(generators: Mapping[str, Audited], chart: Chart, *, command: str) -> str:
    """Return the page: one HTML document that loads nothing, with links to the generators' own reports."""
    generators = {numerals.name(name): audited for name, audited in generators.items()}
    first = next(iter(generators.values())).findings
    return fill(
        "comparison.html",
        alerts=_alerts(generators),
        verdict=comparison_words.verdict(generators),
        sentence=comparison_words.sentence(generators),
        headlines=[_headline(name, audited) for name, audited in generators.items()],
        given=_given(first),
        names=list(generators),
        hrefs=[_href(audited) for audited in generators.values()],
        has_heldout=first.null is not None,
        rows=_rows(generators),
        thresholds=comparison_words.thresholds(generators),
        chart=chart_view(chart, "How alike the images are", _chart_text(first)),
        samples=[_samples("Real", "training images", first.train)]
        + [_samples(name, "synthetic images", audited.findings.synthetic) for name, audited in generators.items()],
        pairs=[_pairs(name, audited) for name, audited in generators.items()],
        yardstick=words.yardstick(first)[0],
        conclusions=comparison_words.conclusions(generators),
        limits=comparison_words.limits(generators),
        sets=[set_view(given, ROLES[given.role].capitalize()) for given in (first.train, first.heldout) if given]
        + [set_view(audited.findings.synthetic, name) for name, audited in generators.items()],
        method=words.method(first),
        references=words.REFERENCES,
        command=command,
    )


def _alerts(generators: Mapping[str, Audited]) -> list[words.Alert]:
    """Return what must be known first: once where it concerns all, else with the generator's name and own report."""
    by_name = {name: words.alerts(audited.findings) for name, audited in generators.items()}
    found: list[words.Alert] = []
    for name, alerts in by_name.items():
        for alert in alerts:
            is_common = all(alert in others for others in by_name.values())
            text = alert.text if is_common else f"{name}: {alert.text}"
            href = _href(generators[name])
            told = words.Alert(text=text, href=f"{href}{alert.href}" if alert.href and href else "")
            if text not in [one.text for one in found]:
                found.append(told)
    return found


def _href(audited: Audited) -> str:
    return quote(audited.link)


def _headline(name: str, audited: Audited) -> words.Headline:
    decision = audited.findings.decision
    return words.Headline(
        part=numerals.count(decision.n_copies.value),
        whole=numerals.count(audited.n),
        what=f"synthetic images from {name} are copies of training images",
        notes=(words.share_note(decision.n_copies, audited.n), words.chance_note(decision)),
    )


def _given(first: Findings) -> str:
    n, patients = len(first.train.store), first.train.n_patients
    whose = "" if patients is None else f" of {numerals.many(patients, 'patient')}"
    said = f"All were compared with the same {numerals.many(n, 'training image')}{whose}"
    if first.null is None:
        return f"{said}. No held-out images were given, so there is no yardstick for how alike is too alike."
    used = numerals.many(len(first.null.score), "held-out image")
    real = (
        f"images of {numerals.many(first.null.n_patients, 'patient')} whom" if first.null.by_patient else "images that"
    )
    return f"{said} and measured by the same {used}: real {real} no generator saw."


def _rows(generators: Mapping[str, Audited]) -> list[Row]:
    audits = list(generators.values())
    null, n_patients = audits[0].findings.null, audits[0].findings.train.n_patients
    n_train = len(audits[0].findings.train.store)
    decisions = [audited.findings.decision for audited in audits]
    none = ("–", "")

    def row(what: str, cells: list[tuple[str, str]], heldout: tuple[str, str] = none) -> Row:
        return Row(what=what, cells=cells if null is None else [*cells, heldout])

    n_null = 0 if null is None else len(null.score)
    rows = [
        row("Images compared", [(numerals.count(a.n), "") for a in audits], (numerals.count(n_null), "")),
        row("Images seen in training", [_seen(audited.images_seen, n_train) for audited in audits]),
        row(
            "Copies found",
            [
                (numerals.part_of(d.n_copies.value, a.n), words.share_note(d.n_copies, a.n))
                for a, d in zip(audits, decisions, strict=True)
            ],
        ),
        row(
            "Training patients shown by copies",
            [
                ("not known", "")
                if n_patients is None
                else (
                    numerals.part_of(d.n_patients_memorized.value, n_patients),
                    words.share_note(d.n_patients_memorized, n_patients),
                )
                for d in decisions
            ],
        ),
        row(
            "Training images memorized",
            [(numerals.part_of(d.n_mem.value, n_train), words.share_note(d.n_mem, n_train)) for d in decisions],
        ),
        row(
            f"Median {words.score_noun(audits[0].findings)} with the closest training image",
            [(numerals.score(audited.median), "") for audited in audits],
            none if null is None else (numerals.score(float(np.median(null.score))), ""),
        ),
        row("Threshold for a copy", [(numerals.score(decision.threshold), "") for decision in decisions]),
    ]
    if null is not None:
        above = [(audited.n_above_p99 or 0, audited.n) for audited in audits]
        above.append((int((null.score > null.p99).sum()), n_null))
        cells = [(numerals.part_of(part, whole), numerals.share(part, whole)) for part, whole in above]
        rows.append(Row(what=f"Images above {numerals.score(null.p99)}, one threshold for all", cells=cells))
    return rows


def _seen(images: int | None, n_train: int) -> tuple[str, str]:
    if images is None:
        return ("not known", "")
    return (numerals.count(images), f"each about {numerals.many(round(images / n_train), 'time')}")


def _chart_text(first: Findings) -> str:
    said = f"For each image, the highest {words.score_noun(first)} with any training image."
    if first.null is None:
        return f"{said} Images above the dashed threshold are called copies."
    return (
        f"{said} The outline in every row is that of the held-out images: if a generator only learned what such images "
        "look like in general, its bars follow the outline. Copies stand apart on the right."
    )


def _samples(title: str, what: str, given: ImageSet) -> Samples:
    store = given.store
    ids = np.unique(np.linspace(0, len(store) - 1, min(_SAMPLES, len(store))).round().astype(int))
    tiles = [
        picture_tile(shown, caption="", alt=f"{title}: {what}, number {id_}")
        for id_ in ids.tolist()
        for shown in pictures(image_of(store, id_), store.manifest)[:1]
    ]
    text = f"{numerals.count(len(tiles))} of {numerals.count(len(store))} {what}"
    return Samples(title=title, text=text, tiles=tiles)


def _pairs(name: str, audited: Audited) -> Pairs:
    findings = audited.findings
    any_copy = bool(findings.decision.is_copy.any())
    return Pairs(
        title=name,
        text="Called copies." if any_copy else "Nothing was called a copy; these came closest.",
        href=_href(audited),
        pairs=[_pair(findings, match, name) for match in best_matches(findings, limit=_PAIRS)],
    )


def _pair(findings: Findings, match: Match, name: str) -> Pair:
    train, synthetic = findings.train.store, findings.synthetic.store
    turned = turns.in_words(match.orientation, train.manifest.axes)
    caption = "training" if match.orientation == "identity" else f"training, {turned}"
    shown = (
        ("synthetic", pictures(image_of(synthetic, match.synthetic), synthetic.manifest)[0]),
        (caption, pictures(turned_train(findings, match, match.train), train.manifest)[0]),
    )
    first, second = (
        picture_tile(picture, caption=what, alt=f"{name}, {words.score_noun(findings)} {match.score:.4f}: {what} image")
        for what, picture in shown
    )
    return Pair(text=f"{words.score_noun(findings)} {numerals.score(match.score)}", tiles=(first, second))
