"""The table of set-level scores, cell by cell, beside the share of copies that they cannot see."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from memjax.audit.fidelity.quality import Quality
from memjax.audit.report.numerals import decimals, percent
from memjax.study.axes import described, varying
from memjax.study.row import Row
from memjax.study.shares import SHOWN

_DISTANCES = ("fid", "fid_real", "fid_heldout", "fid_infinity")  # in features of any scale
_COLUMNS = {  # field of `Quality`: its heading, and how many decimals; of distances more, where they are small
    "fid": ("FID", 2),
    "fid_real": ("FID, real", 2),
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
    largest = max(
        (abs(getattr(quality, name)) for _, quality in scored for name in _DISTANCES), default=1.0, key=_known
    )
    more = max(0, -math.floor(math.log10(largest))) if 0 < largest < 1 else 0
    places = {name: _COLUMNS[name][1] + (more if name in _DISTANCES else 0) for name in names}
    return QualityTable(
        features=sorted({quality.features for _, quality in scored}),
        headings=[_COLUMNS[name][0] for name in names],
        rows=[(described(row, axes), _copied(row), _scores(quality, places)) for row, quality in scored],
    )


def _copied(row: Row) -> str:
    copied = SHOWN.of(row)
    return percent(copied.value) if copied else "–"


def _scores(quality: Quality, places: Mapping[str, int]) -> list[str]:
    return [decimals(getattr(quality, name), some) for name, some in places.items()]


def _known(value: float) -> float:
    return value if math.isfinite(value) else -math.inf
