"""What the page of an audit shows of several detectors, of further images, and of readers, ready for its template."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from memjax.audit.findings import Agreement, Detected, Findings
from memjax.audit.report import detectors_words, growth_words, readers_words
from memjax.audit.report.chart_view import chart_view
from memjax.audit.report.detected import embeddings, everyone
from memjax.audit.report.figures import Chart, embedding_figure
from memjax.audit.report.numerals import count, decimals, part_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class DetectorRow:
    """One detector in the two tables: what it is, and what it finds."""

    title: str
    source: str
    sees_through: str
    blind_to: str
    training: str
    threshold: str
    copies: str
    images: str
    equal_sets: str
    patients: str
    tau: str
    tau_n_mem: str
    tau_n_copies: str


def several(findings: Findings, charts: Mapping[str, Chart]) -> dict[str, Any] | None:
    """Return the section on several detectors; None where one was asked."""
    if not findings.detectors:
        return None
    agreement = findings.agreement
    return {
        "introduction": detectors_words.introduction(findings),
        "rows": [_row(detector, findings) for detector in everyone(findings)],
        "equal_sets": detectors_words.equal_sets_text(findings),
        "followup": detectors_words.followup(findings),
        "agreement": _agreement(agreement, findings, charts) if agreement is not None else None,
        "charts": [
            chart_view(charts[file], *detectors_words.chart_texts(detector, findings)[kind])
            for number, detector in enumerate(embeddings(findings))
            for kind in ("candidates", "pixels_against_embedding")
            if (file := embedding_figure(kind, number)) in charts
        ],
    }


def growth(findings: Findings, charts: Mapping[str, Chart]) -> dict[str, Any] | None:
    """Return the section on further images; None without copies."""
    if not findings.growth:
        return None
    return {
        "sentences": [*growth_words.sentences(findings.growth), *growth_words.cautions()],
        "charts": [chart_view(charts["growth"], *growth_words.chart_text(findings.growth))]
        if "growth" in charts
        else [],
    }


def readers(findings: Findings) -> dict[str, Any] | None:
    """Return the section on readers; None where none were asked."""
    labelled = findings.labelled
    if labelled is None:
        return None
    names = list({confusion.name: confusion for confusion in labelled.confusions}.values())
    titles = detectors_words.titles(findings, [confusion.name for confusion in names])
    return {
        "sentences": readers_words.sentences(labelled),
        "table_text": readers_words.table_text(),
        "rows": [readers_words.row(one, title) for one, title in zip(names, titles, strict=True)]
        if len(labelled.is_copy)
        else [],
    }


def references(findings: Findings) -> tuple[str, ...]:
    """Return the sources of these sections."""
    return (
        *(detectors_words.REFERENCES if findings.detectors else ()),
        *(growth_words.REFERENCES if findings.growth else ()),
        *(readers_words.REFERENCES if findings.labelled else ()),
    )


def _row(detector: Detected, findings: Findings) -> DetectorRow:
    decision, n_patients = detector.decision, findings.train.n_patients
    n_train, n_synthetic = len(findings.train.store), len(findings.synthetic.store)
    has_tau = bool(np.isfinite(detector.tau))
    return DetectorRow(
        title=detector.title,
        source=detector.source,
        sees_through=detectors_words.sees_through(detector),
        blind_to=detectors_words.blind_to(detector),
        training=detectors_words.training(detector),
        threshold=detectors_words.threshold(detector),
        copies=part_of(decision.n_copies.value, n_synthetic),
        images=part_of(decision.n_mem.value, n_train),
        equal_sets=detectors_words.equal_sets(detector),
        patients="not known" if n_patients is None else part_of(decision.n_patients_memorized.value, n_patients),
        tau=detectors_words.tau(detector),
        tau_n_mem=count(detector.tau_n_mem) if has_tau else "–",
        tau_n_copies=count(detector.tau_n_copies) if has_tau else "–",
    )


def _agreement(agreement: Agreement, findings: Findings, charts: Mapping[str, Chart]) -> dict[str, Any]:
    text = (
        "Who calls what",
        "Each column is a group of images that the same detectors call copies: the bar is how many, the dots are by "
        "whom. Beside each detector: how many it calls in all.",
    )
    names = list(agreement.names)
    return {
        "combined": detectors_words.combined(agreement, findings),
        "rule": detectors_words.combined_rule(agreement),
        "sentence": detectors_words.agreement_sentence(agreement),
        "charts": [chart_view(charts["agreement"], *text)] if "agreement" in charts else [],
        "kappa": [
            (title, [decimals(float(kappa), 2) if d != e else "" for e, kappa in enumerate(agreement.kappa[d])])
            for d, title in enumerate(detectors_words.titles(findings, names))
        ],
    }
