"""The look of all charts: two palettes, for light and dark pages, over one quiet style."""

import dataclasses
import io
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True, kw_only=True)
class Theme:
    """Colours; text colours have a contrast of at least 4.5 on `paper`."""

    paper: str
    ink: str
    muted: str
    line: str
    synthetic: str
    heldout: str
    copy: str


LIGHT = Theme(
    paper="#ffffff",
    ink="#1c2630",
    muted="#56616c",
    line="#c9ced3",
    synthetic="#1f5f8b",
    heldout="#6b6455",
    copy="#a63a1e",
)
DARK = Theme(
    paper="#1b2128",
    ink="#e7eaed",
    muted="#a3aeb8",
    line="#424c56",
    synthetic="#79b8e0",
    heldout="#c2b89f",
    copy="#f2906f",
)


@contextmanager
def style(theme: Theme) -> Iterator[None]:
    """Draw and save figures in this theme, the same bytes every time."""
    settings = {
        "font.size": 10,
        "axes.titlesize": 10,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.8,
        "axes.unicode_minus": True,
        "text.color": theme.ink,
        "axes.labelcolor": theme.muted,
        "axes.edgecolor": theme.line,
        "axes.facecolor": theme.paper,
        "figure.facecolor": theme.paper,
        "savefig.facecolor": theme.paper,
        "xtick.color": theme.line,
        "ytick.color": theme.line,
        "xtick.labelcolor": theme.muted,
        "ytick.labelcolor": theme.muted,
        "svg.fonttype": "none",
        "svg.hashsalt": "memjax",
        "figure.dpi": 144,
        "savefig.dpi": 144,
    }
    with mpl.rc_context(settings):  # type: ignore[arg-type]  # matplotlib lists the names as literals
        yield


def new_figure(
    size: tuple[float, float],
    *,
    rows: int = 1,
    columns: int = 1,
    margins: tuple[float, float, float, float],
    gaps: tuple[float, float] = (0.0, 0.0),
    heights: tuple[float, ...] | None = None,
) -> tuple[Figure, np.ndarray]:
    """Return a figure and its axes [rows, columns].

    In inches: the size, the margins (left, right, bottom, top), the gaps between axes (x, y). Rows are as high as each
    other, or in proportion to `heights`. The layout is given, not found: matplotlib's own layout engines draw every
    figure twice.
    """
    (width, height), (left, right, bottom, top) = size, margins
    cell_width = (width - left - right - gaps[0] * (columns - 1)) / columns
    cell_height = (height - bottom - top - gaps[1] * (rows - 1)) / rows
    figure = Figure(figsize=size)
    figure.subplots_adjust(
        left=left / width,
        right=1 - right / width,
        bottom=bottom / height,
        top=1 - top / height,
        wspace=gaps[0] / cell_width,
        hspace=gaps[1] / cell_height,
    )
    shared = "col" if columns == 1 else False
    return figure, figure.subplots(rows, columns, squeeze=False, sharex=shared, height_ratios=heights)


def encoded(figure: Figure, kind: str) -> bytes:
    """Return the figure as "svg" or "png" bytes; without a date, so that the same findings give the same file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, metadata={"Date": None} if kind == "svg" else None)
    return buffer.getvalue()
