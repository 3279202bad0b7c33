"""The table of set-level scores, cell by cell, beside the share of copies that they cannot see."""

import dataclasses
import math
from collections.abc import Sequence

from memjax.audit.fidelity.quality import Quality
from memjax.audit.report.numerals import decimals, percent
from memjax.study.axes import described, varying
from memjax.study.row import Row
from memjax.study.shares import SHOWN

_COLUMNS = {  # field of `Quality`: its heading, and how many decimals
    "fid": ("FID", 2),
    "fid_heldout": ("FID, unseen", 2),
    "fid_infinity": ("FID∞", 2),
    "kid": ("KID", 4),
    "inception_score": ("IS", 2),
    "precision": ("Precision", 2),
    "recall": ("Recall", 2),
    "density": ("Density", 2),
    "coverage": ("Coverage", 2),
    "ms_ssim": ("MS-SSIM", 2),
    "c_t": ("C_T", 1),
    "auth_pct": ("AuthPct", 0),
    "mifid": ("MiFID", 2),
    "fld_gap": ("FLD gap", 1),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class QualityTable:
    """What is shown: headings, and of each cell its title, its share of copies and its scores."""

    features: Sequence[str]
    headings: Sequence[str]
    rows: Sequence[tuple[str, str, Sequence[str]]]


def quality_table(rows: Sequence[Row]) -> QualityTable | None:
    """Return the scores that any cell has; None without any."""
    scored = [(row, row.quality) for row in rows if row.quality is not None]
    names = [name for name in _COLUMNS if any(math.isfinite(getattr(quality, name)) for _, quality in scored)]
    if not names:
        return None
    axes = varying(rows)
    return QualityTable(
        features=sorted({quality.features for _, quality in scored}),
        headings=[_COLUMNS[name][0] for name in names],
        rows=[(described(row, axes), _copied(row), _scores(quality, names)) for row, quality in scored],
    )


def _copied(row: Row) -> str:
    copied = SHOWN.of(row)
    return percent(copied.value) if copied else "–"


def _scores(quality: Quality, names: Sequence[str]) -> list[str]:
    return [decimals(getattr(quality, name), _COLUMNS[name][1]) for name in names]
