"""What a run was trained on from which step on, where `--allow_config_change` changed the images or the batches.

A run's stretches are kept with its states: `[[0, source], [1200, other source]]`, each from its step on to the next
one's. A source is whatever decides which images are seen (JSON-like); None: it is not known.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Source = Mapping[str, Any] | None
Stretches = list[list[Any]]  # [first step, source] each, ascending


def continued(known: Sequence[Sequence[Any]] | None, step: int, source: Source, *, before: Source) -> Stretches:
    """Return the stretches of a run that goes on after `step` steps with a source.

    Args:
      known: as kept with the state of this step; None: nothing was kept, as in runs of older versions.
      step: how many steps are done.
      source: of the steps to come.
      before: what is believed of the steps done where nothing was kept.
    """
    stretches = [list(one) for one in ([[0, before]] if known is None else known) if one[0] < step]
    if stretches and stretches[-1][1] == source:
        return stretches
    return [*stretches, [step, source]]


def pieces(stretches: Sequence[Sequence[Any]], steps: int) -> Iterator[tuple[int, int, Source]]:
    """Yield the first `steps` steps of a run in pieces of one source: (first step, step after the last, source)."""
    ends = [*(one[0] for one in stretches[1:]), steps]
    for (first, source), end in zip(stretches, ends, strict=True):
        if first < min(end, steps):
            yield first, min(end, steps), source


def images_seen(stretches: Sequence[Sequence[Any]], steps: int) -> int | None:
    """Return how many images the first `steps` steps saw, by each source's `batch_size`; None: it is not known."""
    found = list(pieces(stretches, steps))
    if any(source is None for _, _, source in found):
        return None
    return sum((end - first) * source["batch_size"] for first, end, source in found if source)
