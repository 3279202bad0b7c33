"""Panels of pictures for publication: matches as in figure 2 of paper A, planes of volumes, copied patients.

No names are printed on them: a panel can be shown where file names or patient ids must not be, and needs no font for
every script. The number of a row is the number of the match in the report.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from memjax.audit.findings import Findings
from memjax.audit.report import turns
from memjax.audit.report.display import Picture, pictures, shown_channels
from memjax.audit.report.matches import CopiedPatient, Match
from memjax.audit.report.numerals import many, score
from memjax.audit.report.theme import Theme, new_figure
from memjax.data.store import Store

_CELL = 1.3  # inches
_GAP = 0.1
_MARGINS = (0.85, 0.1, 0.1, 0.45)
_MAX_POINTS = 20_000
_SAMPLED = 4  # rows and columns of images of each set


def image_of(store: Store, id: int) -> np.ndarray:  # noqa: A002  (the field's own word)
    """Return one stored image [*space, channels]."""
    return store.gather(np.array([id]))[0]


def turned_train(findings: Findings, match: Match, id: int) -> np.ndarray:  # noqa: A002
    """Return a training image (the match's own or a neighbouring slice) turned the way the synthetic image is."""
    orientation = turns.by_name(match.orientation, len(findings.train.store.manifest.axes))
    return orientation.apply(image_of(findings.train.store, id))


def value_pairs(findings: Findings, match: Match) -> tuple[np.ndarray, np.ndarray]:
    """Return the values of the shown channel in the turned training image and in the synthetic one, pixel by pixel.

    At most about 20 000 pixels, evenly taken.
    """
    train, synthetic = findings.train.store, findings.synthetic.store
    x = shown_channels(turned_train(findings, match, match.train), train.manifest).ravel()
    y = shown_channels(image_of(synthetic, match.synthetic), synthetic.manifest).ravel()
    step = max(1, len(x) // _MAX_POINTS)
    return x[::step], y[::step]


def samples_panel(findings: Findings) -> Figure:
    """Draw sixteen training images beside sixteen synthetic ones, of volumes the first central plane.

    They are taken evenly from each set, whatever their scores: the first impression of what a generator makes.
    """
    figure, grid = _grid(_SAMPLED, 2 * _SAMPLED)
    for side, (images, title) in enumerate(((findings.train, "training"), (findings.synthetic, "synthetic"))):
        store, cells = images.store, grid[:, side * _SAMPLED : (side + 1) * _SAMPLED]
        ids = np.linspace(0, len(store) - 1, min(cells.size, len(store))).round().astype(int)
        for cell, id_ in zip(cells.flat, ids, strict=False):
            _show(cell, pictures(image_of(store, int(id_)), store.manifest)[0])
        _heading(cells[0][0], title)
    return figure


def matches_panel(findings: Findings, matches: list[Match], theme: Theme) -> Figure:
    """Draw training image, synthetic image, pixel values, slice before and slice after: one row a match."""
    train, synthetic = findings.train.store, findings.synthetic.store
    figure, grid = _grid(len(matches), 5)
    for cell, title in zip(
        grid[0], ("training", "synthetic", "pixel values", "slice before", "slice after"), strict=True
    ):
        _heading(cell, title)
    for number, (row, match) in enumerate(zip(grid, matches, strict=True), 1):
        _show(row[0], pictures(turned_train(findings, match, match.train), train.manifest)[0])
        _show(row[1], pictures(image_of(synthetic, match.synthetic), synthetic.manifest)[0])
        _scatter(row[2], *value_pairs(findings, match), theme)
        for cell, id_ in ((row[3], match.before), (row[4], match.after)):
            if id_ is not None:
                _show(cell, pictures(turned_train(findings, match, id_), train.manifest)[0])
        _row_label(row[0], _label(number, match))
    return figure


def planes_panel(findings: Findings, matches: list[Match]) -> Figure:
    """Draw the three central planes of the training and of the synthetic volume: one row a match."""
    train, synthetic = findings.train.store, findings.synthetic.store
    figure, grid = _grid(len(matches), 6)
    for number, (row, match) in enumerate(zip(grid, matches, strict=True), 1):
        shown = [
            *pictures(turned_train(findings, match, match.train), train.manifest),
            *pictures(image_of(synthetic, match.synthetic), synthetic.manifest),
        ]
        for place, (cell, picture) in enumerate(zip(row, shown, strict=True)):
            _show(cell, picture)
            if number == 1:
                _heading(cell, f"{'training' if place < 3 else 'synthetic'}\n{picture.plane}")
        _row_label(row[0], _label(number, match))
    return figure


def patients_panel(findings: Findings, patients: list[CopiedPatient]) -> Figure:
    """Draw the most copied patients: the training image, then its synthetic copies, closest first."""
    columns = 1 + max(len(patient.synthetic) for patient in patients)
    train, synthetic = findings.train.store, findings.synthetic.store
    figure, grid = _grid(len(patients), columns)
    for row, patient in zip(grid, patients, strict=True):
        _show(row[0], pictures(image_of(train, patient.train), train.manifest)[0])
        for cell, id_ in zip(row[1:], patient.synthetic, strict=False):
            _show(cell, pictures(image_of(synthetic, id_), synthetic.manifest)[0])
        _row_label(row[0], many(patient.n_copies, "copy", "copies"))
    _heading(grid[0][0], "training")
    _heading(grid[0][1], "synthetic")
    return figure


def _label(number: int, match: Match) -> str:
    """Return a match's number and score; of another detector's match the number alone, its score has its own scale."""
    return f"{number}\n{score(match.score)}" if match.found_by is None else str(number)


def _grid(rows: int, columns: int) -> tuple[Figure, np.ndarray]:
    left, right, bottom, top = _MARGINS
    size = (left + right + _CELL * columns + _GAP * (columns - 1), bottom + top + _CELL * rows + _GAP * (rows - 1))
    figure, grid = new_figure(size, rows=rows, columns=columns, margins=_MARGINS, gaps=(_GAP, _GAP))
    for axes in grid.flat:
        axes.set_axis_off()
    return figure, grid


def _show(axes: Axes, picture: Picture) -> None:
    axes.imshow(picture.pixels, cmap="gray", vmin=0, vmax=255, aspect=picture.aspect)


def _scatter(axes: Axes, x: np.ndarray, y: np.ndarray, theme: Theme) -> None:
    axes.scatter(x, y, s=1.5, color=theme.synthetic, alpha=0.25, linewidths=0, rasterized=True)
    axes.plot([0, 0, 1], [1, 0, 0], transform=axes.transAxes, color=theme.muted, linewidth=0.8, clip_on=False)


def _heading(axes: Axes, text: str) -> None:
    cell = axes.get_position(original=True)  # before the picture's shape shrinks it: all headings on one line
    figure = axes.get_figure(root=True)
    assert figure is not None
    gap = 0.05 / figure.get_figheight()  # 0.05 inches
    figure.text((cell.x0 + cell.x1) / 2, cell.y1 + gap, text, ha="center", va="bottom", fontweight="bold")


def _row_label(axes: Axes, text: str) -> None:
    cell = axes.get_position(original=True)
    axes.figure.text(cell.x0, (cell.y0 + cell.y1) / 2, f"{text}  ", ha="right", va="center", multialignment="right")
